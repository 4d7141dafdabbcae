"""The names of ends: pods, workloads and ranges of addresses."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from recommender.addresses import Address, address, text
from recommender.errors import InventoryError
from recommender.inventory import Service, WorkloadKey
from recommender.universe import Universe


@dataclass(frozen=True)
class Ends:
    """The ends that each name means: `pods` and `workloads` by name, pods by `addresses`.

    `workloads` are named `namespace/name`, or `namespace/kind/name` where two kinds share one.
    `names` are those and, for each workload, its name with the kind, all in lower case.
    """

    world: Universe
    pods: dict[str, tuple[int, ...]]
    workloads: dict[str, tuple[int, ...]]
    names: dict[str, tuple[int, ...]]
    addresses: dict[Address, int]

    def find(self, name: str) -> tuple[int, ...]:
        """The ends that a name or an address means: the address of a pod means the pod.

        Raises:
            InventoryError: there are none, or the name is that of several workloads.
        """
        if at := address(name):
            end = self.addresses.get(at)
            return (len(self.world.pods) + self.world.atoms.at(at) if end is None else end,)
        if found := self.names.get(name.lower()):
            return found
        if same := [each for each in self.workloads if each.split("/")[::2] == name.split("/")]:
            raise InventoryError(
                f"{name!r} is several workloads; write {' or '.join(sorted(same))}"
            )
        near = get_close_matches(name.lower(), self.names, 1, 0.0)
        hint = f"; the nearest name is {near[0]}" if near else ""
        raise InventoryError(f"no pod or workload {name!r} in the inventory{hint}")

    def behind(self, service: Service) -> tuple[int, ...]:
        """The pods that a Service selects."""
        found = {(pod.namespace, pod.name) for pod in self.world.inventory.backends(service)}
        return tuple(i for i, p in enumerate(self.world.pods) if (p.namespace, p.name) in found)

    def name(self, end: int) -> str:
        """A pod as `namespace/name`, or the first address of an atom."""
        if end < len(self.world.pods):
            pod = self.world.pods[end]
            return f"{pod.namespace}/{pod.name}"
        return text(self.world.atoms.firsts[end - len(self.world.pods)])


def ends(world: Universe) -> Ends:
    """The names of the ends of a universe."""
    owned: dict[WorkloadKey, list[int]] = {}
    for i, pod in enumerate(world.pods):
        owned.setdefault(pod.workload, []).append(i)
    shared: dict[str, list[WorkloadKey]] = {}
    for key in owned:
        shared.setdefault(str(key), []).append(key)
    workloads = {
        name if len(keys) == 1 else _whole(key): tuple(owned[key])
        for name, keys in shared.items()
        for key in keys
    }
    pods: dict[str, tuple[int, ...]] = {
        f"{pod.namespace}/{pod.name}": (i,) for i, pod in enumerate(world.pods)
    }
    whole = {_whole(key).lower(): tuple(found) for key, found in owned.items()}
    # The address of a host-network pod is its node's, whatever such pods are judged as.
    given = world.inventory.pods
    own = [not given[pod.namespace, pod.name].host_network for pod in world.pods]
    addresses = {at: end for at, end in reversed(world.points) if own[end]}
    return Ends(world, pods, workloads, whole | workloads | pods, addresses)


def _whole(key: WorkloadKey) -> str:
    return f"{key.namespace}/{key.kind}/{key.name}"
