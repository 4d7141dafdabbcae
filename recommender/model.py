"""The dialect-neutral values: Selector, PortSet, Peer, Rule, Policy, Verdict. All frozen.

Selectors see one flat label map for each endpoint, keys prefixed by what they belong to, so that
every dialect's own spelling ends in the same few words:

    pod:app                    label `app` of the pod
    hidden:pod-template-hash   likewise, where the network's default settings hide it from policies
    ns:kubernetes.io/...       label of the pod's namespace
    sa:role                    label of the pod's service account
    meta:namespace             name of the pod's namespace
    meta:service-account       name of the pod's service account
    meta:cluster               name of the pod's Kubernetes cluster
    node:kubernetes.io/...     label of a node (only for `NodePeer`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from recommender.ports import ALL_PORTS as ALL_PORTS
from recommender.ports import NO_PORTS as NO_PORTS
from recommender.ports import PORT_PROTOCOLS as PORT_PROTOCOLS
from recommender.ports import Interval as Interval
from recommender.ports import Ports as Ports
from recommender.ports import PortSet as PortSet

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")
Action = Literal["allow", "deny", "pass", "log"]
Labels = Mapping[str, str]
HostNetwork = Literal["as nodes", "as pods"]  # what host-network pods are to policies

_TEXTS = {"contains": str.__contains__, "starts with": str.startswith, "ends with": str.endswith}


class Term:
    """What all selectors can do."""

    __slots__ = ()

    def matches(self, labels: Labels) -> bool:
        """Whether the selector is true of these labels."""
        match self:
            case Has(key=key):
                return key in labels
            case In(key=key, values=values):
                return labels.get(key) in values
            case Text(key=key, how=how, text=text):
                return key in labels and _TEXTS[how](labels[key], text)
            case Not(term=term):
                return not term.matches(labels)
            case And(terms=terms):
                return all(term.matches(labels) for term in terms)
            case Or(terms=terms):
                return any(term.matches(labels) for term in terms)
        raise TypeError(f"{self!r} is no selector")


@dataclass(frozen=True, slots=True)
class Has(Term):
    """True where the key is present."""

    key: str


@dataclass(frozen=True, slots=True)
class In(Term):
    """True where the key is present and its value is one of `values`."""

    key: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Text(Term):
    """True where the key is present and its value contains, starts or ends with `text`."""

    key: str
    how: Literal["contains", "starts with", "ends with"]
    text: str


@dataclass(frozen=True, slots=True)
class Not(Term):
    """True where `term` is false; so `Not(In(...))` is true for an absent key, as in Kubernetes."""

    term: Selector


@dataclass(frozen=True, slots=True)
class And(Term):
    """True where every term is; `And(())` selects everything."""

    terms: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Or(Term):
    """True where some term is; `Or(())` selects nothing."""

    terms: tuple[Selector, ...] = ()


Selector = Has | In | Text | Not | And | Or
EVERYTHING, NOTHING = And(()), Or(())


@dataclass(frozen=True, slots=True)
class AnyPeer:
    """Everyone, inside the cluster and outside."""


@dataclass(frozen=True, slots=True)
class LabelPeer:
    """Known endpoints (pods; network sets) whose labels the selector matches."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class NodePeer:
    """Nodes, and the host-network pods on them, whose labels (`node:...`) the selector matches."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class AddressPeer:
    """Addresses inside `blocks` and in none of `excepts` (canonical CIDR texts).

    `reach` says whom a block can mean, which differs by dialect: `outside` addresses only,
    outside addresses and `nodes`, or `all`, pods too.
    """

    blocks: tuple[str, ...]
    excepts: tuple[str, ...] = ()
    reach: Literal["outside", "nodes", "all"] = "outside"


@dataclass(frozen=True, slots=True)
class EntityPeer:
    """A class of peers that Cilium names: world, host, remote-node, kube-apiserver, ..."""

    entity: str


@dataclass(frozen=True, slots=True)
class NamePeer:
    """Outside addresses to which one of the DNS names (exact, or patterns) resolves.

    In a pattern `*` stands for any part of one label, a leading `**.` for one label or more; `*`
    alone is every name.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotPeer:
    """Everyone whom `peer` does not match."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class AllOf:
    """Whoever matches every one of `peers`."""

    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Whoever matches some one of `peers`."""

    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class UnknownPeer:
    """Somebody who cannot be told from manifests; the verdict is null with this reason."""

    reason: str


