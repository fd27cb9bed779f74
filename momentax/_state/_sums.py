"""Sums, counts and maxima over the arrays of one leaf of the parameters.

All of them are one reduction, which reads each array from memory once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from momentax._core import arithmetic
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import is_on_mesh, sharding_in_type


class Kinds(NamedTuple):
    """What is measured of one leaf, or a number for each of them."""

    gradient: Any
    clipped: Any
    velocity: Any
    update: Any
    parameter: Any


def _squares(parts: Kinds) -> dict[str, Any]:
    """Return the squared magnitudes of the entries of each part, in an order that is fast."""
    order = "velocity", "gradient", "clipped", "parameter", "update"
    named = {kind: part for kind in order if (part := getattr(parts, kind)) is not None}
    if parts.clipped is parts.gradient:
        named.pop("clipped", None)
    return {kind: product(part, part) for kind, part in named.items()}


def product(x: Any, y: Any) -> jax.Array:
    """Return the real inner product of each two entries."""
    return jnp.real(jnp.conj(x) * y) if jnp.iscomplexobj(x) or jnp.iscomplexobj(y) else x * y


def _magnitude(x: Any) -> jax.Array:
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)


# Reductions.


class Columns(NamedTuple):
    """Arrays of one shape, each with a name.

    sums: arrays to sum.
    counts: arrays of True and False, in which the number of True is counted.
    maxima: arrays without negative entries, to take the maximum of.
    """

    sums: Mapping[str, jax.Array]
    counts: Mapping[str, jax.Array] = {}
    maxima: Mapping[str, jax.Array] = {}


def reduce_all(columns: Columns, *, by_row: bool = False) -> dict[str, jax.Array]:
    """Return the sum, count or maximum of each array, or those of its rows, as a vector."""
    names = [*columns.sums, *columns.counts, *columns.maxima]
    if not names:
        return {}
    # On several devices the partial results of a stack would be sent as one larger array.
    on_cpu = _reduce_stacks if jax.device_count() == 1 else _reduce_each
    sums, counts, maxima = jax.lax.platform_dependent(
        [in_rows(x) for x in columns.sums.values()],
        [in_rows(x).astype(jnp.int32) for x in columns.counts.values()],
        [_as_integer(in_rows(x)) for x in columns.maxima.values()],
        cpu=partial(on_cpu, by_row),
        default=partial(_reduce_each, by_row),
    )
    maxima = [
        jax.lax.bitcast_convert_type(x, like.dtype)
        for x, like in zip(maxima, columns.maxima.values(), strict=True)
    ]
    return dict(zip(names, [*sums, *counts, *maxima], strict=True))


def _as_integer(x: jax.Array) -> jax.Array:
    """Return numbers that are not negative as integers in the same order.

    Their maximum needs no test for NaN.
    """
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    return jax.lax.bitcast_convert_type(x, integer)


def _reduce_each(by_row: bool, *kinds: list[jax.Array]) -> list[list[jax.Array]]:
    """Reduce all sums, counts and maxima by one reducer with a result for each of them."""
    arrays = [x for kind in kinds for x in kind]
    rows = arrays[0].ndim - _row_axes(arrays[0].shape)
    found = _reduce(arrays, [len(kind) for kind in kinds], range(rows, arrays[0].ndim))
    if not by_row:
        found = _reduce(found, [len(kind) for kind in kinds], range(rows))
    results = iter([jnp.ravel(x) for x in found])
    return [[next(results) for _ in kind] for kind in kinds]


def _reduce_stacks(by_row: bool, *kinds: list[jax.Array]) -> list[list[jax.Array]]:
    """Reduce a stack of the sums, one of the counts and one of the maxima.

    XLA:CPU vectorizes a reduction if its reducer has one floating-point operation, as it has here.
    The results for a row are computed one after another, with the row in the cache.
    """
    first, height = next(x for kind in kinds for x in kind), max(map(len, kinds))
    rows = first.ndim - _row_axes(first.shape)
    sums, counts, maxima = kinds
    # XLA:CPU would write a single stack to memory.
    counts = counts or [(first != first).astype(jnp.int32)]

    def stack(kind: list[jax.Array]) -> jax.Array:
        zeros = [jnp.zeros_like(kind[0])] * (height - len(kind))
        return jnp.stack([*zeros, *kind], rows)  # In this order the loops are fastest.

    stacks = [stack(kind) for kind in (sums, counts, maxima) if kind]
    numbers = [min(len(kind), 1) for kind in (sums, counts, maxima)]
    found = _reduce(stacks, numbers, range(rows + 1, first.ndim + 1))
    found = jax.lax.optimization_barrier(found)  # Also what is not used is computed.
    if not by_row:
        found = _reduce(found, numbers, range(rows))
    results = iter([jnp.reshape(x, (-1, height)) for x in found])
    tables = [next(results) if number else None for number in numbers]
    return [
        [] if table is None else [table[:, height - len(kind) + i] for i in range(len(kind))]
        for table, kind in zip(tables, kinds, strict=True)
    ]


def _reduce(
    operands: Sequence[jax.Array], numbers: Sequence[int], axes: Sequence[int]
) -> list[jax.Array]:
    """Reduce arrays over some axes: arrays to sum, then counts, then arrays to take the maximum of.

    The counts are integers, which are exact, and the results floating-point numbers, since the
    count of many rows may be larger than the largest integer.
    """
    if not axes:
        return list(operands)
    sums, counts, maxima = numbers
    reducers: list[Callable[[Any, Any], Any]]
    reducers = [jax.lax.add] * (sums + counts) + [jax.lax.max] * maxima

    def combine(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(f(a, b) for f, a, b in zip(reducers, x, y, strict=True))

    zeros = tuple(jnp.zeros((), x.dtype) for x in operands)
    found = list(jax.lax.reduce(tuple(operands), zeros, combine, tuple(axes)))
    for i in range(sums, sums + counts):
        found[i] = found[i].astype(float_dtype())
    return found


# Rows.

_ROW = 1024  # Short enough for the cache and for a sum in float32, and long enough for fast loops.


def _row_axes(shape: Sequence[int]) -> int:
    """Return how many of the last axes make a row of moderate length.

    Each row is reduced separately, which is accurate and uses several cores.
    """
    axes, length = 0, 1
    for size in reversed(shape):
        if length >= _ROW // 16 or (axes and length * size > 4 * _ROW):
            break
        axes, length = axes + 1, length * size
    return axes


def in_rows(array: jax.Array) -> jax.Array:
    """Return an array in another shape, of which the last axes make rows of moderate length.

    Where there is more than one device, axes are not merged, since they may be split over the
    devices.
    """
    shape = array.shape or (1,)
    if jax.device_count() == 1 and not is_on_mesh(array):
        shape = (array.size,)
    axes = _row_axes(shape)
    kept, length = shape[: len(shape) - axes], math.prod(shape[len(shape) - axes :])
    if length <= 4 * _ROW or sharding_in_type(array) is not None:
        return array.reshape(shape)
    lengths = (n for n in range(_ROW, _ROW // 4, -1) if length % n == 0)
    row = next(lengths, length)
    return array.reshape(*kept, length // row, row)


def kinds_in_rows(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf in rows."""
    rows = Kinds(*(None if x is None else in_rows(x) for x in parts))
    return rows._replace(clipped=rows.gradient) if parts.clipped is parts.gradient else rows


