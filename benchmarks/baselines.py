"""Other ways to find roles and odd edges, re-implemented to compare with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfTransformer

from recommender.roles import Calls, Ints, calls, tokens


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


def isolation_forest(edges: pd.DataFrame) -> np.ndarray:
    """IsolationForest on bins, connections, fan-out of the client and fan-in of the server."""
    found = calls(edges)
    facts = np.stack(
        [
            np.log1p(edges["hours"].to_numpy(float)),
            np.log1p(edges["connections"].to_numpy(float)),
            np.log1p(np.bincount(found.client)[found.client]),
            np.log1p(np.bincount(found.server)[found.server]) if len(found) else found.server,
        ],
        axis=1,
    )
    return -IsolationForest(random_state=0).fit(facts).score_samples(facts)
