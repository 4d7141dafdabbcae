"""Live sources: Hubble Relay and Goldmane over gRPC, with no gap and no double.

A thread receives and reconnects; whoever calls `changed` takes what has come as the growing end of
a log. After a break the server is asked again for the last minute before it, and what was received
already is dropped by its identity: so nothing is missing that the server still keeps.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from ingest import spool
from ingest.errors import SourceError
from ingest.live_protocols import PROTOCOLS, Protocol
from ingest.security import Security
from ingest.sources import BLOCK, Source
from ingest.store import Store
from ingest.values import MICROSECONDS

# Nodes send what they saw in their own order, by their own clocks.
OVERLAP_SECONDS = 60
_QUEUED = 20_000  # messages; then the server waits
_FIRST_TRIES = 6  # a server that was never reached is given up
_STRANGE = 100  # new messages after a break, and none that is known
_LONGEST_WAIT_SECONDS = 30.0
_QUIET_SECONDS = 40  # more than two of Goldmane's intervals
_HOPELESS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
}
_OPTIONS = (
    # Finds a dead peer; Go's servers close the connection of who asks more often than this.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # How long to wait is decided here and not in the library.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class _Connected:
    """In the queue before what came over a new connection; the newest event before it."""

    newest: int


class Tap:
    """A live source that is being received.

    Args:
        url: `hubble-relay://HOST:PORT` or `goldmane://HOST:PORT`.
        store: where its lines are kept; it goes on where the last run into it ended.
        security: how to connect.
        cluster: as in `load`.
        since: microseconds from which on events are wanted, where the store has none of the source
            yet; None: all that the server keeps.
        follow: go on for ever; else until what the server keeps was read.
        wake: is set when there is much to take, and at the end.

    Raises:
        SourceError: no such address, or a file of `security` can't be read.
    """

    def __init__(
        self,
        url: str,
        store: Store,
        security: Security,
        *,
        cluster: str | None,
        since: int | None,
        follow: bool,
        wake: threading.Event,
    ) -> None:
        self.url = url
        self._protocol, self._target = address(url)
        self._channel = _channel(self._target, security)
        self._store, self._since, self._follow, self._wake = store, since, follow, wake
        self._id = blake2b(f"{cluster or ''}\n{url}".encode(), digest_size=16).hexdigest()
        self._queue = queue.Queue[Any](_QUEUED)
        self._seen: dict[bytes, int] = {}
        self._newest: int | None = None
        self._unsure: int | None = None  # the newest event before the connection that is new
        self._strange = 0  # messages since then of which none was known
        self._begun: list[tuple[int, bytes, int]] = []  # number, lines, newest event of a segment
        self._stop = threading.Event()
        self._call: Any = None
        self._error: SourceError | None = None
        self.notes: list[str] = []
        for number, lines in spool.segments(store, self._id):
            self._begun.append((number, lines, self._learn(lines)))
        self._pending = [lines for _, lines, _ in self._begun]
        self._number = self._begun.pop()[0] if self._begun else 0
        self._segment = bytearray(self._pending[-1] if self._pending else b"")
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Nothing is left to take, and nothing comes."""
        return not self._thread.is_alive() and self._queue.empty() and not self._pending

    @property
    def is_waiting(self) -> bool:
        """There is something to take."""
        return not self._queue.empty()

    def changed(self) -> list[Source]:
        """What has come since the last call, as sources to load; kept before they are given out.

        Raises:
            SourceError: the source can't be read, now or ever.
        """
        if self._error is not None and self._queue.empty():
            raise self._error
        given = [self._source(lines) for lines in self._pending[:-1]]
        lines = self._take()
        if lines:
            self._segment += lines
            spool.write_segment(self._store, self._id, self._number, bytes(self._segment))
        if lines or self._pending:
            given.append(self._source(bytes(self._segment)))
        self._pending = []
        return [source for source in given if not source.is_empty]

    def settle(self, _ends: Sequence[int]) -> None:
        """What was given out is in the store: forget what no server sends again."""
        if len(self._segment) >= BLOCK:
            self._begun.append((self._number, b"", self._newest or 0))
            self._number += 1
            self._segment = bytearray()
        horizon = (self._newest or 0) - 2 * OVERLAP_SECONDS * MICROSECONDS
        for number, _, newest in self._begun:
            if newest < horizon:
                spool.remove_segment(self._store, self._id, number)
        self._begun = [(number, b"", newest) for number, _, newest in self._begun
                       if newest >= horizon]  # fmt: skip
        self._seen = {key: moment for key, moment in self._seen.items() if moment >= horizon}

    def close(self) -> None:
        """End the connection; what was received can still be taken."""
        self._stop.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join(timeout=5)
        self._channel.close()

    def _source(self, lines: bytes) -> Source:
        return Source(self.url, None, self._protocol.format, not lines, lambda: iter([lines]), [])

    def _take(self) -> bytes:
        """The lines of the messages in the queue that are new, until the segment is full."""
        lines = bytearray()
        while len(self._segment) + len(lines) < BLOCK:
            try:
                message = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(message, _Connected):
                self._unsure, self._strange = message.newest, 0
                continue
            is_new = self._is_new(message)
            lines += self._gap(message, is_new=is_new)
            if is_new:
                lines += self._protocol.line(message)
        return bytes(lines)

    def _gap(self, message: Any, *, is_new: bool) -> bytes:
        """That the server has forgotten what came while nobody was connected, where that shows.

        It was asked for a time of which events were received, so it sends some of them again; if
        the first hundred are all new ones, it no longer has those, nor those that came after.
        """
        moment = self._protocol.moment(message)
        if self._unsure is None or moment is None:
            return b""
        if not is_new:
            self._unsure = None
            return b""
        self._strange += 1
        if self._strange < _STRANGE or moment <= self._unsure:
            return b""
        since, self._unsure = self._unsure, None
        self.notes.append(
            f"{self.url}: connections may be missing, the server no longer keeps what came while "
            "there was no connection to it."
        )
        return self._protocol.gap(since, moment)

    def _is_new(self, message: Any) -> bool:
        identity, moment = self._protocol.identity(message), self._protocol.moment(message)
        if identity in self._seen:
            return False
        # What tells no time can't say how far the source was read.
        self._seen[identity] = (self._newest or 0) if moment is None else moment
        if moment is not None:
            # A clock that is ahead must not hide what others send.
            self._newest = max(self._newest or 0, min(moment, _now()))
        return True

    def _learn(self, lines: bytes) -> int:
        """Remember the events of a segment; the newest one's time."""
        newest = 0
        for line in lines.splitlines():
            if not line.startswith(b"{"):
                continue  # a gap
            message = _parsed(self._protocol, line)
            self._is_new(message)
            newest = max(newest, self._protocol.moment(message) or 0)
        return newest

    # --- in the thread ---------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            self._connect_until_ended()
        except SourceError as error:
            self._error = error
        finally:
            self._wake.set()

    def _connect_until_ended(self) -> None:
        failures, was_reached = 0, False
        received = self._newest
        while not self._stop.is_set():
            began = time.monotonic()
            if received is not None:
                self._put(_Connected(received))
            try:
                for message in self._messages(received):
                    failures, was_reached, began = 0, True, time.monotonic()
                    moment = self._protocol.moment(message)
                    if moment is not None:
                        received = max(received or 0, min(moment, _now()))
                    self._put(message)
                if not self._follow:
                    return
                reason = "the server ended the stream"
            except grpc.RpcError as error:
                if self._stop.is_set():
                    return
                code = error.code()
                if code is grpc.StatusCode.DEADLINE_EXCEEDED and self._is_quiet(began):
                    return
                reason = f"{code.name}: {error.details()}"
                if code in _HOPELESS or (not was_reached and failures + 1 >= _FIRST_TRIES):
                    raise self._unreadable(reason) from error
            failures += 1
            self._say(reason)
            self._stop.wait(_wait_seconds(failures))

    def _messages(self, received: int | None) -> Iterator[Any]:
        since = self._since
        if received is not None:
            since = received - OVERLAP_SECONDS * MICROSECONDS
        method = self._channel.unary_stream(
            self._protocol.method,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self._read,
        )
        is_bounded = self._protocol.is_endless and not self._follow
        now = _now()
        self._call = method(
            self._protocol.request(since, now, self._follow),
            timeout=_QUIET_SECONDS if is_bounded else None,
        )
        for message in self._call:
            if is_bounded and (self._protocol.moment(message) or 0) >= now:
                self._call.cancel()
                return
            yield message

    def _read(self, data: bytes) -> Any:
        message = self._protocol.message.FromString(data)
        # What has no column is not kept, so an event must be the same event without it.
        message.DiscardUnknownFields()
        return message

    def _is_quiet(self, since: float) -> bool:
        is_bounded = self._protocol.is_endless and not self._follow
        return is_bounded and time.monotonic() - since > _QUIET_SECONDS / 2

    def _put(self, message: Any) -> None:
        if self._queue.qsize() > _QUEUED // 2:
            self._wake.set()
        while not self._stop.is_set():
            try:
                self._queue.put(message, timeout=0.5)
                break
            except queue.Full:
                self._wake.set()

    def _say(self, reason: str) -> None:
        self.notes.append(f"{self.url}: no connection ({reason[:300]}); trying again.")

    def _unreadable(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.url}: can't be read ({reason[:300]}); check the address, and --plaintext or "
            "the --tls options."
        )


