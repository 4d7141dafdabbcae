"""Options of `ingest` for logs that grow and for live sources, and the run that they ask for."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.security import LIVE_SCHEMES
from recommender.commands import options, stopping

if TYPE_CHECKING:
    from ingest.load import Summary

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Since(click.ParamType[int]):
    """`10m`, `2h`, `1d`, or an RFC 3339 time, as microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if found := re.fullmatch(r"(\d{1,9})([smhd])", value):
            return (time.time_ns() // 1000) - int(found[1]) * _SECONDS[found[2]] * 1_000_000
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{value!r} is neither like 10m, 2h, 1d nor like 2026-03-02T08:00:00Z", param, ctx
            )
        return int(moment.timestamp() * 1_000_000)


_FILE = click.Path(path_type=Path, dir_okay=False)

_OPTIONS = (
    click.option("--follow", is_flag=True, help="Go on reading what is written later."),
    click.option(
        "--every",
        type=click.FloatRange(0.1),
        callback=options.number,
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="With --follow: how often what is new is put into the store.",
    ),
    click.option(
        "--since",
        type=_Since(),
        help="Live sources: from when on (10m, 2h, or 2026-03-02T08:00:00Z), where the store has "
        "nothing of the source yet; all that the server keeps unless given.",
    ),
    click.option("--plaintext", is_flag=True, help="Live sources: connect without TLS."),
    click.option(
        "--tls-ca",
        type=_FILE,
        envvar="FLOWPOLICY_TLS_CA",
        show_envvar=True,
        help="Live sources: certificates to trust, a PEM file.",
    ),
    click.option(
        "--tls-cert",
        type=_FILE,
        envvar="FLOWPOLICY_TLS_CERT",
        show_envvar=True,
        help="Live sources: the client's certificate, a PEM file.",
    ),
    click.option(
        "--tls-key",
        type=_FILE,
        envvar="FLOWPOLICY_TLS_KEY",
        show_envvar=True,
        help="Live sources: the key of the client's certificate, a PEM file.",
    ),
    click.option(
        "--tls-server-name",
        metavar="NAME",
        help="Live sources: the name on the server's certificate, where the address has another.",
    ),
)


def following(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command takes them as `**live` and gives them to `summary`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def is_wanted(sources: Sequence[str], live: dict[str, Any]) -> bool:
    """Whether the sources or options ask for more than reading files once."""
    if live["follow"] and "-" in sources:
        raise click.UsageError("standard input ends when its writer ends; leave --follow out")
    return live["follow"] or any(source.startswith(LIVE_SCHEMES) for source in sources)


def summary(
    sources: Sequence[str],
    store: str,
    *,
    format_: str | None,
    cluster: str | None,
    workers: int | None,
    live: dict[str, Any],
) -> Summary:
    """Read until the end, or until Ctrl-C or SIGTERM; then what is at hand is still read."""
    from ingest.follow import follow
    from ingest.security import Security

    security = Security(
        is_plaintext=live["plaintext"],
        ca=live["tls_ca"],
        certificate=live["tls_cert"],
        key=live["tls_key"],
        server_name=live["tls_server_name"],
    )
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        stopping.STOPPING.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return follow(
        sources,
        store,
        format=format_,
        cluster=cluster,
        workers=workers,
        every_seconds=live["every"],
        since=live["since"],
        security=security,
        is_endless=live["follow"],
        stop=stop,
        said=options.say,
    )
