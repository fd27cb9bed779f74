"""Groups of points that share their static values, and so a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._points import Points


class Group(NamedTuple):
    """The points that share their static values.

    fixed: the static values, by axis.
    indices: the flat indices of the group's points among all points.
    columns: the values of the other axes at all points.
    """

    fixed: dict[str, Any]
    indices: np.ndarray
    columns: dict[str, np.ndarray]

    def make_batch(self, index: np.ndarray) -> PyTree:
        """Return the arguments of a batch of points; a program has at least one."""
        number = None if self.columns else index.astype(np.int32)
        return number, take_columns(self.columns, index)

    def point_shapes(self) -> PyTree:
        """Return the shapes of a point: its numbers, or its index if it has none."""
        number = None if self.columns else jax.ShapeDtypeStruct((), np.int32)
        return number, column_shapes(self.columns)


def take_columns(columns: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    """Return each axis' values at some points."""
    return {name: values[index] for name, values in columns.items()}


def column_shapes(columns: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shape of each axis' value at one point."""
    return {name: jax.ShapeDtypeStruct((), values.dtype) for name, values in columns.items()}


def group_points(points: Points, static: Sequence[str]) -> list[Group]:
    """Group the points by the values of their static axes, in order of appearance."""
    axes = points.axes
    wrong = f"static must name axes of the points, {list(axes)}, got "
    if not isinstance(static, str | list | tuple | set | frozenset):
        raise TypeError(wrong + arguments.describe(static))
    static = (static,) if isinstance(static, str) else tuple(static)
    for name in static:
        if not isinstance(name, str) or name not in axes:
            raise ValueError(wrong + arguments.describe(name))
    fixed = [name for name in axes if name in static or name in points.static]
    columns = points.columns()
    indices = np.arange(len(points))
    moving = {name: values for name, values in columns.items() if name not in fixed}
    if not fixed:
        return [Group({}, indices, moving)]
    numbered = np.stack([_number_values(columns[name]) for name in fixed])
    _, first, group = np.unique(numbered, axis=1, return_index=True, return_inverse=True)
    group = group.ravel()
    return [
        Group(
            {name: _as_python(columns[name][start]) for name in fixed}, indices[group == g], moving
        )
        for g, start in sorted(enumerate(first), key=lambda pair: pair[1])
    ]


def _number_values(values: np.ndarray) -> np.ndarray:
    """Number the distinct values; 1, 1.0 and True are three values."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault((type(v), v), len(seen)) for v in values.tolist()])


def _as_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
