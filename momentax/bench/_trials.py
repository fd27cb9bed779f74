"""What the trials of a method say: fewer trials, the settings that are good, one for all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from momentax._core import arguments
from momentax._core.typing import Reals
from momentax.bench import statistics
from momentax.bench._entry import names_at_edge, trials_of
from momentax.bench._protocol import Cell
from momentax.bench._reference import reference_curves
from momentax.bench._space import Space
from momentax.bench.statistics import ExpectedBest, Interval, RateWidth, ReferenceCurve, Share
from momentax.bench.statistics._bootstrap import Tuning, as_tuning
from momentax.bench.statistics._shares import wilson

SHARES = (0.9, 0.7)  # Of the best speed-up, above which a setting is called good.
_RATES = ("effective_rate", "learning_rate")


class Region(NamedTuple):
    """The part of a search space where a method is nearly as fast as at its best.

    share: its share of the space with a Wilson interval, a `statistics.Share`.
    trials: how many random trials are needed so that at least one lies there with probability 0.9;
        infinite if none of the trials did.
    """

    share: Share
    trials: float


class Sensitivity(NamedTuple):
    """How much the speed-up of a method on a task depends on its hyperparameters.

    Each array has one entry for each trial; trial 0 is the default. The speed-ups are those of the
    tuning seed: one run each.

    task: the name of the task.
    method: the name of the method.
    hyperparameters: an array for each.
    scores: y of each trial.
    speed_ups: S of each trial.
    beyond: 1 or -1 where S was clipped at 4 or at 1/4, and otherwise 0.
    regions: by 0.9 and 0.7, the `Region` where the speed-up is at least that share of the best one.
        The default does not count as one of its points, since it was not drawn at random.
    rate: the name of the rate that was searched, "effective_rate" or "learning_rate"; None if there
        was none on a log scale.
    width: the `statistics.RateWidth`, in decades of this rate, at 0.7 of the best speed-up; None
        without a rate.
    """

    task: str
    method: str
    hyperparameters: Mapping[str, Reals]
    scores: Reals
    speed_ups: Reals
    beyond: np.ndarray
    regions: Mapping[float, Region]
    rate: str | None
    width: RateWidth | None


class SingleSetting(NamedTuple):
    """The one setting of a method that is best over all tasks at once.

    trial: its number; trial 0 is the default.
    hyperparameters: those of the trial.
    mean: its geometric mean of S over the tasks. Only the chosen trial of each task was evaluated.
        The score of another trial is estimated: its tuning score, plus the difference between
        evaluation and tuning of the chosen trial. The setting is the one with the largest mean of
        all trials, so that this mean is optimistic beside `tuned`.
    tuned: the mean if the setting is chosen anew for each task, as in the table. It rests on
        evaluation seeds alone.
    default: the mean of the default.
    tasks: the tasks that all three are taken over, those on which the method has a rank.
    speed_ups: S of the setting on each of these tasks.
    regions: by 0.9 and 0.7, the `Region` of the settings whose speed-up is at least that share of
        the best one on every one of these tasks.
    edge: the hyperparameters that lie within 5 % of an end of their range.
    """

    trial: int
    hyperparameters: Mapping[str, float]
    mean: float
    tuned: float
    default: float
    tasks: tuple[str, ...]
    speed_ups: Reals
    regions: Mapping[float, Region]
    edge: list[str]


def cell_of(result: Any, task: Any, method: Any) -> Cell:
    """Return a cell of a result, of type Result."""
    task = arguments.as_option("task", task, result.tasks)
    method = arguments.as_option("method", method, result.methods)
    if (task, method) not in result.cells:
        raise ValueError(f"the result has no runs of the method {method!r} on the task {task!r}")
    return result.cells[task, method]


def expected_best(
    result: Any,
    task: str,
    method: str,
    counts: Any,
    replacement: bool,
    resamples: int = 10_000,
) -> ExpectedBest:
    """Return the expected score of the best of k trials, corrected for selection."""
    cell = cell_of(result, task, method)
    n = len(cell.tuning)
    k = np.arange(1, n + 1) if counts is None else _as_counts(counts, n)
    replacement = arguments.as_flag("replacement", replacement)
    # One trial is not selected, so that all tuning scores count for it.
    plain, corrected = (
        statistics.expected_best(cell.tuning, k, scores, replacement, resamples=resamples)
        for scores in (None, cell.again)
    )
    alone = k == 1
    mean, missing, low, high = (
        np.where(alone, one, two)[()]
        for one, two in zip(_flat(plain), _flat(corrected), strict=True)
    )
    return ExpectedBest(mean, missing, Interval(low, high))


def _flat(found: ExpectedBest) -> tuple[Any, ...]:
    return found.mean, found.missing, *found.band


def _as_counts(counts: Any, n: int) -> Reals:
    k = arguments.as_reals("counts", counts, "[1, inf)", "whole numbers")
    if np.any(k != np.round(k)) or np.any(k > n):
        wrong = arguments.describe(counts)
        raise ValueError(f"counts must be whole numbers from 1 to {n} trials, got {wrong}")
    return k


def trials_to_match(result: Any, task: str, method: str, control: Any) -> int | None:
    """Return after how many trials a method is as good as the tuned control."""
    cell_of(result, task, method)
    control = result._as_control(control)
    if cell_of(result, task, control).edge:
        raise ValueError(
            f"control {control!r} has no rank on the task {task!r}: its best setting lies at an "
            "end of its search range, so that it is not tuned"
        )
    n = len(result.cells[task, control].tuning)
    # The bands are not read, so that they may be rough.
    target = expected_best(result, task, control, n, False, resamples=100).mean
    means = expected_best(result, task, method, None, False, resamples=100).mean
    reached = np.flatnonzero(means <= target)
    return int(reached[0]) + 1 if len(reached) else None


def sensitivity(result: Any, task: str, method: str) -> Sensitivity:
    """Return how the speed-up of a method on a task depends on its hyperparameters."""
    cell = cell_of(result, task, method)
    values = hyperparameters_of(result, method, len(cell.tuning))
    curve = _curve_of(result, task)
    S = curve.speed_up(cell.tuning)
    regions = {share: _region(S[None], share) for share in SHARES}
    rate, width = _width(result.spaces[method], values, S)
    return Sensitivity(
        task, method, values, cell.tuning, S, curve.beyond(cell.tuning), regions, rate, width
    )


def _curve_of(result: Any, task: str) -> ReferenceCurve:
    curves, faults = reference_curves({task: result.hashes[task]})
    if task not in curves:
        raise ValueError(f"there are no speed-ups on the task {task!r}: {faults[0]}")
    return curves[task]


def _region(S: Reals, share: float) -> Region:
    """Return the region of speed-ups of shape (tasks, trials) that are good on every task."""
    least = share * S.max(axis=1, keepdims=True)
    is_good = np.all(least <= S, axis=0)
    found = wilson(is_good[1:], 0.95)
    return Region(found, float(statistics.trials_to_hit(found.value, 0.9)))


def _width(
    space: Space, values: Mapping[str, Reals], S: Reals
) -> tuple[str | None, RateWidth | None]:
    rate = next((name for name in _RATES if name in space.ranges), None)
    if rate is None or space.ranges[rate].scale != "log":
        return None, None
    limits = space.ranges[rate].low, space.ranges[rate].high
    return rate, statistics.rate_width(values[rate], S, limits, share=SHARES[1])


def hyperparameters_of(result: Any, method: str, count: int) -> dict[str, Reals]:
    """Return the hyperparameters of the first trials of a method, the same on all tasks."""
    if method not in result.spaces:
        raise ValueError(
            f"the hyperparameters of the trials are unknown: the result does not have the search "
            f"space of {method!r}, or joins results that searched different ones"
        )
    cells = {task: cell for (task, name), cell in result.cells.items() if name == method}
    space, default, values = result.spaces[method]
    if values is None:  # It is no result of a file, so that its trials were made as here.
        values = trials_of(space, default, max(len(cell.tuning) for cell in cells.values()))
    for task, cell in cells.items():
        if not _are_trials_of(cell, values):
            raise ValueError(
                f"the hyperparameters of the trials are unknown: the chosen trial {cell.chosen} of "
                f"{method!r} on {task!r} has others in spaces than in its cell"
            )
    return {name: column[:count] for name, column in values.items()}


def _are_trials_of(cell: Cell, values: Mapping[str, Reals]) -> bool:
    """Return whether the chosen trial of a cell has its values, up to the rounding of files."""
    return values.keys() == cell.hyperparameters.keys() and all(
        cell.chosen < len(column)
        and np.isclose(column[cell.chosen], cell.hyperparameters[name], rtol=1e-4, atol=0)
        for name, column in values.items()
    )


def best_single_setting(result: Any, method: str) -> SingleSetting:
    """Return the setting of a method that is best over all tasks at once."""
    method = arguments.as_option("method", method, result.methods)
    curves, faults = result._reference
    cells = {
        task: cell
        for (task, name), cell in result.cells.items()
        if name == method and task in curves and not cell.edge
    }
    if not cells:
        reasons = f": {'; '.join(faults)}" if faults else ""
        raise ValueError(f"{method!r} has no rank on a task with a reference curve{reasons}")
    n = min(len(cell.tuning) for cell in cells.values())
    values = hyperparameters_of(result, method, n)
    S = np.stack([_evaluated(curves[task], cell)[:n] for task, cell in cells.items()])
    tuning = np.stack([curves[task].speed_up(cell.tuning[:n]) for task, cell in cells.items()])
    means = statistics.geometric_mean(S.T).value
    trial = int(np.argmax(means))
    point = {name: float(column[trial]) for name, column in values.items()}
    tuned = [curves[task].speed_up(np.mean(cell.evaluation)) for task, cell in cells.items()]
    return SingleSetting(
        trial,
        point,
        float(means[trial]),
        float(statistics.geometric_mean(tuned).value),
        float(means[0]),
        tuple(cells),
        S[:, trial],
        {share: _region(tuning, share) for share in SHARES},
        names_at_edge(result.spaces[method], point),
    )


def _evaluated(curve: ReferenceCurve, cell: Cell) -> Reals:
    """Return the speed-up of each trial, as far as it is known, on the evaluation seeds.

    It is the same estimate that `statistics.bootstrap_trials` makes of the trials.
    """
    second, evaluation = as_tuning("tuning", Tuning(cell.tuning, cell.finals, cell.evaluation))
    return curve.speed_up(second + evaluation - second[cell.chosen])
