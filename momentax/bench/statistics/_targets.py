"""Targets: whether a method passes one, when, and how many seeds that takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import median_abs_deviation, norm

from momentax._core.arguments import as_count, as_real
from momentax.bench.statistics._arrays import as_row, as_scores

_MAD = float(norm.ppf(0.75))  # The median absolute deviation of a normal distribution, 1 / 1.4826.
_Z = 3.09  # The normal quantile of p = 0.001, one-sided.


def passes(scores: ArrayLike, target: float, sigma: float, z: float = _Z) -> bool:
    """Return whether the mean score is below a target beyond chance.

        (T - mean) √n ≥ z σ

    Args:
        scores: Any real numbers of shape (n,), one for each seed; lower is better.
        target: T, any real number.
        sigma: σ in [0, inf), the standard deviation of the score over seeds, known beforehand.
        z: The number of standard errors, in [0, inf); 3.09 is p = 0.001, one-sided.

    Returns:
        True or False.

    Raises:
        ValueError: scores has another shape or is not finite, or a number lies outside its
            interval.

    Example:
        >>> momentax.bench.statistics.passes([-2.2, -2.1, -2.3, -2.2], target=-2.0, sigma=0.1)
        True
    """
    y = as_scores("scores", scores, least=1)
    target, sigma = as_real("target", target, "(-inf, inf)"), as_real("sigma", sigma, "[0, inf)")
    return _passes(y.mean(), len(y), target, sigma, as_real("z", z, "[0, inf)"))


def _passes(mean: float, seeds: int, target: float, sigma: float, z: float) -> bool:
    return bool((target - mean) * np.sqrt(seeds) >= z * sigma)


def steps_to_target(
    means: ArrayLike,
    steps: ArrayLike,
    seeds: int,
    target: float,
    sigma: float,
    z: float = _Z,
) -> int | None:
    """Return the first checkpoint at which the mean score over all seeds passes a target.

        min{steps_k : (T - means_k) √n ≥ z σ}

    The checkpoints are common to all runs; stopping each run at its own crossing would reward
    noise. Crossings under a decaying learning rate do not rank methods.

    Args:
        means: Any real numbers of shape (K,), the mean score over the seeds at each checkpoint.
        steps: The step of each checkpoint, whole numbers in (0, inf), ascending, shape (K,).
        seeds: n, the number of seeds that the means are taken over, at least 1.
        target: T, any real number.
        sigma: σ in [0, inf), the standard deviation of the score over seeds.
        z: The number of standard errors, in [0, inf).

    Returns:
        The step of the checkpoint, or None if the mean passes at none.

    Raises:
        ValueError: The arrays have different lengths, or a number lies outside its interval.

    Example:
        >>> momentax.bench.statistics.steps_to_target(
        ...     [-1.0, -1.8, -2.4, -2.5], [25, 50, 75, 100], seeds=16, target=-2.0, sigma=0.1
        ... )
        75
    """
    y = as_scores("means", means, "checkpoint", least=1)
    at = as_row("steps", steps, "checkpoint", interval="(0, inf)")
    if len(at) != len(y):
        raise ValueError(f"steps must hold one for each of {len(y)} means, got {len(at)}")
    if np.any(at != np.round(at)) or np.any(np.diff(at) <= 0):
        raise ValueError(f"steps must be whole numbers in ascending order, got {at.tolist()}")
    seeds, target = as_count("seeds", seeds), as_real("target", target, "(-inf, inf)")
    sigma, z = as_real("sigma", sigma, "[0, inf)"), as_real("z", z, "[0, inf)")
    for step, mean in zip(at, y, strict=True):
        if _passes(mean, seeds, target, sigma, z):
            return int(step)
    return None


def robust_sd(values: ArrayLike) -> float:
    """Estimate a standard deviation by the median absolute deviation.

        σ = 1.4826 median |x - median x|

    It is that of a normal distribution with the same median deviation, and a few outliers do not
    change it. It is 0 where more than half of the values are equal.

    Args:
        values: Any real numbers of shape (n,), n at least 2.

    Returns:
        σ, at least 0.

    Raises:
        ValueError: values has another shape, is not finite or is too short.

    Example:
        >>> round(momentax.bench.statistics.robust_sd([1.0, 2.0, 3.0, 100.0]), 4)
        1.4826
    """
    return float(median_abs_deviation(as_scores("values", values), scale=_MAD))


def seeds_needed(
    delta: float,
    sigma: float,
    correlation: float = 0.0,
    p_value: float = 0.001,
    power: float = 0.8,
) -> int:
    """Count the seeds that two methods need so that a difference of their scores is found.

        n = 2 (1 - r) ((z_p + z_power) σ / δ)²,    z_p + z_power = 3.93

    Args:
        delta: δ in (0, inf), the difference of the mean scores.
        sigma: σ in (0, inf), the standard deviation of the score over seeds.
        correlation: r in [-1, 1), the correlation of the two methods over the same seeds; 0 if
            they do not share seeds.
        p_value: The one-sided p-value to reach, in (0, 0.5).
        power: The chance to reach it, in [0.5, 1).

    Returns:
        n, rounded up, at least 1.

    Raises:
        ValueError: A number lies outside its interval, or n is too large for a float.

    Example:
        >>> [momentax.bench.statistics.seeds_needed(delta, sigma=1.0) for delta in (1, 2, 3)]
        [31, 8, 4]
    """
    δ, σ = as_real("delta", delta, "(0, inf)"), as_real("sigma", sigma, "(0, inf)")
    r = as_real("correlation", correlation, "[-1, 1)")
    p, share = as_real("p_value", p_value, "(0, 0.5)"), as_real("power", power, "[0.5, 1)")
    with np.errstate(over="ignore"):
        n = 2 * (1 - r) * (np.float64(norm.isf(p) + norm.ppf(share)) * σ / δ) ** 2
    if not np.isfinite(n):
        raise ValueError(f"delta must not be so small beside sigma, got delta={δ} and sigma={σ}")
    return max(1, int(np.ceil(n)))
