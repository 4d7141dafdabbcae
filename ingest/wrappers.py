"""What log shippers and container runtimes put around a line, taken off again.

Seen in the field: the prefix of container runtimes (`<time> stdout F `, Kubernetes' CRI logs), and
an object with the line, mostly as text, under `log` (Fluent Bit, Docker's json-file), `message`
(Vector, Logstash), `line` (Loki's logcli, Promtail), `body` (OpenTelemetry), `_raw` (Splunk) or
`_source` (a hit of Elasticsearch); one can stand inside the other.
"""

from __future__ import annotations

import re

import msgspec

from ingest.values import UnreadableError, check_keys

_KEYS = ("log", "message", "line", "body", "_raw", "_source")
_DEEPEST = 4
PART = re.compile(rb"\S+ (stdout|stderr) ([FP])(?::\S*)? ")  # of a line, or the last one
_Wrapper = msgspec.defstruct(
    "_Wrapper", [(key, msgspec.Raw, msgspec.Raw()) for key in _KEYS], gc=False
)
_wrapper = msgspec.json.Decoder(_Wrapper).decode
_text = msgspec.json.Decoder(str).decode


def unwrapped(line: bytes) -> bytes:
    """The line that was logged; itself where nothing is known to be around it.

    Raises:
        UnreadableError: the runtime cut the line into parts, or a wrapper has a key twice.
    """
    for _ in range(_DEEPEST):
        line = line.strip(b"\xef\xbb\xbf \t\r\n")
        prefix = PART.match(line)
        if prefix:
            if prefix[2] == b"P":
                raise UnreadableError("partial line", "the container runtime cut the line up")
            line = line[prefix.end() :]
            continue
        inner = _inner(line)
        if inner is None:
            break
        line = inner
    return line


def _inner(line: bytes) -> bytes | None:
    """The text that a wrapping object holds, if it looks like an object or is wrapped again."""
    if line[:1] != b"{":
        return None
    try:
        found = _wrapper(line)
    except msgspec.DecodeError:
        return None  # whoever reads the line says what is wrong with it
    for key in _KEYS:
        raw = bytes(getattr(found, key))
        text = _text(raw).encode().strip() if raw[:1] == b'"' else raw
        if text[:1] == b"{" or PART.match(text):
            check_keys(line)
            return text
    return None
