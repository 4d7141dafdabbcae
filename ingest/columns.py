"""Arrow columns from Python values: column(), Pool and flows_table().

`pa.array` looks for pandas at its first call, which takes every worker process a second where
pandas is installed. So columns are made of buffers here; the layout is that of Arrow's columnar
format: a bitmap of what is not null, offsets of text, values.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.schema import FLOWS, TIME

_CODES = {
    pa.int32(): "i",
    pa.int64(): "q",
    TIME: "q",
    pa.uint8(): "B",
    pa.uint16(): "H",
}


Numbers = NDArray[np.int64]


def numbers_column(values: Numbers, type_: pa.DataType) -> pa.Array:
    """Integers or microseconds; what is negative is null."""
    kept = values.astype(np.dtype(_CODES[type_]))
    is_null = values < 0
    present = None
    if is_null.any():
        present = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    return pa.Array.from_buffers(type_, len(values), [present, pa.py_buffer(kept)])


def column(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """The values as Arrow text, integers, booleans or microseconds; None is null."""
    nulls = values.count(None)
    if nulls == len(values):
        return pa.nulls(nulls, type_)
    present = _bits(value is not None for value in values) if nulls else None
    if type_ == pa.string():
        texts = [b"" if value is None else value.encode() for value in values]
        offsets = pa.py_buffer(array("i", accumulate(map(len, texts), initial=0)))
        buffers = [present, offsets, pa.py_buffer(b"".join(texts))]
    elif type_ == pa.bool_():
        buffers = [present, _bits(values)]
    else:
        filled = [value or 0 for value in values] if nulls else values
        buffers = [present, pa.py_buffer(array(_CODES[type_], filled))]
    return pa.Array.from_buffers(type_, len(values), buffers)


def _bits(values: Iterable[Any]) -> pa.Buffer:
    """One bit a value, the first in the lowest bit of the first byte."""
    digits = "".join("1" if value else "0" for value in values)[::-1]
    return pa.py_buffer(int(digits, 2).to_bytes(len(digits) // 8 + 1, "little"))


class Pool:
    """Distinct groups of values, each kept once and known by its number.

    A flow log repeats itself: a few hundred distinct ends and kinds of event stand behind
    thousands of lines, so a row is a handful of numbers.
    """

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._numbers: dict[tuple[Any, ...], int] = {}

    def number(self, *values: Any) -> int:
        """The number of a group of values, in the order of the columns."""
        return self._numbers.setdefault(values, len(self._numbers))

    def columns(self, numbers: Sequence[int] | Numbers, prefix: str = "") -> dict[str, pa.Array]:
        """Columns of FLOWS, with a row for each of `numbers`."""
        rows = numbers_column(np.asarray(numbers, np.int64), pa.int32())
        kept = zip(*self._numbers, strict=True) if self._numbers else ((),) * len(self._columns)
        return {
            prefix + name: column(values, FLOWS.field(prefix + name).type).take(rows)
            for name, values in zip(self._columns, kept, strict=True)
        }


def flows_table(columns: Mapping[str, pa.Array | Numbers | Sequence[Any]], rows: int) -> pa.Table:
    """FLOWS from its columns; one that is not given is null, `day` is that of `time`."""
    made = {}
    for field in FLOWS:
        values = columns.get(field.name)
        if values is None:
            made[field.name] = pa.nulls(rows, field.type)
        elif isinstance(values, np.ndarray):
            made[field.name] = numbers_column(values, field.type)
        elif isinstance(values, pa.Array):
            made[field.name] = values
        else:
            made[field.name] = column(values, field.type)
    made["day"] = made["time"].cast(pa.date32())
    return pa.Table.from_arrays([made[name] for name in FLOWS.names], schema=FLOWS)
