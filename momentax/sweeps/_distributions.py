"""Distributions of the values on an axis, uniform on some scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from momentax._core import arguments, hyperparameters

_INTERVALS = {"linear": arguments.ANY_REAL, "log": "(0, inf)", "momentum": "[0, 1)"}  # By scale.


@dataclass(frozen=True)
class Distribution:
    """The distribution from which `random_points` draws the values of an axis.

    low: the least value.
    high: the greatest value.
    scale: the scale on which the values are uniform: "linear", "log", or
        "momentum", the logarithm of 1 - β.

    Raises:
        ValueError: A bound lies outside of what its scale takes, low is not below high, or scale
            is another word.
        TypeError: A bound is not a number.
    """

    low: float
    high: float
    scale: str

    def __post_init__(self) -> None:
        interval = _INTERVALS[arguments.as_option("scale", self.scale, _INTERVALS)]
        for name in ("low", "high"):
            bound = arguments.as_real(name, getattr(self, name), interval)
            object.__setattr__(self, name, bound)
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low={self.low} and high={self.high}")

    def quantile(self, probability: ArrayLike) -> np.ndarray:
        """Return the quantiles: a draw is below each with the given probability.

        Args:
            probability: Probabilities in [0, 1].

        Returns:
            A float64 array of values in [low, high].
        """
        probability = arguments.as_reals("probability", probability, "[0, 1]")
        scale = hyperparameters.SCALES[self.scale]
        low, high = scale.forward(self.low), scale.forward(self.high)
        return np.clip(scale.inverse(low + probability * (high - low)), self.low, self.high)

    def step(self, values: ArrayLike, direction: ArrayLike, factor: float) -> np.ndarray:
        """Return the values moved along the scale, clipped to [low, high].

        Args:
            values: Numbers; those below low or above high move from that bound.
            direction: 1 to move up the scale and -1 to move down, for each value or one
                number for all of them.
            factor: The size of a step, in (1, inf), as in `mutate`.

        Returns:
            A float64 array.
        """
        values = arguments.as_reals("values", values)
        direction = arguments.as_reals("direction", direction)
        if direction.shape not in ((), values.shape):
            raise ValueError(
                f"values and direction must have one shape, got {values.shape} and "
                f"{direction.shape}"
            )
        factor = arguments.as_real("factor", factor, "(1, inf)")
        scale = hyperparameters.SCALES[self.scale]
        size = (factor - 1) * (self.high - self.low) if self.scale == "linear" else np.log(factor)
        moved = scale.inverse(
            scale.forward(np.clip(values, self.low, self.high)) + direction * size
        )
        return np.clip(moved, self.low, self.high)


def uniform(low: float, high: float) -> Distribution:
    """Draw the values of an axis uniformly between two numbers.

    Args:
        low: The least value, any real number.
        high: The greatest value, above low.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not finite, or low is not below high.
        TypeError: A bound is not a number.

    Example:
        >>> momentax.sweeps.uniform(0, 1)
        Distribution(low=0.0, high=1.0, scale='linear')
    """
    return Distribution(low, high, "linear")


def log_uniform(low: float, high: float) -> Distribution:
    """Draw the values of an axis uniformly on a log scale, as suits learning rates.

    Args:
        low: The least value, above 0.
        high: The greatest value, above low.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not in (0, inf), or low is not below high.
        TypeError: A bound is not a number.

    Example:
        >>> momentax.sweeps.log_uniform(1e-3, 1)
        Distribution(low=0.001, high=1.0, scale='log')
    """
    return Distribution(low, high, "log")


def momentum_uniform(low: float, high: float) -> Distribution:
    """Draw the values of an axis so that log(1 - β) is uniform, as suits β.

    Args:
        low: The least β, in [0, 1).
        high: The greatest β, above low and below 1.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not in [0, 1), or low is not below high.
        TypeError: A bound is not a number.

    Example:
        >>> momentax.sweeps.momentum_uniform(0, 0.99)
        Distribution(low=0.0, high=0.99, scale='momentum')
    """
    return Distribution(low, high, "momentum")


def momentum_axis(low: float, high: float, count: int) -> np.ndarray:
    """Make an axis of β whose values of 1 - β are evenly spaced on a log scale.

        1 - β_i = (1 - low)^(1 - i/(count - 1)) (1 - high)^(i/(count - 1))

    Args:
        low: The first β, in [0, 1).
        high: The last β, above low and below 1.
        count: The number of values, at least 2.

    Returns:
        A float64 array of shape (count,), ascending, whose ends are exactly low
        and high: an axis for `grid`.

    Raises:
        ValueError: A bound is not in [0, 1), low is not below high, or count is
            below 2.
        TypeError: A bound is not a number, or count is not an integer.

    Example:
        >>> momentax.sweeps.momentum_axis(0.9, 0.999, 3).round(6).tolist()
        [0.9, 0.99, 0.999]
    """
    count = arguments.as_count("count", count, 2)
    axis = momentum_uniform(low, high).quantile(np.linspace(0, 1, count))
    axis[[0, -1]] = low, high  # Rounding could change the last digit.
    return axis
