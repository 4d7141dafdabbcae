"""FLOWS, the one table of flow records; REJECTS, lines not understood; GAPS, traffic missed.

Grain of FLOWS: one row per log record that describes traffic. `src` is always the initiator of
the connection and `dst` the responder: formats turn replies around (`is_reply` keeps the fact).
Missing is null, never `-`, 0 or "unknown". Lists (labels, names, policies) are one text column
with one item a line, sorted: a flow log repeats few distinct lists, so Parquet's dictionary keeps
each once; no item can hold a line break (a format rejects the line otherwise).
"""

import pyarrow as pa

SCHEMA_VERSION = 1

TIME = pa.timestamp("us", tz="UTC")

Origin = dict[str, str]


def _field(name: str, type_: pa.DataType, doc: str, **origin: str) -> pa.Field:
    return pa.field(name, type_, metadata={"doc": doc, **origin})


# What is said of each end of a connection; {who}, {hubble} and {calico} differ by end.
_END = (
    _field(
        "type",
        pa.string(),
        "What the {who} is: pod, host (the reporting node), node (another node), apiserver, "
        "ingress (the CNI's proxy), health (the CNI's own probe), init, unmanaged, set (a "
        "Calico network set), hostendpoint, outside.",
        null="the log does not say",
        hubble="{hubble}.identity and reserved labels",
        calico="{calico}_type",
    ),
    _field(
        "cluster",
        pa.string(),
        "Kubernetes cluster of the {who}.",
        null="the log does not say; the cluster of the record",
        hubble="{hubble}.cluster_name or label io.cilium.k8s.policy.cluster",
    ),
    _field(
        "namespace",
        pa.string(),
        "Namespace of the {who}.",
        null="not namespaced",
        hubble="{hubble}.namespace or label io.kubernetes.pod.namespace",
        calico="{calico}_namespace",
    ),
    _field(
        "pod",
        pa.string(),
        "Pod name of the {who}.",
        null="not a pod, or aggregated away",
        hubble="{hubble}.pod_name",
        calico="{calico}_name",
    ),
    _field(
        "pod_prefix",
        pa.string(),
        "The generateName that the pods of the {who} share, with its last dash.",
        null="a bare pod, or the format does not give it",
        calico="{calico}_name_aggr without the star",
    ),
    _field(
        "workload_kind",
        pa.string(),
        "Kind of the {who}'s owner as logged (Deployment, Job, ..., HostEndpoint).",
        null="the log names it at the local end only",
        hubble="{hubble}.workloads[0].kind",
        calico="HostEndpoint where {calico}_type is hep",
    ),
    _field(
        "workload",
        pa.string(),
        "Name of the {who}'s owner as logged.",
        null="as above",
        hubble="{hubble}.workloads[0].name",
    ),
    _field(
        "labels",
        pa.string(),
        "Pod labels of the {who}, `key=value` lines, sorted; of a set its own labels.",
        null="not logged",
        hubble="{hubble}.labels with source k8s, without Cilium's own keys",
        calico="{calico}_labels.labels (the intersection over an aggregate)",
    ),
    _field(
        "service_account",
        pa.string(),
        "Service account of the {who}.",
        null="not logged",
        hubble="label io.cilium.k8s.policy.serviceaccount",
    ),
    _field(
        "ip",
        pa.string(),
        "Address of the {who} after service translation, in canonical text.",
        null="aggregated away",
        hubble="IP.{hubble}",
        calico="{calico}_ip",
    ),
    _field(
        "port",
        pa.uint16(),
        "Port of the {who}, after service translation: of the responder the server port.",
        unit="port number",
        null="no ports in this protocol, or aggregated away",
        hubble="l4.*.{hubble}_port",
        calico="{calico}_port",
    ),
    _field(
        "names",
        pa.string(),
        "DNS names under which the {who}'s address was looked up, lines, sorted.",
        null="none known",
        hubble="{hubble}_names",
        calico="{calico}_domains",
    ),
    _field(
        "set",
        pa.string(),
        "Calico network set that holds the {who}'s address; `public` or `private` where the "
        "log says no more than that.",
        null="none",
        calico="{calico}_name_aggr of type ns or net",
    ),
)


def _endpoint(end: str, **words: str) -> list[pa.Field]:
    """The columns of one end: those of `_END` with its prefix and words."""
    return [
        _field(
            f"{end}_{column.name}",
            column.type,
            **{
                key.decode(): value.decode().format(**words)
                for key, value in column.metadata.items()
            },
        )
        for column in _END
    ]


