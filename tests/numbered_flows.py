"""Logs of numbered flows, and which of them a store has."""

import json
from pathlib import Path

from ingest.store import open_store


def line(number: int, day: int = 2) -> bytes:
    """The line of Hubble's log with that number, which is in its time and source port."""
    moment = f"2026-03-{day:02}T10:00:00.{number:09}Z"
    flow = {
        "time": moment,
        "uuid": str(number),
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {"TCP": {"source_port": 10_000 + number, "destination_port": 80}},
        "is_reply": False,
    }
    return json.dumps({"flow": flow, "node_name": "prod/n", "time": moment}).encode() + b"\n"


def lines(*numbers: int) -> bytes:
    """The lines of these numbers."""
    return b"".join(map(line, numbers))


def numbers(store: str | Path) -> list[int]:
    """The numbers of the flows in a store, sorted; one that is there twice stands twice."""
    column = open_store(store).flows().to_table()["src_port"].to_pylist()
    return sorted(port - 10_000 for port in column)
