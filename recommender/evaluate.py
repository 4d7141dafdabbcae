"""What a set of policies permits: one connection with its reasons, or all of them.

A connection passes if its source's egress and its destination's ingress both let it. Two things are
always let through, whatever the policies say: a pod to itself, and a node to the pods on it.
Addresses send and take what they like, as do nodes and host-network pods: policies govern pods,
and what those for hosts do to nodes is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from recommender.acting import Acting, Kleene, acting, at
from recommender.connectivity import beyond, connections
from recommender.ends import Ends, ends
from recommender.inventory import Inventory, Pod
from recommender.known import Known
from recommender.listing import By, Connection
from recommender.matrix import Matrix, matrix
from recommender.model import (
    DIRECTIONS,
    NO_PORTS,
    PORT_PROTOCOLS,
    AllOf,
    AnyOf,
    Direction,
    HostNetwork,
    NamePeer,
    NotPeer,
    Peer,
    Policy,
    PortSet,
    Reason,
    Ref,
    Rule,
    UnknownPeer,
    Verdict,
)
from recommender.questions import asked_ports, targets, unserved
from recommender.tiers import Fate, enacted, place
from recommender.universe import Universe, bits, is_local, universe


@dataclass(frozen=True)
class Evaluator:
    """The policies that act on the ends of one inventory; made by `evaluator`."""

    acting: Acting
    ends: Ends

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that act, as they are placed in their tiers."""
        return self.acting.policies

    @property
    def world(self) -> Universe:
        """The ends, and who is matched by selectors and peers."""
        return self.acting.world

    @cached_property
    def matrix(self) -> Matrix:
        """The ports permitted between classes of ends, by policy alone."""
        return matrix(self.acting)

    def verdict(self, src: str, dst: str, protocol: str, port: int | None) -> Verdict:
        """Whether a connection passes, and the rules that make it so.

        Args:
            src: `namespace/pod`, `namespace/workload`, `namespace/kind/workload`, or an address;
                the address of a pod or a node means that pod or node.
            dst: likewise; the address of a Service means the pods and ports behind it.
            protocol: TCP, UDP, SCTP, ICMP, ICMPv6, or another's name or number.
            port: null asks for every port. For ICMP: the type, or type * 256 + code.

        Returns:
            A workload stands for all its pods: true where every pair of pods may connect, false
            where some pair may not, which the reasons then name.

        Raises:
            InventoryError: an end is not in the inventory.
            QuestionError: there is no such protocol.
        """
        found = [
            (s, d, self._verdict(s, d, asked))
            for s, d, asked in self._asked(src, dst, protocol, port)
        ]
        if found:
            return self._agreed(found)
        service = self.world.inventory.service_of_address[dst]
        has_pods = bool(self.ends.behind(service))
        why = unserved(service, protocol, port, has_pods=has_pods)
        return Verdict(None, (Reason("ingress", None, None, "unknown", why),))

    def _asked(
        self, src: str, dst: str, protocol: str, port: int | None
    ) -> list[tuple[int, int, PortSet]]:
        """The pairs of ends that a question is about, with the ports at each."""
        sources = self.ends.find(src)
        service = self.world.inventory.service_of_address.get(dst)
        if service is None:
            asked = asked_ports(protocol, port, self.acting.everything)
            return [(s, d, asked) for s, d in self._pairs(sources, self.ends.find(dst))]
        # Policies act after a Service's address is translated to its pods and target ports; a pod
        # without a port of the target's name is not behind it (pkg/controller/endpoint, FindPort).
        served: dict[PortSet, list[int]] = {}
        for target in targets(service, protocol, port):
            for end in self.ends.behind(service):
                served.setdefault(self.acting.served_at(target, end), []).append(end)
        return [
            (s, d, asked)
            for asked, behind in served.items()
            if asked
            for s, d in self._pairs(sources, behind)
        ]

    def _agreed(self, found: Sequence[tuple[int, int, Verdict]]) -> Verdict:
        values = {verdict.allow for _, _, verdict in found}
        if len(values) == 1:
            return found[0][2]
        allow = False if False in values else None
        src, dst, verdict = next(each for each in found if each[2].allow is allow)
        note = f"pods disagree; so it is for {self.ends.name(src)} to {self.ends.name(dst)}"
        return Verdict(allow, tuple(_noted(why, note) for why in verdict.because))

    def permits(self, src: str, dst: str, protocol: str, port: int | None) -> bool:
        """Whether the verdict on a connection is true; told sooner, without the reasons."""
        asked = self._asked(src, dst, protocol, port)
        return bool(asked) and all(
            self._always(s, d) is not None
            or (
                ports <= self.matrix.outcome(s, d, "egress")[0]
                and ports <= self.matrix.outcome(d, s, "ingress")[0]
            )
            for s, d, ports in asked
        )

    def to_change(self, src: str, dst: str, protocol: str, port: int | None) -> list[Reason]:
        """What stands between a connection and the opposite of its verdict, in the order it acts.

        Of a denied connection: every rule that would have to go, and every policy in want of a
        rule. Of an allowed one: every rule that would have to go in the one direction or in the
        other, and `not isolated` where a policy would have to be made. Empty where the verdict is
        null or nothing can change it.
        """
        allow = self.verdict(src, dst, protocol, port).allow
        if allow is None:
            return []
        return list(
            dict.fromkeys(
                why
                for s, d, asked in self._asked(src, dst, protocol, port)
                if self._always(s, d) is None and self._verdict(s, d, asked).allow is allow
                for direction in DIRECTIONS
                for why in self._against(allow, direction, s, d, asked)
            )
        )

    def acting_rules(
        self, src: str, dst: str, protocol: str, port: int | None
    ) -> set[tuple[Ref, Direction, int]]:
        """The rules that let a connection through at one end, whatever the other's policies say."""
        return {
            (why.policy, direction, why.rule)
            for s, d, asked in self._asked(src, dst, protocol, port)
            for direction in DIRECTIONS
            for why in self.walk(direction, s, d, asked)[1]
            if why.policy is not None and why.rule is not None and why.action != "deny"
        }

    def permitted(self, src: str, dst: str) -> tuple[PortSet, PortSet]:
        """The ports that some pod of `src` may reach at some pod of `dst`, and the unknown ones."""
        allowed, unknown = NO_PORTS, NO_PORTS
        for s, d in self._pairs(self.ends.find(src), self.ends.find(dst)):
            sides = [
                self.walk(way, s, d, self.acting.everything)[0].outcome() for way in DIRECTIONS
            ]
            (taken, may_take), (sent, may_send) = sides
            allowed |= sent & taken
            unknown |= (sent | may_send) & (taken | may_take)
        return allowed, unknown - allowed

    def connectivity(
        self,
        by: By = "workload",
        *,
        protocols: Sequence[str] = PORT_PROTOCOLS,
        beyond_those_of: Evaluator | None = None,
    ) -> list[Connection]:
        """Every connection that is surely permitted, sorted.

        By workload, a port counts as permitted where some pod of the one may reach it at some pod
        of the other. Ends are `namespace/name` or a range of addresses `first-last`, nodes among
        them; what only a node may do to its own pods, and a pod to itself, is left out.

        Args:
            by: what an end is.
            protocols: those to list.
            beyond_those_of: list only what this other evaluator doesn't permit. Make each with
                `beside` the other's policies.
        """
        grid = self.matrix
        if beyond_those_of is None:
            return connections(grid, self.ends, by, protocols)
        return connections(beyond(grid, beyond_those_of.matrix), self.ends, by, protocols)

    def selects(self, policy: Policy) -> tuple[Pod, ...]:
        """The pods that a policy selects."""
        chosen = bits(self.world.selected(policy.subject).sure, self.world.size)
        return tuple(self.world.pods[i] for i in np.flatnonzero(chosen).tolist())

    def doubts(self) -> Iterator[Reason]:
        """The policies that may act, and rules of which it isn't known whom they match; and why."""
        for policy in self.acting.placed:
            if policy.doubt:
                for way in DIRECTIONS:
                    if way in policy.isolates or policy.rules(way):
                        yield Reason(way, policy.ref, None, "unknown", policy.doubt)
        for policy in self.policies:
            for direction in DIRECTIONS:
                for rule in policy.rules(direction):
                    peers = [
                        peer for peer in (rule.peer, rule.local) if peer and not is_local(peer)
                    ]
                    if any(len(set(self.world.matched(peer))) > 1 for peer in peers):
                        yield _reason(direction, policy, rule, None)

    def _pairs(self, sources: Sequence[int], targets: Sequence[int]) -> list[tuple[int, int]]:
        """A pair of ends for each that can be told apart; a pod to itself only when asked so."""
        if len(sources) == len(targets) == 1:
            return [(sources[0], targets[0])]
        classes = self.matrix.classes
        found: dict[tuple[int, int, bool], tuple[int, int]] = {}
        for s in sources:
            for d in targets:
                if s != d:
                    key = int(classes[s]), int(classes[d]), self._on_node(s, d)
                    found.setdefault(key, (s, d))
        return list(found.values())

    def _on_node(self, src: int, dst: int) -> bool:
        """Whether `src` is the node that the pod `dst` runs on."""
        node = self.acting.node(dst) if self.world.plain >> dst & 1 else None
        return node is not None and bool(self.world.node_ends[node] >> src & 1)

    def _may_be_on_node(self, src: int, dst: int) -> bool:
        """Whether `src` is a node, and the pod `dst` on one that is not known."""
        world = self.world
        is_node = not (world.plain | world.outside) >> src & 1
        return is_node and bool(world.plain >> dst & 1) and self.acting.node(dst) is None

    def _verdict(self, src: int, dst: int, asked: PortSet) -> Verdict:
        if always := self._always(src, dst):
            return Verdict(True, (always,))
        sides: list[tuple[Kleene, list[Reason]]] = []
        for direction in ("egress", "ingress"):
            fate, reasons = self.walk(direction, src, dst, asked)
            allowed, unknown = fate.outcome()
            denied = asked - allowed - unknown
            if denied and denied != asked:
                reasons = [_noted(why, "only some of the ports") for why in reasons]
            sides.append((False if denied else None if unknown else True, reasons))
        values = {value for value, _ in sides}
        allow = False if False in values else None if None in values else True
        if allow is False and self._may_be_on_node(src, dst):
            why = "a node always reaches its own pods, and the pod's node is not known"
            return Verdict(None, (Reason("ingress", None, None, "unknown", why),))
        return Verdict(
            allow, tuple(why for value, found in sides if value is allow for why in found)
        )

    def _always(self, src: int, dst: int) -> Reason | None:
        """Why a connection passes whatever the policies say; None where they decide."""
        if src == dst and src < len(self.world.pods):
            return Reason("egress", None, None, "not isolated", "a pod to itself")
        if self._on_node(src, dst):
            why = "a node to a pod that runs on it"
            return Reason("ingress", None, None, "not isolated", why)
        return None

    def _against(
        self, allow: bool, direction: Direction, src: int, dst: int, asked: PortSet
    ) -> Iterator[Reason]:
        """What in one direction must go, or must be made, for the opposite of `allow`."""
        subject, peer = (src, dst) if direction == "egress" else (dst, src)
        live = asked
        for turn in self.acting.turns(self.acting.applying(subject), direction):
            passed = NO_PORTS
            for policy, rule in turn.rules:
                matches = at(self.acting.peers(rule, subject), peer)
                hit = live & self.acting.ports_at(rule.ports, dst) if matches else NO_PORTS
                if not hit:
                    continue
                if rule.action == "pass":
                    live, passed = live - hit, passed | hit
                elif (rule.action == "allow") is allow:
                    yield _reason(direction, policy, rule, matches)
                else:
                    live -= hit
            if live and turn.default == "deny":
                if not allow:
                    yield from (_isolated(direction, p) for p in turn.isolating if not p.doubt)
                live = NO_PORTS
            live |= passed
        if live and allow:
            yield Reason(direction, None, None, "not isolated")

    def walk(
        self,
        direction: Direction,
        src: int,
        dst: int,
        asked: PortSet,
        without: tuple[Policy, Rule] | None = None,
    ) -> tuple[Fate, list[Reason]]:
        """What becomes of `asked` between two ends in one direction, and through which rules."""
        subject, peer = (src, dst) if direction == "egress" else (dst, src)
        fate, reasons = Fate(asked), []
        for turn in self.acting.turns(self.acting.applying(subject), direction):
            entering, action = fate.live, None
            for policy, rule in turn.rules:
                if not turn.together or rule.action != action:
                    entering, action = fate.live, rule.action
                matches = at(self.acting.peers(rule, subject), peer)
                if matches is False or (without and policy is without[0] and rule is without[1]):
                    continue
                ports = self.acting.ports_at(rule.ports, dst)
                if entering & ports:
                    fate = fate.meet(rule.action, ports, sure=matches is True)
                    reasons.append(_reason(direction, policy, rule, matches))
            if fate.live:
                reasons += [_isolated(direction, policy) for policy in turn.isolating]
            fate = fate.end(turn.default)
        if fate.live:
            reasons.append(Reason(direction, None, None, "not isolated"))
        return fate, reasons


