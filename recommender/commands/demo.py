"""`flowpolicy demo`: the whole way on the packaged samples."""

from __future__ import annotations

import shlex
from importlib.resources import as_file, files
from pathlib import Path

import click

from recommender.commands import options

_ANSWERS = (0, 10)  # diff answers 10: the two sets differ


@click.command(
    epilog="\b\nExample:\n  flowpolicy demo --out /tmp/demo --no-open",
    short_help="Show the whole way on sample logs, and open the report.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("flowpolicy-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for the store, the policies and the report.",
)
@click.option("--open/--no-open", "open_", default=True, help="Open the report in a browser.")
def command(out: Path, open_: bool) -> None:
    """Show the whole way on sample logs, and open the report; no cluster is needed.

    Reads eight days of a made-up shop, proposes a policy for each workload, compares these with the
    four policies in force, which are broken the way real ones are, and writes the report.
    """
    store, policies, report = out / "store", out / "policies", out / "report.html"
    out.mkdir(parents=True, exist_ok=True)
    with as_file(files("recommender") / "samples") as samples:
        given = ["--store", store, "--inventory", samples / "inventory.yaml"]
        for words in (
            ["ingest", samples / "hubble", "--store", store],
            ["recommend", *given, "--out", policies],
            ["diff", samples / "policies", policies, *given],
            ["report", *given, "--policies", samples / "policies", "--out", report],
        ):
            _run([str(word) for word in words])
    click.echo()
    options.tell(f"The policies are in {policies}; apply none before you have read them.")
    if open_:
        click.launch(report.resolve().as_uri())


def _run(words: list[str]) -> None:
    from recommender.cli import group

    click.echo(f"\n$ flowpolicy {shlex.join(words)}")
    try:
        group.main(words, prog_name="flowpolicy", standalone_mode=False)
    except SystemExit as ended:
        if ended.code not in _ANSWERS:
            raise
