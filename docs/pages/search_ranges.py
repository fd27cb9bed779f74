"""The table of the ranges in which the comparison searches, from momentax.bench.entries."""

from __future__ import annotations

from pathlib import Path

from docs.pages.files import write
from momentax.bench import entries


def write_table(folder: Path) -> None:
    """Write the table, which guides/compare.md includes."""
    write(folder / "search_ranges.md", table())


def table() -> str:
    """Return a row for each hyperparameter of each method."""
    rows = [
        "| method | hyperparameter | low | high | scale | default |",
        "|---|---|---:|---:|---|---:|",
    ]
    for entry in entries.values():
        for name, each in entry.space.items():
            ends = f"{each.low:g} | {each.high:g} | {each.scale}"
            rows.append(f"| {entry.name} | {name} | {ends} | {entry.default[name]:g} |")
    return "\n".join(rows) + "\n"