def leaf_sums(parts: Kinds, ratio: Any, step: Any, *, by_row: bool) -> dict[str, jax.Array]:
    """Return all sums over one leaf, or over each of its rows.

    Args:
        parts: The arrays of the leaf.
        ratio: r. The part g - r v of the gradient is measured too: if it is small, so is the angle
            of the two, which the cosine alone would not tell.
        step: The step to take the inner product of the gradient with, or None.
        by_row: Whether to return the sums of the rows.
    """
    parts = kinds_in_rows(parts)
    g, v = parts.gradient, parts.velocity
    sums, counts, maxima = _squares(parts), {}, {}
    if v is not None:
        maxima["largest"] = _magnitude(v)
    if g is not None and v is not None:
        counts["opposing"] = product(v, g) < 0
        rest = g - jnp.asarray(ratio, v.dtype) * v
        sums |= {"rest": product(rest, rest), "rest along": product(v, rest)}
    if step is not None and g is not None:
        sums["slope"] = product(g, in_rows(step))
    found = reduce_all(Columns(sums, counts, maxima), by_row=by_row)
    if v is not None:
        overflow = math.log10(float(jnp.finfo(v.dtype).max))
        found["decades"] = jnp.log10(found.pop("largest")) - overflow
    if g is not None and v is not None:
        found |= {"both velocity": found["velocity"], "both gradient": found["gradient"]}
    if parts.clipped is not None and parts.clipped is g:
        found["clipped"] = found["gradient"]
    return found


def upcast(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf in their compute dtypes."""
    wide = arithmetic.upcast(parts)
    return wide._replace(clipped=wide.gradient) if parts.clipped is parts.gradient else wide


def leaf_maxima(parts: Kinds, *, by_row: bool) -> dict[str, jax.Array]:
    """Return the largest magnitude of each part, and the number of entries that are not finite.

    With by_row they are those of each row.
    """
    parts = kinds_in_rows(parts)
    g = parts.gradient
    counts = {} if g is None else {"nonfinite": ~jnp.isfinite(g)}
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
    maxima = {kind: _magnitude(x) for kind, x in named.items()}
    return reduce_all(Columns({}, counts, maxima), by_row=by_row)


def scale(part: jax.Array, unit: jax.Array) -> jax.Array:
    """Return an array divided by a power of two, ready to be squared.

    Of (c x)² XLA makes c² x², where c² may over- or underflow. Of (c x + 0 c)² it does not.
    """
    c = (1 / unit).astype(part.dtype)
    return part * c + 0 * c
