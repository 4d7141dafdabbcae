"""PROTOCOLS, what a live source speaks: requests, and messages as lines of the format's files.

A message becomes the line that the same event would be in a log file, so that every meaning is
read in one place, the format's reader. To add a protocol: a .proto file in `ingest/protocols`,
`make protocols`, and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from google.protobuf import json_format

from ingest.protocols import goldmane_pb2, hubble_pb2
from ingest.values import MICROSECONDS

_GAP = "flowpolicy was not connected, and the server no longer keeps what came meanwhile"
_BUCKET_SECONDS = 15  # the only width that Goldmane streams
_HELD_SECONDS = 3600  # what Goldmane keeps in memory (goldmane/DESIGN.md: 242 buckets)


@dataclass(frozen=True)
class Protocol:
    """How a live source is asked, and what its messages are.

    Args:
        format: a key of FORMATS, which reads the lines.
        port: where the source listens unless its address says so.
        method: full name of the gRPC method, which answers with a stream.
        request: asks for events from a time on (microseconds; None: all that the server keeps)
            until now, or for ever.
        message: the class of the answers.
        moment: microseconds of an event; None where it tells no time.
        identity: the same for one event whenever it is sent, and different for any two.
        line: the event as a line of a log.
        gap: that nothing is known of the time between two moments, as lines of a log.
        is_endless: the server never ends the stream, also where it was not asked to follow.
    """

    format: str
    port: int
    method: str
    request: Callable[[int | None, int, bool], Any]
    message: type[Any]
    moment: Callable[[Any], int | None]
    identity: Callable[[Any], bytes]
    line: Callable[[Any], bytes]
    gap: Callable[[int, int], bytes]
    is_endless: bool


def _line(message: Any, *, keeps_names: bool) -> bytes:
    text = json_format.MessageToJson(message, indent=None, preserving_proto_field_name=keeps_names)
    return text.encode() + b"\n"


def _digest(message: Any) -> bytes:
    return blake2b(message.SerializeToString(deterministic=True), digest_size=12).digest()


# --- Hubble: api/v1/observer/observer.proto of Cilium --------------------------------------------


def _get_flows(since: int | None, _now: int, follow: bool) -> Any:
    request = hubble_pb2.GetFlowsRequest(follow=follow)
    # Without a time and with `follow` the server would begin at now and not with what it keeps.
    request.since.FromMicroseconds(since or 0)
    return request


def _hubble_moment(message: Any) -> int | None:
    if message.HasField("flow") and message.flow.HasField("time"):
        return int(message.flow.time.ToMicroseconds())
    return None


def _hubble_gap(since: int, until: int) -> bytes:
    """As Relay would say it of a node, here of all nodes."""
    states = ((since, hubble_pb2.NODE_UNAVAILABLE), (until, hubble_pb2.NODE_CONNECTED))
    lines = b""
    for moment, state in states:
        message = hubble_pb2.GetFlowsResponse()
        message.time.FromMicroseconds(moment)
        message.node_status.state_change = state
        message.node_status.message = _GAP
        lines += _line(message, keeps_names=True)
    return lines


# --- Goldmane: goldmane/proto/api.proto of Calico -------------------------------------------------


def _stream(since: int | None, now: int, _follow: bool) -> Any:
    start = now - _HELD_SECONDS * MICROSECONDS if since is None else since
    # Zero and negative numbers have meanings of their own.
    return goldmane_pb2.FlowStreamRequest(
        start_time_gte=max(1, start // MICROSECONDS), aggregation_interval=_BUCKET_SECONDS
    )


def _goldmane_moment(message: Any) -> int | None:
    return int(message.flow.start_time) * MICROSECONDS or None


def _goldmane_identity(message: Any) -> bytes:
    # The id is another one after each restart, and a late report can still change the counters of
    # a bucket: a flow is one by its key in one bucket.
    return _digest(goldmane_pb2.Flow(Key=message.flow.Key, start_time=message.flow.start_time))


def _goldmane_gap(since: int, until: int) -> bytes:
    """As Whisker ends a stream that failed."""
    told = (datetime.fromtimestamp(m / MICROSECONDS, UTC).isoformat() for m in (since, until))
    return f"error: {' to '.join(told)}: {_GAP}\n".encode()


PROTOCOLS = {
    "hubble-relay": Protocol(
        format="hubble",
        port=4245,
        method="/observer.Observer/GetFlows",
        request=_get_flows,
        message=hubble_pb2.GetFlowsResponse,
        moment=_hubble_moment,
        identity=_digest,
        line=lambda message: _line(message, keeps_names=True),
        gap=_hubble_gap,
        is_endless=False,
    ),
    "goldmane": Protocol(
        format="goldmane",
        port=7443,
        method="/goldmane.Flows/Stream",
        request=_stream,
        message=goldmane_pb2.FlowResult,
        moment=_goldmane_moment,
        identity=_goldmane_identity,
        line=lambda message: _line(message, keeps_names=False),
        gap=_goldmane_gap,
        is_endless=True,
    ),
}
