"""What a store keeps beside the flows: the records of blocks and joins, and names of blocks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b, sha256

from blake3 import blake3

from ingest.schema import SCHEMA_VERSION

_BLAKE3 = "blake3:"


@dataclass(frozen=True)
class BlockRecord:
    """What is known of a block that is in the store: `lines` = flows + skipped + rejects.

    Args:
        length: bytes, of which `digest` is the digest.
        absent, lost: as in Batch.
        older: length and digest of the shorter blocks that this one replaced.
        is_whole: its last line has its line break.
        newest: the newest day of its flows; null where it has none.
        is_joined: its flows are in files with those of other blocks, so they stay as they are, and
            what its log has gained is a block of its own.
        reader: how it was read; a block is read again when that changes.
    """

    name: str
    length: int
    digest: str
    lines: int
    flows: int
    skipped: dict[str, int]
    rejects: dict[str, int]
    absent: list[str] = field(default_factory=list)
    lost: int = 0
    older: list[tuple[int, str]] = field(default_factory=list)
    is_whole: bool = False
    newest: str | None = None
    is_joined: bool = False
    reader: int = SCHEMA_VERSION

    def holds(self, data: bytes) -> bool:
        """Whether these are the bytes of this block, or of one that it replaced."""
        seen = [(self.length, self.digest), *self.older]
        return any(length == len(data) and _is_digest(said, data) for length, said in seen)

    def begins(self, data: bytes) -> bool:
        """Whether more bytes begin with those of this block."""
        return self.length < len(data) and _is_digest(self.digest, data[: self.length])


@dataclass(frozen=True)
class Join:
    """One file of flows that is to replace others; paths within the store."""

    name: str
    into: str
    parts: list[str]


def digest(data: bytes) -> str:
    """What tells the bytes of a block from others; BLAKE3 takes half the time of SHA-256."""
    return _BLAKE3 + blake3(data).hexdigest()


def _is_digest(said: str, data: bytes) -> bool:
    """Whether the digest is of these bytes; earlier versions wrote SHA-256, without a name."""
    return said == (digest(data) if said.startswith(_BLAKE3) else sha256(data).hexdigest())


def block_name(first_line: bytes, cluster: str | None, format_: str, number: int = 0) -> str:
    """The name of the block that begins with this line; `number` where others do as well."""
    said = json.dumps([cluster, format_, number]).encode()
    return blake2b(first_line, key=blake2b(said).digest(), digest_size=16).hexdigest()
