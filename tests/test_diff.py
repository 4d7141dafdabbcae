"""What changes between two sets: objects whose text changed, and those whose meaning did."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from drawn_calico import calico_folders
from drawn_cilium import cilium_folders
from hypothesis import given, settings
from hypothesis import strategies as st
from policytext import CLUSTER, manifests, parsed

from recommender.alike import alike
from recommender.commands.run import Outcome, figures
from recommender.diff import Diff, FlowChange, diff, evaluators, flow_changes
from recommender.inventory import Inventory
from recommender.manifests import Manifest
from recommender.objects import inventory_of
from recommender.policies import PolicySet, policy_set
from recommender.report import changes
from recommender.report.changes import lines
from recommender.usage import RuleKey, usage

SCHEMA = json.loads(Path(changes.__file__).with_name("diff.schema.json").read_text())

V1 = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: NS}, spec: SPEC}"  # fmt: skip
CILIUM = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: shop}, BODY}"  # fmt: skip
CALICO = "{apiVersion: API, kind: GlobalNetworkPolicy, metadata: {name: p}, spec: SPEC}"


def v1(spec: str, namespace: str = "shop") -> str:
    return V1.replace("NS", namespace).replace("SPEC", spec)


def calico(spec: str, api: str = "projectcalico.org/v3") -> str:
    return CALICO.replace("API", api).replace("SPEC", spec)


def policies_of(text: str) -> PolicySet:
    return PolicySet(manifests(text), parsed(text).policies)


def change(old: str, new: str) -> tuple[str, bool]:
    """What becomes of the one object, and whether the sets differ."""
    found: Any = diff(policies_of(old), policies_of(new), CLUSTER)
    (one,) = found.objects
    return one.change, bool(found)


WEB, CART = (f"{{podSelector: {{matchLabels: {{app: {name}}}}}}}" for name in ("web", "cart"))
TWO = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            v1(
                f"{{podSelector: {{}}, ingress: [{{from: [{WEB}, {CART}], ports: [{{port: 80}}]}}]}}"
            ),
            v1(
                f"{{policyTypes: [Ingress], podSelector: {{}}, "
                f"ingress: [{{ports: [{{port: 80, protocol: TCP}}], from: [{CART}, {WEB}]}}]}}"
            ),
        ),
        (
            v1(f"{{podSelector: {{}}, ingress: [{{from: [{WEB}]}}, {{from: [{CART}]}}]}}"),
            v1(f"{{podSelector: {{}}, ingress: [{{from: [{CART}]}}, {{from: [{WEB}]}}]}}"),
        ),
        (v1("{podSelector: {}}", "default"), v1("{podSelector: {}}", "null")),
        (
            calico("{selector: app == 'web', types: [Ingress]}"),
            calico("{selector: app == 'web', types: [Ingress]}", "crd.projectcalico.org/v1"),
        ),
        (
            CILIUM.replace("BODY", f"spec: {{endpointSelector: {{}}, ingress: [{{{TWO}}}]}}"),
            CILIUM.replace("BODY", f"specs: [{{endpointSelector: {{}}, ingress: [{{{TWO}}}]}}]"),
        ),
    ],
    ids=["defaults and order", "order of rules", "default namespace", "crd", "specs"],
)
def test_an_object_that_means_what_it_meant_is_rewritten_and_no_difference(
    old: str, new: str
) -> None:
    assert change(old, new) == ("rewritten", False)
    assert change(old, old) == ("unchanged", False)


def test_an_object_of_an_equal_spec_in_the_same_namespace_is_renamed_once() -> None:
    web, cart = (f"{{policyTypes: [Ingress], podSelector: {each[14:-1]}}}" for each in (WEB, CART))
    turned = f"{{podSelector: {WEB[14:-1]}, policyTypes: [Ingress]}}"
    old = [v1(web).replace("name: p", f"name: {name}") for name in ("b", "a")]
    new = [v1(turned).replace("name: p", f"name: {name}") for name in ("y", "x", "z")]
    old += [v1(cart, "data").replace("name: p", "name: c")]
    new += [v1(cart).replace("name: p", "name: w")]
    found = diff(*(policies_of("\n---\n".join(each)) for each in (old, new)), CLUSTER).objects
    assert [(one.change, one.name, one.old_name) for one in found] == [
        ("removed", "data/c", None),
        ("added", "shop/w", None),
        ("renamed", "shop/x", "shop/a"),
        ("renamed", "shop/y", "shop/b"),
        ("added", "shop/z", None),
    ]


ALLOW, DENY = "{action: Allow}", "{action: Deny, source: {selector: app == 'web'}}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            v1(f"{{podSelector: {{}}, ingress: [{{from: [{WEB}]}}]}}"),
            v1(f"{{podSelector: {{}}, ingress: [{{from: [{WEB}], ports: [{{port: 80}}]}}]}}"),
        ),
        (
            calico(f"{{selector: all(), types: [Ingress], ingress: [{ALLOW}, {DENY}]}}"),
            calico(f"{{selector: all(), types: [Ingress], ingress: [{DENY}, {ALLOW}]}}"),
        ),
        (
            CILIUM.replace("BODY", f"spec: {{endpointSelector: {{}}, ingress: [{{{TWO}}}]}}"),
            CILIUM.replace(
                "BODY",
                "spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '80', "
                "protocol: TCP}], rules: {http: [{method: GET}]}}]}]}",
            ),
        ),
    ],
    ids=["ports", "order where the first match acts", "http"],
)
def test_an_object_that_means_something_else_is_changed(old: str, new: str) -> None:
    assert change(old, new) == ("changed", True)


EMPTY = PolicySet([], [])


@pytest.fixture
def first() -> Diff:
    """What policies change where none was in force before."""
    return diff(
        EMPTY, policies_of(v1("{podSelector: {}, policyTypes: [Ingress, Egress]}")), CLUSTER
    )


def test_json_lists_the_first_connections_and_counts_the_rest(first: Diff) -> None:
    whole, cut = changes.as_dict(first), changes.as_dict(first, 2)
    assert "lost_more" not in whole
    assert cut["lost"] == whole["lost"][:2]
    assert cut["lost_more"] == len(whole["lost"]) - 2 > 0
    assert "gained_more" not in cut
    jsonschema.validate(cut, SCHEMA)
    assert figures(Outcome("diff", 10, 0.0, cut)) == figures(Outcome("diff", 10, 0.0, whole))


def test_json_of_all_connections_is_the_same_text_where_it_is_written_in_pieces(
    first: Diff,
) -> None:
    for found in (first, diff(EMPTY, EMPTY, CLUSTER)):
        whole = json.dumps(changes.as_dict(found), indent=2) + "\n"
        assert "".join(changes.json_of_all(found)) == whole


def test_text_counts_the_lines_that_it_cuts_and_says_where_they_are(
    first: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(changes.text(first))
    start = every.index(next(line for line in every if line.startswith("connections lost: ")))
    count = len(lines(first.lost))
    assert every[start] == f"connections lost: {len(first.lost)} in {count} lines"
    assert len(first.lost) > count > 3
    cut = list(changes.text(first, 2))
    assert cut[: start + 3] == every[: start + 3]
    assert cut[start + 3] == f"  and {count - 2} more lines; --all shows them, -o json holds them"
    monkeypatch.setattr(changes, "MOST_CONNECTIONS", 2)
    told = f"  and {count - 2} more lines; `x` shows them, in -o json as well"
    assert told in changes.text(first, 2, "`x` shows them")
    monkeypatch.setattr(changes, "_MOST", 2)
    assert f"- and {count - 2} more lines" in changes.markdown(first)


def test_text_json_and_markdown_count_the_same_flows_though_some_share_a_line(
    first: Diff,
) -> None:
    flows = [
        FlowChange("shop/web", "shop/cart", "TCP", port, 1, "2026-03-02T08:00:00Z", "review", True, False)
        for port in range(80, 85)
    ]  # fmt: skip
    for many, line, changes_ in ((5, "5 in 1 line", "5 observed flows change"),
                                 (1, "1", "1 observed flow changes")):  # fmt: skip
        found = replace(first, flows=tuple(flows[:many]))
        assert f"observed flows that change verdict: {line}" in changes.text(found)
        assert len(changes.as_dict(found)["flows"]) == many
        assert f"{changes_} verdict" in changes.markdown(found)
    assert changes.flow(flows[0]).endswith("1 connection, last seen 2026-03-02T08:00:00Z")


def test_markdown_stays_small_and_in_its_lines_whatever_a_log_names(first: Diff) -> None:
    name = "`</details>|\n# x\x1b" * 10_000
    found = FlowChange(name, name, "TCP", 1, 1, "2026-03-02T08:00:00Z", "wanted", True, False)
    plain, text = (changes.markdown(replace(first, flows=flows)) for flows in ((), (found,)))
    assert len(text) < len(plain) + 1_000
    assert "\n# x" not in text
    assert "\x1b" not in text


def edge(protocol: str, port: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"protocol": protocol, "port": port, "connections": 1, "class": "wanted"}
    row["last_seen"] = "2026-03-02T08:00:00Z"
    for role, name in (("client", "web"), ("server", "cart")):
        row |= {f"{role}_type": "workload", f"{role}_namespace": "shop", f"{role}_name": name}
        row |= {f"{role}_kind": "Pod", f"{role}_address": None, f"{role}_cluster": None}
    return row


def test_a_flow_changes_verdict_where_only_the_set_that_its_policy_names_is_another() -> None:
    rule = "{action: Allow, destination: {selector: bank == 'yes'}}"
    policy = calico(f"{{selector: app == 'web', types: [Egress], egress: [{rule}]}}")
    old, new = (
        policies_of(
            f"{policy}\n---\n{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, "
            f"metadata: {{name: bank, labels: {{bank: 'yes'}}}}, spec: {{nets: [{net}]}}}}"
        )
        for net in ("203.0.113.0/24", "198.18.0.0/15")
    )
    row = edge("TCP", 443) | dict.fromkeys(("server_namespace", "server_kind", "server_name"), None)
    row |= {"server_type": "address", "server_address": "203.0.113.7"}
    before, after = evaluators(old, new, CLUSTER)
    (one,) = flow_changes(before, after, [row], alike(before, after))
    assert (one.old, one.new) == (True, False)


def rows_between(inventory: Inventory) -> list[dict[str, Any]]:
    """Edges of several protocols between all workloads and some addresses."""
    parts = ("type", "namespace", "kind", "name", "address", "cluster")
    ends: list[tuple[str | None, ...]] = [
        ("workload", key.namespace, key.kind, key.name, None, None) for key in inventory.pods_of
    ]
    ends += [("host", None, None, None, "10.8.0.1", None)]
    ends += [("address", None, None, None, at, None) for at in ("192.0.2.130", "2001:db8::1")]
    return [
        edge(protocol, port)
        | {"run": None}
        | {f"{role}_{part}": v for role, end in sides for part, v in zip(parts, end, strict=True)}
        for client, server in product(ends, ends)
        for protocol, port in (("TCP", 80), ("UDP", 53), ("ICMP", None))
        for sides in [(("client", client), ("server", server))]
    ]


@st.composite
def changed_folders(draw: st.DrawFn, folders: st.SearchStrategy[Any]) -> Any:
    """Objects of a cluster, its policies, and those after some went, came, changed or were moved."""
    objects, others = draw(folders), draw(folders)
    old = [body for body in objects if body["kind"].endswith("Policy")]
    new = []
    for body in old:
        match draw(st.sampled_from(["kept", "kept", "renamed", "gone", "less"])):
            case "kept":
                new.append(body)
            case "renamed":
                new.append({**body, "metadata": {**body["metadata"], "name": "renamed"}})
            case "less":
                spec = {key: v[1:] if key == "ingress" else v for key, v in body["spec"].items()}
                new.append({**body, "spec": spec})
    came = [body for body in others if body["kind"].endswith("Policy")]
    for i, body in enumerate(came[: draw(st.integers(0, 2))]):
        new.append({**body, "metadata": {**body["metadata"], "name": f"came{i}"}})
    rest = [body for body in objects if not body["kind"].endswith("Policy")]
    return rest, old, draw(st.permutations(new))


@given(changed_folders(st.one_of(calico_folders(), cilium_folders())))
@settings(max_examples=25, deadline=None)
def test_flows_change_as_where_each_is_judged_by_both_sets(folders: Any) -> None:
    rest, old, new = (
        [Manifest(f"{i}.yaml:1", body) for i, body in enumerate(each)] for each in folders
    )
    inventory = inventory_of(rest)
    before, after = evaluators(policy_set(old, inventory), policy_set(new, inventory), inventory)
    rows, same = rows_between(inventory), alike(before, after)
    each = list(flow_changes(before, after, rows, lambda *_: False))
    assert list(flow_changes(before, after, rows, same)) == each

    def acting(client: str, server: str, protocol: str, port: int) -> set[RuleKey]:
        judge = before if same(client, server, protocol) else after
        return judge.acting_rules(client, server, protocol, port)

    assert list(usage(after, rows, acting)) == list(usage(after, rows))


def test_icmp_that_one_set_only_can_judge_is_null_by_the_other() -> None:
    row = edge("ICMP", None)
    old = policies_of(v1("{podSelector: {}, policyTypes: [Ingress]}"))
    new = policies_of(
        CILIUM.replace("BODY", "spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}")
    )
    before, after = evaluators(old, new, CLUSTER)
    (one,) = flow_changes(before, after, [row], alike(before, after))
    assert (one.protocol, one.port, one.old, one.new) == ("ICMP", 8, None, True)
