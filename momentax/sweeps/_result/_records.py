"""The records that a result gives: how a sweep ran, its best settings and its means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._axes import describe_value
from momentax.sweeps._points import Points
from momentax.sweeps._result._metrics import name_leaves


class Report(NamedTuple):
    """How a sweep ran.

    batch_size: the number of points in one call of a compiled program.
    devices: the number of devices over which the points were split.
    device_kind: the kind of these devices.
    programs: the number of compiled programs, one per batch shape and static value.
    tried: the batch sizes that were measured, with the seconds per point.
    resumed: the number of points that were read from the store.
    damaged: the files of the store that were damaged, so that their points ran again.
    """

    batch_size: int
    devices: int
    device_kind: str
    programs: int
    tried: tuple[tuple[int, float], ...] = ()
    resumed: int = 0
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Best:
    """A setting that a metric ranks, and the metric there; best["beta"] is its β.

    point: the setting's axes, without the seed.
    value: the metric, averaged over the seeds.
    standard_error: the standard error of that mean, NaN with fewer than two seeds.
    index: the setting's position in the arrays of `over_seeds`. As `repeat` puts
        the seeds last, result[metric][index] are the metric's values, one per seed.
    """

    point: dict[str, Any]
    value: float
    standard_error: float
    index: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.point, dict) or not all(isinstance(n, str) for n in self.point):
            raise TypeError(
                "point must be a dictionary from each axis to its value, got "
                f"{arguments.describe(self.point)}"
            )
        for name in ("value", "standard_error"):
            number = getattr(self, name)
            if not isinstance(number, float):
                raise TypeError(f"{name} must be a float, got {arguments.describe(number)}")
        if not isinstance(self.index, tuple):
            raise TypeError(
                f"index must be a tuple of whole numbers, got {arguments.describe(self.index)}"
            )
        for place in self.index:
            arguments.as_count("index", place, 0)

    def __getitem__(self, axis: str) -> Any:
        return self.point[axis]

    def __repr__(self) -> str:
        point = ", ".join(f"{axis!r}: {_literal(value)}" for axis, value in self.point.items())
        return (
            f"Best(point={{{point}}}, value={self.value:.6g}, "
            f"standard_error={self.standard_error:.2g}, index={self.index!r})"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Mean:
    """The mean over several points, for each of those that remain.

    points: the points that remain.
    mean: the means of the values, float64 or complex128, with the points' shape
        on the leading axes.
    standard_error: the sample's standard deviation (divisor n - 1) over √n, NaN
        where n is below 2.
    count: n, the number of points that were averaged: those that did not diverge.
    """

    points: Points
    mean: PyTree
    standard_error: PyTree
    count: np.ndarray

    def __repr__(self) -> str:
        metrics = (
            f"{arguments.printable(name)} {np.shape(leaf)}"
            for name, leaf in name_leaves(self.mean).items()
        )
        return "\n  ".join(
            [
                f"Mean at {self.points!r}",
                f"metrics: {', '.join(metrics) or 'none'}",
                f"points averaged: {_describe_range(self.count)}",
            ]
        )


def _describe_range(count: Any) -> str:
    """Describe an array of numbers by the least and the greatest of them."""
    if not isinstance(count, np.ndarray) or not count.size:  # jax.tree.map may have put it there.
        return arguments.describe(count)
    least, most = int(count.min()), int(count.max())
    return str(most) if least == most else f"{least} to {most}"


def _literal(value: Any) -> str:
    """Write a value of a point as Python does, in as few digits as its dtype needs."""
    if isinstance(value, str):
        return repr(value)
    return arguments.describe(value) if arguments.is_traced(value) else describe_value(value)
