"""Grids of hyperparameters: named axes and every combination of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax import _check


@dataclass(frozen=True)
class Grid:
    """Every combination of the values on a few named axes.

    axes: each axis' values, 1-D, in the order of the axes; not to be changed.
    """

    axes: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", MappingProxyType(dict(self.axes)))

    def __reduce__(self) -> tuple[Any, ...]:  # The proxy itself cannot be pickled.
        return Grid, (dict(self.axes),)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values on each axis."""
        return tuple(len(values) for values in self.axes.values())

    def points(self) -> dict[str, jax.Array]:
        """Each axis' value at every point, flat, the last axis running fastest."""
        meshes = np.meshgrid(*self.axes.values(), indexing="ij")
        return {
            name: jnp.asarray(mesh.ravel()) for name, mesh in zip(self.axes, meshes, strict=True)
        }


def grid(**axes: Any) -> Grid:
    """Make the grid of every combination of values on named axes.

    Args:
        **axes: A 1-D sequence of numbers per axis. Axes named learning_rate,
            beta, nu, dampening or weight_decay are held to the intervals that
            momentax gives these words.

    Returns:
        A Grid, for `sweep`. Its axes keep the order given; floats are held in
        float32, or float64 where JAX keeps 64 bits.

    Raises:
        ValueError: There is no axis, an axis is empty or not 1-D, or a value is
            not finite, lies outside its interval or is there twice; the axis,
            the index and the value are named.
        TypeError: An axis holds something other than numbers.
    """
    if not axes:
        raise ValueError("grid needs at least one axis, such as beta=[0.0, 0.9]")
    return Grid({name: _axis(name, values) for name, values in axes.items()})


def _axis(name: str, values: Any) -> np.ndarray:
    wrong = f"axis {name} must hold numbers, got {_check.shown(values)}"
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # Rows of different lengths, or random keys.
        raise TypeError(wrong) from None
    if not _check.is_real(array):
        raise TypeError(wrong)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"axis {name} must be a sequence of at least one value, got shape {array.shape}; "
            f"for a single value write {name}=[value]"
        )
    whole = array.dtype.kind in "iu"
    kept = array.astype(_check.dtype_of(array)) if whole else _check.rounded(array)
    if whole and not np.array_equal(kept, array):
        raise ValueError(
            f"axis {name} holds whole numbers that {kept.dtype} cannot, got {_check.shown(values)}"
        )
    interval = _check.INTERVALS.get(name, "(-inf, inf)")
    inside = _check.contains(interval, array) & _check.contains(interval, kept)
    if not inside.all():
        index = int(np.argmin(inside))
        wrong = (
            f"axis {name} must be in {interval}, got {_check.shown(array[index])} at index {index}"
        )
        if _check.contains(interval, array[index]):
            wrong = f"{wrong}, which {kept.dtype} rounds to {kept[index]}"
        raise ValueError(wrong)
    unique, first = np.unique(kept, return_index=True)
    if len(unique) < len(kept):
        index = int(np.setdiff1d(np.arange(len(kept)), first)[0])
        raise ValueError(
            f"axis {name} must not repeat a value, got {array[index]} again at {index}"
        )
    return kept
