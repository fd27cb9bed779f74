"""The reference that comes with momentax: what tuned Nesterov reaches, and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from momentax._core import arguments
from momentax.bench import _files
from momentax.bench.statistics import ReferenceCurve


class Target(NamedTuple):
    """The score that a strong method reaches on a task.

    A fixed rule makes it: Adam, NAdam, Nesterov's momentum and heavy ball are tuned with 64 trials
    each, and the best of them is evaluated on seeds that the recorded results do not use.

    score: the median of y of that method over 20 seeds.
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
            line = lines[task]
            curves[task] = ReferenceCurve(line["horizons"], line["scores"], steps=steps_of(task))
    return curves, faults


def target(task: str) -> Target:
    """Return the target of a task: the score that the best of four tuned methods reaches.

    Args:
        task: The name of a task of `momentax.bench.tasks`, such as "ridge".

    Returns:
        The score y that the best of four methods reaches with 64 trials, its standard deviation
        over seeds, and the name of that method.

    Raises:
        ValueError: This version of momentax has no target of the task.
        TypeError: task is not a name.

    Example:
        >>> momentax.bench.target("ridge").method
        'heavy_ball'
    """
    task = arguments.as_text("task", task, "'ridge'")
    line = _lines().get(task, {})
    if "target" not in line:
        known = ", ".join(repr(name) for name, each in _lines().items() if "target" in each)
        raise ValueError(
            f"momentax has no target of the task {task!r}; "
            + (f"it has those of {known}" if known else "this version has no recorded targets yet")
        )
    return Target(line["target"], line["sigma"], line["target method"])


def target_of(task: str, hash_: str) -> Target:
    """Return the target of a task if it is of the same version, by its hash."""
    found = target(task)
    if _lines()[task]["hash"] != hash_:
        raise ValueError(f"the target of the task {task!r} is of another version of the task")
    return found


def steps_of(task: str) -> int:
    """Return the steps of a task that has a reference."""
    horizons = _lines()[task]["horizons"]
    return horizons[len(horizons) // 2]


def _lines() -> dict[str, dict[str, Any]]:
    try:
        return _files.recorded("reference")["tasks"]
    except FileNotFoundError:
        return {}
