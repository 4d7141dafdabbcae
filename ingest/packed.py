"""unpacked(): the bytes of a stream, plain, gzip or zstd, as far as they can be had."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import pyarrow as pa

EXPANSION = 256  # times its size a compressed log may become: most become 10 to 50 times
EXPANSION_FREE = 256 << 20  # bytes to which any may expand
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is compressed."""
    return head.startswith((_GZIP, _ZSTD))


def unpacked(stream: BinaryIO, name: str, trouble: list[str]) -> Iterator[bytes]:
    """The uncompressed bytes; where the rest can't be had, `trouble` says why."""
    file = (
        io.BufferedReader(cast("io.RawIOBase", stream)) if not hasattr(stream, "peek") else stream
    )
    magic = file.peek(4)[:4]
    try:
        if magic.startswith(_GZIP):
            packed = _Counted(file)
            unzipped = gzip.GzipFile(fileobj=packed)
            yield from _expanded(lambda: unzipped.read1(_CHUNK), packed, name, trouble)
        elif magic == _ZSTD:
            packed = _Counted(file)
            plain = pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
            yield from _expanded(lambda: plain.read(_CHUNK), packed, name, trouble)
        else:
            yield from iter(lambda: file.read(_CHUNK), b"")
    except EOFError:
        trouble.append(_cut_off(name))
    except (OSError, zlib.error) as error:
        trouble.append(
            _cut_off(name)
            if "Truncated" in str(error)
            else f"{name}: unreadable from some point on ({error}); the lines before it were kept."
        )
    finally:
        if name != "-":
            file.close()


class _Counted(io.RawIOBase):
    """A stream that knows how many bytes were read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


def _expanded(
    read: Callable[[], bytes], packed: _Counted, name: str, trouble: list[str]
) -> Iterator[bytes]:
    """What `read` gives, as long as it is no more than compressed logs can become."""
    size = 0
    while chunk := read():
        size += len(chunk)
        if size > EXPANSION_FREE and size > EXPANSION * packed.count:
            trouble.append(
                f"{name}: expands to more than {EXPANSION} times its size, as no log does; the "
                "rest was not read. If it is one, decompress it first."
            )
            return
        yield chunk


def _cut_off(name: str) -> str:
    return f"{name}: its compressed data ends early; the lines before the end were kept."
