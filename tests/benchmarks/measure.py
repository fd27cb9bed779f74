"""Compile the contestants of one process, run them side by side and time them.

As a program this is that process: it measures the contestants of one workload, or the peak memory
of one contestant, and writes the result as JSON.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tests.benchmarks.workloads import WORKLOADS, Arena


class Contestant(NamedTuple):
    """A contestant that is ready to run, with figures of its compiled program."""

    call: Callable[[], Any]  # Makes the next call and returns the arrays to wait for.
    facts: dict[str, float]  # Such as "compile seconds" and "state bytes".
    steps: int = 1  # Steps of the optimizer in a call.


Maker = Callable[[Arena], Contestant]


def bytes_of(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def compiled(step: Callable[..., Any], *given: Any, donate: tuple[int, ...] = ()) -> Any:
    """Compile a step and return it with the compiler's figures for each parameter."""
    begin = time.perf_counter()
    program = jax.jit(step, donate_argnums=donate, keep_unused=True).lower(*given).compile()
    seconds = time.perf_counter() - begin
    size = bytes_of(given[0]) / 4
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    largest = max((leaf.size for leaf in jax.tree.leaves(given[0])), default=1)
    # A copy inside of a fused computation only says in which order values are read.
    parts = [x for x in program.as_text().split("\n\n") if not x.lstrip().startswith("%fused")]
    copies = re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", "\n\n".join(parts))
    elements = [functools.reduce(lambda a, b: a * int(b), each.split(","), 1) for each in copies]
    facts = {
        "compile seconds": seconds,
        "accessed": cost.get("bytes accessed", float("nan")) / size,
        "temporary": memory.temp_size_in_bytes / size,
        "copies": sum(each >= largest for each in elements),
    }
    return program, facts


def stepping(arena: Any, step: Callable[..., Any], state: Any, donate: bool) -> Contestant:
    """Compile step(params, state, grads); each call continues from the last one."""
    donated = (0, 1) if donate else ()
    program, facts = compiled(step, arena.params, state, arena.grads, donate=donated)
    facts["state bytes"] = bytes_of(state) / arena.size
    kept = [state]
    del state  # Otherwise a state that is not donated would stay in memory.

    def call():
        arena.params, kept[0] = program(arena.params, kept[0], arena.grads)
        return arena.params, kept[0]

    return Contestant(call, facts)


def seconds_of(contestant: Contestant, calls: int) -> float:
    """Return the seconds of one step, from several calls in a row."""
    begin = time.perf_counter()
    for _ in range(calls):
        last = contestant.call()
    jax.block_until_ready(last)
    return (time.perf_counter() - begin) / (calls * contestant.steps)


def side_by_side(
    ready: Mapping[str, Contestant], rounds: int, least_seconds: float, budget: float
) -> dict[str, list[float]]:
    """Time all contestants in each round, every second round in the opposite order.

    A contestant runs for at least `least_seconds` in a round. After three rounds it stops when it
    has used `budget` seconds, since a slow contestant needs fewer rounds.
    """
    calls, spent = {}, dict.fromkeys(ready, 0.0)
    for name, contestant in ready.items():
        jax.block_until_ready(contestant.call())
        taken = seconds_of(contestant, 1) * contestant.steps
        calls[name] = max(1, math.ceil(least_seconds / max(taken, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(rounds):
        for name in list(ready)[:: -1 if turn % 2 else 1]:
            if turn < 3 or spent[name] < budget:
                begin = time.perf_counter()
                times[name].append(seconds_of(ready[name], calls[name]))
                spent[name] += time.perf_counter() - begin
    return times


def build(names: list[str], arena: Arena) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Build the contestants that can run here; return these, and the errors of the others."""
    from tests.benchmarks.contestants import CONTESTANTS

    ready, left_out = {}, {}
    for name in names:
        try:
            ready[name] = CONTESTANTS[name](arena)
        except Exception as error:  # The others still run.
            left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return ready, left_out


def shapes_of(workload: str, quick: bool) -> Any:
    return WORKLOADS[workload].quick if quick else WORKLOADS[workload].shapes


def table(
    workload: str, names: list[str], always: list[str], rounds: int, budget: float, quick: bool
) -> dict[str, Any]:
    """Time all contestants on a workload, in groups that fit in memory.

    The contestants in `always` run in each group, since ratios are taken within a round.
    """
    arena = Arena(shapes_of(workload, quick))
    size = WORKLOADS[workload].group
    others = [name for name in names if name not in always]
    result: dict[str, Any] = {"parameters": arena.size, "leaves": len(arena.shapes)}
    result |= {"groups": [], "facts": {}, "left_out": {}}
    for first in range(0, max(len(others), 1), size):
        ready, left_out = build([*always, *others[first : first + size]], arena)
        times = side_by_side(ready, rounds, 0.0 if quick else 0.02, budget)
        result["groups"].append(times)
        result["facts"] |= {name: contestant.facts for name, contestant in ready.items()}
        result["left_out"] |= left_out
        del ready
        gc.collect()
    return result


def resident(what: str) -> float:
    """Return the memory of this process in bytes: "VmRSS" now, "VmHWM" the peak so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * float(re.findall(rf"{what}:\s+(\d+) kB", status)[0])


def peak(workload: str, name: str, quick: bool) -> dict[str, Any]:
    """Return the bytes a parameter at the peak of a step: g, θ, state and everything else.

    The contestant first runs on few parameters, so that libraries and compilers do not count.
    """
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return {"left_out": "peaks are read from Linux's /proc"}
    for shapes in ([(8192,)], shapes_of(workload, quick)):
        before = resident("VmRSS")
        arena = Arena(shapes)
        ready, left_out = build([name], arena)
        if left_out:
            return {"left_out": left_out[name]}
        jax.block_until_ready(ready[name].call())
        reset.write_text("5")  # Resets the peak.
        for _ in range(3):
            jax.block_until_ready(ready[name].call())
    return {"peak": (resident("VmHWM") - before) / arena.size}


def main() -> None:
    """Run the request of the first argument (JSON) and write the result to the second, a path."""
    request, output = json.loads(sys.argv[1]), Path(sys.argv[2])
    warnings.simplefilter("ignore")
    result = (table if "names" in request else peak)(**request)
    output.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    # Contestants import this module by its name, and there must be one of each class.
    from tests.benchmarks import measure

    measure.main()
