"""What the evaluation runs of a method say: targets that it reaches, and runs that are stuck."""

from __future__ import annotations

from typing import Any

import numpy as np

from momentax._core import arguments
from momentax.bench import statistics
from momentax.bench._reference import steps_of, target_of
from momentax.bench._tasks import tasks
from momentax.bench._trials import cell_of
from momentax.bench.statistics import Stuck

# Losses above which a run is stuck, by task. On curves_ae the smallest loss of an output that is
# the same for all images is 58.28. Runs that never leave this plateau end within 0.1 of it.
PLATEAUS = {"curves_ae": 57.0}


def passes(result: Any, task: str, method: str) -> bool:
    """Return whether a method passes the target of a task."""
    cell = cell_of(result, task, method)
    target = target_of(task, result.hashes[task])
    return statistics.passes(cell.evaluation, target.score, target.sigma)


def steps_to_target(result: Any, task: str, method: str) -> int | None:
    """Return the step of the first checkpoint at which a method passes the target of a task."""
    cell = cell_of(result, task, method)
    target = target_of(task, result.hashes[task])
    last = max(1, round(steps_of(task) * result.protocol.length))
    steps = np.rint(np.linspace(0, last, len(cell.checkpoints)))
    # Rows repeat if there are fewer steps than checkpoints. The first is the initial point.
    steps, first = np.unique(steps, return_index=True)
    means = cell.checkpoints[first]
    seeds = len(cell.evaluation)
    return statistics.steps_to_target(
        means[1:], steps[1:], seeds, target=target.score, sigma=target.sigma
    )


def stuck(result: Any, task: str, method: str, plateau: float | None) -> Stuck:
    """Return the share of the runs of a method that stayed on a plateau of a task."""
    cell = cell_of(result, task, method)
    if plateau is not None:
        level = arguments.as_real("plateau", plateau, "(-inf, inf)")
    elif task in PLATEAUS:
        level = float(tasks[task].measure(PLATEAUS[task]))
    else:
        known = ", ".join(map(repr, PLATEAUS))
        raise ValueError(
            f"plateau must be given for the task {task!r}; momentax knows that of {known} only"
        )
    start = float(cell.checkpoints[0])
    if level >= start:
        raise ValueError(
            f"plateau must be a score y, the logarithm of a loss, below that of the start, "
            f"{start:.4g}, got {level:.4g}; momentax.bench.tasks[task].measure converts a loss"
        )
    return statistics.stuck_share(cell.evaluation, level)
