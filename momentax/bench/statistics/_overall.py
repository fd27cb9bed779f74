"""Speed-ups over all tasks: their geometric mean, and how it rests on each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_real, as_reals, describe
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import as_speed_ups, as_table, methods_of
from momentax.bench.statistics._reference_curve import ReferenceCurve

_ROUNDING = 1e-12  # The relative size below which speed-ups differ by rounding.


class SpeedUps(NamedTuple):
    """The speed-up of each method on each task.

    methods: their names, in the order of the rows.
    tasks: their names, in the order of the columns.
    values: the speed-ups, float64, shape (methods, tasks); NaN where a method has no rank.
    beyond: of each, 1 or -1 where it was clipped from above or from below, and otherwise 0.
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    values: Reals
    beyond: np.ndarray


class GeometricMean(NamedTuple):
    """The geometric mean of the speed-ups of each method.

    value: the mean, float64; NaN for a method without a rank on any task.
    tasks: the number of tasks that it is taken over.
    """

    value: Any
    tasks: Any


class LeaveOneOut(NamedTuple):
    """The geometric means of the speed-ups with one task left out.

    means: float64, shape (methods, tasks), each without the task of the column.
    low: the smallest mean of each method.
    high: the largest mean of each method.
    order_changes: of each task, whether two methods change places without it.
    """

    means: Reals
    low: Reals
    high: Reals
    order_changes: np.ndarray


def speed_ups(
    scores: Mapping[str, Mapping[str, ArrayLike]], curves: Mapping[str, ReferenceCurve]
) -> SpeedUps:
    """Convert the mean score of each method on each task into a speed-up.

        S = f⁻¹(mean of the scores over the seeds) / N₀

    A speed-up that was clipped is a bound, and so is each mean that it is a part of.

    Args:
        scores: The scores of each method on each task, one for each evaluation seed.
        curves: The reference curve of each task; those of other tasks are not read.

    Returns:
        The speed-ups, with methods and tasks in the order in which they first occur.

    Raises:
        ValueError: A task has no reference curve, methods of a task have different numbers of
            seeds, or a score is not finite.
        TypeError: scores is not a table of scores, or a curve is not a `ReferenceCurve`.

    Example:
        >>> curve = momentax.bench.statistics.ReferenceCurve([0.25, 1, 4], [-1.0, -2.0, -3.0])
        >>> scores = {"ridge": {"nesterov": [-2.1, -1.9], "adam": [-2.4, -2.6]}}
        >>> momentax.bench.statistics.speed_ups(scores, {"ridge": curve}).values
        array([[1.],
               [2.]])
    """
    table = as_table("scores", scores)
    curves = as_curves(curves, table)
    methods = methods_of(table)
    values = np.full((len(methods), len(table)), np.nan)
    beyond = np.zeros(values.shape, int)
    for column, (task, cells) in enumerate(table.items()):
        for method, row in cells.items():
            at = methods.index(method), column
            mean = row.mean()
            values[at], beyond[at] = curves[task].speed_up(mean), curves[task].beyond(mean)
    return SpeedUps(methods, tuple(table), values, beyond)


def as_curves(curves: Any, tasks: Mapping[str, Any]) -> dict[str, ReferenceCurve]:
    """Return the reference curve of each of some tasks."""
    if not isinstance(curves, Mapping):
        raise TypeError(f"curves must map each task to its ReferenceCurve, got {describe(curves)}")
    for task in tasks:
        if task not in curves:
            raise ValueError(
                f"curves must have a ReferenceCurve for each task, but has no {task!r}"
            )
        if not isinstance(curves[task], ReferenceCurve):
            raise TypeError(
                f"curves[{task!r}] must be a ReferenceCurve, got {describe(curves[task])}"
            )
    return {task: curves[task] for task in tasks}


def geometric_mean(speed_ups: ArrayLike) -> GeometricMean:
    """Average speed-ups over the tasks, on the log scale.

        G = exp(mean over tasks of log S)

    Tasks on which a method has no rank are left out of its mean. A mean over fewer tasks cannot
    be compared with one over all, so print the number of tasks beside it.

    Args:
        speed_ups: S in (0, inf), or NaN where there is no rank; shape (..., tasks).

    Returns:
        G and the number of tasks that it is taken over, each of shape (...).

    Raises:
        ValueError: A speed-up is not positive, or there is none.

    Example:
        >>> momentax.bench.statistics.geometric_mean([[1.0, 4.0], [2.0, np.nan]]).value
        array([2., 2.])
    """
    S = as_speed_ups("speed_ups", speed_ups)
    has_rank = ~np.isnan(S)
    tasks = has_rank.sum(-1)
    total = np.where(has_rank, np.log(np.where(has_rank, S, 1)), 0).sum(-1)
    return GeometricMean(np.where(tasks, np.exp(total / np.maximum(tasks, 1)), np.nan)[()], tasks)


