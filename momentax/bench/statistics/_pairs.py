"""Which methods lead, and how all pairs of them compare."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_real
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import as_speed_ups
from momentax.bench.statistics._bootstrap import bootstrap_interval
from momentax.bench.statistics._overall import geometric_mean
from momentax.bench.statistics._paired import holm


class Pairs(NamedTuple):
    """The overall speed-up of each method relative to each other one.

    Each field has the shape (methods, methods). NaN stands where two methods have a rank on no
    common task.

    ratios: G of the method of the row over G of that of the column, over their common tasks.
    low: the lower end of the interval of the ratio.
    high: its upper end.
    adjusted: the p-value by Holm's method over all pairs; NaN on the diagonal.
    decided: whether the adjusted p is at most 1 - level and the interval excludes 1.
    """

    ratios: Reals
    low: Reals
    high: Reals
    adjusted: Reals
    decided: np.ndarray


def leading_group(means: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Find the methods that cannot be told from the fastest one.

        in the group: high_m ≥ max over m' of G_{m'}

    These are the methods whose interval contains the G of the leader. Print them as one group
    without an order.

    Args:
        means: G of each method in (0, inf), or NaN for one without a rank; shape (methods,).
        high: The upper end of the interval of each G, as `bootstrap_interval` returns it, in
            (0, inf) or NaN; shape (methods,).

    Returns:
        Of each method, whether it is in the group; the leader always is. bool, shape (methods,).

    Raises:
        ValueError: The arrays have different lengths, or a number is not positive.

    Example:
        >>> momentax.bench.statistics.leading_group([1.0, 1.3, 1.5], high=[1.1, 1.6, 1.7])
        array([False,  True,  True])
    """
    G = as_speed_ups("means", means, ("methods",))
    upper = as_speed_ups("high", high, ("methods",))
    if G.shape != upper.shape:
        raise ValueError(f"high must hold a number for each of {len(G)} means, got {len(upper)}")
    leader = np.fmax.reduce(G)
    return ((upper >= leader) & ~np.isnan(G)) | (leader == G)


def compare_pairs(speed_ups: ArrayLike, samples: ArrayLike, level: float = 0.95) -> Pairs:
    """Compare the overall speed-ups of all pairs of methods, and adjust for the number of pairs.

        R = exp(mean over common tasks of log(S_a / S_b))
        p = min(1, 2 (1 + min(#{R* ≤ 1}, #{R* ≥ 1})) / (1 + resamples))

    R* are the ratios of the resamples. Two methods differ only if the p-value adjusted by `holm`
    over all pairs is at most 1 - level and the interval of R* excludes 1.

    Args:
        speed_ups: S in (0, inf), or NaN where there is no rank; shape (methods, tasks), at least 2
            methods.
        samples: Resamples of S, in (0, inf) or NaN, as `bootstrap_seeds` returns them; shape
            (resamples, methods, tasks).
        level: The level of confidence in (0, 1), for all pairs together.

    Returns:
        The ratios, their intervals and their adjusted p-values.

    Raises:
        ValueError: The arrays do not fit together, or there are so few resamples that no pair can
            be decided.

    Example:
        >>> S = np.array([[1.0, 1.0], [2.0, 3.0]])
        >>> noise = np.random.default_rng(0).normal(scale=0.1, size=(1000, 2, 2))
        >>> found = momentax.bench.statistics.compare_pairs(S, S * np.exp(noise))
        >>> found.ratios.round(3), found.decided[1, 0]
        (array([[1.   , 0.408],
               [2.449, 1.   ]]), np.True_)
    """
    S = as_speed_ups("speed_ups", speed_ups, ("methods", "tasks"))
    draws = as_speed_ups("samples", samples, ("resamples", "methods", "tasks"))
    level = as_real("level", level, "(0, 1)")
    if len(S) < 2:
        raise ValueError(f"speed_ups must hold at least 2 methods to compare, got {len(S)}")
    if draws.shape[1:] != S.shape or np.any(np.isnan(draws) != np.isnan(S)):
        raise ValueError(
            f"samples must hold resamples of speed_ups, of shape (resamples, {S.shape[0]}, "
            f"{S.shape[1]}) and with NaN at the same places, got shape {draws.shape}"
        )
    first, second = np.triu_indices(len(S), 1)
    _require_enough(len(draws), len(first), level)
    ratios, low, high, adjusted = (np.full((len(S), len(S)), np.nan) for _ in range(4))
    for matrix in (ratios, low, high):
        np.fill_diagonal(matrix, np.where(geometric_mean(S).tasks, 1, np.nan))
    p_values = np.full(len(first), np.nan)
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        common = ~np.isnan(S[a] / S[b])
        if not common.any():
            continue
        R = geometric_mean(draws[:, a, common] / draws[:, b, common]).value
        ratios[a, b] = geometric_mean(S[a, common] / S[b, common]).value
        low[a, b], high[a, b] = bootstrap_interval(R, level)
        tail = min(np.count_nonzero(R <= 1), np.count_nonzero(R >= 1))
        p_values[pair] = min(1, 2 * (1 + tail) / (1 + len(R)))
    known = ~np.isnan(p_values)
    adjusted[first[known], second[known]] = holm(p_values[known])
    for matrix, mirrored in ((ratios, 1 / ratios), (low, 1 / high), (high, 1 / low)):
        matrix[second, first] = mirrored[first, second]
    adjusted[second, first] = adjusted[first, second]
    decided = (adjusted <= 1 - level) & ((low > 1) | (high < 1))
    return Pairs(ratios, low, high, adjusted, decided)


def _require_enough(resamples: int, pairs: int, level: float) -> None:
    """Refuse so few resamples that no pair can be decided."""
    needed = max(100, int(np.ceil(2 * pairs / (1 - level))))
    if resamples < needed:
        raise ValueError(
            f"samples must hold at least {needed} resamples to decide between {pairs} "
            f"pair{'s' * (pairs > 1)} at the level {level:g}, got {resamples}"
        )
