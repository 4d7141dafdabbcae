"""Frames as rows of plain Python values: None for null, whole numbers whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recommender.inventory import WorkloadKey

Row = dict[str, Any]


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with Python values: None for null, which groups and compares as itself."""
    columns = {name: _plain(frame[name]) for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index)


def _plain(column: pd.Series) -> pd.Series:
    if column.dtype == object:
        return column.where(column.notna(), None)
    # Equal values are one object: a million edges name a few thousand ends.
    codes, values = pd.factorize(column)
    objects = np.array([*values.astype(object), None], object)
    return pd.Series(objects[codes], column.index, dtype=object)


def numbered(frame: pd.DataFrame, columns: Iterable[str]) -> npt.NDArray[np.int64]:
    """The number of each row's group, groups in the order of the columns, null first."""
    number = np.zeros(len(frame), np.int64)
    for name in columns:
        code, values = pd.factorize(frame[name], sort=True)
        if len(values) > 1 or (len(values) == 1 and (code < 0).any()):
            key = number * (len(values) + 1) + code + 1
            number = np.unique(key, return_inverse=True)[1].astype(np.int64)
    return number


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame as dicts by column name, None for null."""
    columns = [str(column) for column in frame.columns]
    return [dict(zip(columns, row, strict=True)) for row in plain(frame).itertuples(index=False)]


def workload_of(row: Row, role: str) -> WorkloadKey | None:
    """The workload at one end of an edge; None where that end is none."""
    if row[f"{role}_type"] != "workload":
        return None
    return WorkloadKey(
        str(row[f"{role}_namespace"]), str(row[f"{role}_kind"]), str(row[f"{role}_name"])
    )


def of_class(edges: pd.DataFrame, *classes: str) -> list[Row]:
    """The edges of the given classes (see `classify.classified`), in their order."""
    return records(edges[edges["class"].isin(classes)])
