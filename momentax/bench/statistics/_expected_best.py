"""What a tuning of fewer trials would have found."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_flag, as_real, as_reals, describe
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import as_reals_or_nan, as_scores, as_seed
from momentax.bench.statistics._paired import Interval

LARGEST_MISSING = 0.1  # The weight of trials without a score up to which a mean is returned.


class ExpectedBest(NamedTuple):
    """The expected score of the best of k trials. Each field has the shape of k.

    mean: the expected score; NaN where too much weight lies on trials without a score.
    missing: the share of the weight that lies on trials without a score.
    band: the `Interval` of the expected score over resamples of the trials.
    """

    mean: Any
    missing: Any
    band: Interval


def weights_of_best(n: int, k: ArrayLike, replacement: bool = False) -> Reals:
    """List the chances that the trial of each rank is the best of k trials, drawn among n.

        w_{i,k} = C(n - i, k - 1) / C(n, k)              without replacement
        w_{i,k} = (1 - (i - 1) / n)ᵏ - (1 - i / n)ᵏ      with replacement

    Args:
        n: The number of trials, at least 1.
        k: The numbers of trials that are drawn, whole numbers in [1, n], of any shape.
        replacement: Whether a trial can be drawn twice.

    Returns:
        The chances of the ranks i = 1 .. n, the best first; float64, shape (*k.shape, n). They sum
        to 1.

    Raises:
        ValueError: k lies outside of [1, n].

    Example:
        >>> momentax.bench.statistics.weights_of_best(4, 2).round(4)
        array([0.5   , 0.3333, 0.1667, 0.    ])
    """
    n = as_count("n", n, most=10**6)
    counts = _as_counts(k, n)[..., None]
    if as_flag("replacement", replacement):
        i = np.arange(n + 1)
        return -np.diff((1 - i / n) ** counts)
    i = np.arange(1, n)
    steps = np.maximum(n - i - counts + 1, 0) / (n - i)
    return counts / n * np.cumprod(np.concatenate([np.ones_like(counts), steps], -1), -1)


def _as_counts(k: Any, n: int) -> Reals:
    counts = as_reals("k", k, "[1, inf)", "whole numbers")
    if np.any(counts != np.round(counts)) or np.any(counts > n):
        raise ValueError(f"k must be whole numbers from 1 to {n} trials, got {describe(k)}")
    return counts


def expected_best(
    values: ArrayLike,
    k: ArrayLike,
    scores: ArrayLike | None = None,
    replacement: bool = False,
    *,
    largest_missing: float = LARGEST_MISSING,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> ExpectedBest:
    """Estimate the expected score of the best of k trials from a tuning of n trials.

        E_k = Σ_i w_{i,k} y_i,    y_1 ≤ ... ≤ y_n the values
        E_k = Σ_i w_{i,k} e_i,    e_i the score of the trial with y_i

    The second holds where scores are given. The first is too low for k > 1, since the best value is
    partly luck: the seed that chose it also measures it. The second is not, since other seeds
    measure what the first seed chose. Only the best few trials have weight for a large k: of n = 32
    trials, the best 8 have 93 % of it at k = 8 and more above. Where some scores are missing, the
    other weights are scaled to sum to 1. For k = 1 nothing is chosen, so that the values themselves
    are right.

    Drawing without replacement is unbiased. Drawing with replacement is biased, varies less and is
    the better curve to draw; trust it up to k = n / 2.

    Args:
        values: Any real numbers of shape (n,), the score of each trial on the tuning seed, n at
            least 2; lower is better, and a trial that diverged counts.
        k: The numbers of trials that are drawn, whole numbers in [1, n], of any shape.
        scores: The score of each trial on other seeds, any real numbers, or NaN where it was not
            measured; shape (n,) in the order of values.
        replacement: Whether a trial can be drawn twice.
        largest_missing: The largest weight of trials without a score, in [0, 1), for which a mean
            is returned.
        level: The level of confidence of the band in (0, 1).
        resamples: The number of resamples of the trials for the band, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        The expected score, the missing weight and the band, each of k's shape.

    Raises:
        ValueError: A value is not finite, the arrays have different lengths, or k lies outside of
            [1, n].

    Example:
        >>> found = momentax.bench.statistics.expected_best([-2.0, -1.0, -3.0, -2.5], k=[1, 2, 4])
        >>> found.mean.round(4)
        array([-2.125 , -2.6667, -3.    ])

    Source:
        Dodge, Gururangan, Card, Schwartz and Smith, Expected validation performance and estimation
        of a random variable's maximum, 2021, arXiv:2110.00613.
    """
    y, e, known = _as_trials(values, scores)
    weights = weights_of_best(len(y), k, replacement)
    most = as_real("largest_missing", largest_missing, "[0, 1)")
    level, resamples = as_real("level", level, "(0, 1)"), as_count("resamples", resamples, 100)
    rng = np.random.default_rng(as_seed(seed))
    mean, missing = _weigh(*_share_ties(y, e, known), weights)
    is_known = missing <= most
    draws = rng.integers(0, len(y), (resamples, len(y)))
    draws = np.take_along_axis(draws, np.argsort(y[draws], axis=1, kind="stable"), axis=1)
    ends = np.full((2, *mean.shape), np.nan)
    if is_known.any():
        means, _ = _weigh(e[draws], known[draws], weights[is_known])
        shares = [(1 - level) / 2, (1 + level) / 2]
        ends[:, is_known] = np.nanquantile(means, shares, axis=0)
    mean = np.where(is_known, mean, np.nan)
    return ExpectedBest(mean[()], missing[()], Interval(ends[0][()], ends[1][()]))


def _as_trials(values: Any, scores: Any) -> tuple[Reals, Reals, np.ndarray]:
    """Return the values of trials, their scores with 0 where unknown, and which are known."""
    y = as_scores("values", values, "trial")
    e = y if scores is None else as_reals_or_nan("scores", scores)
    if e.shape != y.shape:
        raise ValueError(
            f"scores must hold a number or NaN for each of {len(y)} values, got shape {e.shape}"
        )
    known = ~np.isnan(e)
    if not known.any():
        raise ValueError("scores must hold the score of at least one trial, got only NaN")
    return y, np.where(known, e, 0), known


def _share_ties(y: Reals, e: Reals, known: np.ndarray) -> tuple[Reals, Reals]:
    """Return scores and shares of known ones by rank, where trials of equal value share theirs.

    The result does not depend on the order of the trials.
    """
    order = np.argsort(y, kind="stable")
    _, group = np.unique(y[order], return_inverse=True)
    known_share = np.bincount(group, known[order]) / np.bincount(group)
    sums = np.bincount(group, (e * known)[order]) / np.bincount(group)
    means = np.divide(sums, known_share, out=np.zeros_like(sums), where=known_share > 0)
    return means[group], known_share[group]


def _weigh(e: Reals, known: np.ndarray, weights: Reals) -> tuple[Reals, Reals]:
    """Return the means of known scores for each row of weights, and the missing weight."""
    found = known @ np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], -1)
    total = (e * known) @ np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], -1)
    mean = np.divide(total, found, out=np.full(found.shape, np.nan), where=found > 1e-9)
    shape = (*known.shape[:-1], *weights.shape[:-1])
    return mean.reshape(shape), np.clip(1 - found, 0, 1).reshape(shape)


def trials_to_match(
    values: ArrayLike,
    target: float,
    scores: ArrayLike | None = None,
    replacement: bool = False,
) -> int | None:
    """Return the fewest trials whose best has an expected score of at most a target.

        min{k : E_k ≤ target}

    With the control's E_k at all of its trials as the target, it says after how many trials a
    method passes the tuned control. E_k is that of `expected_best`; a k for which too much weight
    lies on trials without a score is passed over.

    Args:
        values: Any real numbers of shape (n,), the score of each trial on the tuning seed, n at
            least 2; lower is better.
        target: Any real number.
        scores: The score of each trial on other seeds, any real numbers, or NaN where it was not
            measured; shape (n,) in the order of values.
        replacement: Whether a trial can be drawn twice.

    Returns:
        k, or None if no k reaches the target.

    Raises:
        ValueError: A value is not finite, or the arrays have different lengths.

    Example:
        >>> momentax.bench.statistics.trials_to_match([-2.0, -1.0, -3.0, -2.5], target=-2.5)
        2
    """
    target = as_real("target", target, "(-inf, inf)")
    y, e, known = _as_trials(values, scores)
    counts = np.arange(1, len(y) + 1)
    weights = weights_of_best(len(y), counts, replacement)
    mean, missing = _weigh(*_share_ties(y, e, known), weights)
    reached = (missing <= LARGEST_MISSING) & (mean <= target)
    return int(counts[reached][0]) if reached.any() else None
