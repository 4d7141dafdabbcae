"""A proposal as a branch of a Git repository: one commit a namespace, on top of the base.

The branch is made anew from its base each time, in a working tree of its own, so nobody's files are
touched; where it holds commits of others, or would be the same as it is, it is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recommender.diff import Diff, diff
from recommender.git import Git, GitError, checked_out, commits_of_others, committed
from recommender.policies import read_policies
from recommender.recommend import Recommendation
from recommender.report.lines import printable
from recommender.report.tree import Change, changes

_MOST_LINES = 500  # of a commit's message


@dataclass(frozen=True)
class Suggestion:
    """What was proposed: `tip` is the branch's commit, null where there is nothing to say.

    `old_tip` is the commit that it had before, `commits` what was made now, `by_hand` the files
    that people changed, `diff` the change against the base.
    """

    branch: str
    base: str
    tip: str | None
    old_tip: str | None
    commits: tuple[str, ...]
    by_hand: tuple[str, ...]
    diff: Diff


def suggest(
    git: Git,
    found: Recommendation,
    *,
    path: str,
    branch: str,
    base: str,
    old_tip: str | None,
    overwrite: bool = False,
) -> Suggestion:
    """Write the proposals into a branch; the repository's own working tree stays as it is.

    Args:
        git: the repository.
        found: what to propose.
        path: the folder of policies inside the repository.
        branch: to make or make anew.
        base: the revision that it is on top of.
        old_tip: the commit that the branch has, here or at the remote.
        overwrite: also write files that people changed.

    Raises:
        GitError: the branch is in use or somebody else's, or Git fails.
    """
    start = git.found(base)
    if start is None:
        raise GitError(f"{git.folder}: no such revision: {base}; choose another --base")
    check_branch(git, branch, base)
    for tip in {old_tip, git.found(f"refs/heads/{branch}")} - {None}:
        if others := commits_of_others(git, start, str(tip)):
            raise GitError(
                f"{git.folder}: {branch} holds commits of others ({', '.join(others[:3])}), which "
                "would be lost; merge them, or choose another --branch"
            )
    place = inside(path)
    with checked_out(git, start) as tree:
        folder = _folder(tree, place)
        made, by_hand = _commits(tree, folder, place, found, overwrite)
        tip = made[-1] if made else None
        if tip and old_tip and git.tree(tip, place) == git.tree(old_tip, place):
            made, tip = [], old_tip
        with checked_out(git, start) as before:
            changed = _diff(_folder(before, place), folder, found)
    if made and tip is not None:
        git.run("update-ref", f"refs/heads/{branch}", tip)
    return Suggestion(branch, start, tip, old_tip, tuple(made), tuple(by_hand), changed)


def check_branch(git: Git, branch: str, base: str) -> None:
    """See that a branch may be made anew.

    Raises:
        GitError: no branch can have that name, it is the base or the remote's default, or it is
            checked out.
    """
    if branch.startswith("-") or git.code("check-ref-format", f"refs/heads/{branch}"):
        raise GitError(f"{branch!r} can be no branch's name; choose another --branch")
    defaults = git.run("for-each-ref", "--format=%(symref:short)", "refs/remotes/*/HEAD")
    known = {name.partition("/")[2] for name in defaults.splitlines()}
    plain = base.removeprefix("refs/heads/")
    if branch in {"main", "master", "HEAD", plain, plain.partition("/")[2], *known}:
        raise GitError(f"{branch}: proposals never go to a base or default branch; choose another")
    used = git.run("worktree", "list", "--porcelain").splitlines()
    if f"branch refs/heads/{branch}" in used:
        raise GitError(f"{git.folder}: {branch} is checked out; switch to another branch first")


def inside(path: str) -> str:
    """A folder inside a repository, as Git writes it.

    Raises:
        GitError: it leads out, or is the top.
    """
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or str(found) == "." or found.parts[0] == ".git":
        raise GitError(f"{path}: no folder inside the repository; give one with --path")
    return str(found)


def _folder(tree: Git, place: str) -> Path:
    folder = tree.folder / place
    if not folder.resolve().is_relative_to(tree.folder.resolve()):
        raise GitError(f"{place}: leads out of the repository by a link; choose another --path")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _commits(
    tree: Git, folder: Path, place: str, found: Recommendation, overwrite: bool
) -> tuple[list[str], list[str]]:
    made: list[str] = []
    by_hand: list[str] = []
    for change in changes(folder, found, overwrite=overwrite):
        by_hand += change.by_hand
        if change.texts:
            message = _message(change, folder)
            change.apply(folder)
            made.append(committed(tree, place, message))
    return made, by_hand


def _message(change: Change, folder: Path) -> str:
    """What happens in the namespace: counts, then a line a file."""
    words: dict[str, list[str]] = {"add": [], "change": [], "remove": []}
    for path, text in sorted(change.texts.items()):
        if path.suffix in (".yaml", ".yml") and len(path.parts) > 1:
            what = "remove" if text is None else "change" if (folder / path).exists() else "add"
            words[what].append(printable(str(path)))
    counts = [f"{what} {len(paths)}" for what, paths in words.items() if paths]
    title = f"{change.namespace}: {', '.join(counts) or 'note edges'}"
    rows = [f"{what} {path}" for what, paths in words.items() for path in paths]
    more = [f"and {len(rows) - _MOST_LINES} more"] if len(rows) > _MOST_LINES else []
    return "\n".join([f"{title} network policies", "", *rows[:_MOST_LINES], *more]).rstrip()


def _diff(old: Path, new: Path, found: Recommendation) -> Diff:
    inventory = found.watched.inventory
    before, after = (read_policies([at], inventory, may_be_empty=True) for at in (old, new))
    return diff(before, after, inventory, found.watched.edges, told=found.watched.known)


def upstream(git: Git, remote: str | None, base: str | None) -> str:
    """The revision to start from: as asked, else the remote's default branch, else HEAD."""
    if base is None and remote is not None:
        head = git.run("symbolic-ref", "--short", f"refs/remotes/{remote}/HEAD", allowed=(0, 128))
        if head:
            return head
    if base is None:
        return git.run("symbolic-ref", "--short", "HEAD", allowed=(0, 1, 128)) or "HEAD"
    if remote is not None and git.found(f"refs/remotes/{remote}/{base}"):
        return f"{remote}/{base}"
    return base


def remote_tip(git: Git, remote: str, branch: str) -> str | None:
    """The commit that a branch has at the remote, fetched; None where it has none."""
    listed = git.run("ls-remote", "--heads", "--", remote, f"refs/heads/{branch}")
    if not listed:
        return None
    git.run("fetch", "--quiet", "--no-tags", remote, f"refs/heads/{branch}")
    return listed.split()[0]


def push(git: Git, remote: str, suggestion: Suggestion) -> None:
    """Push the branch, if nobody else has moved it meanwhile.

    Raises:
        GitError: somebody has, or the remote refuses.
    """
    lease = f"--force-with-lease=refs/heads/{suggestion.branch}:{suggestion.old_tip or ''}"
    what = f"{suggestion.tip}:refs/heads/{suggestion.branch}"
    git.run("push", "--quiet", "--no-verify", lease, remote, what)


def short(base: str, remote: str) -> str:
    """A base as the forge names it: `origin/main` is its `main`."""
    return base.removeprefix(f"refs/remotes/{remote}/").removeprefix(f"{remote}/")
