"""Made traffic whose truth is known: who plays which role, and which edges are attacks.

Stated before any method was run on it, and left alone since:

block             roles of heavy-tailed size; a role calls one to six other roles, famous ones
                  more often, on the server's port out of two dozen usual ones; a client meets a
                  random share of a role's members, the share drawn once a pair of roles
degree-corrected  the same, but some ends call far more than others and some are called far more
overlapping       the same, but one end in twenty plays a second role as well
Online Boutique, Sock Shop    the calls of two public demo applications, fifty tenants of each

Everywhere everybody asks one DNS, and one monitor calls everybody. `shown` is the chance that an
end shows a behaviour (a role that it calls) in the window, `added` the share of random calls put
on top. The true role is what an end does, whoever it belongs to: roles that cannot be told apart
by any chain of calls and ports are one (`_alike`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.random import Generator

from recommender.roles import Calls, Ints, distinct

TENANTS = 50
# GoogleCloudPlatform/microservices-demo and microservices-demo/microservices-demo: who calls whom,
# on which container port. `web` is everybody outside.
TOPOLOGY = {
    "Online Boutique": """web frontend 8080, frontend ad 9555, frontend recommendation 8080,
frontend catalog 3550, frontend cart 7070, frontend shipping 50051, frontend currency 7000,
frontend checkout 5050, checkout email 8080, checkout payment 50051, checkout catalog 3550,
checkout cart 7070, checkout shipping 50051, checkout currency 7000, recommendation catalog 3550,
cart redis 6379""",
    "Sock Shop": """web frontend 8079, frontend catalogue 80, frontend carts 80, frontend user 80,
