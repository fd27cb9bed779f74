"""The scores of the reference method by the number of its steps, and their inverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from momentax._core.arguments import as_real, as_reals
from momentax._core.typing import Reals
from momentax.bench.statistics._arrays import as_row, as_scores, require_scores

_ROUNDING = 1e-9  # The relative difference of scores below which they are taken to be equal.


@dataclass(frozen=True, eq=False)
class ReferenceCurve:
    """The score of the reference method as a function of its number of steps.

        f(N) = score of the reference, tuned for N steps
        S(y) = f⁻¹(y) / N₀,    N₀ = steps

    A method with score y after N₀ steps has the speed-up S: the reference would need S times the
    steps. f is the monotone cubic interpolant (PCHIP) of the measured scores in log N.

    Measured scores need not decrease, because of noise. Neighbours that increase are pooled until
    none does (isotonic regression), and each pool is one point of the curve: its mean score, at the
    mean of its log N. Scores that are exactly equal, as at a floor, count at the fewest of their
    steps. A speed-up stays within the measured horizons, and `beyond` says where it was clipped.

    horizons: the numbers of steps at which the reference was tuned.
    scores: its mean score at each horizon.
    steps: N₀, the steps of the task.
    limits: the smallest and the largest speed-up, the first and the last horizon over the steps.
    pooled: of each horizon, whether its score was pooled with a neighbour's.

    Args:
        horizons: Real numbers in (0, inf), at least 2 and ascending: numbers of steps, or multiples
            of the task's steps such as [0.25, 0.5, 1, 2, 4].
        scores: Any real numbers, the mean score at each horizon; lower is better.
        steps: The task's number of steps, in (0, inf), in the unit of the horizons and between the
            first and the last; 1 for multiples.

    Raises:
        ValueError: A number lies outside its interval, or the scores do not fall, so that no score
            can be converted into steps.

    Example:
        >>> curve = momentax.bench.statistics.ReferenceCurve(
        ...     [250, 500, 1000, 2000, 4000], [-1.0, -2.0, -3.0, -4.0, -5.0], steps=1000
        ... )
        >>> curve.speed_up([-3.0, -3.5, -9.0]).round(4)
        array([1.    , 1.4142, 4.    ])
        >>> curve.label(-9.0)
        '>4'

    Source:
        Fritsch and Butland, A method for constructing local monotone piecewise cubic interpolants,
        SIAM Journal on Scientific and Statistical Computing, 1984.
    """

    horizons: ArrayLike
    scores: ArrayLike
    steps: float = 1.0
    limits: tuple[float, float] = field(init=False)
    pooled: Any = field(init=False, repr=False)
    _curve: PchipInterpolator = field(init=False, repr=False)
    _levels: Reals = field(init=False, repr=False)

    def __post_init__(self) -> None:
        N = as_row("horizons", self.horizons, "horizon", interval="(0, inf)", least=2)
        y = as_scores("scores", self.scores, "horizon")
        if np.any(np.diff(N) <= 0):
            raise ValueError(f"horizons must be in ascending order, got {N.tolist()}")
        if len(N) != len(y):
            raise ValueError(f"scores must hold one for each of {len(N)} horizons, got {len(y)}")
        steps = as_real("steps", self.steps, "(0, inf)")
        if not N[0] <= steps <= N[-1]:
            raise ValueError(
                f"steps must lie between the first and the last horizon, {N[0]:g} and {N[-1]:g}, "
                f"got {steps:g}; horizons that are numbers of steps need steps=, the task's number"
            )
        logs, levels, pooled = _decreasing(np.log(N), y)
        if len(levels) < 2:
            raise ValueError(
                f"scores must fall as the horizons grow, got {y.tolist()}: longer runs of the "
                "reference are not better, so that no score can be converted into steps"
            )
        made = {"horizons": N, "scores": y, "steps": steps, "pooled": pooled}
        made |= {"limits": (float(N[0] / steps), float(N[-1] / steps))}
        made |= {"_curve": PchipInterpolator(logs, levels), "_levels": levels}
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def score(self, horizons: ArrayLike) -> Reals:
        """Return the score f(N) of the curve at some horizons.

        Args:
            horizons: Real numbers in (0, inf), of any shape, in the unit of the curve's horizons.
                Those outside of the measured range get the score of its end.
        """
        N = as_reals("horizons", horizons, "(0, inf)")
        logs = self._curve.x
        return np.asarray(self._curve(np.clip(np.log(N), logs[0], logs[-1])), np.float64)

    def speed_up(self, scores: ArrayLike) -> Reals:
        """Return the speed-up of each score, clipped to `limits`.

        Args:
            scores: Any real numbers, of any shape: scores after the task's number of steps.
        """
        require_scores("scores", scores)
        y = as_reals("scores", scores)
        S = np.exp(_invert(self._curve, self._levels, y)) / self.steps
        low, high = self.limits
        beyond = self.beyond(y)
        S = np.where(beyond > 0, high, np.where(beyond < 0, low, np.clip(S, low, high)))
        return S[()]

    def beyond(self, scores: ArrayLike) -> np.ndarray:
        """Return where scores leave the curve: 1 below its last score, -1 above its first, else 0.

        A score that differs from an end by rounding only is on the curve, so that one at the same
        floor as the reference's is.

        Args:
            scores: Any real numbers, of any shape.
        """
        require_scores("scores", scores)
        y, ends = as_reals("scores", scores), self._levels[[0, -1]]
        first, last = ends + np.array([1, -1]) * _ROUNDING * np.maximum(1, np.abs(ends))
        return np.asarray((y < last).astype(int) - (y > first).astype(int))[()]

    def label(self, score: float) -> str:
        """Return the speed-up of one score as text, such as "1.41", ">4" or "<1/4".

        Args:
            score: Any real number.
        """
        require_scores("score", score)
        y = as_real("score", score, "(-inf, inf)")
        side = int(self.beyond(y))
        if side == 0:
            return f"{float(self.speed_up(y)):.3g}"
        limit = self.limits[side > 0]
        ratio = Fraction(limit).limit_denominator(64)
        is_unit = ratio.numerator == 1 and abs(float(ratio) - limit) < 1e-9
        return f"{'<>'[side > 0]}{ratio if is_unit else f'{limit:.3g}'}"


def _decreasing(logs: Reals, scores: Reals) -> tuple[Reals, Reals, np.ndarray]:
    """Return the points of a strictly decreasing curve, and which of the scores were pooled."""
    fitted = isotonic_regression(scores, increasing=False).x
    groups = np.cumsum(np.concatenate([[0], np.diff(fitted) < 0]))
    pooled = np.zeros(len(scores), bool)
    points = []
    for group in range(groups[-1] + 1):
        own = groups == group
        is_tie = np.ptp(scores[own]) == 0
        pooled[own] = not is_tie
        points.append((logs[own][0] if is_tie else logs[own].mean(), fitted[own][0]))
    found = np.array(points)
    return found[:, 0], found[:, 1], pooled


def _invert(curve: PchipInterpolator, levels: Reals, values: Reals) -> Reals:
    """Return where a decreasing piecewise cubic takes each value, by bisection of its piece.

    `levels` are the values at its knots. Values that it does not take get one of its ends.
    """
    knots = curve.x
    piece = np.searchsorted(-levels, -values, side="right") - 1
    piece = np.clip(piece, 0, len(knots) - 2)
    a, b, c, d = curve.c[:, piece]
    low, high = np.zeros(values.shape), np.diff(knots)[piece]
    for _ in range(53):  # Bits of a float64.
        middle = (low + high) / 2
        is_above = ((a * middle + b) * middle + c) * middle + d > values
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    # Where the slope at the end is 0, bisection is accurate to half of the digits only.
    return np.where(values <= levels[-1], knots[-1], knots[piece] + high)