def leave_one_out(speed_ups: ArrayLike) -> LeaveOneOut:
    """Compute the geometric means of the speed-ups with each task left out in turn.

    A conclusion that rests on one task changes with it: the order of two methods then differs from
    the one over all tasks. Methods whose means differ by rounding only are in no order.

    Args:
        speed_ups: S in (0, inf), or NaN where there is no rank; shape (methods, tasks), with at
            least 2 tasks.

    Returns:
        The means without each task, the range of each method, and whether the order changes.

    Raises:
        ValueError: speed_ups has another shape, or one is not positive.

    Example:
        >>> found = momentax.bench.statistics.leave_one_out([[1.0, 1.0, 4.0], [1.2, 1.2, 1.2]])
        >>> found.low, found.order_changes
        (array([1. , 1.2]), array([False, False,  True]))
    """
    S = as_speed_ups("speed_ups", speed_ups, ("methods", "tasks"))
    if S.shape[1] < 2:
        raise ValueError(f"speed_ups must hold at least 2 tasks to leave one out, got {S.shape[1]}")
    columns = np.arange(S.shape[1])
    means = np.stack([geometric_mean(S[:, columns != t]).value for t in columns], axis=1)
    order = _order(geometric_mean(S).value)
    changes = np.array([np.any(order * _order(mean) < 0) for mean in means.T])
    low, high = (limit.reduce(means, axis=1) for limit in (np.fmin, np.fmax))
    return LeaveOneOut(means, low, high, changes)


def _order(means: Reals) -> Reals:
    """Return 1 or -1 for each pair of methods, by which is the faster, and 0 for no order."""
    with np.errstate(invalid="ignore"):
        difference = np.subtract.outer(np.log(means), np.log(means))
    return np.where(np.abs(difference) > _ROUNDING, np.sign(difference), 0)


def _ratios_to_best(speed_ups: ArrayLike) -> Reals:
    """Return max S / S of each task, infinite for a method without a rank there.

    Tasks without any rank are left out.
    """
    S = as_speed_ups("speed_ups", speed_ups, ("methods", "tasks"))
    S = S[:, ~np.all(np.isnan(S), axis=0)]
    if not S.size:
        raise ValueError("speed_ups must have a rank of at least one method on at least one task")
    ratios = np.fmax.reduce(S, axis=0) / S
    return np.where(np.isnan(ratios), np.inf, ratios)


def performance_profile(speed_ups: ArrayLike, ratios: ArrayLike) -> Reals:
    """Compute the share of the tasks on which a method is within a ratio of the fastest.

        r_{m,t} = max over m' of S_{m',t} / S_{m,t}
        ρ_m(τ) = #{t : r_{m,t} ≤ τ} / tasks

    A task on which a method has no rank is within no ratio, so that it cannot gain by missing
    results. Tasks on which no method has a rank do not count.

    Args:
        speed_ups: S in (0, inf), or NaN where there is no rank; shape (methods, tasks).
        ratios: τ in [1, inf), of any shape.

    Returns:
        ρ in [0, 1], float64, of shape (methods, *ratios.shape).

    Raises:
        ValueError: speed_ups has another shape, or a number lies outside its interval.

    Example:
        >>> momentax.bench.statistics.performance_profile([[1.0, 2.0], [2.0, 1.0]], [1, 1.5, 2])
        array([[0.5, 0.5, 1. ],
               [0.5, 0.5, 1. ]])

    Source:
        Dolan and Moré, Benchmarking optimization software with performance profiles, Mathematical
        Programming, 2002.
    """
    r, τ = _ratios_to_best(speed_ups), as_reals("ratios", ratios, "[1, inf)")
    within = r.reshape(*r.shape, *[1] * τ.ndim) <= τ * (1 + _ROUNDING)
    return within.mean(axis=1)


def profile_area(speed_ups: ArrayLike, largest_ratio: float = 4.0) -> Reals:
    """Compute the mean height of the performance profile of each method, exactly.

        B_m = 1 / (T - 1) ∫₁ᵀ ρ_m(τ) dτ = mean over tasks of max(0, T - r_{m,t}) / (T - 1)

    Args:
        speed_ups: S in (0, inf), or NaN where there is no rank; shape (methods, tasks).
        largest_ratio: T in (1, inf), the largest ratio that counts.

    Returns:
        B in [0, 1], float64, of shape (methods,).

    Raises:
        ValueError: speed_ups has another shape, or a number lies outside its interval.

    Example:
        >>> momentax.bench.statistics.profile_area([[1.0, 2.0], [2.0, 1.0]]).round(4)
        array([0.8333, 0.8333])

    Source:
        Dahl et al., Benchmarking neural network training algorithms, 2023, arXiv:2306.07179.
    """
    T = as_real("largest_ratio", largest_ratio, "(1, inf)")
    return np.maximum(0, T - _ratios_to_best(speed_ups)).mean(axis=1) / (T - 1)
