"""A table of text, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Table(NamedTuple):
    """A table. `str` aligns its columns, and a notebook shows it as HTML.

    rows: the rows, the head first, each with as many texts.
    note: sentences below the table.
    """

    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in self.rows
        ]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(row: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in row) + "</tr>"

        head, *others = self.rows
        body = "".join(line(row, "td") for row in others)
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>{note}"
