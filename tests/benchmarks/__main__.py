"""Measure the cost of a step beside every installed peer: `python -m tests.benchmarks`.

Without arguments it measures what the bars need (bars.py), with names of suites these suites, and
with `all` everything. Contestants run side by side in one process, one round after the other. A
ratio is taken within a round. The result is its median over the rounds, and then over fresh
processes. --output writes the results to a file (record.py) and keeps those that were measured
before on the same machine with the same versions and not again now.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import record
from tests.benchmarks.bars import BARS
from tests.benchmarks.limit import cores
from tests.benchmarks.suites import IMPORTS, MEMORY, PROCESSES, SUITES

ROOT = Path(__file__).parents[2]
LIBRARIES = ["momentax", "jax", "jaxlib", "optax", "torch", "keras", "bitsandbytes", "lion-pytorch"]


def measure_in_fresh_process(request: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements of tests.benchmarks.measure in a fresh process."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    # Otherwise PyTorch's threads spin after its step and keep the cores from the next contestant.
    environment |= {"OMP_WAIT_POLICY": "passive", "KERAS_BACKEND": "jax"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "result.json")
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.measure",
            json.dumps(request),
            str(output),
        ]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"measuring failed:\n{done.stderr}")
        return json.loads(output.read_text(encoding="utf-8"))


def describe_machine() -> dict[str, Any]:
    """Return the machine and the versions of the libraries."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    code = "import jax; d = jax.devices()[0]; print(d.platform); print(d.device_kind)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kind, device = done.stdout.split("\n")[:2]
    processor = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return {
        "platform": kind,
        "device": device,
        "processor": processor,
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }


def ratio(process: dict[str, Any], of: str, over: str, figure: str = "seconds") -> float | None:
    """Return one contestant's time over another's: the median over the rounds that both ran.

    If they ran in different groups, they are compared through a contestant that ran in both.
    Another figure than "seconds" is a fact of both contestants.
    """
    if figure != "seconds":
        known = [process["facts"].get(name, {}).get(figure) for name in (of, over)]
        return None if None in known else known[0] / known[1]
    if of in process["facts"] and over in process["facts"].get(of, {}):
        return process["facts"][of][over]
    for times in process["groups"]:
        if of in times and over in times:
            pairs = zip(times[of], times[over], strict=False)
            return statistics.median(a / b for a, b in pairs)
    for bridge in process["groups"][0]:
        if all(any(bridge in g and name in g for g in process["groups"]) for name in (of, over)):
            return ratio(process, of, bridge) / ratio(process, over, bridge)
    return None


