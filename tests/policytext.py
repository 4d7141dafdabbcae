"""Policies and connections as short texts, judged in one small cluster, for the dialects' tests.

shop: web (app=web, account web), cart (app=cart); data: db (app=db, account db; port pg 5432)
edge: proxy on its node's network; nodes one (zone=a) and two (zone=b); outside: any address
"""

import copy
import json
from typing import Any

import yaml
from hypothesis import strategies as st

from recommender.dialects import parse_policies
from recommender.evaluate import evaluator
from recommender.manifests import Manifest
from recommender.model import Parsed, Policy, Rule
from recommender.objects import inventory_of

Spec = dict[str, Any] | str

WORLD = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: sales}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: data, labels: {team: store}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop, labels: {role: front}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: db, namespace: data, labels: {role: store}}}
---
apiVersion: v1
kind: Node
metadata: {name: one, labels: {zone: a}}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: two, labels: {zone: b}}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec:
  nodeName: one
  serviceAccountName: web
  containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec:
  nodeName: one
  containers: [{name: c, ports: [{name: http, containerPort: 8081}]}]
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: data, labels: {app: db}}
spec:
  nodeName: two
  serviceAccountName: db
  containers: [{name: c, ports: [{name: pg, containerPort: 5432}]}]
status: {podIP: 10.0.0.3}
---
apiVersion: v1
kind: Pod
metadata: {name: proxy, namespace: edge, labels: {app: proxy}}
spec: {nodeName: two, hostNetwork: true, containers: [{name: c}]}
status: {podIP: 192.168.0.2, hostIP: 192.168.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data, labels: {tier: store}}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: pg}, {port: 90, targetPort: 9090}]}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: data}
spec: {ports: [{port: 80}]}
"""


def manifests(text: str) -> list[Manifest]:
    """The objects in a text; their place is `case.yaml` and their number, from 1."""
    bodies = [body for body in yaml.safe_load_all(text) if body]
    return [Manifest(f"case.yaml:{i}", body) for i, body in enumerate(bodies, 1)]


CLUSTER = inventory_of(manifests(WORLD))


def parsed(*texts: str) -> Parsed:
    """What the dialects make of some objects."""
    return parse_policies(manifests("\n---\n".join(texts)), CLUSTER)


def policy(*texts: str) -> Policy:
    """The one policy of some objects, about which there is no finding."""
    found = parsed(*texts)
    assert not found.findings, found.findings
    (one,) = found.policies
    return one


def rule(*texts: str) -> Rule:
    """The one rule of the one policy of some objects."""
    one = policy(*texts)
    (found,) = (*one.ingress, *one.egress)
    return found


def said(*texts: str) -> list[str]:
    """The findings about some objects, each as `field: message`."""
    return [f"{found.field}: {found.message}" for found in parsed(*texts).findings]


def passes(connection: str, *texts: str, staged: bool = False) -> bool | None:
    """Whether `client -> server protocol/port` passes, or null, under the policies in the texts."""
    client, _, server, traffic = connection.split()
    protocol, port = traffic.split("/")
    judge = evaluator(parsed(*texts).policies, CLUSTER, staged=staged)
    return judge.verdict(client, server, protocol.upper(), int(port)).allow


def reason(connection: str, *texts: str) -> str:
    """Why `connection` passes or not, or cannot be told: the details, joined."""
    client, _, server, traffic = connection.split()
    protocol, port = traffic.split("/")
    judge = evaluator(parsed(*texts).policies, CLUSTER)
    because = judge.verdict(client, server, protocol.upper(), int(port)).because
    return "; ".join(why.detail or why.action for why in because)


def made(api: str, kind: str, name: str, namespace: str | None, **fields: Any) -> str:
    """One object as a text; each further field is a value, or YAML text."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    body: dict[str, Any] = {"apiVersion": api, "kind": kind, "metadata": metadata}
    for key, value in fields.items():
        value = yaml.safe_load(value) if isinstance(value, str) else value
        if key == "labels":
            metadata[key] = value
        else:
            body[key] = value
    return json.dumps(body)


# --- manifests with one thing wrong ------------------------------------------------------------

_WRONG = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 70_000), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=3,
)


@st.composite
def broken(draw: st.DrawFn, text: str) -> dict[str, Any]:
    """The object of a text, with another value somewhere below `spec`."""
    body: dict[str, Any] = copy.deepcopy(yaml.safe_load(text))
    at: Any = body
    key: Any = "spec"
    while isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 5)):
        at = at[key]
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
    at[key] = draw(_WRONG)
    return body
