"""Sources are cut into blocks of whole lines, the same plain, piped or compressed."""

import gzip
import io
import json
import os
import random
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.packed
import ingest.sources
from ingest.errors import SourceError
from ingest.sources import Block, Source, data_of, expand

LINE = json.dumps({"flow": {"time": "2026-03-02T08:00:00Z", "verdict": "FORWARDED"}}) + "\n"


def blocks(source: Source) -> list[tuple[int, int, bool, bytes]]:
    """Offset, length, whether too long, and the bytes, of every block."""
    return [
        (b.offset, b.length, b.too_long, b.first if b.too_long else data_of(source.name, b))
        for b in source.blocks()
    ]


def one(path: Path | str) -> Source:
    found, notes = expand([str(path)])
    assert notes == []
    assert len(found) == 1
    return found[0]


def make_small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ingest.sources, "BLOCK", 100)
    patch.setattr(ingest.sources, "LONGEST_LINE", 300)
    patch.setattr(ingest.sources, "FIRST", 50)
    patch.setattr(ingest.packed, "_CHUNK", 64)
    patch.setattr(ingest.sources._File, "WINDOW", 32)


PREFIXES = [b"", b"2026-03-02T08:00:00Z stdout P ", b"2026-03-02T08:00:00Z stderr F "]


def in_every_way(folder: Path, data: bytes) -> list[list[tuple[int, int, bool, bytes]]]:
    (folder / "plain").write_bytes(data)
    (folder / "a.gz").write_bytes(gzip.compress(data))
    (folder / "a.zst").write_bytes(pa.Codec("zstd").compress(data, asbytes=True))
    return [blocks(one(folder / name)) for name in ("plain", "a.gz", "a.zst")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PREFIXES), st.integers(0, 700)), max_size=12),
       st.booleans())  # fmt: skip
def test_blocks_are_whole_lines_and_the_same_plain_and_compressed(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, int]], ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    data = b"\n".join(
        (prefix + bytes([97 + n % 26]) * size)[:size] for n, (prefix, size) in enumerate(lines)
    )
    data += b"\n" if ends and data else b""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        plain, zipped, zstd = in_every_way(folder, data)
    assert plain == zipped == zstd
    assert sum(length for _, length, _, _ in plain) == len(data)
    for offset, length, too_long, content in plain:
        assert too_long or content == data[offset : offset + length]
        assert offset == 0 or data[offset - 1 : offset] == b"\n"
        assert not too_long or length > 300
        assert length <= 100 + 300 + 1 or too_long


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PREFIXES), st.integers(0, 60)), min_size=1, max_size=20),
       st.integers(0, 2_000))  # fmt: skip
def test_a_log_that_grows_keeps_its_blocks_and_lengthens_the_last(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, int]], cut: int
) -> None:
    # The last of three is whole: the parts of a line are never longer than the longest line.
    data = b"".join(
        (prefix if n % 3 else b"") + b"x" * size + b"\n" for n, (prefix, size) in enumerate(lines)
    )
    file = tmp_path_factory.mktemp("grow") / "log"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        file.write_bytes(data[:cut])
        before = blocks(one(file))
        file.write_bytes(data)
        after = blocks(one(file))
    assert after[: max(len(before) - 1, 0)] == before[:-1]
    if before:
        offset, _, _, content = before[-1]
        grown = after[len(before) - 1]
        assert grown[0] == offset
        assert grown[3].startswith(content)


def test_the_parts_of_a_line_are_in_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    part, last, other = (f"2026-03-02T08:00:00Z {mark} ".encode() + b"x" * 40 + b"\n"
                         for mark in ("stdout P", "stdout F", "stderr P"))  # fmt: skip
    for before in range(12):
        data = last * before + (part + other + last) * 4 + last
        ways = in_every_way(tmp_path, data)
        assert ways[0] == ways[1] == ways[2]
        contents = [content for _, _, _, content in ways[0]]
        assert len(contents) > 1
        assert all(content.endswith(last) for content in contents)


