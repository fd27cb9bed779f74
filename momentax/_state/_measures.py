"""Measures of gradients, velocities, updates and parameters, for each group of leaves.

Each leaf is read once: XLA:CPU computes all sums over it in one loop if they are one reduction. The
squares of very large and very small numbers over- and underflow. Where that may have happened, the
arrays are read again, scaled by powers of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import sharding_in_type
from momentax._core.typing import PyTree

# What is measured of each leaf of the parameters: an array, or None where there is none.
Parts = Sequence[Any]


def angle(v: PyTree, g: PyTree) -> jax.Array:
    """Return the angle between two trees as vectors, in degrees; NaN where one of them is zero.

    Kahan's formula is accurate near 0 and near 180 too.
    """
    v, g = arithmetic.unit(v), arithmetic.unit(g)
    difference = arithmetic.norm(arithmetic.combine((1.0, v), (-1.0, g), like=v))
    total = arithmetic.norm(arithmetic.combine((1.0, v), (1.0, g), like=v))
    return jnp.where(arithmetic.norm(v) > 0, _angle_of(difference, total), jnp.nan)


def _angle_of(difference: jax.Array, total: jax.Array) -> jax.Array:
    """Return the angle between two unit vectors from the norms of their difference and sum."""
    return jnp.rad2deg(2 * jnp.arctan2(difference, total))


class Measure(NamedTuple):
    """One number for each group of leaves, and whether it is known."""

    value: jax.Array
    known: jax.Array


class Groups(NamedTuple):
    """Which leaves are measured together.

    rows: the number of the group of each leaf; NumPy's where it is known while tracing.
    number: the number of groups.
    """

    rows: Any
    number: int

    def total(self, leaves: jax.Array) -> jax.Array:
        """Sum the numbers of the leaves, on the first axis, over each group."""
        if self.number == 1:
            return jnp.sum(leaves, axis=0, keepdims=True)
        return jnp.zeros((self.number, *leaves.shape[1:]), leaves.dtype).at[self.rows].add(leaves)

    def largest(self, leaves: jax.Array) -> jax.Array:
        """Return the largest number of the leaves of each group, -∞ without any."""
        least = jnp.full((self.number, *leaves.shape[1:]), -jnp.inf, leaves.dtype)
        return least.at[self.rows].max(leaves)

    def any(self, leaves: Any) -> jax.Array:
        """Return which groups have a leaf for which something holds."""
        return self.total(jnp.asarray(leaves, jnp.int32).reshape(len(self.rows))) > 0


# The sums over one leaf.


class Kinds(NamedTuple):
    """What is measured of one leaf, or a number for each of them."""

    gradient: Any
    clipped: Any
    velocity: Any
    update: Any
    parameter: Any


def _squares(parts: Kinds) -> dict[str, Any]:
    """Return the squared magnitudes of the entries of each part."""
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
    if parts.clipped is parts.gradient:
        named.pop("clipped", None)
    return {kind: _product(part, part) for kind, part in named.items()}


def _product(x: Any, y: Any) -> jax.Array:
    """Return the real inner product of each two entries."""
    return jnp.real(jnp.conj(x) * y) if jnp.iscomplexobj(x) or jnp.iscomplexobj(y) else x * y


def _magnitude(x: Any) -> jax.Array:
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)


def _as_integer(x: jax.Array) -> jax.Array:
    """Return numbers that are not negative as integers in the same order.

    Their maximum needs no test for NaN.
    """
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    return jax.lax.bitcast_convert_type(x, integer)


def _reduce(sums: Mapping[str, jax.Array], maxima: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the sum of each of some arrays of one shape, and the maximum of others, in one loop.

    What the maxima are taken of is not negative.
    """
    names = [*sums, *maxima]
    if not names:
        return {}
    operands = [*sums.values(), *(_as_integer(x) for x in maxima.values())]

    def add(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, ...]:
        pairs = zip(x, y, strict=True)
        return tuple(
            a + b if i < len(sums) else jnp.maximum(a, b) for i, (a, b) in enumerate(pairs)
        )

    def reduce(operands: Sequence[Any], axes: Sequence[int]) -> list[Any]:
        zeros = tuple(jnp.zeros((), x.dtype) for x in operands)
        return list(jax.lax.reduce(tuple(operands), zeros, add, tuple(axes)))

    rows, axes = _rows(operands)
    totals = reduce(reduce(rows, axes), range(rows[0].ndim - len(axes)))
    for i, x in enumerate(maxima.values(), len(sums)):
        totals[i] = jax.lax.bitcast_convert_type(totals[i], x.dtype)
    return dict(zip(names, totals, strict=True))


