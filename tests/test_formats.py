"""A format is known by its lines, never by the name of its file."""

import json
from pathlib import Path

import pytest

from ingest.formats import FORMATS, detect
from ingest.schema import FLOWS

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
HUBBLE = json.dumps(
    {"flow": {"time": "2026-03-02T08:00:00Z", "verdict": "FORWARDED"}, "node_name": "a/b"}
).encode()
CALICO = json.dumps(
    {"start_time": 1, "source_name_aggr": "pub", "action": "allow", "reporter": "dst"}
).encode()
WHISKER = (
    b'{"start_time":"2026-10-08T08:08:15Z","action":"Allow","source_name":"a-*","reporter":"Src"}'
)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (HUBBLE, "hubble"),
        (HUBBLE[:-1], None),
        (b'{"lost_events":{"num_events_lost":"1"}}\n', "hubble"),
        (b"level=info msg=start\n\n\xff\xfe\n[]\n" + HUBBLE, "hubble"),
        (json.dumps({"log": HUBBLE.decode() + "\n"}).encode(), "hubble"),
        (b"2026-03-02T08:00:00Z stdout F " + HUBBLE, "hubble"),
        (json.dumps(json.loads(HUBBLE)["flow"]).encode(), "hubble"),
        (CALICO + b"\n" + CALICO[:20], "calico"),
        (WHISKER, "goldmane"),
        (b"data: " + WHISKER + b"\n\nerror: gone\n", "goldmane"),
        (json.dumps({"_index": "x", "_source": json.loads(CALICO)}).encode(), "calico"),
        (json.dumps({"log": WHISKER.decode()}).encode(), "goldmane"),
        (b"", None),
        (b"PAR1\x15\x04\x15\x00", None),
        (b"kind: NetworkPolicy\n", None),
        (b'[\n{"kind": "NetworkPolicy"}\n]\n', None),
        (b'{"apiVersion":"v1","kind":"List","items":[]}', None),
    ],
)
def test_the_first_line_that_a_format_knows_decides(head: bytes, name: str | None) -> None:
    assert detect(head) == name


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_gives_the_same_columns_and_accounts_for_lines_of_any_other(name: str) -> None:
    batch = FORMATS[name].parse(b"\n".join([HUBBLE, CALICO, WHISKER, b"{}", b"", b"17", b"{"]))
    assert batch.flows.schema.equals(FLOWS, check_metadata=True)
    assert batch.lines == 7
    assert batch.flows.num_rows + sum(batch.skipped.values()) + len(batch.rejects) == 7
    assert batch.flows.num_rows == 1
    assert FORMATS[name].parse(b"").flows.schema.equals(FLOWS, check_metadata=True)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not part of the project")
def test_real_files_are_known_for_what_they_are() -> None:
    known = {
        str(path.relative_to(SAMPLES)): detect(path.read_bytes())
        for path in sorted(SAMPLES.rglob("*"))
        if path.is_file()
    }
    assert {name for name, found in known.items() if found == "calico"} == {
        "calico/projectcalico__calico/whisker-ui-mock-enterprise-flow.jsonl",
        "calico/tigera-cs__observability-clinic/flows.log",
        "calico/tigera__docs/enterprise-flows-current-docs.jsonl",
        "calico/tigera__docs/enterprise-flows-policy-demo-2020.jsonl",
    }
    assert {name for name, found in known.items() if found == "goldmane"} == {
        "calico/BirknerAlex__kubyl/whisker-flows-3.32.jsonl",
        "calico/cyrinux__ichor/flows.sse",
        "calico/projectcalico__calico/goldmane-emitter-flow.jsonl",
    }
    hubble = {name for name, found in known.items() if found == "hubble"}
    assert hubble == {n for n in known if n.startswith("hubble/") and not n.endswith(".md")}
