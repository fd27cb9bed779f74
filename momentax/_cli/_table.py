"""Tables for a terminal or a file, made by the library rich."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from momentax._cli._arguments import shown

_WIDEST = 10_000  # A terminal wraps long lines itself, and a file keeps them.


def aligned(rows: Sequence[Sequence[str]], *, has_best: bool = True) -> str:
    """Return the lines of a table, whose head is the first row.

    On a terminal the head is bold and the best row green.

    has_best: whether the second row is the best.
    """
    if not rows:
        return ""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in rows[0]:
        table.add_column(Text(shown(head)), justify="right", no_wrap=True)
    for i, row in enumerate(rows[1:]):
        table.add_row(
            *(Text(shown(cell)) for cell in row), style="green" if has_best and i == 0 else ""
        )
    text = io.StringIO()
    Console(file=text, width=_WIDEST, force_terminal=sys.stdout.isatty()).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
