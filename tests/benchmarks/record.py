"""The record of measured results as a file: JSON with one line for each table, contestant and bar.

In memory a result is a dict of three parts:

    about     the machine and the versions
    tables    a list; each table has "rows", a dict from a contestant to its figures
    bars      a list; each bar of bars.py with what was measured

In the file the figures of one contestant in all tables are on one line, as lists in the order of
`COLUMNS`. The reasons of bars that are not reached are in bars.py and not in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.benchmarks.bars import BARS

COLUMNS = (
    "seconds",
    "ratio",
    "ratio of each process",
    "ratio to C",
    "compile seconds",
    "state bytes",
    "accessed",
    "temporary",
    "copies",
    "peak",
)
BAR_COLUMNS = ("bar", "on", "target", "measured", "of each process", "reached", "worst", "reason")


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result, its floats rounded to 4 digits."""
    result = round_floats(result)
    tables = [{k: v for k, v in table.items() if k != "rows"} for table in result["tables"]]
    rows: dict[str, dict[str, list[Any]]] = {}
    for table in result["tables"]:
        for contestant, figures in table["rows"].items():
            rows.setdefault(contestant, {})[_key(table)] = _pack(figures, COLUMNS)
    bars = [_pack(_without_known_reason(bar), BAR_COLUMNS) for bar in result["bars"]]
    parts = {
        "about": _line(result["about"]),
        "columns": _line(COLUMNS),
        "bar columns": _line(BAR_COLUMNS),
        "tables": _lines("[]", map(_line, tables)),
        "rows": _lines("{}", (f"{_line(name)}: {_line(row)}" for name, row in rows.items())),
        "bars": _lines("[]", map(_line, bars)),
    }
    text = _lines("{}", (f"{_line(name)}: {part}" for name, part in parts.items()))
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    tables = [
        table
        | {
            "rows": {
                contestant: _unpack(figures[_key(table)], stored["columns"])
                for contestant, figures in stored["rows"].items()
                if _key(table) in figures
            }
        }
        for table in stored["tables"]
    ]
    bars = [_with_known_reason(_unpack(bar, stored["bar columns"])) for bar in stored["bars"]]
    return {"about": stored["about"], "tables": tables, "bars": bars}


def merge(path: Path, new: dict[str, Any]) -> None:
    """Write a result, and keep older ones of the same machine and versions beside it."""
    if path.exists():
        old = read(path)
        if old["about"] == new["about"]:
            for part, key in (("tables", ("suite", "workload")), ("bars", ("bar", "on", "target"))):
                replaced = {tuple(each[k] for k in key) for each in new[part]}
                others = [e for e in old[part] if tuple(e[k] for k in key) not in replaced]
                new = new | {part: others + new[part]}
    write(path, new)


def round_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: round_floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(round_floats, value))
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _key(table: dict[str, Any]) -> str:
    return f"{table['suite']}, {table['workload']}"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(brackets: str, items: Iterable[str]) -> str:
    """The items of a list or an object, each on its own line."""
    return f"{brackets[0]}\n" + ",\n".join(items) + f"\n{brackets[1]}"


def _pack(figures: dict[str, Any], columns: tuple[str, ...]) -> list[Any]:
    """The figures in the order of the columns, without trailing nulls."""
    unknown = figures.keys() - set(columns)
    if unknown:
        raise ValueError(f"the record has no columns for {sorted(unknown)}")
    values = [figures.get(column) for column in columns]
    while values and values[-1] is None:
        values.pop()
    return values


def _unpack(values: list[Any], columns: list[str]) -> dict[str, Any]:
    return {c: v for c, v in zip(columns, values, strict=False) if v is not None}


# Reasons.


def _reason_of(bar: dict[str, Any]) -> str | None:
    names = (b.reason for b in BARS if (b.name, b.workload, b.target) == _bar_key(bar))
    return next(names, None)


def _bar_key(bar: dict[str, Any]) -> tuple[str, str, str]:
    return bar["bar"], bar["on"], bar["target"]


def _without_known_reason(bar: dict[str, Any]) -> dict[str, Any]:
    if bar.get("reason") == _reason_of(bar):
        return {key: value for key, value in bar.items() if key != "reason"}
    return bar


def _with_known_reason(bar: dict[str, Any]) -> dict[str, Any]:
    bar = {"measured": None} | bar
    if bar.get("reached") is False and "reason" not in bar:
        return bar | {"reason": _reason_of(bar)}
    return bar
