"""Paired comparisons of methods on the same seeds: a test, an interval and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap

from momentax._core.arguments import as_count, as_real, as_reals, as_text
from momentax._core.typing import Reals
from momentax._core.warn import warn
from momentax.bench.statistics._arrays import as_scores, as_seed, as_table

Verdict = Literal["better", "worse", "not distinguishable"]

_MOST_EXACT = 20  # Differences up to which all 2ⁿ signs are tried.
_ROUNDING = 1e-12  # The relative size below which numbers differ by rounding.


class Interval(NamedTuple):
    """A confidence interval.

    low: its lower end, a number or an array.
    high: its upper end, of the same shape.
    """

    low: float | Reals
    high: float | Reals


class Comparison(NamedTuple):
    """A method against the control on one task. Lower scores are better.

    verdict: "better", "worse" or "not distinguishable".
    difference: the mean of the differences, the method's score less the control's.
    low: the lower end of the interval of the mean difference.
    high: its upper end.
    p_value: of the sign-flip test, two-sided, of this comparison alone.
    adjusted: the p-value by Holm's method over all comparisons that were made together.
    share_better: the share of the seeds on which the method has the lower score.
    """

    verdict: Verdict
    difference: float
    low: float
    high: float
    p_value: float
    adjusted: float
    share_better: float


def sign_flip(differences: ArrayLike, resamples: int = 100_000, seed: int = 0) -> float:
    """Test whether paired differences have mean zero, by flipping their signs.

        p = #{s in {-1, 1}ⁿ : |Σ sᵢ dᵢ| ≥ |Σ dᵢ|} / 2ⁿ

    The test assumes that each difference is as likely to have either sign if nothing differs, and
    no distribution. Up to n = 20 all signs are tried and p is exact; above, random signs are drawn
    and p = (1 + count) / (1 + resamples). The smallest p, where all signs agree, is 2 / 2ⁿ. If
    every difference is 0, p is 1.

    Args:
        differences: Any real numbers of shape (n,), one for each seed, n at least 2.
        resamples: The number of random signs if n exceeds 20, at least 100.
        seed: The seed of the random signs, a whole number, at least 0.

    Returns:
        The two-sided p-value in (0, 1].

    Raises:
        ValueError: differences has another shape, is not finite or is too short.

    Example:
        >>> momentax.bench.statistics.sign_flip([-0.2, -0.1, -0.3, -0.1])
        0.125

    Source:
        Fisher, The design of experiments, 1935, section 21.
    """
    d = as_scores("differences", differences)
    resamples, seed = as_count("resamples", resamples, least=100), as_seed(seed)
    if (largest := np.abs(d).max()) == 0:
        return 1.0
    d = d / largest  # Sums of the largest floats would overflow.
    least = abs(d.sum()) - _ROUNDING * np.abs(d).sum()
    if len(d) <= _MOST_EXACT:
        sums = d[:1]  # Flipping all signs changes no absolute value, so that the first one stays.
        for each in d[1:]:
            sums = np.concatenate([sums + each, sums - each])
        return float(np.mean(np.abs(sums) >= least))
    rng, count, left = np.random.default_rng(seed), 0, resamples
    while left:
        size = min(left, max(1, 2**20 // len(d)))
        signs = rng.integers(0, 2, (size, len(d)), np.int8)
        count += np.count_nonzero(np.abs((2.0 * signs - 1) @ d) >= least)
        left -= size
    return float((1 + count) / (1 + resamples))


def holm(p_values: ArrayLike) -> Reals:
    """Adjust p-values for the number of tests, by Holm's step-down method.

        adjusted_i = max over j ≤ i of min(1, (m - j + 1) p_j),    p_1 ≤ ... ≤ p_m

    Rejecting where adjusted ≤ α keeps the chance of any false rejection below α, however the
    tests depend on one another.

    Args:
        p_values: Real numbers in [0, 1], of any shape; the tests of all entries count together.

    Returns:
        The adjusted p-values in [0, 1], float64, of the same shape.

    Raises:
        ValueError: A p-value lies outside of [0, 1] or is NaN.

    Example:
        >>> momentax.bench.statistics.holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics, 1979.
    """
    p = as_reals("p_values", p_values, "[0, 1]")
    order = np.argsort(p, axis=None, kind="stable")
    stepped = p.flat[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted.reshape(p.shape)


def interval(
    differences: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Estimate a confidence interval of the mean by the BCa bootstrap.

    The interval is that of percentiles of the resampled means, corrected for bias and skewness.
    With few numbers it is too narrow: at a level of 0.95 it holds the mean of 8 normal numbers in
    88 % of all cases, and that of 16 in 92 %.

    Args:
        differences: Any real numbers of shape (n,), one for each seed, n at least 2.
        level: The level of confidence in (0, 1).
        resamples: The number of resamples, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        The ends (low, high). If all numbers are equal, both ends are that number.

    Raises:
        ValueError: differences has another shape, is not finite or is too short.

    Example:
        >>> low, high = momentax.bench.statistics.interval([-0.2, -0.1, -0.3, -0.1, -0.2])
        >>> low < -0.18 < high < 0
        True

    Source:
        Efron, Better bootstrap confidence intervals, Journal of the American Statistical
        Association, 1987.
    """
    d = as_scores("differences", differences)
    level, resamples = as_real("level", level, "(0, 1)"), as_count("resamples", resamples, 100)
    rng = np.random.default_rng(as_seed(seed))
    scale = np.abs(d).max()
    if np.ptp(d / (scale or 1)) <= _ROUNDING:
        return Interval(float(d.min()), float(d.max()))
    resample: Any = bootstrap  # Releases of SciPy call the generator `random_state` or `rng`.
    found = resample(
        (d / scale,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2**22 // len(d)),
        confidence_level=level,
        method="BCa",
        random_state=rng,
    ).confidence_interval
    return Interval(float(found.low * scale), float(found.high * scale))


def share_better(differences: ArrayLike) -> float:
    """Return the share of paired differences below 0, where the method has the lower score.

        share = #{i : dᵢ < 0} / n

    Args:
        differences: Any real numbers of shape (n,), one for each seed, n at least 2.

    Returns:
        The share in [0, 1]. A difference of exactly 0 does not count as better.

    Raises:
        ValueError: differences has another shape, is not finite or is too short.

    Example:
        >>> momentax.bench.statistics.share_better([-0.2, 0.1, -0.3, -0.1])
        0.75
    """
    return float(np.mean(as_scores("differences", differences) < 0))


def compare(
    scores: ArrayLike,
    control: ArrayLike,
    *,
    level: float = 0.95,
    smallest_difference: float = 0.0,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare a method with the control on one task, seed by seed.

        dₛ = scoreₛ - controlₛ

    The verdict is "better" only if the p-value of `sign_flip` is at most 1 - level and the whole
    `interval` lies below -smallest_difference, and "worse" likewise above it. Otherwise the two are
    "not distinguishable". To compare several methods or tasks use `compare_all`, which adjusts the
    p-values for their number.

    Args:
        scores: The scores of the method, any real numbers of shape (n,), one for each seed, n at
            least 2; lower is better.
        control: The scores of the control on the same seeds in the same order.
        level: The level of confidence in (0, 1).
        smallest_difference: The smallest difference that matters, in [0, inf), in units of the
            scores.
        resamples: The number of resamples for the interval, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        The comparison, whose adjusted p-value is the p-value itself.

    Raises:
        ValueError: The scores have different lengths, or one is not finite.

    Warns:
        UserWarning: There are so few seeds that no difference can be found.

    Example:
        >>> control = np.linspace(-3.0, -2.9, 16)
        >>> momentax.bench.statistics.compare(control - 0.1, control).verdict
        'better'
    """
    y, other = as_scores("scores", scores), as_scores("control", control)
    if y.shape != other.shape:
        raise ValueError(
            f"control must have a score for each of the same seeds as scores, got {len(other)} and "
            f"{len(y)}"
        )
    return _compare_cells([y - other], level, smallest_difference, resamples, seed)[0]


def compare_all(
    scores: Mapping[str, Mapping[str, ArrayLike]],
    control: str,
    *,
    level: float = 0.95,
    smallest_difference: float = 0.0,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, dict[str, Comparison]]:
    """Compare every method with the control on every task, adjusted for the number of comparisons.

    Each comparison is that of `compare`, with the p-values adjusted by `holm` over all of them. A
    method that a task does not have is not compared there and does not count.

    Args:
        scores: The scores of each method on each task, one for each evaluation seed.
        control: The name of the method to compare with, which each task must have.
        level: The level of confidence in (0, 1), for all comparisons together.
        smallest_difference: The smallest difference that matters, in [0, inf), in units of the
            scores.
        resamples: The number of resamples for each interval, at least 100.
        seed: The seed of the resamples, a whole number, at least 0.

    Returns:
        The comparisons of each task by the name of the method, without the control.

    Raises:
        ValueError: A task lacks the control, methods of a task have different numbers of seeds, or
            a score is not finite.
        TypeError: scores is not a table of scores.

    Warns:
        UserWarning: A task has so few seeds that no difference can be found on it.

    Example:
        >>> y = np.linspace(-3.0, -2.9, 16)
        >>> scores = {"ridge": {"nesterov": y, "adam": y - 0.1, "sgd": y[::-1]}}
        >>> found = momentax.bench.statistics.compare_all(scores, "nesterov")
        >>> found["ridge"]["adam"].verdict, found["ridge"]["sgd"].verdict
        ('better', 'not distinguishable')
    """
    table = as_table("scores", scores)
    control = as_text("control", control, '"nesterov"')
    for task, cells in table.items():
        if control not in cells:
            raise ValueError(
                f"control must be a method of every task, but the task {task!r} has no scores of "
                f"{control!r}; leave the task out to compare on the others"
            )
    cells = [(task, method) for task in table for method in table[task] if method != control]
    differences = [table[task][method] - table[task][control] for task, method in cells]
    compared = _compare_cells(differences, level, smallest_difference, resamples, seed)
    found: dict[str, dict[str, Comparison]] = {task: {} for task in table}
    for (task, method), each in zip(cells, compared, strict=True):
        found[task][method] = each
    return found


def _compare_cells(
    differences: list[Reals], level: float, smallest: float, resamples: int, seed: int
) -> list[Comparison]:
    """Compare by paired differences, and adjust for the number of comparisons."""
    level = as_real("level", level, "(0, 1)")
    smallest = as_real("smallest_difference", smallest, "[0, inf)")
    resamples, seed = as_count("resamples", resamples, least=100), as_seed(seed)
    _warn_of_few_seeds(differences, level)
    p_values = [sign_flip(d, seed=seed) for d in differences]
    found = []
    for d, p, adjusted in zip(differences, p_values, holm(p_values), strict=True):
        low, high = interval(d, level, resamples, seed)
        verdict: Verdict = "not distinguishable"
        if adjusted <= 1 - level and high < -smallest:
            verdict = "better"
        elif adjusted <= 1 - level and low > smallest:
            verdict = "worse"
        mean, share = float(d.mean()), share_better(d)
        found.append(Comparison(verdict, mean, float(low), float(high), p, float(adjusted), share))
    return found


def _warn_of_few_seeds(differences: list[Reals], level: float) -> None:
    """Warn if even differences of one sign could not be told from chance."""
    fewest = min(map(len, differences), default=_MOST_EXACT)
    tests = len(differences)
    if fewest >= _MOST_EXACT or tests * 2.0 ** (1 - fewest) <= 1 - level:
        return
    needed = int(np.ceil(1 + np.log2(tests / (1 - level))))
    warn(
        f"with {fewest} seeds the smallest p-value is {2.0 ** (1 - fewest):.2g}, so that none of "
        f"{tests} comparison{'s' * (tests > 1)} can be decided at the level {level:g}; use at "
        f"least {needed} seeds"
    )
