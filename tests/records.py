"""One short line of each log format."""

import json

HUBBLE = json.dumps(
    {
        "flow": {"time": "2026-03-02T08:00:00Z", "verdict": "FORWARDED", "event_type": {"type": 4}},
        "node_name": "a/b",
        "time": "2026-03-02T08:00:00Z",
    }
).encode()
CALICO = json.dumps(
    {"start_time": 1, "source_name_aggr": "pub", "action": "allow", "reporter": "dst"}
).encode()
WHISKER = (
    b'{"start_time":"2026-10-08T08:08:15Z","action":"Allow","source_name":"a-*","reporter":"Src"}'
)