_ROW = 4096  # Long enough for a fast loop, and short enough for a sum in float32.


def _rows(operands: list[Any]) -> tuple[list[Any], list[int]]:
    """Return arrays in rows of moderate length, and the axes of the rows.

    Each row is summed separately, which is accurate and uses several cores.
    """
    first = operands[0]
    axes: list[int] = []
    length = 1
    for axis in reversed(range(first.ndim)):
        if length >= _ROW // 16 or (axes and length * first.shape[axis] > 4 * _ROW):
            break
        axes.append(axis)
        length *= first.shape[axis]
    if length <= 4 * _ROW or length % _ROW or sharding_in_type(first) is not None:
        return operands, axes
    kept = first.shape[: first.ndim - len(axes)]
    return [x.reshape(*kept, -1, _ROW) for x in operands], [len(kept) + 1]


def _leaf_sums(parts: Kinds, sign: Any, ratio: Any, step: Any) -> dict[str, jax.Array]:
    """Return all sums over one leaf.

    Args:
        parts: The arrays of the leaf.
        sign: 1 or -1, by which the velocity is multiplied.
        ratio: r. The part g - r v of the gradient is measured too: if it is small, so is the angle
            of the two, which the cosine alone would not tell.
        step: The step to take the inner product of the gradient with, and whether it was made; or
            None.
    """
    g, v = parts.gradient, parts.velocity
    sums, maxima = _squares(parts), {}
    if v is not None:
        maxima["largest"] = _magnitude(v)
    if v is not None and g is not None:
        sign = jnp.asarray(sign, jnp.finfo(v.dtype).dtype)
        rest = g - (sign * jnp.asarray(ratio, sign.dtype)).astype(v.dtype) * v
        sums |= {
            "rest": _product(rest, rest),
            "rest along": sign * _product(v, rest),
            "opposing": (sign * _product(v, g) < 0).astype(sign.dtype),
        }
    if step is not None and g is not None:
        sums["slope"] = _product(g, arithmetic.upcast(step[0]))
    found = _reduce(sums, maxima)
    if step is not None and "slope" in found:
        found["slope"] = jnp.where(step[1], found["slope"], 0)
    if parts.clipped is not None and parts.clipped is g:
        found["clipped"] = found["gradient"]
    return found


# The measures of groups.

_SMALLEST = 1e-20  # Smaller sums of squares may have lost terms that are not representable.


class Totals(NamedTuple):
    """The measures of each group, arrays with one number for each.

    norms: the Euclidean norms, by kind.
    cosine: of velocity and gradient over the leaves that have both, and so are the next two.
    angle: in degrees.
    opposing: the number of entries whose velocity and gradient have opposite signs.
    nonfinite: the number of entries of the gradient that are infinite or NaN.
    slope: the inner product of gradient and step.
    """

    norms: dict[str, jax.Array]
    cosine: jax.Array
    angle: jax.Array
    opposing: jax.Array
    nonfinite: jax.Array
    slope: jax.Array


def measure(
    groups: Groups, read: Callable[[], Sequence[Kinds]], signs: Sequence[Any], steps: Parts
) -> tuple[Totals, jax.Array]:
    """Return the measures of each group, and the largest magnitude of each leaf's velocity.

    Args:
        groups: Which leaves are measured together.
        read: Returns the arrays of each leaf. It is called again where they are read again, so that
            XLA computes them there and keeps no buffer for them.
        signs: 1 or -1 for each leaf, by which the velocity is multiplied.
        steps: The step of each leaf to take the inner product of the gradient with, and whether it
            was made, or None.
    """
    leaves = [_upcast_leaf(parts) for parts in read()]
    units = {kind: jnp.ones(groups.number, float_dtype()) for kind in Kinds._fields}
    totals, largest, is_accurate = _measure(groups, leaves, signs, steps, units)
    totals = jax.lax.cond(
        is_accurate, lambda: totals, lambda: _measure_scaled(groups, read(), signs, steps)
    )
    return totals, largest


