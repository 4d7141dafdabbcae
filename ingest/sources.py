"""Where lines come from: file, folder, glob, object or standard input, plain, gzip or zstd.

A source is cut into blocks of whole lines. Where the cuts lie depends on the uncompressed bytes
alone, so a log gives the same blocks plain or compressed; and when it has grown, all but the last
block stay as they were, and the last becomes longer.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from ingest.documents import is_document, lines
from ingest.errors import SourceError
from ingest.formats import detect
from ingest.packed import is_packed, unpacked
from ingest.places import SCHEMES, is_remote

BLOCK = 16 << 20  # bytes
LONGEST_LINE = 16 << 20  # bytes; a longer line is not read
FIRST = 64 << 10  # bytes of a first line that are kept
_HEAD = 256 << 10
# How container runtimes mark a part of a line that is not the last, behind the time.
_PARTS, _LONGEST_PREFIX = (b" stdout P ", b" stderr P "), 64
# As lumberjack names them, Hubble's exporter among others: events-2025-01-31T10-20-30.000.log.
_ROTATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?(?=\.log(\.gz)?$)")
_LATER = "~"  # sorts behind every digit


@dataclass(frozen=True)
class Block:
    """Whole lines of a source.

    Args:
        offset: uncompressed bytes before it.
        length: uncompressed bytes.
        data: the bytes; None where a worker is to read them from the plain file.
        first: the first line, cut to FIRST bytes.
        too_long: the block is one line longer than LONGEST_LINE; then only `first` is at hand.
    """

    offset: int
    length: int
    data: bytes | None
    first: bytes
    too_long: bool = False


@dataclass
class Source:
    """A file or stream of log lines.

    Args:
        name: the path as given or found; `-` is standard input.
        size: bytes of a plain file; None where only reading tells.
        format: what its first lines are; None where no format knows them.
        is_empty: it has no byte.
        trouble: filled by `blocks`: why the end of the source is missing, as sentences.
    """

    name: str
    size: int | None
    format: str | None
    is_empty: bool
    chunks: Callable[[], Iterator[bytes]] = field(repr=False)
    trouble: list[str] = field(repr=False)

    def blocks(self) -> Iterator[Block]:
        """The blocks, in order; without data where the file is plain."""
        if self.size is None:
            return _stream_blocks(self.chunks())
        return _file_blocks(self.name, self.size)


Elsewhere = Callable[[str], tuple[list[Source], list[str]]]


def expand(
    names: Sequence[str], elsewhere: Elsewhere | None = None
) -> tuple[list[Source], list[str]]:
    """The sources behind files, folders, globs and `-`; and what was left out, as sentences.

    A folder gives every file below it that looks like a log. Rotated files come first, by the time
    in their names, the one that is still written to last. Of others the smaller come first: an
    older copy of a log so comes before the one that has grown.

    Args:
        names: of files, folders, globs, objects, and `-`.
        elsewhere: finds the sources behind names of a scheme that is not known here.

    Raises:
        SourceError: a name leads to nothing, or a file given by name can't be read.
    """
    found: dict[str, Source] = {}
    notes: list[str] = []
    for name in names:
        if name == "-":
            found.setdefault(name, _stream(name, sys.stdin.buffer))
        elif is_remote(name):
            from ingest.buckets import bucket_sources

            is_known = name.partition("://")[0] in SCHEMES
            find = bucket_sources if is_known or elsewhere is None else elsewhere
            sources, some = find(name)
            found.update({source.name: source for source in sources})
            notes += some
        elif Path(name).is_dir():
            notes += _add_folder(Path(name), found)
        else:
            _add_files(name, found)
    return sorted(found.values(), key=_order), notes


def _order(source: Source) -> tuple[str, int, str]:
    rotated = _ROTATED.search(source.name)
    return rotated[0] if rotated else _LATER, source.size or 0, source.name


def _add_files(name: str, found: dict[str, Source]) -> None:
    # A file whose name happens to be a glob is that file. Path.glob takes no absolute pattern.
    names = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    paths = [path for path in map(Path, names) if not path.is_dir()]
    if not paths:
        raise SourceError(f"{name}: no such file, folder or glob; check the path.")
    for path in paths:
        key = str(path.resolve())
        if key not in found:
            found[key] = open_source(path)


def _add_folder(folder: Path, found: dict[str, Source]) -> list[str]:
    others, notes = 0, []
    for path in sorted(folder.rglob("*")):
        key = str(path.resolve())
        if key in found or not path.is_file():
            continue
        try:
            source = open_source(path)
        except SourceError as error:
            notes.append(str(error))
            continue
        if source.format is not None:
            found[key] = source
        elif not source.is_empty:
            others += 1
    if others:
        say = "1 file looks" if others == 1 else f"{others} files look"
        notes.append(f"{folder}: {say} like no flow log and were left out.")
    return notes


def open_source(path: Path) -> Source:
    """The source that a file, plain or compressed, or a pipe is.

    Raises:
        SourceError: it can't be read.
    """
    name = str(path)
    try:
        if not path.is_file():
            return _stream(name, path.open("rb"))
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise SourceError(f"{name}: can't be read: {error.strerror or error}.") from error
    if not is_packed(head) and not is_document(head):
        return Source(name, size, detect(head), not head, lambda: iter(()), [])
    return reopened(name, lambda: path.open("rb"))


def reopened(name: str, opened: Callable[[], BinaryIO]) -> Source:
    """The source that what can be opened again is: read once for its format, then for its lines."""
    trouble: list[str] = []
    head = b"".join(_until(unpacked(opened(), name, []), _HEAD))
    return _of_chunks(name, head, lambda: unpacked(opened(), name, trouble), trouble)


def _of_chunks(
    name: str, head: bytes, chunks: Callable[[], Iterator[bytes]], trouble: list[str]
) -> Source:
    """A source of which the lines are only known by reading it from the beginning."""
    if is_document(head):
        form = detect(b"".join(lines([head])))
        return Source(
            name, None, form, is_empty=False, chunks=lambda: lines(chunks()), trouble=trouble
        )
    return Source(name, None, detect(head), not head, chunks, trouble)


def _stream(name: str, stream: BinaryIO) -> Source:
    """A stream is read once: what was read to know its format is given out again."""
    trouble: list[str] = []
    chunks = unpacked(stream, name, trouble)
    begun = list(_until(chunks, _HEAD))
    return _of_chunks(name, b"".join(begun), lambda: chain(begun, chunks), trouble)


def _until(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := next(chunks, None)):
        size -= len(chunk)
        yield chunk


class _Text(Protocol):
    """Bytes that can be searched: a buffer, or a file that is too large for one."""

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...

    def rfind(self, sub: bytes, start: int, end: int, /) -> int: ...


class _File:
    """A plain file, searched window by window.

    Not mapped into memory: a log that is truncated meanwhile would kill the process.
    """

    WINDOW = 64 << 10

    def __init__(self, file: BinaryIO) -> None:
        self._number = file.fileno()

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._number, size, start)

    def find(self, sub: bytes, start: int, end: int) -> int:
        for place in range(start, end, self.WINDOW):
            found = self.read(place, min(self.WINDOW, end - place)).find(sub)
            if found >= 0:
                return place + found
        return -1

    def rfind(self, sub: bytes, start: int, end: int) -> int:
        for stop in range(end, start, -self.WINDOW):
            place = max(start, stop - self.WINDOW)
            found = self.read(place, stop - place).rfind(sub)
            if found >= 0:
                return place + found
        return -1


def _cut(text: _Text, start: int, size: int) -> int | None:
    """Where the block that begins at `start` ends; None where it begins with too long a line.

    It ends with the first line that reaches BLOCK bytes: so it can only grow with the log. A line
    that a container runtime cut up stays in one block.
    """
    target = start + BLOCK
    if target >= size:
        return size
    end = _line_end(text, start, target - 1, min(target + LONGEST_LINE, size))
    if end:
        return end
    if target + LONGEST_LINE >= size:
        return size
    # Parts that go on and on are no line that anybody wrote.
    end = text.find(b"\n", target - 1, target + LONGEST_LINE) + 1
    end = end or text.rfind(b"\n", start, target - 1) + 1
    return end if end > start else None


def _line_end(text: _Text, start: int, at: int, limit: int) -> int:
    """The end of the first line that reaches `at`, or of the last part of it; 0 for none."""
    while end := text.find(b"\n", at, limit) + 1:
        line = max(text.rfind(b"\n", start, end - 1) + 1, start)
        prefix_end = min(line + _LONGEST_PREFIX, end)
        if all(text.find(part, line, prefix_end) < 0 for part in _PARTS):
            return end
        at = end
    return 0


def _first(line: bytes) -> bytes:
    return line.partition(b"\n")[0]


def _file_blocks(name: str, size: int) -> Iterator[Block]:
    with Path(name).open("rb") as opened:
        file = _File(opened)
        start = 0
        while start < size:
            end = _cut(file, start, size)
            too_long = end is None
            if end is None:
                end = file.find(b"\n", start + BLOCK + LONGEST_LINE, size) + 1 or size
            yield Block(start, end - start, None, _first(file.read(start, FIRST)), too_long)
            start = end


def _stream_blocks(chunks: Iterator[bytes]) -> Iterator[Block]:
    buffer, start = bytearray(), 0
    while _fill(buffer, chunks):
        end = _cut(buffer, 0, len(buffer))
        first = _first(bytes(buffer[:FIRST]))
        if end is None:
            length = _drop_line(buffer, chunks)
            yield Block(start, length, first, first, too_long=True)
        else:
            length = end
            yield Block(start, length, bytes(memoryview(buffer)[:end]), first)
            del buffer[:end]
        start += length


def _fill(buffer: bytearray, chunks: Iterator[bytes]) -> bool:
    """Add to the buffer until it holds a block; false where nothing is left."""
    while len(buffer) < BLOCK or (
        len(buffer) <= BLOCK + LONGEST_LINE and not _line_end(buffer, 0, BLOCK - 1, len(buffer))
    ):
        chunk = next(chunks, None)
        if not chunk:
            break
        buffer += chunk
    return bool(buffer)


def _drop_line(buffer: bytearray, chunks: Iterator[bytes]) -> int:
    """Drop the first line, which is too long to keep, and return its length."""
    dropped = 0
    while (end := buffer.find(b"\n")) < 0:
        dropped += len(buffer)
        buffer.clear()
        chunk = next(chunks, None)
        if not chunk:
            return dropped
        buffer += chunk
    del buffer[: end + 1]
    return dropped + end + 1


def data_of(name: str, block: Block) -> bytes:
    """The bytes of a block, read from the plain file where they are not at hand.

    Raises:
        SourceError: the file has become shorter meanwhile, or holds other lines.
    """
    if block.data is not None:
        return block.data
    with Path(name).open("rb") as file:
        file.seek(block.offset)
        data = file.read(block.length)
    if len(data) < block.length:
        raise SourceError(f"{name}: became shorter while it was read; run the command again.")
    if not data.startswith(block.first):
        raise SourceError(f"{name}: was written anew while it was read; run the command again.")
    return data
