"""A metric of a sweep, and its mean over the seeds of each setting."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from momentax._core.arguments import as_option, describe, is_real, printable
from momentax._core.metrics import require_mode
from momentax.sweeps import Points, SweepResult


class SeedMeans(NamedTuple):
    """A metric at every setting: a point apart from its seed.

    settings: the points without their seeds.
    mean: the mean over the runs that did not diverge, NaN where all did; of the settings'
        shape, then the metric's own.
    standard_error: of the mean; NaN where fewer than two runs did not diverge.
    all_diverged: bools of the settings' shape.
    some_diverged: bools; False also where all diverged.
    """

    settings: Points
    mean: np.ndarray
    standard_error: np.ndarray
    all_diverged: np.ndarray
    some_diverged: np.ndarray


def average_over_seeds(points: Points, values: np.ndarray, diverged: np.ndarray) -> SeedMeans:
    """Average over the seeds; values begin with the points' shape, which diverged has."""
    if "seed" not in points.dims:  # Each setting ran once.
        points = Points({**points.dims, "seed": {"seed": np.zeros(1, np.int32)}})
        values, diverged = np.expand_dims(values, diverged.ndim), diverged[..., None]
    means = SweepResult(points, values, diverged).over_seeds()
    runs = len(points) // len(means.points)
    some_diverged = (means.count > 0) & (means.count < runs)
    return SeedMeans(
        means.points, means.mean, means.standard_error, means.count == 0, some_diverged
    )


def best_end(mode: Any, metric: str, result: SweepResult | None = None) -> str:
    """Return whether the largest or smallest value is best: `mode`, or what is known of it."""
    if mode is not None:
        return as_option("mode", mode, ("max", "min"))
    if result is None:
        if not metric:
            raise ValueError(
                'give mode="max" or mode="min", or a label that tells whether more or less is '
                'better, such as label="test loss"'
            )
        return require_mode(metric, None, "label")
    return result.mode_of(metric)


def read_metric(
    result: Any, metric: Any, *, name: str = "metric", history: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return a metric of a result in float64, and which runs diverged.

    `name` is that of the argument which names the metric.

    A metric has one number at each point, or with `history` one dimension of numbers. A single
    number that is not finite counts as diverged.
    """
    if not isinstance(result, SweepResult):
        raise TypeError(f"result must be what momentax.sweep returns, got {describe(result)}")
    metrics = result.metrics()
    values = np.asarray(metrics[as_option(name, metric, metrics)])
    metric, shape = printable(metric), result.points.shape
    if 0 in shape:
        raise ValueError(f"result must hold at least one point, got the shape {shape}")
    own_shape = values.shape[len(shape) :]
    if len(own_shape) != history or 0 in own_shape:
        needed = "one number a point"
        if history:
            needed = "a history, with one dimension beside the points"
        remedy = "; curves draws a history" if len(own_shape) == 1 and not history else ""
        raise ValueError(f"{metric} must be {needed}, got shape {own_shape} at each point{remedy}")
    if not is_real(values) and values.dtype != bool:
        raise TypeError(f"{metric} must hold real numbers, got {values.dtype}")
    values = values.astype(np.float64)
    diverged = np.asarray(result.diverged, bool)
    return values, diverged if history else diverged | ~np.isfinite(values)
