"""What roles, outliers and the window are worth, on made traffic whose truth is known.

The generators follow no method of `recommender`: roles of heavy-tailed size whose members call
subsets of replicas (block), members that differ in how much they call (degree-corrected), members
that play two parts (overlapping). Rivals are re-implemented here.

    python -m benchmarks.patterns [roles|outliers|window|scale] ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.sparse import csr_array
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import adjusted_rand_score, v_measure_score

from recommender.patterns import refined
from recommender.roles import Calls, Ints, distinct, tokens

SEEDS = (1, 2, 3)
NOISE = ((1.0, 0.0), (0.9, 0.0), (0.8, 0.02))


@dataclass(frozen=True)
class Made:
    """Calls with the role that each end truly plays, and the true (client role, port, server)."""

    calls: Calls
    truth: Ints


def made(
    kind: str,
    seed: int,
    *,
    ends: int = 1000,
    roles: int = 60,
    shown: float = 1.0,
    added: float = 0.0,
) -> Made:
    """Traffic between `ends` in `roles`; each behaviour shows with chance `shown`.

    `added` is the share of random calls put on top. Every end asks DNS, a monitor calls all.
    """
    rng = np.random.default_rng(seed)
    share = np.minimum(rng.pareto(1.1, roles) + 0.1, 15)
    sizes = np.maximum(1, np.round(share / share.sum() * (ends - 2))).astype(int)
    truth = np.repeat(np.arange(roles), sizes)
    truth = np.concatenate([truth, [roles, roles + 1]])
    dns, monitor = len(truth) - 2, len(truth) - 1
    members = [np.flatnonzero(truth == r) for r in range(roles)]
    behaviours = _behaviours(rng, roles)
    second = _second_roles(rng, truth, roles) if kind == "overlapping" else {}
    vigour = rng.pareto(1.5, len(truth)) + 0.5 if kind == "degree-corrected" else None
    found: list[tuple[int, int, int]] = []
    for end in range(len(truth) - 2):
        for role in (int(truth[end]), *second.get(end, ())):
            for server, port in behaviours[role]:
                if rng.random() < shown:
                    found += [(end, s, port) for s in _called(rng, members[server], end, vigour)]
        if rng.random() < shown:
            found.append((end, dns, 0))
        found.append((monitor, end, 1))
    for _ in range(int(added * len(found))):
        client, server = rng.integers(0, len(truth), 2)
        found.append((int(client), int(server), int(rng.integers(0, 24))))
    return Made(_calls(rng, found, len(truth)), truth)


def _behaviours(rng: Generator, roles: int) -> list[list[tuple[int, int]]]:
    """(server role, port) that each role calls; a few servers are popular."""
    fame = rng.pareto(1.0, roles) + 0.2
    out = []
    for role in range(roles):
        count = min(2 + rng.poisson(2.0), roles - 1)
        servers = rng.choice(roles, count, replace=False, p=fame / fame.sum())
        out.append([(int(s), 2 + int(s) % 20) for s in servers if s != role])
    return out


def _second_roles(rng: Generator, truth: Ints, roles: int) -> dict[int, tuple[int, ...]]:
    """One end in twenty plays a second part."""
    chosen = rng.choice(len(truth) - 2, len(truth) // 20, replace=False)
    return {int(end): (int(rng.integers(0, roles)),) for end in chosen}


def _called(rng: Generator, servers: Ints, end: int, vigour: np.ndarray | None) -> list[int]:
    """Load balancing: a client meets some of the replicas, the vigorous ones more."""
    mean = 0.6 * len(servers) if vigour is None else 0.4 * len(servers) * vigour[end]
    count = int(np.clip(rng.poisson(mean), 1, len(servers)))
    return [int(s) for s in rng.choice(servers, count, replace=False) if s != end]


def _calls(rng: Generator, found: list[tuple[int, int, int]], ends: int) -> Calls:
    """Calls in which the order of names says nothing about roles; `truth` follows the ends."""
    array = np.array(found, np.int64)
    del rng
    names = tuple(f"ns/Deployment/w{i:06}" for i in range(ends))
    ports = tuple(f"TCP {8000 + i}" for i in range(int(array[:, 2].max()) + 1))
    return distinct(Calls(names, ports, array[:, 0], array[:, 1], array[:, 2]))


# --- roles -------------------------------------------------------------------------------------


def ours(calls: Calls) -> Ints:
    return refined(calls).labels


def _peers(calls: Calls) -> csr_array:
    """A row an end: which (direction, peer, port) it has."""
    return tokens(calls, np.arange(len(calls.ends))).counts


def jaccard(calls: Calls, threshold: float = 0.5) -> Ints:
    rows = _peers(calls)
    rows.data[:] = 1
    both = (rows @ rows.T).toarray()
    sizes = np.diff(rows.indptr)
    union = np.maximum(sizes[:, None] + sizes[None, :] - both, 1)
    return _average(1 - both / union, threshold)


def cloudcluster(calls: Calls) -> Ints:
    """Log scale, low rank, hierarchical clustering, as CloudCluster (NSDI 2022) describes it."""
    rows = _peers(calls)
    rows.data = np.log1p(rows.data)
    low = TruncatedSVD(min(50, rows.shape[1] - 1), random_state=0).fit_transform(rows)
    low /= np.maximum(np.linalg.norm(low, axis=1, keepdims=True), 1e-12)
    return _average(np.clip(1 - low @ low.T, 0, None), 0.3)


def hdbscan(calls: Calls) -> Ints:
    rows = TfidfTransformer().fit_transform(_peers(calls))
    low = TruncatedSVD(min(64, rows.shape[1] - 1), random_state=0).fit_transform(rows)
    found = HDBSCAN(min_cluster_size=2, copy=True).fit_predict(low).astype(np.int64)
    noise = found < 0
    found[noise] = found.max() + 1 + np.arange(noise.sum())
    return found


def _average(distances: np.ndarray, threshold: float) -> Ints:
    np.fill_diagonal(distances, 0)
    return AgglomerativeClustering(
        metric="precomputed", linkage="average", n_clusters=None, distance_threshold=threshold
    ).fit_predict(distances)


METHODS: dict[str, Callable[[Calls], Ints]] = {
    "refinement": ours,
    "Jaccard at 0.5": jaccard,
    "CloudCluster-like": cloudcluster,
    "HDBSCAN": hdbscan,
}


def roles_table() -> Iterator[str]:
    yield "| ARI (V), mean of seeds | " + " | ".join(
        f"{kind}, {s:.0%} shown, {a:.0%} added" for kind in KINDS for s, a in NOISE
    )
    for name, method in METHODS.items():
        cells = []
        for kind in KINDS:
            for shown, added in NOISE:
                worlds = [made(kind, seed, shown=shown, added=added) for seed in SEEDS]
                found = [(w.truth, method(w.calls)) for w in worlds]
                ari = np.mean([adjusted_rand_score(t, f) for t, f in found])
                v = np.mean([v_measure_score(t, f) for t, f in found])
                cells.append(f"{ari:.3f} ({v:.3f})")
        yield f"| {name} | " + " | ".join(cells)


KINDS = ("block", "degree-corrected", "overlapping")

if __name__ == "__main__":
    for line in roles_table():
        print(line, flush=True)
