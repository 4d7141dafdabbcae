"""`flowpolicy decide`: accept or reject edges, for the record."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from recommender.commands import options


@click.command(
    epilog="\b\nExample:\n  flowpolicy decide reject --file /tmp/decisions.yaml --client shop/cart "
    "--server payments/ledger --protocol TCP --port 50051 --who alice --why 'a curl by hand'",
    short_help="Accept or reject edges, with who, why and until when.",
)
@click.argument("what", type=click.Choice(["accept", "reject"]), metavar="accept|reject")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("decisions.yaml"),
    show_default=True,
    help="The file of decisions, kept beside the policies; made if missing.",
)
@click.option("--client", required=True, metavar="END", help="Who calls.")
@click.option("--server", required=True, metavar="END", help="Who is called.")
@click.option("--protocol", metavar="P", help="TCP, UDP, SCTP, ICMP; any unless given.")
@click.option("--port", type=int, metavar="N", help="Server port; any unless given.")
@click.option("--who", required=True, metavar="NAME", help="Who decides.")
@click.option("--why", required=True, metavar="TEXT", help="Why, in one sentence.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Last day on which it holds, such as 2026-12-31; for good unless given.",
)
def command(
    what: str,
    path: Path,
    client: str,
    server: str,
    protocol: str | None,
    port: int | None,
    who: str,
    why: str,
    until: datetime | None,
) -> None:
    """Accept or reject edges, with who, why and until when.

    An END is namespace/name, namespace/kind/name, namespace/label=value (* for any namespace), an
    address or a block of addresses; for reject also *. A rejected edge is not proposed again, an
    accepted one is, one whose decision has ended returns to review. A new decision on the same
    edges takes the place of the old one. Give the file to recommend, patterns and check with
    --decisions.
    """
    from recommender.decisions import Decision, read_decisions, with_decision, write_decisions
    from recommender.report.lines import many

    one = Decision(
        "accept" if what == "accept" else "reject",
        client,
        server,
        who,
        why,
        protocol,
        port,
        until.date() if until else None,
    )
    decisions = with_decision(read_decisions(path) if path.exists() else (), one)
    write_decisions(path, decisions)
    options.say(f"{path}: {many(len(decisions), 'decision')}; added {one}")
