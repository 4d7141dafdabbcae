"""Frames as rows of plain Python values: None for null, whole numbers whole."""

from __future__ import annotations

from typing import Any

import pandas as pd

from recommender.inventory import WorkloadKey

Row = dict[str, Any]


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with Python values: None for null, which groups and compares as itself."""
    return frame.astype(object).where(frame.notna(), None)


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
