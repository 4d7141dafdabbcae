"""Tables for people on a terminal, plain lines for pipes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence

from recommender.commands import options
from recommender.report.lines import printable

Cells = Sequence[str]


def tell(
    heads: Sequence[str], rows: Collection[tuple[Cells, str]], numbers: Iterable[str] = ()
) -> None:
    """Rows on standard output: a table as wide as the terminal, or a line each where it is none.

    A column without a word in it has no place in the table.

    Args:
        heads: names of the columns.
        rows: each with its cells, and the line that stands for it in a pipe.
        numbers: columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        for _, line in rows:
            options.tell(line)
        return
    filled = [i for i in range(len(heads)) if any(cells[i] for cells, _ in rows)]
    if not filled:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    right = set(numbers)
    for head in (heads[i] for i in filled):
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for cells, _ in rows:
        # As texts: a name in brackets is no markup.
        table.add_row(*(Text(printable(cell)) for cell in (cells[i] for i in filled)))
    Console().print(table)
