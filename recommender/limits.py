"""What keeps a proposal from being written: the API server's limits on names and sizes.

All else that it would refuse (ports, protocols, blocks, selectors, how many rules there can be) the
dialects find when the manifests are read back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from recommender.policies import is_name

# etcd takes 1.5 MiB a request (etcd.io/docs, --max-request-bytes), of which the API server and the
# owner of the object (status, managedFields) write some.
MOST_BYTES = 1_400_000
# What `kubectl apply` keeps of an object stands in its annotations, which take 256 KiB together
# (apimachinery/pkg/api/validation/objectmeta.go, TotalAnnotationSizeLimitB).
MOST_APPLIED_BYTES = 250_000


def unnamed(namespace: str, name: str) -> str:
    """Why Kubernetes would not take a policy's names, which flows alone may have told."""
    taken = is_name(namespace) and is_name(name)
    return "" if taken else "its name is none that Kubernetes takes"


def too_large(manifests: Sequence[dict[str, Any]]) -> str:
    """Why the API server would not take these objects for their size, with the next step."""
    size = largest(manifests)
    if size <= MOST_BYTES:
        return ""
    return (
        f"it has {size:,} bytes, and the API server takes some {MOST_BYTES:,}; join its addresses "
        "with --open-addresses"
    )


def largest(manifests: Sequence[dict[str, Any]]) -> int:
    """The bytes of the largest object."""
    compact = (json.dumps(body, separators=(",", ":")) for body in manifests)
    return max((len(text.encode()) for text in compact), default=0)
