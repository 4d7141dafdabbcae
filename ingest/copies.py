"""has_flows(): whether a store has flows already, whatever block they came in.

A block is known by the digest of its bytes, and a log that has grown by the digest of its
beginning. An old copy of a log that was read since ends somewhere inside a block of the store, for
which there is no digest: it is known by its flows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.columns import numbers_column
from ingest.store import Store


def has_flows(store: Store, flows: pa.Table) -> bool:
    """Whether each of these flows is in the store, as often as it is among them; true for none.

    Args:
        store: of which only the clusters and times of the flows are read.
        flows: FLOWS.
    """
    if not flows.num_rows:
        return True
    span = pc.min_max(flows["time"])
    field = pc.field("time")
    is_near = (field >= span["min"]) & (field <= span["max"])
    is_near &= pc.field("cluster").isin(flows["cluster"].unique())
    counted = pa.concat_tables(
        [_counted(flows, 0), _counted(store.flows().to_table(filter=is_near), 1)]
    )
    found = counted.group_by(flows.column_names).aggregate([("here", "sum"), ("there", "sum")])
    return bool(pc.all(pc.less_equal(found["here_sum"], found["there_sum"])).as_py())


def _counted(flows: pa.Table, place: int) -> pa.Table:
    """The flows with a 1 in the column `here` (0) or `there` (1), and a 0 in the other."""
    for number, name in enumerate(("here", "there")):
        ones = np.full(flows.num_rows, int(number == place), np.int64)
        flows = flows.append_column(name, numbers_column(ones, pa.int64()))
    return flows