def test_a_long_log_never_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.sources, "BLOCK", 1 << 16)
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINE.encode() * 50_000))
    sizes = [block.length for block in one(tmp_path / "a.gz").blocks()]
    assert len(sizes) > 40
    assert max(sizes) < (1 << 16) + len(LINE)


def test_standard_input_is_read_once_and_may_be_compressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for data in (LINE.encode() * 9, gzip.compress(LINE.encode() * 9)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        found = one("-")
        assert found.format == "hubble"
        assert b"".join(block.data or b"" for block in found.blocks()) == LINE.encode() * 9


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(LINE * 5,))
    writer.start()
    found = one(pipe)
    assert b"".join(block.data or b"" for block in found.blocks()) == LINE.encode() * 5
    writer.join()


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_an_archive_that_ends_early_gives_what_it_has_and_says_so(
    tmp_path: Path, kind: str
) -> None:
    chance = random.Random(3)
    data = "".join(f"{chance.random()}\n" for _ in range(60_000)).encode()
    packed = gzip.compress(data) if kind == "gz" else pa.Codec("zstd").compress(data, asbytes=True)
    (tmp_path / "a").write_bytes(packed[:-3000])
    found = one(tmp_path / "a")
    kept = b"".join(block.data or b"" for block in found.blocks())
    assert len(data) // 2 < len(kept) < len(data)
    assert data.startswith(kept)
    assert len(found.trouble) == 1
    assert "ends early" in found.trouble[0]


def test_a_damaged_archive_is_said_to_be_damaged(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(os.urandom(200_000)))
    packed[-6] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(bytes(packed))
    found = one(tmp_path / "a.gz")
    list(found.blocks())
    assert "unreadable from some point on" in found.trouble[0]


def test_archives_of_several_parts_are_read_to_the_end(tmp_path: Path) -> None:
    part = LINE.encode() * 3
    (tmp_path / "a.gz").write_bytes(gzip.compress(part) + gzip.compress(part))
    (tmp_path / "b.zst").write_bytes(pa.Codec("zstd").compress(part, asbytes=True) * 2)
    for name in ("a.gz", "b.zst"):
        found = one(tmp_path / name)
        assert b"".join(block.data or b"" for block in found.blocks()) == part * 2
        assert found.trouble == []


def test_a_file_given_twice_or_by_a_link_is_one_source(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINE)
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    found, _ = expand([str(tmp_path), str(tmp_path / "a.log"), str(tmp_path / "*.log")])
    assert len(found) == 1


def test_rotated_files_come_in_the_order_of_their_times_and_the_live_one_last(
    tmp_path: Path,
) -> None:
    for name, count in (
        ("events.log", 1),
        ("events-2025-01-31T10-20-30.000.log", 9),
        ("events-2025-02-01T00-00-00.000.log", 3),
    ):
        (tmp_path / name).write_text(LINE * count)
    packed = tmp_path / "events-2025-01-30T10-20-30.000.log.gz"
    packed.write_bytes(gzip.compress(LINE.encode()))
    names = [Path(source.name).name for source in expand([str(tmp_path)])[0]]
    assert names == [
        "events-2025-01-30T10-20-30.000.log.gz",
        "events-2025-01-31T10-20-30.000.log",
        "events-2025-02-01T00-00-00.000.log",
        "events.log",
    ]


def test_smaller_plain_files_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINE * 3)
    (tmp_path / "b.log").write_text(LINE)
    assert [Path(source.name).name for source in expand([str(tmp_path)])[0]] == ["b.log", "a.log"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].log").write_text(LINE)
    assert one(tmp_path / "a[1].log").format == "hubble"


def test_what_leads_to_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\*: no such file, folder or glob"):
        expand([str(tmp_path / "none*")])


def test_a_file_that_became_shorter_meanwhile_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINE)
    with pytest.raises(SourceError, match="became shorter"):
        data_of(str(tmp_path / "a.log"), Block(0, 10_000, None, b""))