frontend orders 80, orders carts 80, orders user 80, orders payment 80, orders shipping 80,
orders orders-db 27017, catalogue catalogue-db 3306, carts carts-db 27017, user user-db 27017,
shipping rabbitmq 5672, queue rabbitmq 5672""",
}
DRAWN = ("block", "degree-corrected", "overlapping")
KINDS = (*DRAWN, *TOPOLOGY)

_PORTS = 24
_DNS, _METRICS = _PORTS, _PORTS + 1


@dataclass(frozen=True)
class World:
    """Distinct calls, with the role that each end truly plays; `blocks` are the wanted ones.

    `second` is the role that an end plays beside, -1 for none.
    """

    calls: Calls
    truth: Ints
    second: Ints
    blocks: frozenset[tuple[int, int, int]]  # role of the client, role of the server, port

    def wanted(self, client: int, server: int, port: int) -> bool:
        """Whether the call is what one of the client's roles does to one of the server's."""
        pairs = product(*({self.truth[end], self.second[end]} for end in (client, server)))
        return any((int(c), int(s), port) in self.blocks for c, s in pairs)


def world(
    kind: str,
    seed: int,
    *,
    ends: int = 1000,
    roles: int = 60,
    shown: float = 1.0,
    added: float = 0.0,
) -> World:
    """Traffic of a kind."""
    rng = np.random.default_rng(seed)
    if kind in TOPOLOGY:
        made = _tenants(rng, TOPOLOGY[kind], shown)
    else:
        made = _drawn(rng, kind, ends, roles, shown)
    rows, truth, second, blocks = made
    ports = 1 + max(port for _, _, port in rows)
    noise = rng.integers(0, (len(truth), len(truth), ports), (int(added * len(rows)), 3))
    table = np.array([*rows, *noise.tolist()], np.int64)
    table = table[table[:, 0] != table[:, 1]]
    names = tuple(f"ns/Deployment/w{i:06}" for i in range(len(truth)))
    numbers = tuple(f"TCP {8000 + i}" for i in range(ports))
    same = _alike(blocks, int(truth.max()) + 1)
    merged = frozenset((int(same[c]), int(same[s]), p) for c, s, p in blocks)
    plays = np.where(second < 0, -1, same[second])
    return World(distinct(Calls(names, numbers, *table.T)), same[truth], plays, merged)


Rows = list[tuple[int, int, int]]
Blocks = set[tuple[int, int, int]]


def _drawn(
    rng: Generator, kind: str, ends: int, roles: int, shown: float
) -> tuple[Rows, Ints, Ints, Blocks]:
    weight = np.minimum(rng.pareto(1.2, roles), 20)
    sizes = 1 + np.floor(weight / weight.sum() * (ends - roles)).astype(np.int64)
    truth = np.repeat(np.arange(roles), sizes)
    second = np.full(len(truth), -1)
    if kind == "overlapping":
        twice = rng.choice(len(truth), len(truth) // 20, replace=False)
        second[twice] = rng.integers(0, roles, len(twice))
    uneven = kind == "degree-corrected"
    vigour = rng.gamma(1.0, 1.0, len(truth)) if uneven else np.ones(len(truth))
    fame = rng.pareto(1.5, len(truth)) + 0.2 if uneven else np.ones(len(truth))
    members = [np.flatnonzero((truth == r) | (second == r)) for r in range(roles)]
    rows: Rows = []
    blocks: Blocks = set()
    for role, servers, ports, share in _behaviours(rng, roles):
        for server, port, part in zip(servers, ports, share, strict=True):
            blocks.add((role, server, port))
            inside = members[server]
            for client in members[role][rng.random(len(members[role])) < shown]:
                count = int(np.clip(rng.poisson(part * len(inside) * vigour[client]), 1, None))
                p = fame[inside] / fame[inside].sum()
                met = rng.choice(inside, min(count, len(inside)), replace=False, p=p)
                rows += [(int(client), int(one), port) for one in met]
    dns, monitor = len(truth), len(truth) + 1
    asking = np.flatnonzero(rng.random(len(truth)) < shown)
    rows += [(int(end), dns, _DNS) for end in asking]
    rows += [(monitor, end, _METRICS) for end in range(len(truth))]
    blocks |= {(role, roles, _DNS) for role in range(roles)}
    blocks |= {(roles + 1, role, _METRICS) for role in range(roles)}
    last = [roles, roles + 1]
    return rows, np.concatenate([truth, last]), np.concatenate([second, [-1, -1]]), blocks


def _behaviours(rng: Generator, roles: int) -> list[tuple[int, list[int], list[int], list[float]]]:
    """What each role calls: servers, their ports, and the share of members that a client meets."""
    popular = rng.pareto(1.5, roles) + 0.2
    usual = 1 / np.arange(1, _PORTS + 1)
    port = rng.choice(_PORTS, roles, p=usual / usual.sum())
    out = []
    for role in range(roles):
        chance = np.where(np.arange(roles) == role, 0, popular)
        count = min(1 + rng.poisson(2.0), 6, roles - 1)
        servers = rng.choice(roles, count, replace=False, p=chance / chance.sum())
        share = rng.uniform(0.2, 1.0, count)
        out.append((role, servers.tolist(), port[servers].tolist(), share.tolist()))
    return out


def _tenants(rng: Generator, text: str, shown: float) -> tuple[Rows, Ints, Ints, Blocks]:
    topology = [line.split() for line in text.split(",")]
    services = sorted({end for edge in topology for end in edge[:2]} - {"web"})
    kinds = [*services, "web", "dns", "monitor"]
    role = {name: i for i, name in enumerate(kinds)}
    port = {name: i for i, name in enumerate(sorted({edge[2] for edge in topology}))}
    once = len(services) * TENANTS
    place = {(s, t): i * TENANTS + t for i, s in enumerate(services) for t in range(TENANTS)}
    place |= {(s, t): once + i for i, s in enumerate(kinds[-3:]) for t in range(TENANTS)}
    calls = [(c, s, port[p]) for c, s, p in topology]
    calls += [(s, "dns", len(port)) for s in services]
    rows = [(place[c, t], place[s, t], p) for t in range(TENANTS) for c, s, p in calls]
    rows = [row for row in rows if rng.random() < shown]
    rows += [(once + 2, end, len(port) + 1) for end in range(once)]
    blocks = {(role[c], role[s], p) for c, s, p in calls}
    blocks |= {(role["monitor"], role[s], len(port) + 1) for s in services}
    inside = np.repeat(np.arange(len(services)), TENANTS)
    truth = np.concatenate([inside, len(services) + np.arange(3)])
    return rows, truth, np.full(len(truth), -1), blocks


def _alike(blocks: Blocks, roles: int) -> Ints:
    """Roles by what they do: split until all of a group call the same groups on the same ports."""
    group = np.zeros(roles, np.int64)
    while True:
        does: list[set[tuple[int, int, int]]] = [set() for _ in range(roles)]
        for client, server, port in blocks:
            does[client].add((0, int(group[server]), port))
            does[server].add((1, int(group[client]), port))
        keys = [(int(group[r]), *sorted(does[r])) for r in range(roles)]
        finer = np.unique([str(key) for key in keys], return_inverse=True)[1].astype(np.int64)
        if finer.max() == group.max():
            return group
        group = finer
