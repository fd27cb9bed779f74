"""The reference that comes with momentax: what tuned Nesterov reaches, and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from momentax._core import arguments
from momentax.bench import _files
from momentax.bench.statistics import ReferenceCurve


class Target(NamedTuple):
    """The score that a strong method reaches on a task, fixed before the first table was made.

    score: the median of y over 20 seeds of the best of four methods, with 200 trials each.
    sigma: their standard deviation, estimated robustly.
    method: the name of that method.
    """

    score: float
    sigma: float
    method: str


def reference_curves(hashes: Mapping[str, str]) -> tuple[dict[str, ReferenceCurve], list[str]]:
    """Return the reference curve of each task that has one, and why others have none.

    Args:
        hashes: The hash of each task, as its runs were made.
    """
    lines = _lines()
    curves, faults = {}, []
    for task, each in hashes.items():
        if task not in lines:
            faults.append(f"momentax has no reference curve of {task}")
        elif lines[task]["hash"] != each:
            faults.append(f"the reference curve of {task} is of another version of the task")
        else:
            horizons = lines[task]["horizons"]
            steps = horizons[len(horizons) // 2]
            curves[task] = ReferenceCurve(horizons, lines[task]["scores"], steps=steps)
    return curves, faults


def target(task: str) -> Target:
    """Return the target of a task.

    Args:
        task: The name of the task.

    Raises:
        ValueError: There is no target of the task.
        TypeError: task is not a name.
    """
    task = arguments.as_text("task", task, "'ridge'")
    line = _lines().get(task, {})
    if "target" not in line:
        raise ValueError(f"momentax has no target of the task {task!r}")
    return Target(line["target"], line["sigma"], line["target method"])


def _lines() -> dict[str, dict[str, Any]]:
    try:
        return _files.recorded("reference")["tasks"]
    except FileNotFoundError:
        return {}
