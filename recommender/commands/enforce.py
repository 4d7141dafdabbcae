"""`flowpolicy enforce`: staged and audit policies of ours become enforcing ones."""

from __future__ import annotations

import json
from pathlib import Path

import click

from recommender.commands import options


@click.command(
    epilog="\b\nExample:\n  flowpolicy enforce /tmp/policies --out /tmp/enforced",
    short_help="Turn staged and audit policies of ours into enforcing ones.",
)
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="PATH...",
    type=click.Path(path_type=Path),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the files here, and leave those given as they are.",
)
@options.output("text", "json")
def command(paths: tuple[Path, ...], out: Path | None, output: str) -> None:
    """Turn staged and audit policies of ours into enforcing ones, and change nothing else.

    Files are changed in place: of Calico's, StagedNetworkPolicy becomes NetworkPolicy; of Cilium's,
    the enableDefaultDeny that is false goes. Comments, order and every other byte stay. Policies
    that flowpolicy did not write are left alone. Ask `flowpolicy check` first whether to.
    """
    from recommender.report import enforcing

    found = enforcing.enforce(paths, out)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    for line in (*found["changed"], *found["already"], *found["left"]):
        options.tell(line)
    counts = {key: len(found[key]) for key in ("changed", "already", "left")}
    options.tell(
        f"{counts['changed']} now enforce, {counts['already']} did already, "
        f"{counts['left']} left alone"
    )
