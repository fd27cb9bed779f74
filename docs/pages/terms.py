"""Tables of terms and their texts, as docstrings have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TERM = re.compile(r"(\S+(?: \S+)*) {2,}(\S.*)")


def terms_of(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of a table of terms, with texts in one column; none of other lines."""
    found: list[tuple[str, str]] = []
    columns = set()
    for line in filter(str.strip, lines):
        match = _TERM.fullmatch(line)
        if match and not re.search(r" {3,}", match[2]):
            columns.add(match.start(2))
            found.append((match[1].removesuffix(":"), match[2]))
        elif found and line.startswith(" " * min(columns)):
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            return []
    return found if len(columns) == 1 and len(found) > 1 else []
