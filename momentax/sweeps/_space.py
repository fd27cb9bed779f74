"""The space of a search: its axes, each with a coordinate in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from momentax._core import arguments
from momentax.sweeps._axes import as_axis, describe_value, is_static
from momentax.sweeps._distributions import Distribution
from momentax.sweeps._points import POINT, Points


@dataclass(frozen=True, eq=False)
class Space:
    """The axes of a search. A point is a row of coordinates in [0, 1], one for each axis.

    axes: for each axis its distribution, or the array of the values among which it chooses.
    """

    axes: Mapping[str, Distribution | np.ndarray]

    @property
    def size(self) -> float:
        """The number of different points; infinite where an axis has a distribution."""
        return math.prod(
            math.inf if isinstance(values, Distribution) else len(values)
            for values in self.axes.values()
        )

    def round(self, unit: np.ndarray) -> np.ndarray:
        """Round coordinates to float32, and those of a choice to one number for each value.

        Equal points then have equal coordinates, which a store can keep.
        """
        rounded = np.clip(unit, 0, 1).astype(np.float32)
        for column, values in enumerate(self.axes.values()):
            if not isinstance(values, Distribution):
                count = len(values)
                rounded[:, column] = (_place(rounded[:, column], count) + 0.5) / count
        return rounded

    def points(self, unit: np.ndarray) -> Points:
        """Return the points with these coordinates, on the one dimension "point"."""
        columns: dict[str, Any] = {}
        for (name, values), share in zip(self.axes.items(), unit.T, strict=True):
            if isinstance(values, Distribution):
                quantiles = values.quantile(share.astype(np.float64))
                columns[name] = as_axis(name, quantiles, distinct=False)
            else:
                columns[name] = values[_place(share, len(values))]
        return Points({POINT: columns})

    def features(self, unit: np.ndarray) -> np.ndarray:
        """Return what a model sees of points: distances mean something in each column.

        A choice among numbers has the place of the number in their order, from 0 to 1. A choice
        among other things has a column for each of them, and two of them have distance 1.
        """
        columns: list[np.ndarray] = []
        for values, share in zip(self.axes.values(), unit.T.astype(np.float64), strict=True):
            if isinstance(values, Distribution):
                columns.append(share)
            elif is_static(values):
                place = _place(share, len(values))
                columns += [(place == i) * math.sqrt(0.5) for i in range(len(values))]
            else:
                order = np.argsort(np.argsort(values)) / max(len(values) - 1, 1)
                columns.append(order[_place(share, len(values))])
        return np.stack(columns, axis=1)

    def examples(self, static: Collection[Any]) -> Points:
        """Return a point for each combination of static values, with any numbers on other axes.

        static: the names of the axes of numbers that are static.
        """
        dims: dict[str, Any] = {}
        for name, values in self.axes.items():
            if isinstance(values, Distribution):
                dims[name] = {name: as_axis(name, [values.low])}
            else:
                every = is_static(values) or name in static
                dims[name] = {name: values if every else values[:1]}
        return Points(dims)

    def describe(self) -> list[str]:
        """Describe each axis in the same words in every process."""
        described = []
        for name, values in self.axes.items():
            each = values if isinstance(values, Distribution) else list(map(describe_value, values))
            described.append(f"{arguments.printable(name)}: {each}")
        return described


def as_space(space: Any) -> Space:
    """Return the checked argument `space` of `search`."""
    if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
        raise TypeError(
            "space must be a dictionary from the name of each axis to its distribution or its "
            'values, such as {"learning_rate": momentax.sweeps.log_uniform(1e-3, 1)}, got '
            f"{arguments.describe(space)}"
        )
    if not space:
        raise ValueError(
            "space must have at least one axis, such as "
            '{"learning_rate": momentax.sweeps.log_uniform(1e-3, 1)}, got an empty dictionary'
        )
    return Space({name: _as_axis_of_space(name, values) for name, values in space.items()})


def _as_axis_of_space(name: str, values: Any) -> Distribution | np.ndarray:
    if isinstance(values, tuple):  # A range is meant as often as a choice is.
        raise TypeError(
            f"axis {arguments.printable(name)} of space must be a distribution, such as "
            "momentax.sweeps.log_uniform(1e-3, 1), or a list of the values to choose from, got the "
            f"tuple {arguments.describe(values)}"
        )
    try:
        if isinstance(values, Distribution):
            as_axis(name, [values.low, values.high])  # Both ends can be proposed.
            return values
        return as_axis(name, values)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"space is wrong: {error}") from error


def _place(share: np.ndarray, count: int) -> np.ndarray:
    """Return which of so many values a coordinate stands for."""
    return np.minimum(share * count, count - 1).astype(int)
