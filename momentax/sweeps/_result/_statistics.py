"""Groups of points: which of them meet a condition, their means and their ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps._points import SEED, Points
from momentax.sweeps._result._records import Mean


def group_by_setting(points: Points) -> tuple[Points, np.ndarray]:
    """Return the points without their seeds, and for each point the index of its setting."""
    remaining = Points({dim: axes for dim, axes in points.dims.items() if dim != SEED})
    groups = np.arange(len(remaining)).reshape(remaining.shape)
    if SEED in points.dims:
        groups = np.expand_dims(groups, list(points.dims).index(SEED))
    return remaining, np.broadcast_to(groups, points.shape)


def group_by_value(points: Points, axis: str) -> tuple[Points, np.ndarray]:
    """Return a point for each distinct value of an axis, and for each point its index."""
    dim, values = next(
        (i, np.asarray(axes[axis])) for i, axes in enumerate(points.dims.values()) if axis in axes
    )
    indices: dict[Any, int] = {}
    index = np.array([indices.setdefault(value, len(indices)) for value in values.tolist()])
    _, first = np.unique(index, return_index=True)
    groups = index[np.indices(points.shape)[dim]]
    return Points({axis: {axis: values[first]}}), groups


def mean_of_groups(
    remaining: Points, groups: np.ndarray, values: PyTree, included: np.ndarray
) -> Mean:
    """Average the values over the points of each group that are included."""
    shape, ndim = remaining.shape, groups.ndim
    leaves, structure = jax.tree.flatten(values)
    means, errors = [], []
    for leaf in map(np.asarray, leaves):
        value, error, _ = mean_and_error(leaf, included, groups, len(remaining))
        means.append(value.reshape(shape + leaf.shape[ndim:]))
        errors.append(error.reshape(shape + leaf.shape[ndim:]))
    count = np.bincount(groups[included], minlength=len(remaining)).reshape(shape)
    return Mean(remaining, structure.unflatten(means), structure.unflatten(errors), count)


def mean_and_error(
    leaf: np.ndarray, included: np.ndarray, groups: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over each group's included points, its standard error and their number.

    The leading axes of `leaf` have the shape of `included` and `groups`; the
    results have shape (number, ...).
    """
    group = groups[included]
    sample = leaf[included].astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)
    count = np.bincount(group, minlength=number)
    n = count.reshape(-1, *[1] * (sample.ndim - 1))

    def sum_groups(terms: np.ndarray) -> np.ndarray:
        sums = np.zeros((number, *terms.shape[1:]), terms.dtype)
        np.add.at(sums, group, terms)
        return sums

    with np.errstate(all="ignore"):  # The results are NaN where n is 0 or 1.
        value = sum_groups(sample) / n
        error = np.sqrt(sum_groups(np.abs(sample - value[group]) ** 2) / (n - 1) / n)
    return value, error, count


def meets_condition(values: np.ndarray, condition: Any) -> np.ndarray:
    """Return which values of an axis equal the condition, are in it, or satisfy it."""
    if values.dtype != object or not _equals(values, condition).any():
        if callable(condition):
            return np.array([_holds(condition, value) for value in values])
        is_several = isinstance(condition, Iterable) and not isinstance(condition, str)
        if is_several and getattr(condition, "ndim", 1):  # A 0-d array cannot be iterated.
            each = [_equals(values, one) for one in condition]
            return np.any(each, axis=0) if each else np.full(len(values), False)
    return _equals(values, condition)


def _holds(condition: Any, value: Any) -> bool:
    """Return whether a value meets a condition that is a function, and name it in an error."""
    try:
        return bool(condition(value))
    except Exception as error:  # The user's function can raise anything.
        raise TypeError(
            f"the condition {arguments.describe(condition)} raised for the value "
            f"{arguments.describe(value)}: {type(error).__name__}: {error}"
        ) from error


def _equals(values: np.ndarray, one: Any) -> np.ndarray:
    """Return which values of an axis equal one value, in the dtype of a floating axis."""
    if values.dtype == object:
        try:
            same = {one}
        except TypeError:  # An axis holds only hashable values.
            return np.full(len(values), False)
        return np.array([value in same for value in values])
    if not arguments.is_real(one) or np.ndim(one):
        return np.full(len(values), False)
    with np.errstate(over="ignore"):
        kept = np.asarray(one, values.dtype if values.dtype.kind == "f" else None).item()
    return np.array([value == kept for value in values.tolist()])
