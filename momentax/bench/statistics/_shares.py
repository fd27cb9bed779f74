"""Shares of seeds and of trials, with their intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from momentax._core.arguments import as_real
from momentax.bench.statistics._arrays import as_scores


class Share(NamedTuple):
    """A share with its Wilson interval.

    value: the share in [0, 1].
    low: the lower end of the interval.
    high: its upper end.
    """

    value: float
    low: float
    high: float


class Stuck(NamedTuple):
    """The runs of a method that stayed on a plateau.

    share: their `Share` of all runs.
    median: the median score of all runs.
    median_of_others: the median score of the runs that left the plateau; NaN if none did.
    """

    share: Share
    median: float
    median_of_others: float


def wilson(are_hits: Any, level: float) -> Share:
    """Return the share of the true entries of an array of bools, with its Wilson interval."""
    hits, total = int(np.count_nonzero(are_hits)), int(np.size(are_hits))
    found = binomtest(hits, total).proportion_ci(level, "wilson")
    return Share(hits / total, float(found.low), float(found.high))


def stuck_share(scores: ArrayLike, plateau: float, level: float = 0.95) -> Stuck:
    """Count the runs that stayed on a plateau, where the scores have two groups.

        share = #{i : scoreᵢ > plateau} / n

    A mean over two groups describes neither of them, so print the share and the medians.

    Args:
        scores: Any real numbers of shape (n,), one for each seed, n at least 2; lower is better.
        plateau: Any real number in units of the scores, so the logarithm of a loss where the scores
            are logarithms.
        level: The level of confidence in (0, 1).

    Returns:
        The share with its Wilson interval, and the medians of all runs and of the others.

    Raises:
        ValueError: scores has another shape or is not finite.

    Example:
        >>> found = momentax.bench.statistics.stuck_share([0.9, 0.9, 1.6, 0.9], plateau=1.5)
        >>> found.share.value, found.median_of_others
        (0.25, 0.9)

    Source:
        Wilson, Probable inference, the law of succession, and statistical inference, Journal of
        the American Statistical Association, 1927.
    """
    y = as_scores("scores", scores)
    is_stuck = y > as_real("plateau", plateau, "(-inf, inf)")
    others = float(np.median(y[~is_stuck])) if not is_stuck.all() else float("nan")
    share = wilson(is_stuck, as_real("level", level, "(0, 1)"))
    return Stuck(share, float(np.median(y)), others)
