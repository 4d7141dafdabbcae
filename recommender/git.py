"""Git, run as a process: words go to it as arguments, never through a shell."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ingest.errors import FlowpolicyError

_SECONDS = 600
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_OF_HOOKS = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SIGNATURE = "Proposed-by: flowpolicy"  # the trailer of every commit of ours


class GitError(FlowpolicyError):
    """Git failed, or the repository is not in the state that is needed."""


@dataclass(frozen=True)
class Git:
    """A working tree; `environment` is what Git sees, with no prompt ever."""

    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    def run(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """What Git prints.

        Raises:
            GitError: Git is missing, takes too long, or ends with a code that is not allowed.
        """
        return self._done(words, allowed).stdout.strip()

    def code(self, *words: str) -> int:
        """The exit code of a question that Git answers with 0 or 1."""
        return self._done(words, (0, 1)).returncode

    def found(self, revision: str) -> str | None:
        """The commit that a revision names; None where there is none."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return self.run(*words, allowed=(0, 1, 128)) or None

    def tree(self, commit: str, path: str) -> str | None:
        """What a path of a commit holds, as Git's hash; None where nothing is there."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}:{path}")
        return self.run(*words, allowed=(0, 1, 128)) or None

    def _done(
        self, words: tuple[str, ...], allowed: tuple[int, ...]
    ) -> subprocess.CompletedProcess[str]:
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                ["git", *words],
                cwd=self.folder,
                env={**self.environment, **quiet},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitError(f"{self.folder}: git cannot be run here; install Git") from error
        except subprocess.TimeoutExpired as error:
            raise GitError(
                f"{self.folder}: `git {words[0]}` took more than {_SECONDS} seconds; check the "
                "remote"
            ) from error
        if done.returncode not in allowed:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            said = _CREDENTIALS.sub("", "; ".join(lines[-3:]) or "it gave no reason")
            raise GitError(f"{self.folder}: `git {words[0]}` failed: {said}")
        return done

    def with_token(self, url: str, user: str, token: str) -> Git:
        """The same, with a token for that URL's host; it goes by the environment, never by words.

        Raises:
            GitError: the URL would carry it in clear text over a network.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return self  # SSH and files have their own credentials
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise GitError(
                f"{_CREDENTIALS.sub('', url)}: not https, so the token is not sent; use an https "
                "remote"
            )
        port = f":{parts.port}" if parts.port else ""
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        count = int(self.environment.get("GIT_CONFIG_COUNT", "0"))
        header = {
            "GIT_CONFIG_COUNT": str(count + 1),
            f"GIT_CONFIG_KEY_{count}": f"http.{parts.scheme}://{parts.hostname}{port}/.extraHeader",
            f"GIT_CONFIG_VALUE_{count}": f"Authorization: Basic {basic}",
        }
        return Git(self.folder, {**self.environment, **header})


def repository(path: Path, environment: Mapping[str, str]) -> Git:
    """The repository that a folder is the top of.

    Raises:
        GitError: it is none.
    """
    if not path.is_dir():
        raise GitError(f"{path}: no such folder; give a Git repository with --repo")
    # A hook of another repository would lead us there.
    kept = {k: v for k, v in environment.items() if k not in _OF_HOOKS}
    git = Git(path, kept)
    if git.run("rev-parse", "--show-cdup", allowed=(0, 128)) or not git.found("HEAD"):
        raise GitError(
            f"{path}: not the top of a Git repository with a commit; check --repo, or make one "
            "with `git init` and a first commit"
        )
    return git


@contextmanager
def checked_out(git: Git, commit: str) -> Iterator[Git]:
    """A working tree of its own at a commit, so that nobody's files are touched; gone after."""
    home = Path(tempfile.mkdtemp(prefix="flowpolicy-"))
    tree = home / "tree"
    try:
        git.run("worktree", "add", "--quiet", "--detach", str(tree), commit)
        yield Git(tree, git.environment)
    finally:
        git.run("worktree", "remove", "--force", str(tree), allowed=(0, 128))
        shutil.rmtree(home, ignore_errors=True)


def committed(git: Git, path: str, message: str) -> str:
    """Commit what changed at a path; the new commit.

    Raises:
        GitError: Git fails.
    """
    identity: tuple[str, ...] = ()
    if not git.run("config", "user.email", allowed=(0, 1)):
        identity = ("-c", "user.name=flowpolicy", "-c", "user.email=flowpolicy@localhost")
    git.run("add", "--all", "--force", "--", path)
    text = f"{message}\n\n{SIGNATURE}\n"
    git.run(*identity, "commit", "--quiet", "--no-verify", "--cleanup=verbatim", "-m", text)
    return git.run("rev-parse", "HEAD")


def commits_of_others(git: Git, base: str, tip: str) -> list[str]:
    """The commits of a branch that flowpolicy did not make, shortened."""
    listed = git.run("log", "--format=%h%x00%B%x01", f"{base}..{tip}")
    commits = (one.strip().split("\0", 1) for one in listed.split("\x01") if one.strip())
    return [name for name, body in commits if SIGNATURE not in body.splitlines()]