Peer = (
    AnyPeer
    | LabelPeer
    | NodePeer
    | AddressPeer
    | EntityPeer
    | NamePeer
    | NotPeer
    | AllOf
    | AnyOf
    | UnknownPeer
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The edges behind a rule: counts from one end, instants in UTC (ISO 8601 text).

    `opened` has a sentence on each thing that the rule permits beyond what was seen; `pairs` are
    those that were opened for shorter policies. Without connections, the instants say nothing.
    """

    connections: int
    days: int
    hours: int
    first_seen: str
    last_seen: str
    reporters: tuple[str, ...]
    clients: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one direction: what `action` does to `peer` on `ports`.

    `index` is its place in its list, from 0. `local` limits it to those subjects that match;
    `restricted` says what else narrows it (L7), which is not judged. `learns` says that DNS answers
    that come through it teach the network the addresses of names.
    """

    peer: Peer = AnyPeer()
    ports: Ports = Ports()
    action: Action = "allow"
    index: int = 0
    local: Peer | None = None
    restricted: str | None = None
    evidence: Evidence | None = None
    learns: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object, and where it was read: `place` is `file:line`."""

    api: str
    kind: str
    namespace: str | None
    name: str
    place: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Tier:
    """Policies judged together; tiers act in ascending (order, name).

    `first match`: policies by order, rules top to bottom, the first match acts. `union`: any
    deny wins, else any allow. What no rule of an applying policy decides gets `default`.
    """

    name: str
    order: float
    how: Literal["first match", "union"]
    default: Literal["deny", "pass"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules for the endpoints that `subject` selects, in the given directions.

    A direction in `isolates` turns on the tier's default for the subject; rules of a direction
    outside `isolates` still add or deny. `order` sorts policies inside a `first match` tier.
    `hosts` are nodes that it governs too, which is not judged; `doubt` says why it isn't known
    whether it acts at all, so that nothing it does is sure.
    """

    ref: Ref
    tier: Tier
    subject: Selector
    isolates: frozenset[Direction]
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    order: float = 0.0
    staged: bool = False
    hosts: Peer | None = None
    doubt: str | None = None

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        """The rules of one direction, in the order that they are written."""
        return self.ingress if direction == "ingress" else self.egress


@dataclass(frozen=True, slots=True)
class Finding:
    """What the API server would refuse or drop: the field, why, and what became of the policy."""

    place: str
    ref: Ref
    field: str
    message: str
    effect: str = "this policy is left out"

    def __str__(self) -> str:
        return f"{self.place}: {self.ref}: {self.effect}: {self.field}: {self.message}"


CANNOT_BE_TOLD = "cannot be told"  # a remark's topic


@dataclass(frozen=True, slots=True)
class Remark:
    """What a person should look at in a policy that the API server takes; `rule` is its index."""

    ref: Ref
    topic: str
    message: str
    direction: Direction | None = None
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a dialect read: policies, findings, and manifests of no dialect counted by kind."""

    policies: tuple[Policy, ...] = ()
    findings: tuple[Finding, ...] = ()
    unknown_kinds: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule, or the want of one, that decided one direction of a verdict."""

    direction: Direction
    policy: Ref | None
    rule: int | None
    action: Literal["allow", "deny", "default deny", "not isolated", "unknown", "pass"]
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one connection passes; null where it cannot be told; with the deciding rules."""

    allow: bool | None
    because: tuple[Reason, ...]
