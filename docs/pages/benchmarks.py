"""The tables of *Benchmarks*, from the recorded results in tests/benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docs.pages import ROOT
from docs.pages.files import write
from tests.benchmarks import record
from tests.benchmarks.__main__ import format_table

_WORKLOADS = {"1e7": "10⁷ parameters", "1e8": "10⁸ parameters", "gpt2": "a GPT-2"}
_RESULTS = ROOT / "tests" / "benchmarks"


def write_tables(folder: Path) -> None:
    """Write a file for each table, which benchmarks.md includes."""
    steps = record.read(_RESULTS / "step.json")
    for table in steps["tables"]:
        name = f"{table['suite']}_{table['workload']}".replace(" ", "_").replace(",", "")
        write(folder / f"{name}.md", format_table(table).strip().split("\n", 2)[2] + "\n")
    write(folder / "machine.md", _machine(steps["about"]))
    write(folder / "bars.md", _bars(steps["bars"]))
    sweeps = json.loads((_RESULTS / "sweep.json").read_text(encoding="utf-8"))
    write(folder / "sweep.md", _sweeps(sweeps["results"]))


def _machine(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"The numbers are from {about['cores']} cores of a processor that calls itself "
        f"{about['processor']}, with Python {about['python']}, {versions}.\n"
    )


def _bars(bars: list[dict[str, Any]]) -> str:
    rows = ["| limit | on | target | measured | |", "|---|---|---:|---:|---|"]
    for bar in bars:
        if bar.get("measured") is None:
            continue
        reached = "reached" if bar["reached"] else "not reached"
        on = _WORKLOADS.get(bar["on"], bar["on"])
        cells = (bar["bar"], on, bar["target"], f"{bar['measured']:.3g}", reached)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _sweeps(results: list[dict[str, Any]]) -> str:
    ways = {
        "people": "a new optimizer for each setting",
        "good_loop": "a loop over one compiled step",
        "scan": "a loop over one compiled run",
        "vmap": "jax.vmap over all",
        "sweep": "momentax.sweep",
    }
    head = "| network | settings | " + " | ".join(ways.values()) + " |"
    rows = [head, "|---|---:|" + "---:|" * len(ways)]
    for result in results:
        seconds = " | ".join(f"{result['cold'][way]:.3g} s" for way in ways)
        rows.append(f"| {result['network']} | {result['settings']} | {seconds} |")
    return "\n".join(rows) + "\n"
