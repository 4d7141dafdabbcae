"""What network-config-analyzer makes of folders of manifests; run by a Python that has it.

Reads the name of a folder a line from standard input. Writes a JSON object a line: `cubes`, each
with `src` and `dst` (pods by name, addresses as [first, last]), `protocols` by number, `ports`,
`types` and `codes` as closed intervals; or `refused`, why it read the folder not at all.
"""

import json
import sys
from typing import Any

from nca.CoreDS.Peer import BasePeerSet, IpBlock
from nca.NetworkConfig.ResourcesHandler import ResourcesHandler
from nca.Resources.PolicyResources.NetworkPolicy import PolicyConnectionsFilter


def connectivity(folder: str) -> dict[str, Any]:
    BasePeerSet.reset()
    BasePeerSet()
    config = ResourcesHandler().get_network_config(None, None, None, [folder])
    wanted = PolicyConnectionsFilter.only_all_allowed_connections()
    allowed = config.allowed_connections(res_conns_filter=wanted).all_allowed_conns
    found = config.filter_conns_by_peer_types(allowed)
    return {"cubes": [cube(found.get_connectivity_cube(each)) for each in found]}


def cube(given: Any) -> dict[str, Any]:
    return {
        "src": ends(given["src_peers"]),
        "dst": ends(given["dst_peers"]),
        "protocols": intervals(given.get_dim_directly("protocols")),
        "ports": intervals(given.get_dim_directly("dst_ports")),
        "types": intervals(given.get_dim_directly("icmp_type")),
        "codes": intervals(given.get_dim_directly("icmp_code")),
    }


def ends(peers: Any) -> list[Any]:
    out: list[Any] = []
    for peer in peers:
        if isinstance(peer, IpBlock):
            out += [[str(part.start), str(part.end)] for part in peer]
        else:
            out.append(peer.full_name())
    return out


def intervals(given: Any) -> list[list[int]]:
    return [[part.start, part.end] for part in given]


def main() -> None:
    # What it says of itself goes to standard output; the answers must not mix with that.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            found = connectivity(line.rstrip("\n"))
        except Exception as error:  # noqa: BLE001 - plain Exceptions are what it raises
            found = {"refused": str(error)}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