def _isolated(direction: Direction, policy: Policy) -> Reason:
    action: Literal["unknown", "default deny"] = "unknown" if policy.doubt else "default deny"
    return Reason(direction, policy.ref, None, action, policy.doubt)


def _reason(direction: Direction, policy: Policy, rule: Rule, matches: Kleene) -> Reason:
    if matches is None:
        why = _doubt(rule.peer) or _doubt(rule.local) or "the inventory does not tell who matches"
        return Reason(direction, policy.ref, rule.index, "unknown", f"{rule.action}: {why}")
    assert rule.action != "log"
    detail = f"only {rule.restricted}" if rule.restricted else None
    return Reason(direction, policy.ref, rule.index, rule.action, detail)


def _doubt(peer: Peer | None) -> str | None:
    match peer:
        case UnknownPeer(reason=reason):
            return reason
        case NamePeer(names=names):
            return f"no addresses are known for {', '.join(names)}"
        case NotPeer(peer=inner):
            return _doubt(inner)
        case AllOf(peers=peers) | AnyOf(peers=peers):
            return next((why for each in peers if (why := _doubt(each))), None)
    return None


def _noted(why: Reason, note: str) -> Reason:
    return replace(why, detail=f"{note}; {why.detail}" if why.detail else note)


def evaluator(
    policies: Sequence[Policy],
    inventory: Inventory,
    *,
    told: Known | None = None,
    staged: bool = False,
    host_network: HostNetwork = "as nodes",
    beside: Iterable[Policy] = (),
) -> Evaluator:
    """An evaluator of `policies` over the pods, nodes and namespaces of an inventory.

    Args:
        policies: as the dialects parse them.
        inventory: who there is; policies that select nobody do nothing.
        told: what flows tell; a rule on a name without known addresses gives a null verdict.
        staged: whether staged policies act as if they were enforced, each in the place of the
            enforced one of its name; else they don't act.
        host_network: what host-network pods are to policies. The API leaves it open; nearly every
            network sees their nodes' addresses only, some govern them like other pods.
        beside: policies of another evaluator to compare with; the address space is then cut
            for these too, so that both have the same ends and protocols.
    """
    others = tuple(beside)
    world = universe(inventory, [*policies, *others], told or Known(), host_network)
    chosen = enacted(policies) if staged else [p for p in policies if not p.staged]
    return Evaluator(acting(world, place(chosen), others), ends(world))
