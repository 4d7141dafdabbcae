"""JSON that is not one record a line is read as if it were."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import CALICO, HUBBLE, WHISKER

from ingest.documents import is_document, lines
from ingest.load import load
from ingest.store import open_store

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(['"', "]}", "{["]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=5)
FORMS = {
    "array": json.dumps,
    "Whisker's list": lambda records, **how: json.dumps(
        {"total": {"totalPages": 1}, "items": records, "meta": {"a": [{}]}}, **how
    ),
    "Goldmane's list": lambda records, **how: json.dumps({"meta": {}, "flows": records}, **how),
    "hits": lambda records, **how: json.dumps(
        {"took": 3, "hits": {"total": {"value": 1}, "hits": records}, "_shards": {"n": 1}}, **how
    ),
    "one after the other": lambda records, **how: "\n".join(json.dumps(r, **how) for r in records),
}


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.sampled_from(sorted(FORMS)), st.sampled_from([None, 2]), st.integers(1, 30))
def test_any_records_in_any_form_and_cut_anywhere_come_out_one_a_line(
    records: list[Any], form: str, indent: int | None, size: int
) -> None:
    text = FORMS[form](records, indent=indent).encode()
    chunks = [text[n : n + size] for n in range(0, len(text), size)]
    found = b"".join(lines(chunks)).decode()
    kept = [json.loads(line) for line in found.split("\n") if line.strip()]
    lists = {"items", "flows", "hits"}
    if form != "one after the other" or not any(lists & record.keys() for record in records):
        assert kept == records


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text('{}[]",:a\\ \n', max_size=80).map(str.encode))
def test_no_bytes_at_all_are_trouble(text: bytes) -> None:
    is_document(text)
    found = b"".join(lines([text[:50], text[50:]]))
    assert found == b"".join(lines([text]))
    # Things around records are left out, line breaks come and go, and nothing else is made up.
    left = iter(b"".join(text.split()))
    assert all(byte in left for byte in b"".join(found.split()))


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (HUBBLE + b"\n" + HUBBLE, False),
        (HUBBLE[:-9] + b"\n" + HUBBLE, False),
        (b"level=info\n" + HUBBLE, False),
        (b"", False),
        (b"{", False),
        (b"[1,2]\n", False),
        (b"[" + HUBBLE + b"]", True),
        (b"\xef\xbb\xbf[\n" + HUBBLE + b"\n]", True),
        (json.dumps(json.loads(HUBBLE), indent=2).encode(), True),
        (b'{"total":{},"items":[' + WHISKER, True),
        (b"{" * 100_000, False),
    ],
)
def test_a_document_is_told_from_lines(head: bytes, found: bool) -> None:
    assert is_document(head) is found


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("record", [HUBBLE, CALICO, WHISKER], ids=["hubble", "calico", "goldmane"])
def test_a_document_gives_the_flows_of_its_lines(tmp_path: Path, form: str, record: bytes) -> None:
    records = [json.loads(record)] * 3
    (tmp_path / "lines.log").write_text("".join(json.dumps(one) + "\n" for one in records))
    text = FORMS[form](records, indent=2).encode()
    (tmp_path / "a.json").write_bytes(text)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(text))
    expected = load([str(tmp_path / "lines.log")], tmp_path / "s0")
    rows = open_store(tmp_path / "s0").flows().to_table()
    for number, name in enumerate(("a.json", "b.json.gz"), 1):
        found = load([str(tmp_path / name)], tmp_path / f"s{number}")
        assert (found.lines, found.flows, found.rejects) == (3, expected.flows, {})
        assert open_store(tmp_path / f"s{number}").flows().to_table().equals(rows)


def test_what_is_broken_inside_a_document_is_a_reject_and_the_rest_is_kept(tmp_path: Path) -> None:
    text = (
        b"[\n"
        + HUBBLE
        + b',\n{"flow": {"verdict": nonsense}},\noops,\n'
        + HUBBLE
        + b",\n"
        + HUBBLE[:60]
    )
    (tmp_path / "a.json").write_bytes(text)
    found = load([str(tmp_path / "a.json")], tmp_path / "s")
    assert (found.flows, found.rejects) == (2, {"invalid JSON": 2, "torn last line": 1})
