"""`flowpolicy review`: what a person's change of policies does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recommender.commands import options, progress

if TYPE_CHECKING:
    from recommender.forges import Kind
    from recommender.replay import Replayed
    from recommender.review import Review

_MARK = "<!-- flowpolicy review -->"


@click.command(
    epilog="\b\nExample:\n  flowpolicy review --repo /tmp/policies-repo --base main "
    "--path policies --store /tmp/store --inventory data/samples/inventory.yaml",
    short_help="Say what a change of policies in a repository does.",
)
@options.repository
@click.option("--base", required=True, metavar="REV", help="What the change is to go into.")
@click.option(
    "--path",
    default="policies",
    show_default=True,
    metavar="FOLDER",
    help="Folder of policies inside the repository.",
)
@options.watched
@options.inventory
@options.cluster
@options.decisions
@options.forge
@click.option("--number", type=int, metavar="N", help="Comment on this pull request (--open).")
@click.option(
    "--sarif",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write SARIF, for code scanning.",
)
@options.output("text", "json", "markdown")
def command(
    repo: Path,
    base: str,
    path: str,
    store: str,
    inventory: tuple[str, ...],
    cluster: str | None,
    decisions: str | None,
    open_: Kind | None,
    remote: str,
    api: str | None,
    number: int | None,
    sarif: Path | None,
    output: str,
) -> None:
    """Say what a change of policies in a repository does to connections and to observed traffic.

    Compares the folder as it is now with what it was where the branch left REV. Exits 11 where
    wanted traffic would be denied that was not denied before. With --open and --number the answer
    is a comment on the pull request, in the place of the last one.
    """
    from recommender.git import repository
    from recommender.report import changes
    from recommender.review import review
    from recommender.watch import watch

    if (open_ is None) != (number is None):
        raise click.UsageError("a comment needs both --open and --number")
    git = repository(repo, dict(os.environ))
    chosen = options.read_decisions(decisions)
    with progress.waiting("reading the store"):
        watched = watch(store, inventory, cluster=cluster, decisions=chosen)
    options.say_problems(watched.inventory)
    with progress.waiting("comparing"):
        found = review(git, base, path, watched)
    text = _markdown(found)
    if sarif is not None:
        _write(found, sarif, repo)
    if open_ is not None and number is not None:
        from recommender.commands.suggest import project_of
        from recommender.report.markdown import fitting

        body = fitting(f"{_MARK}\n{text}")
        project_of(git, open_, remote, api).comment(number, body, _MARK)
    if output == "json":
        denied = {"denied": [str(one) for one in found.denied]}
        click.echo(json.dumps({**denied, **changes.as_dict(found.diff)}, indent=2))
    elif output == "markdown":
        click.echo(text)
    else:
        for line in changes.text(found.diff, 40, "`flowpolicy diff --all` shows them"):
            options.tell(line)
        _print(found.denied)
    options.done(False, found.new, answer=11 if found.denied else 0)


def _markdown(found: Review) -> str:
    from recommender.report import changes
    from recommender.report.markdown import code

    lines = ["No wanted traffic would be denied.", ""]
    if found.denied:
        lines = [f"**{len(found.denied)} wanted edges would be denied:**", ""]
        lines += [f"- {code(str(one))}" for one in found.denied[:50]]
        more = len(found.denied) - 50
        lines += [f"- and {more} more", ""] if more > 0 else [""]
    return "\n".join(lines) + changes.markdown(found.diff)


def _print(denied: tuple[Replayed, ...]) -> None:
    options.tell(f"wanted edges that would be denied: {len(denied)}")
    for one in denied:
        options.tell(f"  {one}")


def _write(found: Review, path: Path, repo: Path) -> None:
    from recommender.report.sarif import sarif

    body = sarif(found.denied, found.new_remarks, repo)
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
