"""Hubble lines -> FLOWS: `hubble_bulk` for lines as Hubble writes them, `hubble_rows` for all."""

from __future__ import annotations

import pyarrow as pa

from ingest.batch import Batch, Lines
from ingest.columns import flows_table
from ingest.hubble_bulk import Rows, read
from ingest.hubble_rows import Reader, Row


def _absent(reader: Reader) -> frozenset[str]:
    """Fields without which traffic can't be judged and that no flow of the block has."""
    keys = [key for key, seen in reader.signs if seen.skip is None]
    traces = [key for key, seen in reader.signs if seen.skip is None and seen.event == "trace"]
    has = {
        "verdict": any(key.verdict for key in keys),
        "event_type": any(key.event_type for key in keys),
        "traffic_direction": any(key.direction for key in keys),
        # Drops never carry it, and before Cilium 1.10 only `reply: true` was written.
        "is_reply": not traces
        or any(key.is_reply is not None or key.reply or key.trace_reason for key in traces),
        "labels": any(end.labelled for _, end in reader.seen_ends),
    }
    return frozenset(name for name, present in has.items() if not present)


def parse(block: bytes, *, cluster: str | None = None) -> Batch:
    """Read whole lines of Hubble's JSON, as `hubble observe -o json` or the exporter writes them.

    Args:
        block: bytes of whole lines; the last may lack its line break.
        cluster: name of the Kubernetes cluster, in place of what the lines say.

    Returns:
        Batch; one row of FLOWS for each trace, policy verdict, drop, L7 request and answered DNS
        response. Nothing of HTTP or Kafka is kept.
    """
    reader, lines = Reader(cluster), Lines(block)
    rows = read(reader, lines)
    flows = _table(reader, rows[rows[:, 0].argsort()])
    absent = _absent(reader) if len(rows) else frozenset[str]()
    rejects = sorted(lines.rejects)
    return Batch(flows, dict(lines.skipped), rejects, lines.count, absent, reader.gaps)


def _table(reader: Reader, rows: Rows) -> pa.Table:
    row = Row(*rows[:, 1:].T)
    return flows_table(
        {
            "time": row.time,
            **reader.facts.columns(row.fact),
            **reader.places.columns(row.place),
            **reader.ends.columns(row.src, "src_"),
            **reader.ends.columns(row.dst, "dst_"),
            **reader.ips.columns(row.src_ip, "src_"),
            **reader.ips.columns(row.dst_ip, "dst_"),
            "src_port": row.src_port,
            "dst_port": row.dst_port,
            **reader.rare.columns(row.rare),
            "connections": row.connections,
        },
        len(rows),
    )
