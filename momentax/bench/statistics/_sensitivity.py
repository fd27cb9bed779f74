"""How much of the search space is good, and how wide the good range of learning rates is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_real, as_reals, describe
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import as_row
from momentax.bench.statistics._shares import Share, wilson


class RateWidth(NamedTuple):
    """The range of learning rates in which a method is good.

    decades: its width in factors of 10.
    edges: of the bins of learning rates, shape (bins + 1,).
    best: the largest speed-up in each bin, shape (bins,); NaN in a bin without a trial.
    """

    decades: float
    edges: Reals
    best: Reals


def good_region(speed_ups: ArrayLike, share: float = 0.9, level: float = 0.95) -> Share:
    """Estimate the share of the search space on which a method is nearly as fast as at its best.

        A(c) = #{i : Sᵢ ≥ c max S} / n,    c = share

    The trials are spread evenly over the search space, so that their share estimates the area.
    With several tasks, a trial counts if it is good on each of them: the share of the settings
    that need no tuning anew. Speed-ups that were clipped are equal, which makes A too large.

    Args:
        speed_ups: S in (0, inf) of each trial, shape (trials,) or (tasks, trials).
        share: c in (0, 1], the share of the best speed-up that is good.
        level: The level of confidence in (0, 1).

    Returns:
        A with its Wilson interval.

    Raises:
        ValueError: speed_ups has another shape, or a number lies outside its interval.

    Example:
        >>> momentax.bench.statistics.good_region([2.0, 1.9, 0.5, 0.25]).value
        0.5
    """
    S = as_reals("speed_ups", speed_ups, "(0, inf)")
    if S.ndim not in (1, 2) or not S.size:
        raise ValueError(
            "speed_ups must have the shape (trials,) or (tasks, trials) with at least one trial, "
            f"got shape {S.shape}"
        )
    c = as_real("share", share, "(0, 1]")
    rows = np.atleast_2d(S)
    is_good = np.all(rows >= c * rows.max(axis=1, keepdims=True), axis=0)
    return wilson(is_good, as_real("level", level, "(0, 1)"))


def chance_to_hit(area: ArrayLike, trials: int) -> Reals:
    """Compute the chance that at least one of some random trials lies in the good region.

        P = 1 - (1 - A)ᵏ

    Args:
        area: A in [0, 1], the share of the search space that is good; any shape.
        trials: k, the number of trials, at least 1.

    Returns:
        The chance, float64, area's shape.

    Raises:
        ValueError: A number lies outside its interval.

    Example:
        >>> float(momentax.bench.statistics.chance_to_hit(0.5, trials=3))
        0.875
    """
    A = as_reals("area", area, "[0, 1]")
    return -np.expm1(as_count("trials", trials) * _log_of_miss(A))


def _log_of_miss(A: Reals) -> Reals:
    with np.errstate(divide="ignore"):  # The logarithm of 0 at A = 1.
        return np.log1p(-A)


def trials_to_hit(area: ArrayLike, probability: float = 0.9) -> Reals:
    """Count the random trials of which one lies in the good region with some probability.

        k = ln(1 - p) / ln(1 - A), rounded up

    Args:
        area: A in [0, 1], the share of the search space that is good; any shape.
        probability: p in (0, 1).

    Returns:
        k, float64, area's shape; at least 1, and infinite at A = 0.

    Raises:
        ValueError: A number lies outside its interval.

    Example:
        >>> momentax.bench.statistics.trials_to_hit([0.1, 0.5, 0.9])
        array([22.,  4.,  1.])
    """
    A, p = as_reals("area", area, "[0, 1]"), as_real("probability", probability, "(0, 1)")
    with np.errstate(divide="ignore"):
        k = np.divide(np.log1p(-p), _log_of_miss(A))
    return np.maximum(1, np.ceil(np.abs(k) * (1 - 1e-12)))[()]


def rate_width(
    rates: ArrayLike,
    speed_ups: ArrayLike,
    limits: ArrayLike,
    share: float = 0.7,
    bins: int = 12,
) -> RateWidth:
    """Measure the width in decades of the learning rates at which a method is fast.

        d = n log₁₀(high / low) / bins,    n = #{bins with max S ≥ c S_max},    c = share

    d is the width in decades, and S_max the best speed-up of all trials. The bins divide the search
    range evenly on the log scale. In each bin the best trial counts, so that the other
    hyperparameters are tuned for it. A bin without a trial does not count.

    Args:
        rates: The effective learning rate of each trial, in (0, inf), shape (trials,).
        speed_ups: S in (0, inf) of each trial, shape (trials,).
        limits: The ends (low, high) of the search range, two numbers in (0, inf).
        share: c in (0, 1], the share of the best speed-up that is good.
        bins: The number of bins, at least 1.

    Returns:
        The width, and the best speed-up in each bin.

    Raises:
        ValueError: The arrays have different lengths, a rate lies outside the limits, or a number
            outside its interval.

    Example:
        >>> rates, S = [0.002, 0.02, 0.2, 2.0], [0.25, 0.9, 1.0, 0.25]
        >>> width = momentax.bench.statistics.rate_width(rates, S, limits=(0.001, 10), bins=4)
        >>> width.decades
        2.0
    """
    η = as_row("rates", rates, "trial", interval="(0, inf)")
    S = as_row("speed_ups", speed_ups, "trial", interval="(0, inf)")
    if len(S) != len(η):
        raise ValueError(f"speed_ups must hold one for each of {len(η)} rates, got {len(S)}")
    low, high = _as_limits(limits)
    c, bins = as_real("share", share, "(0, 1]"), as_count("bins", bins, most=10**6)
    outside = (η < low * (1 - 1e-9)) | (η > high * (1 + 1e-9))
    if outside.any():
        raise ValueError(
            f"rates must lie between the limits {low:g} and {high:g}, got {η[outside][0]:g}"
        )
    edges = np.geomspace(low, high, bins + 1)
    own = np.clip(np.searchsorted(edges, η, side="right") - 1, 0, bins - 1)
    best = np.full(bins, np.nan)
    np.fmax.at(best, own, S)
    good = np.count_nonzero(best >= c * S.max())
    return RateWidth(float(good * np.log10(high / low) / bins), edges, best)


def _as_limits(limits: ArrayLike) -> tuple[float, float]:
    ends = as_reals("limits", limits, "(0, inf)")
    if ends.shape != (2,) or ends[0] >= ends[1]:
        raise ValueError(
            f"limits must be two numbers, (low, high) with low < high, got {describe(limits)}"
        )
    return float(ends[0]), float(ends[1])
