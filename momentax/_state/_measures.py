"""Measures of gradients, velocities, updates and parameters, for each group of leaves.

The squares of very large and very small numbers over- and underflow. Where that may have happened,
the arrays are read again, scaled by powers of two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arithmetic
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import may_lie_on_several_devices, sharding_in_type
from momentax._core.typing import PyTree
from momentax._state import _sums
from momentax._state._groups import Groups, bundle
from momentax._state._sums import Columns, Kinds, Table

# What is measured of each leaf of the parameters: an array, or None where there is none.
Parts = Sequence[Any]


def angle(v: PyTree, g: PyTree) -> jax.Array:
    """Return the angle between two trees as vectors, in degrees; NaN where one of them is zero.

    Kahan's formula is accurate near 0 and near 180 too.
    """
    v, g = arithmetic.unit(v), arithmetic.unit(g)
    difference = arithmetic.norm(arithmetic.combine((1.0, v), (-1.0, g), like=v))
    total = arithmetic.norm(arithmetic.combine((1.0, v), (1.0, g), like=v))
    degrees = jnp.rad2deg(2 * jnp.arctan2(difference, total))
    return jnp.where(arithmetic.norm(v) > 0, degrees, jnp.nan)


class Measure(NamedTuple):
    """One number for each group of leaves, and whether it is known.

    `known` is NumPy's where it is known while tracing, which makes the program smaller.
    """

    value: jax.Array
    known: Any


# The measures of groups.

_SMALLEST = 1e-20  # Smaller sums of squares may have lost terms that are not representable.


class Totals(NamedTuple):
    """The measures of each group, arrays with one row for each.

    norms: the Euclidean norms, a column for each kind.
    cosine: of velocity and gradient over the leaves that have both, and so are the next two.
    angle: in degrees.
    opposing: the number of entries whose velocity and gradient have opposite signs.
    nonfinite: the number of entries of the gradient that are infinite or NaN.
    slope: the inner product of gradient and step.
    """

    norms: jax.Array
    cosine: jax.Array
    angle: jax.Array
    opposing: jax.Array
    nonfinite: jax.Array
    slope: jax.Array


def measure(
    groups: Groups, read: Callable[[], tuple[Sequence[Kinds], Parts]]
) -> tuple[Totals, jax.Array]:
    """Return the measures of each group, and the headroom of its velocity.

    The latter is log10(m / max |v|), where m is the largest number of the dtype of v.

    Args:
        groups: Which leaves are measured together.
        read: Returns the arrays of each leaf, and the step of each leaf to take the inner product
            of the gradient with, or None. It is called where they are read, so that XLA computes
            them there and keeps no buffer for them.
    """
    bundles, leaves, steps = _bundled(groups, *read())
    totals, sums, is_accurate = _measure(bundles, leaves, steps)
    totals = jax.lax.cond(
        is_accurate, lambda: totals, lambda: _measure_scaled(*_bundled(groups, *read()))
    )
    nearest = bundles.largest(_largest_logs(leaves, sums))
    return totals, -nearest[:, 0]


def _bundled(
    groups: Groups, leaves: Sequence[Kinds], steps: Parts
) -> tuple[Groups, list[Kinds], list[Any]]:
    """Join small leaves, and return which bundles are measured together, and their arrays."""
    arrays = [(*parts, step) for parts, step in zip(leaves, steps, strict=True)]
    bundles = bundle(groups, arrays, _SAMPLE)
    joined = bundles.join(arrays)
    return bundles.groups, [Kinds(*row[:-1]) for row in joined], [row[-1] for row in joined]


def _wide(leaves: Sequence[Kinds], steps: Parts) -> tuple[list[Kinds], list[Any]]:
    """Return the arrays of each leaf, and its step, in the widest of their compute dtypes."""
    wide = [_sums.upcast(*each) for each in zip(leaves, steps, strict=True)]
    return [parts for parts, _ in wide], [step for _, step in wide]


def _largest_logs(leaves: Sequence[Kinds], sums: Sequence[Table]) -> jax.Array:
    """Return log10(max |v| / m) of each row, where m is the largest number of the dtype of v."""
    limits = [1.0 if x.velocity is None else float(jnp.finfo(x.velocity.dtype).max) for x in leaves]
    rows = [len(table.numbers) for table in sums]
    logs = jnp.log10(_table(sums, ["largest"]))
    return logs - np.repeat(np.log10(limits), rows).astype(logs.dtype)[:, None]


def _table(leaves: Sequence[Table], names: Sequence[str]) -> jax.Array:
    """Return the rows of the tables of all leaves, with named columns, 0 where a leaf lacks one.

    Without the barriers XLA would reduce the rows of each leaf separately.
    """
    if leaves and all(leaf.columns == leaves[0].columns for leaf in leaves):
        # One operation selects the columns of all leaves.
        joined = jnp.concatenate([leaf.numbers for leaf in leaves])
        return _columns(leaves[0]._replace(numbers=jax.lax.optimization_barrier(joined)), names)
    rows = [jnp.zeros((0, len(names)), float_dtype()), *(_columns(leaf, names) for leaf in leaves)]
    return jax.lax.optimization_barrier(jnp.concatenate(rows))


def _columns(table: Table, names: Sequence[str]) -> jax.Array:
    zeros = jnp.zeros(len(table.numbers), float_dtype())
    columns = [table.column(name) if name in table.columns else zeros for name in names]
    return jnp.stack(columns, axis=1)


def has(leaves: Sequence[Kinds], *kinds: str) -> np.ndarray:
    """Return for each leaf whether it has arrays of some kinds."""
    found = [all(getattr(parts, kind) is not None for kind in kinds) for parts in leaves]
    return np.asarray(found, np.bool_)


def has_each(leaves: Sequence[Kinds]) -> np.ndarray:
    """Return for each leaf, in a row, whether it has an array of each kind."""
    return np.stack([has(leaves, kind) for kind in Kinds._fields], axis=1)


_PRODUCTS = ("both velocity", "both gradient", "rest", "rest along", "opposing", "slope")


def _measure(
    groups: Groups,
    leaves: Sequence[Kinds],
    steps: Parts,
    units: Any = 1,
) -> tuple[Totals, list[Table], jax.Array]:
    """Return the measures, the sums over each leaf, and whether all measures are accurate.

    The arrays of each kind, a column of units, were divided by the unit of their group.
    """
    leaves, steps = _wide(leaves, steps)
    ratios = _ratios(groups, leaves)
    sums = [
        _sums.leaf_sums(parts, ratio, step, by_row=groups.number == 1)
        for parts, ratio, step in zip(leaves, groups.each(ratios), steps, strict=True)
    ]
    number = len(Kinds._fields)
    totals = groups.total(_table(sums, (*Kinds._fields, *_PRODUCTS)))
    squares = totals[:, :number]
    vv, gg, rest, along, opposing, slope = totals[:, number:].T
    is_ordinary = (squares > _SMALLEST) & jnp.isfinite(squares)
    is_accurate = jnp.all(is_ordinary | ~groups.any(has_each(leaves)))
    v, g = (jnp.where(square == 0, 1, jnp.sqrt(square)) for square in (vv, gg))
    parallel = along / v + ratios * jnp.sqrt(vv)  # Of the gradient along the velocity.
    across = jnp.sqrt(jnp.maximum(rest - jnp.square(along / v), 0))
    norms = jnp.sqrt(squares) * units
    found = Totals(
        norms=norms,
        cosine=jnp.minimum(jnp.maximum(parallel / g, -1), 1),
        angle=jnp.rad2deg(jnp.arctan2(across, parallel)),
        opposing=opposing,
        nonfinite=jnp.zeros_like(opposing),
        slope=slope,
    )
    return found, sums, is_accurate


def _ratios(groups: Groups, leaves: Sequence[Kinds]) -> jax.Array:
    """Return about the ratio r of each group for which g - r v is smallest, from samples."""

    def sample_of(x: jax.Array) -> jax.Array:
        # A few entries are enough. On several devices a part of a leaf is sent to the others, and a
        # whole leaf is not.
        return sample(x, _SAMPLE if may_lie_on_several_devices(x) else 256)

    samples = [
        (sample_of(parts.velocity), sample_of(parts.gradient)) if both else (None, None)
        for parts, both in zip(leaves, has(leaves, "velocity", "gradient"), strict=True)
    ]
    bundles = bundle(groups, samples, np.inf)
    products = [
        {} if v is None else {"along": _sums.product(v, g), "velocity": _sums.product(v, v)}
        for v, g in bundles.join(samples)
    ]
    found = [_sums.reduce_all(Columns(each)) for each in products]
    along, square = bundles.groups.total(_table(found, ("along", "velocity"))).T
    ratio = along / jnp.where(square > 0, square, 1)
    return jnp.where((square > 0) & jnp.isfinite(ratio), ratio, 0)


def _measure_scaled(groups: Groups, leaves: Sequence[Kinds], steps: Parts) -> Totals:
    """Return the measures of arrays that are divided by powers of two near their largest entry."""
    leaves, steps = _wide(leaves, steps)
    maxima = [_sums.leaf_maxima(parts, by_row=groups.number == 1) for parts in leaves]
    units = arithmetic.power_near(groups.largest(_table(maxima, Kinds._fields)))

    def scaled(parts: Kinds, row: Any) -> Kinds:
        unit = dict(zip(Kinds._fields, row, strict=True))
        return parts.map(lambda kind, x: _sums.scale(x, unit[kind]))

    leaves = [scaled(*each) for each in zip(leaves, groups.each(units), strict=True)]
    totals, _, _ = _measure(groups, leaves, steps, units)
    return totals._replace(
        nonfinite=groups.total(_table(maxima, ["nonfinite"]))[:, 0],
        slope=totals.slope * units[:, 0],  # The unit of the gradient.
    )


# Successive gradients.

_SAMPLE = 4096  # The number of entries of a leaf in a sample, at most.


def sample(leaf: Any, number: int = _SAMPLE) -> jax.Array:
    """Return up to a number of entries of a leaf, evenly spaced along each of its axes.

    An axis that a mesh splits, as the type of the leaf says, is split evenly in the sample too.
    """
    leaf = jnp.asarray(leaf)
    sharding = sharding_in_type(leaf)
    shard = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    sizes = list(shard)
    splits = [n // max(size, 1) for n, size in zip(leaf.shape, shard, strict=True)]
    while np.prod(sizes) * np.prod(splits) > number and max(sizes) > 1:
        longest = int(np.argmax(sizes))
        sizes[longest] = (sizes[longest] + 1) // 2
    counts = [size * split for size, split in zip(sizes, splits, strict=True)]
    strides = [max(n // max(m, 1), 1) for n, m in zip(leaf.shape, counts, strict=True)]
    ends = [max((m - 1) * stride + 1, 0) for m, stride in zip(counts, strides, strict=True)]
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
    samples = [
        (None, None) if x is None else arithmetic.upcast((x, y))
        for x, y in zip(g, before, strict=True)
    ]
    bundles = bundle(groups, samples, np.inf, apart=weights)
    units = bundles.groups.each(arithmetic.power_near(norms))

    def sums(x: Any, y: Any, weight: float, unit: Any) -> Table:
        if x is None:
            return _sums.reduce_all(Columns({}))
        x, y = _sums.scale(x, unit), _sums.scale(y, unit)
        products = {"signal": _sums.product(x, y), "noise": _sums.product(x - y, x - y)}
        found = _sums.reduce_all(Columns(products))
        return found._replace(numbers=jnp.asarray(weight, float_dtype()) * found.numbers)

    found = [
        sums(x, y, weights[first], unit)
        for (x, y), (first, *_), unit in zip(
            bundles.join(samples), bundles.members, units, strict=True
        )
    ]
    signal, noise = bundles.groups.total(_table(found, ("signal", "noise"))).T
    noise = noise / 2
    known = (signal != 0) | (noise != 0)
    infinite = jnp.where(signal > 0, jnp.inf, 0)
    return Measure(jnp.where(noise == 0, infinite, signal / jnp.where(noise == 0, 1, noise)), known)