def address(url: str) -> tuple[Protocol, str]:
    """The protocol of a live source, and HOST:PORT.

    Raises:
        SourceError: it is not SCHEME://HOST[:PORT].
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    protocol = PROTOCOLS.get(parts.scheme)
    if (
        protocol is None
        or not parts.hostname
        or port == -1
        or parts.username is not None
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise SourceError(f"{url}: not an address; write it as {parts.scheme}://HOST:PORT.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return protocol, f"{host}:{port or protocol.port}"


def _channel(target: str, security: Security) -> grpc.Channel:
    if security.is_plaintext:
        return grpc.insecure_channel(target, options=_OPTIONS)
    if (security.certificate is None) != (security.key is None):
        raise SourceError(
            "a client certificate needs its key, and a key its certificate; give both."
        )
    credentials = grpc.ssl_channel_credentials(
        _pem(security.ca), _pem(security.key), _pem(security.certificate)
    )
    name = security.server_name
    named = (("grpc.ssl_target_name_override", name),) if name else ()
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *named))


def _pem(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise SourceError(f"{file}: can't be read: {error.strerror}; check the path.") from error


def _parsed(protocol: Protocol, line: bytes) -> Any:
    from google.protobuf import json_format

    return json_format.Parse(line, protocol.message(), ignore_unknown_fields=True)


def _wait_seconds(failures: int) -> float:
    """Twice as long each time, and not the same for all who wait."""
    longest = min(_LONGEST_WAIT_SECONDS, 0.25 * 2.0 ** min(failures, 10))
    return longest * (0.5 + random.random() / 2)  # noqa: S311


def _now() -> int:
    return time.time_ns() // 1000
