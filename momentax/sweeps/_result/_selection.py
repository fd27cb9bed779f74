"""The points of a result that meet conditions, found by the names of their axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from momentax._core import arguments
from momentax.sweeps._points import Points
from momentax.sweeps._result import _table
from momentax.sweeps._result._statistics import meets_condition


class UnknownNameError(KeyError):
    """There is no metric or axis of this name.

    It prints its message without the quotes that KeyError adds.
    """

    def __str__(self) -> str:
        return self.args[0]


def find_axis(points: Points, name: Any) -> tuple[np.ndarray, str]:
    """Return an axis' values, and the dimension along which it varies."""
    for dim, axes in points.dims.items():
        if isinstance(name, str) and name in axes:
            return np.asarray(axes[name]), dim
    raise UnknownNameError(
        f"there is no axis {arguments.describe(name)}; the axes are: {listed(points.axes)}"
    )


def listed(names: Iterable[str]) -> str:
    """Return names for a message; none if there are none."""
    return ", ".join(map(arguments.printable, names)) or "none"


def select(points: Points, conditions: Mapping[str, Any]) -> tuple[Points, tuple[np.ndarray, ...]]:
    """Return the points that meet every condition, and their indices, for arrays of all points."""
    kept = {dim: np.full(n, True) for dim, n in zip(points.dims, points.shape, strict=True)}
    for name, condition in conditions.items():
        values, dim = find_axis(points, name)
        try:
            is_met = meets_condition(values, condition)
        except TypeError as error:
            raise TypeError(f"{arguments.printable(name)}: {error}") from error
        if not is_met.any():
            raise ValueError(
                f"no point has {arguments.printable(name)}={arguments.describe(condition)}: "
                f"the axis holds {arguments.describe(_table.as_common_dtype(values))}"
            )
        kept[dim] &= is_met
        if not kept[dim].any():
            raise ValueError(
                f"each condition is met by some point, but no point meets all of them on the "
                f"dimension {arguments.printable(dim)}: {listed(points.dims[dim])}"
            )
    selected = Points(
        {
            dim: {name: np.asarray(values)[kept[dim]] for name, values in axes.items()}
            for dim, axes in points.dims.items()
        }
    )
    return selected, np.ix_(*(np.flatnonzero(keep) for keep in kept.values()))
