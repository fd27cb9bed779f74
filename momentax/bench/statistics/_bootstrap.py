"""How much the speed-ups would vary with other seeds, and with other trials of the tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_real, describe
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import (
    as_nested,
    as_reals_or_nan,
    as_scores,
    as_seed,
    as_table,
    methods_of,
)
from momentax.bench.statistics._overall import as_curves
from momentax.bench.statistics._paired import Interval
from momentax.bench.statistics._reference_curve import ReferenceCurve


class Tuning(NamedTuple):
    """How the setting of a method was chosen on a task.

    values: the score of each trial on the first tuning seed, shape (trials,).
    finals: the mean score over all tuning seeds of each trial that reached the second stage, and
        NaN for the others, shape (trials,); None if the choice had one stage.
    evaluation: the scores of the chosen trial on the evaluation seeds, shape (seeds,).
    """

    values: ArrayLike
    finals: ArrayLike | None
    evaluation: ArrayLike


def bootstrap_seeds(
    scores: Mapping[str, Mapping[str, ArrayLike]],
    curves: Mapping[str, ReferenceCurve],
    resamples: int = 10_000,
    seed: int = 0,
) -> Reals:
    """Resample the evaluation seeds of each task, and compute the speed-ups anew.

    The seeds of a task are drawn with replacement, the same for all of its methods, and
    independently for each task. The tasks and the reference curves are not resampled: a claim is
    about these tasks. `geometric_mean` of the result gives resamples of the overall speed-up, and
    `bootstrap_interval` of those its interval. `bootstrap_trials` shows the other source of luck.

    Args:
        scores: The scores of each method on each task, one for each evaluation seed.
        curves: The reference curve of each task.
        resamples: The number of resamples, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        Speed-ups, float64, of shape (resamples, methods, tasks), in the order of `speed_ups`, and
        NaN where a method has no rank.

    Raises:
        ValueError: A task has no reference curve, methods of a task have different numbers of
            seeds, or a score is not finite.
        TypeError: scores is not a table of scores, or a curve is not a `ReferenceCurve`.

    Example:
        >>> curve = momentax.bench.statistics.ReferenceCurve([0.25, 1, 4], [-1.0, -2.0, -3.0])
        >>> scores = {"ridge": {"nesterov": [-2.1, -1.9, -2.0], "adam": [-2.4, -2.6, -2.5]}}
        >>> S = momentax.bench.statistics.bootstrap_seeds(scores, {"ridge": curve})
        >>> S.shape
        (10000, 2, 1)
    """
    table = as_table("scores", scores)
    curves = as_curves(curves, table)
    resamples, seed = as_count("resamples", resamples, least=100), as_seed(seed)
    methods = methods_of(table)
    found = np.full((resamples, len(methods), len(table)), np.nan)
    for column, (task, cells) in enumerate(table.items()):
        rows = [methods.index(method) for method in cells]
        y = np.stack([*cells.values()])
        n = y.shape[1]
        rng = np.random.default_rng([seed, column])
        counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
        found[:, rows, column] = curves[task].speed_up(counts @ y.T / n)
    return found


def bootstrap_trials(
    tuning: Mapping[str, Mapping[str, Tuning]],
    curves: Mapping[str, ReferenceCurve],
    resamples: int = 10_000,
    seed: int = 0,
) -> Reals:
    """Resample the trials of the tuning, repeat the choice, and compute the speed-ups anew.

        sᵢ = fᵢ, or vᵢ + mean(f - v) over the finalists
        eᵢ = sᵢ + (mean evaluation - s) of the chosen trial

    Here v are the values and f the finals of a `Tuning`; only the finalists have an f. Trials are
    drawn with replacement, the same for all methods and tasks that have as many. Of the trials that
    were drawn, those with the lowest values enter the second stage, as many as really did, and the
    lowest sᵢ wins there. Its evaluation eᵢ is that of the trial that was really chosen, shifted by
    the difference between their sᵢ, since only the chosen trial was evaluated. The trials as they
    are give the real choice and its evaluation. With one stage, sᵢ = vᵢ.

    The result shows how much depends on the luck of the tuning: its scores vary with the choice
    alone, while those of `bootstrap_seeds` vary with the evaluation alone. Report both widths.

    Args:
        tuning: The `Tuning` of each method on each task.
        curves: The reference curve of each task.
        resamples: The number of resamples, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        Speed-ups, float64, of shape (resamples, methods, tasks), with methods and tasks in the
        order in which they first occur, and NaN where a method has no rank.

    Raises:
        ValueError: A task has no reference curve, or the arrays of a tuning do not fit together.
        TypeError: tuning does not map tasks to methods and those to a `Tuning`.

    Example:
        >>> statistics = momentax.bench.statistics
        >>> curve = statistics.ReferenceCurve([0.25, 1, 4], [-1.0, -2.0, -3.0])
        >>> adam = statistics.Tuning([-2.9, -2.5, -1.0], [-2.4, -2.5, np.nan], [-2.4, -2.2])
        >>> S = momentax.bench.statistics.bootstrap_trials(
        ...     {"ridge": {"adam": adam}}, {"ridge": curve}
        ... )
        >>> S.shape
        (10000, 1, 1)
    """
    cells = as_nested("tuning", tuning, "a Tuning")
    curves = as_curves(curves, cells)
    resamples, seed = as_count("resamples", resamples, least=100), as_seed(seed)
    methods = methods_of(cells)
    found = np.full((resamples, len(methods), len(cells)), np.nan)
    draws: dict[int, np.ndarray] = {}
    for column, task in enumerate(cells):
        for method, each in cells[task].items():
            name = f"tuning[{task!r}][{method!r}]"
            second, evaluation = as_tuning(name, each)
            n = len(second)
            if n not in draws:
                rng = np.random.default_rng([seed, n])
                draws[n] = rng.multinomial(n, np.full(n, 1 / n), resamples) > 0
            # The lowest second score always reaches the second stage: the finalists have the lowest
            # values, and the others keep the order of theirs, above the mean of the finalists.
            S = curves[task].speed_up(second + evaluation - second.min())
            winners = np.argmin(np.where(draws[n], second, np.inf), axis=1)
            found[:, methods.index(method), column] = S[winners]
    return found


def as_tuning(name: str, value: Any) -> tuple[Reals, float]:
    """Return the second score of each trial, and the mean evaluation of the chosen one.

    A trial that did not reach the second stage gets the second score that it would have if it
    changed as those that did on average.
    """
    if not isinstance(value, Tuning):
        raise TypeError(f"{name} must be a Tuning, got {describe(value)}")
    values = as_scores(f"{name}.values", value.values, "trial")
    evaluation = float(as_scores(f"{name}.evaluation", value.evaluation, least=1).mean())
    if value.finals is None:
        return values, evaluation
    finals = as_reals_or_nan(f"{name}.finals", value.finals)
    if finals.shape != values.shape:
        raise ValueError(
            f"{name}.finals must hold one number or NaN for each of {len(values)} trials, got "
            f"shape {finals.shape}"
        )
    reached = ~np.isnan(finals)
    if not reached.any() or np.max(values[reached]) > np.min(values[~reached], initial=np.inf):
        raise ValueError(
            f"{name}.finals must be known for the trials with the lowest values, at least one, and "
            f"NaN for all others, got {describe(finals)}"
        )
    second = values + np.mean(finals[reached] - values[reached])
    return np.where(reached, finals, second), evaluation


def bootstrap_interval(samples: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of percentiles of resamples, along the first axis.

        low, high = quantiles (1 - level) / 2 and (1 + level) / 2

    Args:
        samples: Real numbers in (-inf, inf), or NaN for a method without a rank; shape
            (resamples, ...) with at least 100 resamples.
        level: The level of confidence in (0, 1).

    Returns:
        The ends (low, high), each of shape (...).

    Raises:
        ValueError: samples has too few resamples, or level lies outside its interval.

    Example:
        >>> samples = np.linspace(0.0, 1.0, 1001)
        >>> low, high = momentax.bench.statistics.bootstrap_interval(samples, level=0.9)
        >>> round(float(low), 3), round(float(high), 3)
        (0.05, 0.95)
    """
    level = as_real("level", level, "(0, 1)")
    x = as_reals_or_nan("samples", samples)
    if x.ndim < 1 or len(x) < 100:
        raise ValueError(f"samples must hold at least 100 resamples, got shape {x.shape}")
    low, high = np.quantile(x, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high)
