"""Groups of points: which fulfil a condition, and the mean of each without the diverged ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._points import SEED, Points


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of several points, wherever some remain apart.

    points: what remains apart.
    mean: the values' means, float64 or complex128, with the points' shape in front.
    standard_error: the sample's standard deviation (divisor n - 1) over √n, NaN
        where fewer than two points entered.
    count: n, how many points entered: those that did not diverge.
    """

    points: Points
    mean: PyTree
    standard_error: PyTree
    count: np.ndarray


def settings(points: Points) -> tuple[Points, np.ndarray]:
    """The points without their seeds, and which of them each point is."""
    remaining = Points({dim: axes for dim, axes in points.dims.items() if dim != SEED})
    groups = np.arange(len(remaining)).reshape(remaining.shape)
    if SEED in points.dims:
        groups = np.expand_dims(groups, list(points.dims).index(SEED))
    return remaining, np.broadcast_to(groups, points.shape)


def distinct(points: Points, axis: str) -> tuple[Points, np.ndarray]:
    """A point for each distinct value of an axis, and which of them each point has."""
    position, values = next(
        (i, np.asarray(axes[axis])) for i, axes in enumerate(points.dims.values()) if axis in axes
    )
    found: dict[Any, int] = {}
    places = np.array([found.setdefault(value, len(found)) for value in values.tolist()])
    _, first = np.unique(places, return_index=True)
    groups = places[np.indices(points.shape)[position]]
    return Points({axis: {axis: values[first]}}), groups


def mean(remaining: Points, groups: np.ndarray, values: PyTree, entered: np.ndarray) -> Mean:
    """The values averaged over the points of each group that entered."""
    shape, ndim = remaining.shape, groups.ndim
    leaves, structure = jax.tree.flatten(values)
    means, errors = [], []
    for leaf in map(np.asarray, leaves):
        value, error, _ = averaged(leaf, entered, groups, len(remaining))
        means.append(value.reshape(shape + leaf.shape[ndim:]))
        errors.append(error.reshape(shape + leaf.shape[ndim:]))
    count = np.bincount(groups[entered], minlength=len(remaining)).reshape(shape)
    return Mean(remaining, structure.unflatten(means), structure.unflatten(errors), count)


def averaged(
    leaf: np.ndarray, entered: np.ndarray, groups: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over each group's points that entered, its standard error, and how many these are.

    leaf begins with the shape that entered and groups have, and the results with (number,).
    """
    group = groups[entered]
    sample = leaf[entered].astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)
    count = np.bincount(group, minlength=number)
    n = count.reshape(-1, *[1] * (sample.ndim - 1))

    def total(terms: np.ndarray) -> np.ndarray:
        sums = np.zeros((number, *terms.shape[1:]), terms.dtype)
        np.add.at(sums, group, terms)
        return sums

    with np.errstate(all="ignore"):  # NaN, where no point entered, or only one.
        value = total(sample) / n
        error = np.sqrt(total(np.abs(sample - value[group]) ** 2) / (n - 1) / n)
    return value, error, count


def meets(values: np.ndarray, asked: Any) -> np.ndarray:
    """Which values of an axis are as asked: a value, one of several, or what a function says."""
    if values.dtype != object or not _equal(values, asked).any():
        if callable(asked):
            return np.array([bool(asked(value)) for value in values])
        several = isinstance(asked, Iterable) and not isinstance(asked, str)
        if several and getattr(asked, "ndim", 1):  # A 0-d array can be iterated by name alone.
            each = [_equal(values, one) for one in asked]
            return np.any(each, axis=0) if each else np.full(len(values), False)
    return _equal(values, asked)


def _equal(values: np.ndarray, one: Any) -> np.ndarray:
    """Which values of an axis one value is, in the axis' own dtype if that is floating."""
    if values.dtype == object:
        try:
            same = {one}
        except TypeError:  # What cannot be hashed is on no axis.
            return np.full(len(values), False)
        return np.array([value in same for value in values])
    if not arguments.is_real(one) or np.ndim(one):
        return np.full(len(values), False)
    with np.errstate(over="ignore"):
        kept = np.asarray(one, values.dtype if values.dtype.kind == "f" else None).item()
    return np.array([value == kept for value in values.tolist()])
