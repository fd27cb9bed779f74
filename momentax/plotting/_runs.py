"""What a result holds of a metric, its seeds set apart."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from momentax._core import arguments
from momentax.sweeps import Points, SweepResult


class Runs:
    """A metric at every setting and seed.

    settings: the points without their seeds.
    values: float64, of the settings' shape, then the seeds, then what the metric has.
    lost: bools of the settings' shape, then the seeds: which runs count for nothing.
    """

    def __init__(self, points: Points, values: np.ndarray, lost: np.ndarray):
        dims = list(points.dims)
        rank = len(dims)
        if "seed" in dims:
            at = dims.index("seed")
            values, lost = np.moveaxis(values, at, rank - 1), np.moveaxis(lost, at, -1)
        else:
            values, lost = np.expand_dims(values, rank), lost[..., None]
        self.settings = Points({dim: axes for dim, axes in points.dims.items() if dim != "seed"})
        self.values, self.lost = values, lost

    @property
    def all_lost(self) -> np.ndarray:
        """The settings of which every run is lost."""
        return np.asarray(self.lost.all(-1))

    @property
    def some_lost(self) -> np.ndarray:
        """The settings of which some runs are lost and others not."""
        return self.lost.any(-1) & ~self.all_lost

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean over the runs that are not lost; NaN where all are."""
        return self._mean(self.values)

    @cached_property
    def error(self) -> np.ndarray:
        """The standard error of the mean; NaN where fewer than two runs are left."""
        count = self._beside((~self.lost).sum(-1))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            squares = self._mean((self.values - np.expand_dims(self.mean, self.lost.ndim - 1)) ** 2)
            return np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        lost = self.lost.reshape(self.lost.shape + (1,) * (values.ndim - self.lost.ndim))
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(lost, 0, values).sum(self.lost.ndim - 1)
            return total / self._beside((~self.lost).sum(-1))

    def _beside(self, array: np.ndarray) -> np.ndarray:
        """Something of each setting beside what the metric has there."""
        return array.reshape(array.shape + (1,) * (self.values.ndim - self.lost.ndim))


def runs(result: Any, metric: Any, history: bool = False) -> Runs:
    """A metric of a result: one number a point, or one dimension of them."""
    if not isinstance(result, SweepResult):
        raise TypeError(
            f"result must be what momentax.sweep returns, got {arguments.describe(result)}"
        )
    metrics = result.metrics()
    values = np.asarray(metrics[arguments.as_option("metric", metric, metrics)])
    shape = result.points.shape
    if 0 in shape:
        raise ValueError(f"result must hold at least one point, got none of shape {shape}")
    own = values.shape[len(shape) :]
    if len(own) != history or 0 in own:
        needed = "a history, with one dimension of its own" if history else "one number a point"
        other = "; curves draws a history" if len(own) == 1 and not history else ""
        raise ValueError(f"{metric} must be {needed}, got shape {own} at each point{other}")
    if not arguments.is_real(values) and values.dtype != bool:
        raise TypeError(f"{metric} must hold real numbers, got {values.dtype}")
    values = values.astype(np.float64)
    lost = np.asarray(result.diverged, bool)
    return Runs(result.points, values, lost if history else lost | ~np.isfinite(values))


def worst_shared(values: np.ndarray, mode: str) -> tuple[float, float, str]:
    """The limits of colour, the worst quarter beyond them, and which end that is.

    The end is "min" or "max", or "neither" where a quarter's limit is an end itself.
    """
    low, high = float(values.min()), float(values.max())
    limit = float(np.quantile(values, 0.25 if mode == "max" else 0.75))
    if not low < limit < high:
        return low, high, "neither"
    return (limit, high, "min") if mode == "max" else (low, limit, "max")
