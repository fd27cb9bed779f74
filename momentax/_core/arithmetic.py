"""Dtype-aware arithmetic on trees.

Every function computes in the compute dtype, which is float32 or wider, and returns the
dtype that its docstring names. Low-precision parameters therefore cost no precision here.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.arguments import is_key, is_traced
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import constant_like
from momentax._core.trees import is_array, is_none, only_arrays, require_inexact
from momentax._core.typing import PyTree, Scalar


def compute_dtype(*leaves: Any) -> Any:
    """Return the dtype in which arithmetic on these leaves runs: float32, or wider if one is."""
    dtypes = [jnp.result_type(leaf) for leaf in leaves]
    double = any(dtype in (jnp.float64, jnp.complex128) for dtype in dtypes)
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return jnp.complex128 if double else jnp.complex64
    return jnp.float64 if double else jnp.float32


def as_scalar(value: Scalar) -> jax.Array:
    """Return a scalar of a state, in the dtype of hyperparameters and not weakly typed."""
    return jax.lax.convert_element_type(jnp.asarray(value), float_dtype())


def own(value: Any, dtype: Any = None) -> jax.Array:
    """Return a value as a JAX array, copied unless it is one already.

    On CPU `jnp.asarray` may use the memory of a NumPy array or of another framework. If its owner
    wrote into it, the JAX array would change.
    """
    return jnp.asarray(value, dtype) if isinstance(value, jax.Array) else jnp.array(value, dtype)


def cast_like(new: Any, old: Any) -> jax.Array:
    """Return a copy of a leaf in the dtype of another, weakly typed exactly if the other is.

    A concrete JAX array is copied too: `jax.dlpack` makes such arrays of foreign memory.
    """
    new = jnp.asarray(new, old.dtype) if is_traced(new) else jnp.array(new, old.dtype)
    # JAX has no other public way to make an array of a weak type than to write into one.
    return old.at[...].set(new) if getattr(old, "weak_type", False) else new


def is_known(*coefficients: Any) -> bool:
    """Return whether coefficients are numbers already while the program is being traced."""
    return not any(isinstance(coefficient, jax.Array) for coefficient in coefficients)


def is_zero(coefficient: Any) -> bool:
    """Return whether a coefficient is known to be 0 while the program is being traced."""
    return is_known(coefficient) and bool(coefficient == 0)


def zeros_like(params: PyTree) -> PyTree:
    """Return zeros with the shapes and sharding of the parameters, in their compute dtypes.

    A parameter that is no array has None in its place.
    """
    params = only_arrays(params)
    require_inexact(params)

    def zeros(leaf: Any) -> jax.Array:
        empty = jnp.zeros_like(leaf, dtype=compute_dtype(leaf))
        return constant_like(empty, leaf) if is_traced(leaf) else empty

    return jax.tree.map(zeros, params)


def zero_update(leaf: Any) -> Any:
    """Return what leaves a parameter as it is when it is added, or None if nothing does.

    The sum of a Python number and a Python 0 stays a Python number.
    """
    if type(leaf) in (int, float, complex):
        return type(leaf)(0)
    is_number = is_array(leaf) and not isinstance(leaf, bool) and not is_key(leaf)
    return jnp.zeros_like(leaf) if is_number else None


def combine(*terms: tuple[Scalar, PyTree], like: PyTree) -> PyTree:
    """Return the sum of coefficient × tree over the terms, in the dtypes of `like`.

    Where a tree or `like` has None, the result has the leaf of `like`. A term whose
    coefficient is known to be 0 while tracing is left out of the program: the step
    then reads no memory for it, and 0 × ∞ does not occur.
    """
    coefficients, trees = zip(*terms, strict=True)
    is_used = [not is_zero(coefficient) for coefficient in coefficients]

    # Converted once for all leaves, since this is a part of the time to trace a step.
    @functools.cache
    def coefficients_in(dtype: Any) -> list[jax.Array]:
        return [jnp.asarray(each, dtype) for each in itertools.compress(coefficients, is_used)]

    def add(kept: Any, *leaves: Any) -> Any:
        if kept is None or any(leaf is None for leaf in leaves):
            return kept
        dtype = compute_dtype(*leaves)
        parts = (_in_dtype(leaf, dtype) for leaf in itertools.compress(leaves, is_used))
        products = [c * x for c, x in zip(coefficients_in(dtype), parts, strict=True)]
        total = sum(products[1:], start=products[0]) if products else jnp.zeros_like(kept)
        return _in_dtype(total, jnp.result_type(kept))

    return jax.tree.map(add, like, *trees, is_leaf=is_none)


def _in_dtype(leaf: Any, dtype: Any) -> jax.Array:
    is_there = isinstance(leaf, jax.Array) and leaf.dtype == dtype and not leaf.weak_type
    return leaf if is_there else jnp.asarray(leaf, dtype)


def upcast(tree: PyTree) -> PyTree:
    """Return a tree in its compute dtypes."""
    return jax.tree.map(_upcast, tree)


def square(tree: PyTree) -> PyTree:
    """Return |x|² of every entry x. It is real, in float32 or wider, also where x is complex."""
    return jax.tree.map(lambda leaf: (_upcast(leaf) * jnp.conj(_upcast(leaf))).real, tree)


def sign(tree: PyTree, like: PyTree) -> PyTree:
    """Return the sign of every entry in the dtypes of `like`, with None where `like` has None.

    The sign of a complex z is z / |z|, and the sign of 0 is 0. Where an entry is infinite or NaN,
    its sign is NaN: an average that is infinite once stays so.
    """

    def of(kept: Any, leaf: Any) -> jax.Array | None:
        if kept is None:
            return None
        if jnp.iscomplexobj(leaf):  # Half of a large entry, since |z| may overflow.
            leaf = jnp.where(jnp.abs(leaf) > 1, leaf / 2, leaf)
        signs = jnp.where(jnp.isfinite(leaf), jnp.sign(leaf), jnp.nan)
        return signs.astype(jnp.result_type(kept))

    return jax.tree.map(of, like, tree, is_leaf=is_none)


def require_no_underflow(name: str, value: Any, tree: PyTree) -> None:
    """Refuse a number, if it is known, that a dtype of a tree takes as 0."""
    if is_traced(value):
        return
    for leaf in jax.tree.leaves(tree):
        if abs(value) < (tiny := jnp.finfo(leaf.dtype).tiny):
            raise ValueError(
                f"{name} must be at least {tiny:.2g} for parameters of dtype {leaf.dtype}, which "
                f"takes smaller numbers as 0, got {value}"
            )


def normalize_by(tree: PyTree, squares: PyTree, ε: Scalar, like: PyTree) -> PyTree:
    """Return x / (√s + ε) for every entry x of a tree and its entry s in squares.

    The result has the dtypes of `like`, and None where `like` has None.
    """

    def divide(kept: Any, x: jax.Array, s: jax.Array) -> jax.Array | None:
        if kept is None:
            return None
        size = jnp.sqrt(s) + jnp.asarray(ε, s.dtype)
        return (x / size.astype(x.dtype)).astype(jnp.result_type(kept))

    return jax.tree.map(divide, like, tree, squares, is_leaf=is_none)


def cosines(first: PyTree, second: PyTree) -> PyTree:
    """Return the cosine of the angle between each two leaves, with None where the first has None.

    It is 0 where one of the leaves is 0. For complex leaves it is the real part.
    """

    def cosine(x: Any, y: Any) -> jax.Array | None:
        if x is None:
            return None
        # Each leaf is divided by its own norm: a product of two norms may over- or underflow.
        x, y = (_to_unit_norm(jnp.asarray(leaf, compute_dtype(x, y))) for leaf in (x, y))
        return inner_product(x, y)

    return jax.tree.map(cosine, first, second, is_leaf=is_none)


def _to_unit_norm(leaf: jax.Array) -> jax.Array:
    """Return a leaf divided by its norm; zeros stay zeros."""
    power, size = _measure(leaf)
    return _divide(leaf, power, times=1 / jnp.where(size == 0, 1, size))


def scale_leaves(scalars: PyTree, tree: PyTree) -> PyTree:
    """Multiply each leaf of a tree by its own scalar, in the compute dtype; None stays None."""

    def multiply(leaf: Any, c: jax.Array) -> jax.Array | None:
        return None if leaf is None else _upcast(leaf) * c.astype(compute_dtype(leaf))

    return jax.tree.map(multiply, tree, scalars, is_leaf=is_none)


def inner_product(tree: PyTree, other: PyTree) -> jax.Array:
    """Return the real inner product over all leaves that are None in neither tree.

    It is computed in the widest dtype of JAX, so that float16 neither over- nor underflows.
    """
    return _inner_product(1.0, tree, other)


def sign_of_inner_product(tree: PyTree, other: PyTree, *, unit_of: PyTree = None) -> jax.Array:
    """Return the sign of the inner product, which is right also where the first tree is extreme.

    The first tree is divided by a power of two near its largest entry, or near that of another
    tree, so that the products over- or underflow only where the second tree nearly does.
    """
    unit = _unit_of(tree if unit_of is None else unit_of)
    return jnp.sign(_inner_product(1 / unit, tree, other))


def _inner_product(factor: Scalar, tree: PyTree, other: PyTree) -> jax.Array:
    zero = jnp.zeros((), float_dtype())

    def product(leaf: Any, other: Any) -> Any:
        if leaf is None or other is None:
            return None
        dtype = compute_dtype(leaf, other, zero)
        leaf, other = jnp.asarray(leaf, dtype), jnp.asarray(other, dtype)
        if not is_known(factor):
            leaf = leaf * jnp.asarray(factor, dtype)
        return jnp.real(jnp.sum(jnp.conj(leaf) * other)).astype(zero.dtype)

    products = jax.tree.map(product, tree, other, is_leaf=is_none)
    return sum(jax.tree.leaves(products), start=zero)


# Norms. The largest entry is measured first, so that no square over- or underflows.


def norm(tree: PyTree) -> jax.Array:
    """Return the Euclidean norm over all leaves, in float32 or wider.

    The norm is infinite only where an entry is, or where it is too large for the dtype itself.
    """
    power, size = _measure(tree)
    return power * size


def unit(tree: PyTree) -> PyTree:
    """Return the tree divided by its norm, which is NaN where the norm is 0."""
    power, size = _measure(tree)
    return _divide(tree, power, times=1 / size)


def limit_norm(tree: PyTree, limit: Any) -> PyTree:
    """Return a tree scaled down to a norm where its own norm is larger.

    The norm is over all leaves. The result has the dtypes of the tree.
    """
    power, size = _measure(tree)
    exceeds = ~(power * size <= limit)  # Also where the norm is NaN.
    scaled = _divide(tree, power, times=limit / size, where=exceeds)
    return jax.tree.map(lambda new, old: new.astype(jnp.result_type(old)), scaled, tree)


def overflow_factor(tree: PyTree, norm: Any) -> tuple[jax.Array, jax.Array]:
    """Return whether the square of a tree's norm overflows, and by what to multiply the tree.

    Where it overflows, the factor scales the tree to a norm, or to a slightly larger one if a
    factor in float32 cannot be as small; elsewhere it is 1. Where an entry is infinite or NaN,
    nothing overflows and the factor is NaN. Only large norms matter here, so that one constant
    keeps all squares in range, and the tree is read only once more.
    """
    most = largest_to_square(*jax.tree.leaves(tree))
    # XLA would compute (x / c)² as x² / c² for a constant c that it knows, and c² overflows.
    power = jax.lax.optimization_barrier(jnp.asarray(most * 2.0**29, float_dtype()))
    size = _root_of_squares(tree, power)
    overflows = (size > most / power) & jnp.isfinite(size)
    factor = jnp.maximum(norm / size * (1 / power), float(jnp.finfo(jnp.float32).tiny))
    otherwise = jnp.where(jnp.isfinite(size), 1, jnp.nan)
    return overflows, jnp.where(overflows, factor, otherwise)


def limit_entries(tree: PyTree) -> PyTree:
    """Return a tree in its compute dtypes, with the entries made smaller whose square overflows.

    Such an entry keeps its direction and gets the magnitude `largest_to_square`. An entry that
    is infinite or NaN is NaN in the result.
    """

    def limit(leaf: Any) -> jax.Array:
        leaf = _upcast(leaf)
        most = largest_to_square(leaf)
        if jnp.iscomplexobj(leaf):
            size = jnp.maximum(jnp.abs(leaf.real), jnp.abs(leaf.imag))
            return leaf * (most / jnp.maximum(size, most)).astype(leaf.dtype)
        # XLA keeps a quotient in memory, and computes these operations where they are read.
        return jnp.maximum(jnp.minimum(leaf, most), -most) + 0 * leaf

    return jax.tree.map(limit, tree)


def largest_to_square(*leaves: Any) -> float:
    """Return a power of two near √max / 8, so that the sum of some of its squares is finite.

    It is 2⁶¹ for float32, 2.3·10¹⁸. Of leaves of several dtypes the narrowest decides.
    """
    exponents = (jnp.finfo(compute_dtype(leaf)).maxexp for leaf in leaves)
    return 2.0 ** (min(exponents, default=128) // 2 - 3)


def _measure(tree: PyTree) -> tuple[jax.Array, jax.Array]:
    """Return two factors of the norm: a power of two near the largest entry, and the rest."""
    power = _unit_of(tree)
    # Of (c x)², with a constant c, XLA makes c² x², where c² may underflow. Of (c x + 0 x)² it
    # does not.
    return power, _root_of_squares(tree, power, plus=0 * power)


def _unit_of(tree: PyTree) -> jax.Array:
    """Return a power of two near the largest entry; 1 if all are 0, or one is infinite or NaN."""
    return power_near(_largest(tree))


def power_near(largest: jax.Array) -> jax.Array:
    """Return a power of two near a positive number; 1 for one that is 0, infinite or NaN.

    Its reciprocal is neither subnormal nor infinite, so that division by it is exact.
    """
    info = jnp.finfo(largest.dtype)
    is_ordinary = (largest > 0) & jnp.isfinite(largest)
    bounded = jnp.where(is_ordinary, largest, 1)
    bounded = jnp.maximum(jnp.minimum(bounded, 1 / info.tiny), info.tiny)
    power = jax.lax.reduce_precision(bounded, exponent_bits=info.nexp, mantissa_bits=0)
    return jax.lax.stop_gradient(power)  # Results do not depend on it.


def _root_of_squares(tree: PyTree, power: jax.Array, *, plus: jax.Array | None = None) -> jax.Array:
    """Return the norm of a tree divided by a power of two, with a number added to each entry."""
    inverse, zero = 1 / power, jnp.zeros((), power.dtype)

    def squares(part: jax.Array) -> jax.Array:
        scaled = jnp.asarray(part, zero.dtype) * inverse
        return jnp.sum(jnp.square(scaled if plus is None else scaled + plus))

    return jnp.sqrt(sum(map(squares, _real_parts(tree)), start=zero))


def _divide(tree: PyTree, power: jax.Array, *, times: jax.Array, where: Any = True) -> PyTree:
    """Return a tree divided by a power of two and multiplied by a number, where a condition holds.

    The result is in the widest dtype of JAX. Two factors of about the same size are multiplied
    one after the other, so that neither of them over- or underflows. They differ from those in
    `_root_of_squares`, where XLA would otherwise keep the common product in memory.
    """
    info = jnp.finfo(power.dtype)
    root = jax.lax.reduce_precision(jnp.sqrt(power), info.nexp, mantissa_bits=0)
    # Not a quotient of quotients, in which XLA multiplies the divisors, which may overflow.
    factors = 1 / root, root / power * times
    first, second = (jnp.where(where, factor, 1) for factor in factors)

    def divide(leaf: Any) -> jax.Array:
        leaf = _widen(leaf, power)
        return leaf * first.astype(leaf.dtype) * second.astype(leaf.dtype)

    return jax.tree.map(divide, tree)


def _largest(tree: PyTree) -> jax.Array:
    """Return the largest magnitude of a real or imaginary part, or 0 for an empty tree."""
    zero = jnp.zeros((), float_dtype())
    entries = (jnp.max(jnp.abs(part), initial=0).astype(zero.dtype) for part in _real_parts(tree))
    return functools.reduce(jnp.maximum, entries, zero)


def _real_parts(tree: PyTree) -> list[jax.Array]:
    """Return all leaves, in their compute dtypes, as real arrays."""
    leaves = map(_upcast, jax.tree.leaves(tree))
    return [
        part
        for leaf in leaves
        for part in ((leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,))
    ]


def _widen(leaf: Any, scalar: jax.Array) -> jax.Array:
    """Return a leaf in a dtype in which a scalar of hyperparameters loses nothing."""
    return jnp.asarray(leaf, compute_dtype(leaf, scalar))


def _upcast(leaf: Any) -> jax.Array:
    return own(leaf, compute_dtype(leaf))