def _upcast_leaf(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf in their compute dtypes."""
    if parts.clipped is parts.gradient and parts.gradient is not None:
        upcast = _upcast_leaf(parts._replace(clipped=None))
        return upcast._replace(clipped=upcast.gradient)
    return Kinds(
        *(
            None if part is None else jnp.asarray(part, arithmetic.compute_dtype(part))
            for part in parts
        )
    )


def _column(sums: Sequence[Mapping[str, Any]], name: str) -> jax.Array:
    """Return one number of each leaf, 0 where it has none."""
    numbers = [jnp.asarray(each.get(name, 0), float_dtype()) for each in sums]
    return jnp.stack(numbers) if numbers else jnp.zeros(0, float_dtype())


def has(leaves: Sequence[Kinds], *kinds: str) -> np.ndarray:
    """Return for each leaf whether it has arrays of some kinds."""
    found = [all(getattr(parts, kind) is not None for kind in kinds) for parts in leaves]
    return np.asarray(found, np.bool_)


def _measure(
    groups: Groups,
    leaves: Sequence[Kinds],
    signs: Sequence[Any],
    steps: Parts,
    units: Mapping[str, jax.Array],
) -> tuple[Totals, jax.Array, jax.Array]:
    """Return the measures, the largest magnitude of each velocity, and whether all are accurate.

    The arrays of each kind were divided by the unit of their group.
    """
    ratios = _ratios(groups, leaves, signs)
    rows = zip(leaves, signs, ratios[groups.rows], steps, strict=True)
    sums = [_leaf_sums(*row) for row in rows]
    both = has(leaves, "velocity", "gradient")
    columns = [_column(sums, kind) for kind in Kinds._fields]
    columns += [jnp.where(both, _column(sums, kind), 0) for kind in ("velocity", "gradient")]
    columns += [_column(sums, name) for name in ("rest", "rest along", "opposing", "slope")]
    *squares, vv, gg, rest, along, opposing, slope = groups.total(jnp.stack(columns, axis=1)).T
    norms, is_accurate = {}, jnp.bool_(True)
    for kind, square in zip(Kinds._fields, squares, strict=True):
        norms[kind] = units[kind] * jnp.sqrt(square)
        is_ordinary = (square > _SMALLEST) & jnp.isfinite(square)
        is_accurate &= jnp.all(is_ordinary | ~groups.any(has(leaves, kind)))
    v, g = (jnp.where(square == 0, 1, jnp.sqrt(square)) for square in (vv, gg))
    parallel = along / v + ratios * jnp.sqrt(vv)  # Of the gradient along the velocity.
    across = jnp.sqrt(jnp.maximum(rest - jnp.square(along / v), 0))
    totals = Totals(
        norms=norms,
        cosine=jnp.minimum(jnp.maximum(parallel / g, -1), 1),
        angle=jnp.rad2deg(jnp.arctan2(across, parallel)),
        opposing=opposing,
        nonfinite=jnp.zeros_like(opposing),
        slope=units["gradient"] * slope,
    )
    return totals, _column(sums, "largest"), is_accurate


def _ratios(groups: Groups, leaves: Sequence[Kinds], signs: Sequence[Any]) -> jax.Array:
    """Return about the ratio r of each group for which g - r v is smallest, from samples."""

    def sums(parts: Kinds, sign: Any) -> dict[str, jax.Array]:
        if parts.velocity is None or parts.gradient is None:
            return {}
        v, g = sample(parts.velocity), sample(parts.gradient)
        along = jnp.asarray(sign, jnp.finfo(v.dtype).dtype) * _product(v, g)
        return _reduce({"along": along, "velocity": _product(v, v)}, {})

    found = [sums(*each) for each in zip(leaves, signs, strict=True)]
    along, square = (groups.total(_column(found, name)) for name in ("along", "velocity"))
    ratio = along / jnp.where(square > 0, square, 1)
    return jnp.where((square > 0) & jnp.isfinite(ratio), ratio, 0)


def _measure_scaled(
    groups: Groups, leaves: Sequence[Kinds], signs: Sequence[Any], steps: Parts
) -> Totals:
    """Return the measures of arrays that are divided by powers of two near their largest entry."""
    leaves = [_upcast_leaf(parts) for parts in leaves]
    maxima = [_leaf_maxima(parts) for parts in leaves]
    units = {kind: _as_unit(groups.largest(_column(maxima, kind))) for kind in Kinds._fields}

    def scaled(parts: Kinds, row: Any) -> Kinds:
        named = zip(Kinds._fields, parts, strict=True)
        found = Kinds(*(None if x is None else _scale(x, units[kind][row]) for kind, x in named))
        return found._replace(clipped=found.gradient) if parts.clipped is parts.gradient else found

    leaves = [scaled(*each) for each in zip(leaves, groups.rows, strict=True)]
    totals, _, _ = _measure(groups, leaves, signs, steps, units)
    return totals._replace(nonfinite=groups.total(_column(maxima, "nonfinite")))


def _leaf_maxima(parts: Kinds) -> dict[str, jax.Array]:
    """Return the largest magnitude of each part, and the number of entries that are not finite."""
    named = {kind: part for kind, part in parts._asdict().items() if part is not None}
    sums = {}
    if parts.gradient is not None:
        dtype = jnp.finfo(parts.gradient.dtype).dtype
        sums["nonfinite"] = (~jnp.isfinite(parts.gradient)).astype(dtype)
    return _reduce(sums, {kind: _magnitude(part) for kind, part in named.items()})


def _as_unit(largest: jax.Array) -> jax.Array:
    """Return a power of two near a number, 1 for one that is 0, infinite or NaN."""
    info = jnp.finfo(largest.dtype)
    is_ordinary = (largest > 0) & jnp.isfinite(largest)
    # Neither the power nor its reciprocal is subnormal or infinite.
    bounded = jnp.where(is_ordinary, largest, 1)
    bounded = jnp.minimum(jnp.maximum(bounded, info.tiny), 1 / info.tiny)
    return jax.lax.reduce_precision(bounded, exponent_bits=info.nexp, mantissa_bits=0)


def _scale(part: jax.Array, unit: jax.Array) -> jax.Array:
    # Of (c x)² XLA makes c² x², where c² may over- or underflow. Of (c x + 0 c)² it does not.
    c = (1 / unit).astype(part.dtype)
    return part * c + 0 * c


# Successive gradients.

_SAMPLE = 4096


def sample(leaf: Any) -> jax.Array:
    """Return up to 4096 entries of a leaf, evenly spaced along each of its axes."""
    leaf = jnp.asarray(leaf)
    sizes = list(leaf.shape)
    while np.prod(sizes) > _SAMPLE:
        longest = int(np.argmax(sizes))
        sizes[longest] = (sizes[longest] + 1) // 2
    strides = [max(n // max(size, 1), 1) for n, size in zip(leaf.shape, sizes, strict=True)]
    ends = [max((m - 1) * stride + 1, 0) for m, stride in zip(sizes, strides, strict=True)]
    return jax.lax.slice(leaf, [0] * leaf.ndim, ends, strides)


def signal_to_noise(
    groups: Groups, g: Parts, before: Parts, weights: Sequence[float], norms: jax.Array
) -> Measure:
    """Return ⟨g_t, g_{t-1}⟩ / (½ ‖g_t - g_{t-1}‖²) from samples of two successive gradients.

    With independent noise the numerator estimates the squared norm of the mean gradient, and the
    denominator the variance of a gradient about it.

    Args:
        groups: Which leaves are measured together.
        g: The sample of each leaf's gradient.
        before: The sample of the gradient of the update before.
        weights: How many entries of a leaf each entry of its sample stands for.
        norms: The norm of the gradient of each group, by which both are divided.
    """
    unit = _as_unit(norms)

    def sums(x: Any, y: Any, weight: float, row: Any) -> dict[str, jax.Array]:
        if x is None:
            return {}
        x, y = (
            _scale(jnp.asarray(part, arithmetic.compute_dtype(x, y)), unit[row]) for part in (x, y)
        )
        change = jnp.sum(_product(x - y, x - y))
        return {"signal": weight * jnp.sum(_product(x, y)), "noise": weight / 2 * change}

    found = [sums(*each) for each in zip(g, before, weights, groups.rows, strict=True)]
    signal, noise = (groups.total(_column(found, name)) for name in ("signal", "noise"))
    known = (signal != 0) | (noise != 0)
    infinite = jnp.where(signal > 0, jnp.inf, 0)
    return Measure(jnp.where(noise == 0, infinite, signal / jnp.where(noise == 0, 1, noise)), known)


# Finding the arrays.


def parts_like(tree: PyTree, like: PyTree) -> list[Any]:
    """Return the array of a tree at each leaf of another, and None where it has none.

    A tree of another structure has none at all.
    """
    structure = jax.tree.structure(like)
    try:
        parts = structure.flatten_up_to(trees.only_arrays(tree))
    except ValueError:
        parts = [None] * structure.num_leaves
    return [part if _is_measurable(part) else None for part in parts]


def _is_measurable(part: Any) -> bool:
    if not jax.tree_util.all_leaves([part]) or not trees.is_array(part):
        return False
    return jnp.issubdtype(jnp.result_type(part), jnp.inexact)