FLOWS = pa.schema(
    [
        _field(
            "cluster",
            pa.string(),
            "Kubernetes cluster whose log this is; partition of the store.",
            null="never: `default` where neither the log nor --cluster says",
            hubble="node_name before the slash",
            calico="cluster",
        ),
        _field("day", pa.date32(), "UTC day of `time`; partition of the store.", unit="day"),
        _field(
            "time",
            TIME,
            "When the event was seen; for a record over an interval, its start.",
            unit="microseconds UTC",
            hubble="flow.time",
            calico="start_time",
        ),
        _field(
            "end_time",
            TIME,
            "End of the record's interval.",
            unit="microseconds UTC",
            null="a single event",
            calico="end_time",
        ),
        _field("format", pa.string(), "Log format that the record came in: hubble, calico."),
        _field(
            "node",
            pa.string(),
            "Node that reported.",
            null="not logged",
            hubble="node_name after the slash",
            calico="host",
        ),
        _field(
            "reporter",
            pa.string(),
            "End of the connection that reported: src or dst.",
            null="neither end, or not known",
            hubble="local endpoint (ID), direction of policy verdicts and L7",
            calico="reporter",
        ),
        _field(
            "verdict",
            pa.string(),
            "allowed (forwarded or sent to the proxy), denied (by policy), audited (would be "
            "denied), dropped (lost for another reason than policy), pending (seen before any "
            "decision).",
            hubble="verdict, drop_reason_desc, observation point",
            calico="action",
        ),
        _field(
            "drop_reason",
            pa.string(),
            "Why it was dropped or denied, in the log's own word.",
            null="not dropped",
            hubble="drop_reason_desc",
        ),
        _field(
            "event",
            pa.string(),
            "What kind of record: trace, verdict, drop, l7, record.",
            hubble="event_type.type",
            calico="record",
        ),
        _field(
            "observation",
            pa.string(),
            "Where on the packet's way it was seen.",
            null="not a trace",
            hubble="trace_observation_point",
        ),
        _field(
            "is_reply",
            pa.bool_(),
            "True: a reply, its ends already turned around; false: sent by the initiator.",
            null="cannot be told; ends are as logged",
            hubble="is_reply, reply, trace_reason, TCP flags, ports, in this order",
            calico="false; null where a service port speaks to a client port",
        ),
        _field(
            "established",
            pa.bool_(),
            "True where the record shows an answered connection: an accepting reply, or more "
            "than a first packet from the initiator of a TCP connection, or counted reply "
            "packets; false: an attempt without or with a refusing answer.",
            null="the record cannot tell",
            hubble="trace_reason, TCP flags",
            calico="packets towards the initiator",
        ),
        _field(
            "protocol",
            pa.string(),
            "TCP, UDP, SCTP, ICMP, ICMPv6, or IANA's name or number in capitals.",
            null="not logged",
            hubble="l4",
            calico="proto",
        ),
        _field(
            "icmp_type",
            pa.uint8(),
            "ICMP type.",
            null="not ICMP, or not logged",
            hubble="l4.ICMPv4.type",
        ),
        *_endpoint("src", who="initiator", hubble="source", calico="source"),
        *_endpoint("dst", who="responder", hubble="destination", calico="dest"),
        _field(
            "service_namespace",
            pa.string(),
            "Namespace of the Service that the client addressed.",
            null="not known, or none",
            hubble="destination_service.namespace",
            calico="dest_service_namespace",
        ),
        _field(
            "service",
            pa.string(),
            "Name of the Service that the client addressed.",
            null="as above",
            hubble="destination_service.name",
            calico="dest_service_name",
        ),
        _field(
            "policies",
            pa.string(),
            "Policies that the log names for the verdict, lines, sorted: of Hubble `kind "
            "namespace/name`, of Calico the hits `index|tier|name|action|rule`.",
            null="none named",
            hubble="*_allowed_by, *_denied_by",
            calico="policies.enforced_policies, else all_policies without staged ones",
        ),
        _field(
            "dns_query",
            pa.string(),
            "Name asked for, without the last dot.",
            null="not a DNS record",
            hubble="l7.dns.query",
        ),
        _field(
            "dns_ips",
            pa.string(),
            "Addresses answered, lines, sorted.",
            null="no answer in this record",
            hubble="l7.dns.ips",
        ),
        _field(
            "connections",
            pa.int64(),
            "Connections or packets that the record stands for; never add different events up.",
            unit="count",
            hubble="aggregate, else 1",
            calico="num_flows_started, else num_flows",
        ),
        _field(
            "bytes_to_dst",
            pa.int64(),
            "Bytes from initiator to responder.",
            unit="bytes",
            null="not logged",
            calico="bytes_out at src, bytes_in at dst",
        ),
        _field(
            "bytes_to_src",
            pa.int64(),
            "Bytes from responder to initiator.",
            unit="bytes",
            null="not logged",
            calico="bytes_in at src, bytes_out at dst",
        ),
    ]
)

REJECTS = pa.schema(
    [
        _field("source", pa.string(), "File or stream that the line came from."),
        _field("line", pa.int64(), "Line number, from 1."),
        _field("reason", pa.string(), "Why the line could not be understood, one of few."),
        _field("detail", pa.string(), "What exactly, for a person.", null="the reason says all"),
        _field("text", pa.string(), "The line, cut to 2,000 characters."),
    ]
)

GAPS = pa.schema(
    [
        _field("source", pa.string(), "File or stream that the line came from."),
        _field(
            "cluster",
            pa.string(),
            "Kubernetes cluster whose traffic was missed.",
            null="the log does not say",
            hubble="node_name before the slash",
        ),
        _field(
            "node",
            pa.string(),
            "Node whose traffic was missed.",
            null="the log does not say, or all nodes",
            hubble="node_name after the slash; of node_status each of node_names",
        ),
        _field(
            "time",
            TIME,
            "When it began, or when it was noticed.",
            unit="microseconds UTC",
            null="the log does not say",
            hubble="lost_events.first, else time",
        ),
        _field(
            "end_time",
            TIME,
            "When it ended.",
            unit="microseconds UTC",
            null="the log does not say",
            hubble="lost_events.last",
        ),
        _field(
            "kind",
            pa.string(),
            "lost_events (a buffer ran over), node_status (a node came or went), stream_error (the "
            "sender ended with an error).",
        ),
        _field(
            "reason",
            pa.string(),
            "In the log's own word: HUBBLE_RING_BUFFER, NODE_GONE, ... NODE_CONNECTED ends the gap "
            "of a node.",
            null="the log does not say",
            hubble="lost_events.source, node_status.state_change",
        ),
        _field(
            "lost",
            pa.int64(),
            "Events that were lost.",
            unit="count",
            null="not known",
            hubble="lost_events.num_events_lost",
        ),
        _field(
            "detail",
            pa.string(),
            "What the log says, for a person.",
            null="nothing more",
            hubble="node_status.message",
            goldmane="text after `error:`",
        ),
    ]
)