def median_of_known(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(known) if known else None


def summarize(processes: list[dict[str, Any]], name: str, baseline: str) -> dict[str, Any]:
    """Return the medians over the processes of all figures of a contestant."""
    seconds = [
        statistics.median(times[name])
        for process in processes
        for times in process["groups"]
        if name in times
    ]
    to = [ratio(process, name, baseline) for process in processes]
    facts = {
        key: median_of_known([process["facts"].get(name, {}).get(key) for process in processes])
        for key in dict.fromkeys(key for p in processes for key in p["facts"].get(name, {}))
    }
    return {
        "seconds": median_of_known(seconds),
        "ratio": median_of_known(to),
        "ratio of each process": to,
        "ratio to C": median_of_known([ratio(process, name, "C") for process in processes]),
        **facts,
    }


def measure_suite(
    suite: str, workload: str, names: list[str], options: argparse.Namespace
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the table of a suite on a workload, and what each process measured."""
    spec = SUITES[suite]
    always = [spec.baseline, *(["C"] if spec.limit else [])]
    request = {
        "workload": workload,
        "names": names,
        "always": always,
        "rounds": options.rounds,
        "budget": options.budget,
        "quick": options.quick,
    }
    processes = [measure_in_fresh_process(request) for _ in range(options.processes)]
    left_out = processes[0]["left_out"]
    measured = [name for name in [*always, *names] if name not in left_out]
    table = {
        "suite": suite,
        "workload": workload,
        "about": spec.about,
        "parameters": processes[0]["parameters"],
        "leaves": processes[0]["leaves"],
        "processes": options.processes,
        "baseline": spec.baseline,
        "left out": left_out,
        "rows": {
            name: summarize(processes, name, spec.baseline) for name in dict.fromkeys(measured)
        },
    }
    return table, processes


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Return the peak memory of each contestant, each in its own process."""
    workload, rows, left_out = "1e8", {}, {}
    for name in MEMORY:
        got = measure_in_fresh_process({"workload": workload, "name": name, "quick": options.quick})
        if "left_out" in got:
            left_out[name] = got["left_out"]
        else:
            rows[name] = {"peak": got["peak"]}
    common = {"suite": "memory", "workload": workload, "about": PROCESSES["memory"]}
    return {**common, "processes": 1, "baseline": "", "left out": left_out, "rows": rows}


def measure_imports(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of whole processes that import one package each, side by side."""
    times: dict[str, list[float]] = {}
    left_out = {}
    for turn in range(1 if options.quick else 3 * options.processes + 1):
        for name, code in IMPORTS.items():
            begin = time.perf_counter()
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                left_out[name] = done.stderr.strip().splitlines()[-1]
            elif turn or options.quick:  # The first import may compile Python's files.
                times.setdefault(name, []).append(time.perf_counter() - begin)
    process = {"groups": [times], "facts": {}}
    rows = {name: summarize([process], name, "optax") for name in times}
    common = {"suite": "imports", "workload": "import", "about": PROCESSES["imports"]}
    runs = max(map(len, times.values()))
    return {**common, "processes": runs, "baseline": "optax", "left out": left_out, "rows": rows}


def judge_bars(measured: dict[tuple[str, str], list[dict[str, Any]]], on: str) -> list[Any]:
    """Return each bar that was measured: its target, the figure, and whether it is reached."""
    results = []
    for bar in BARS:
        processes = measured.get((bar.suite, bar.workload))
        if processes is None or bar.platform not in (None, on):
            continue
        each = [
            [ratio(process, of, bar.over, bar.figure) for process in processes] for of in bar.of
        ]
        medians = [median_of_known(values) for values in each]
        known = [value for value in medians if value is not None]
        result = {"bar": bar.name, "on": bar.workload, "target": bar.target}
        if len(known) < len(medians):
            missing = {name: why for p in processes for name, why in p["left_out"].items()}
            why = [missing[name] for name in (*bar.of, bar.over) if name in missing]
            results.append({**result, "measured": None, "reason": "; ".join(why)})
            continue
        figure = bar.worst(known)
        at = medians.index(figure)
        result |= {"measured": figure, "of each process": each[at], "reached": bar.reached(figure)}
        if len(bar.of) > 1:
            result["worst"] = bar.of[at]
        if not result["reached"]:
            result["reason"] = bar.reason
        results.append(result)
    return results


COLUMNS = {
    "seconds": ("ms", 1e3, ".3g"),
    "ratio": ("×", 1, ".2f"),
    "ratio to C": ("× C", 1, ".2f"),
    "compile seconds": ("compile s", 1, ".2g"),
    "state bytes": ("state", 1, ".3g"),
    "accessed": ("moved", 1, ".3g"),
    "temporary": ("temporary", 1, ".2g"),
    "copies": ("copies", 1, ".0f"),
    "peak": ("peak", 1, ".3g"),
}


def format_table(table: dict[str, Any]) -> str:
    """Return a table in Markdown; bytes are for each parameter."""
    size = f", {table['parameters']:.3g} parameters" if "parameters" in table else ""
    title = f"{table['about']}: {table['workload']}{size}; processes: {table['processes']}"
    if table["baseline"]:
        title += f"; × is to {table['baseline']}"
    rows = table["rows"]
    columns = [key for key in COLUMNS if any(r.get(key) is not None for r in rows.values())]
    lines = [f"\n{title}\n", "| | " + " | ".join(COLUMNS[key][0] for key in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name, cells in rows.items():
        texts = []
        for key in columns:
            _, scale, form = COLUMNS[key]
            texts.append("" if cells.get(key) is None else format(cells[key] * scale, form))
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    lines += [f"Left out: {name}, since {why}." for name, why in table["left out"].items()]
    return "\n".join(lines)


def format_bars(bars: list[dict[str, Any]]) -> str:
    lines = [
        "\nBars\n",
        "| | on | target | measured | of each process | |",
        "|---|---|---|---:|---|---|",
    ]
    for bar in bars:
        if bar["measured"] is None:
            lines.append(f"| {bar['bar']} | {bar['on']} | {bar['target']} | | | not measured |")
            continue
        each = " ".join(f"{value:.3g}" for value in bar["of each process"])
        verdict = "reached" if bar["reached"] else "not reached"
        figure = f"{bar['measured']:.3g}"
        worst = f", worst {bar['worst']}" if "worst" in bar else ""
        lines.append(
            f"| {bar['bar']}{worst} | {bar['on']} | {bar['target']} | {figure} | {each}"
            f" | {verdict} |"
        )
    lines += [f"{b['bar']}, {b['on']}: {b['reason']}" for b in bars if b.get("reason")]
    return "\n".join(lines)


def contestants_to_measure(options: argparse.Namespace) -> dict[tuple[str, str], list[str]]:
    """Return the contestants for each suite and workload that the options ask for."""
    chosen = [*SUITES, *PROCESSES] if "all" in options.suites else options.suites
    if not options.bars:
        return {
            (name, workload): SUITES[name].contestants
            for name in chosen
            if name in SUITES
            for workload in SUITES[name].workloads
            if options.workloads is None or workload in options.workloads
        }
    wanted: dict[tuple[str, str], list[str]] = {}
    for bar in BARS:
        if (not chosen or bar.suite in chosen) and (
            options.workloads is None or bar.workload in options.workloads
        ):
            names = wanted.setdefault((bar.suite, bar.workload), [])
            known = SUITES[bar.suite].contestants
            names += [each for each in (*bar.of, bar.over) if each in known and each not in names]
    return wanted


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", choices=[*SUITES, *PROCESSES, "all", []], default=[])
    parser.add_argument("--bars", action="store_true", help="only the contestants that bars name")
    parser.add_argument("--workloads", nargs="+", help="only these workloads of each suite")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--budget", type=float, default=6.0, help="seconds for a contestant, after three rounds"
    )
    parser.add_argument("--quick", action="store_true", help="small and once, to test that it runs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    options.bars |= not options.suites
    if options.quick:
        options.processes, options.rounds = 1, 2
    result: dict[str, Any] = {"about": describe_machine(), "tables": [], "bars": []}
    print(json.dumps(result["about"]))

    def finish(table: dict[str, Any]) -> None:
        result["tables"].append(table)
        print(format_table(table), flush=True)
        if options.output:
            record.merge(options.output, result)

    processes = {}
    for (suite, workload), names in contestants_to_measure(options).items():
        table, processes[suite, workload] = measure_suite(suite, workload, names, options)
        result["bars"] = judge_bars(processes, result["about"]["platform"])
        finish(table)
    for name, measure in {"memory": measure_memory, "imports": measure_imports}.items():
        if name in options.suites or "all" in options.suites:
            finish(measure(options))
    if result["bars"]:
        print(format_bars(result["bars"]))


if __name__ == "__main__":
    main()
