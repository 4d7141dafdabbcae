"""What a policy API has words for, beside pods and addresses; every dialect states its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from recommender.model import PORT_PROTOCOLS, AddressPeer, EntityPeer, NamePeer, Peer, Tier

Reach = Literal["outside", "nodes", "all"]


def together(_peer: Peer, _protocol: str) -> Hashable:
    """Any peer and any port may share a rule with any other."""
    return ()


def hides_nothing(_key: str) -> bool:
    """Selectors may use every label."""
    return False


@dataclass(frozen=True, slots=True)
class Words:
    """What the policies of one dialect can say, and what may stand in one rule of theirs.

    `title` names the objects for people. `reach` says whom a block of addresses means.
    `namespace_key` is the key by which selectors of peers in other namespaces know these. Peers
    and protocols share a rule only where `apart` gives the same for them. `hides` tells the labels
    that the network keeps from selectors. So many `sibling_names` become a pattern (0: never).
    """

    api: str
    kind: str
    title: str
    tier: Tier
    reach: Reach
    order: float = 0.0
    protocols: frozenset[str] = frozenset(PORT_PROTOCOLS)
    entities: bool = False
    names: bool = False
    sibling_names: int = 0
    clusters: bool = False
    namespace_key: str = "meta:namespace"
    apart: Callable[[Peer, str], Hashable] = together
    hides: Callable[[str], bool] = hides_nothing

    def says(self, peer: Peer) -> bool:
        """Whether there is a word for a peer; node addresses are blocks of the reach `nodes`."""
        match peer:
            case EntityPeer():
                return self.entities
            case NamePeer():
                return self.names
            case AddressPeer(reach="nodes"):
                return self.reach != "outside"
        return True
