"""`flowpolicy suggest`: proposals as a branch, and a pull request."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recommender.commands import options
from recommender.commands.proposing import proposing

if TYPE_CHECKING:
    from recommender.forges import Forge, Kind, Request
    from recommender.git import Git
    from recommender.recommend import Recommendation
    from recommender.suggest import Suggestion

TITLE = "Network policies from flow logs"


@click.command(
    epilog="\b\nExample:\n  flowpolicy suggest --repo /tmp/policies-repo --path policies "
    "--store /tmp/store --inventory data/samples/inventory.yaml",
    short_help="Propose policies as a branch, or a pull request.",
)
@options.repository
@click.option(
    "--path",
    default="policies",
    show_default=True,
    metavar="FOLDER",
    help="Folder of policies inside the repository.",
)
@click.option(
    "--branch", metavar="NAME", help="Branch; flowpolicy/ and the last day seen unless given."
)
@click.option("--base", metavar="REV", help="Start from it; the remote's default branch or HEAD.")
@click.option("--overwrite", is_flag=True, help="Also write files that people changed.")
@click.option(
    "--body",
    "body_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the pull request's text, Markdown, to this file.",
)
@options.forge
@click.option("--reopen", is_flag=True, help="Open a pull request again that a person closed.")
@proposing
@options.output("text", "json")
def command(
    found: Recommendation,
    repo: Path,
    path: str,
    branch: str | None,
    base: str | None,
    overwrite: bool,
    body_file: Path | None,
    open_: Kind | None,
    remote: str,
    api: str | None,
    reopen: bool,
    output: str,
) -> None:
    """Propose policies as a branch of a Git repository, or a pull request.

    One commit a namespace, with only what changed; comments in the files stay, and so do files
    that people changed, which are named. Your working tree is not touched. Run again, the same
    branch is made anew; where there is nothing to say, nothing is committed.

    With --open the branch is pushed and a pull request opened or updated, with the token in
    FLOWPOLICY_TOKEN, or GITHUB_TOKEN, GITLAB_TOKEN or GITEA_TOKEN.
    """
    from recommender.git import repository
    from recommender.report.files import window
    from recommender.suggest import remote_tip, short, suggest, upstream

    git = repository(repo, dict(os.environ))
    day = str(window(found.watched.edges)["last_seen"])[:10]
    chosen = branch or f"flowpolicy/{day}"
    if open_:
        git = _with_token(git, remote, open_, _token(open_))
        git.run("fetch", "--quiet", "--no-tags", remote)
        git.run("remote", "set-head", remote, "--auto", allowed=(0, 1, 128))
    tip = remote_tip(git, remote, chosen) if open_ else git.found(f"refs/heads/{chosen}")
    start = upstream(git, remote if open_ else None, base)
    made = suggest(
        git, found, path=path, branch=chosen, base=start, old_tip=tip, overwrite=overwrite
    )
    text = _body(found, made)
    if body_file is not None:
        body_file.write_text(text, encoding="utf-8")
    request = None
    if open_ and made.tip is not None:
        project = project_of(git, open_, remote, api)
        request = _open(git, made, text, project, remote, short(start, remote), reopen)
    _say(made, request, output)


def _body(found: Recommendation, made: Suggestion) -> str:
    from recommender.report import proposal

    return proposal.body(found, made.diff, made.by_hand)


def _token(kind: Kind) -> str:
    from recommender.forges import ForgeError

    names = ("FLOWPOLICY_TOKEN", f"{kind.upper()}_TOKEN")
    for name in names:
        if token := os.environ.get(name, "").strip():
            return token
    raise ForgeError(f"no token in the environment; set {' or '.join(names)}")


def _url(git: Git, remote: str) -> str:
    return git.run("remote", "get-url", "--push", remote)


def _with_token(git: Git, remote: str, kind: Kind, token: str) -> Git:
    from recommender.forges import USERS

    return git.with_token(_url(git, remote), USERS[kind], token)


def project_of(git: Git, kind: Kind, remote: str, api: str | None) -> Forge:
    """The project behind a remote, with the token of the environment.

    Raises:
        ForgeError: there is no token, or the remote names no host.
    """
    from recommender.forges import forge

    return forge(kind, _url(git, remote), _token(kind), api)


def _open(
    git: Git, made: Suggestion, text: str, project: Forge, remote: str, base: str, reopen: bool
) -> Request | None:
    """Push, then open or update; a request that a person closed stays closed."""
    from recommender.suggest import push

    project.check_branch(made.branch)
    known = project.find(made.branch, base)
    if known is not None and known.state == "closed" and not reopen:
        options.say(f"{known.url} was closed by somebody, so nothing is pushed; --reopen opens it")
        return known
    if made.commits:
        push(git, remote, made)
    if known is None or known.state == "merged":
        return project.create(made.branch, base, TITLE, text)
    return replace(
        project.update(known, TITLE, text, reopen=reopen and known.state == "closed"), state="open"
    )


def _say(made: Suggestion, request: Request | None, output: str) -> None:
    if output == "json":
        found: dict[str, Any] = {
            "branch": made.branch,
            "base": made.base,
            "tip": made.tip,
            "commits": list(made.commits),
            "by_hand": list(made.by_hand),
            "url": request.url if request else None,
            "state": request.state if request else None,
        }
        click.echo(json.dumps(found))
        return
    for name in made.by_hand:
        options.say(f"{name}; left as it is, --overwrite writes it")
    if made.tip is None:
        options.tell("nothing to propose: the repository has it all")
    elif not made.commits:
        options.tell(f"{made.branch} says it all already, at {made.tip[:12]}")
    else:
        options.tell(f"{made.branch}: {len(made.commits)} commits, up to {made.tip[:12]}")
    if request is not None:
        options.tell(f"{request.state}: {request.url}")
