"""Figures of a run in Prometheus' text format, and where they go.

https://prometheus.io/docs/instrumenting/exposition_formats, and the Pushgateway's README.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from ingest.errors import FlowpolicyError

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """One figure: a name, what it says, and its values by label."""

    name: str
    help: str
    values: Mapping[tuple[tuple[str, str], ...], float]


def text(gauges: Sequence[Gauge]) -> str:
    """The figures as Prometheus reads them."""
    lines = []
    for gauge in gauges:
        lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
        for labels, value in sorted(gauge.values.items()):
            inside = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels)
            lines.append(f"{gauge.name}{'{' + inside + '}' if inside else ''} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(path: Path, gauges: Sequence[Gauge]) -> None:
    """Write the figures for the node exporter's textfile collector: whole, or not at all.

    Raises:
        FlowpolicyError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text(gauges), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise FlowpolicyError(f"{path}: {error.strerror}; choose another textfile") from error


def push(url: str, cluster: str, gauges: Sequence[Gauge], token: str | None) -> None:
    """Put the figures into a Pushgateway, in place of those of this cluster's last run.

    Raises:
        FlowpolicyError: it does not take them, or the token would go over plain http.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FlowpolicyError(f"{url}: neither http nor https; mend the Pushgateway's URL")
    if token and urlsplit(url).scheme != "https":
        raise FlowpolicyError(f"{url}: not https, so the token is not sent; give an https URL")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        f"{url.rstrip('/')}/metrics/job/flowpolicy/cluster/{quote(cluster or 'default', safe='')}",
        data=text(gauges).encode(),
        headers={"Content-Type": "text/plain; version=0.0.4"},
        method="PUT",
    )
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            return
    except OSError as error:  # URLError is one
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FlowpolicyError(
            f"{url}: takes no metrics ({error}); check the Pushgateway's URL"
        ) from error
