"""Dtype-aware arithmetic on trees.

Every function computes in the compute dtype, which is float32 or wider, and returns the
dtype that its docstring names. Low-precision parameters therefore cost no precision here.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.arguments import is_traced
from momentax._core.hyperparameters import float_dtype
from momentax._core.sharding import sharding_in_type
from momentax._core.trees import is_none, require_inexact
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


def cast_like(new: Any, old: Any) -> jax.Array:
    """Return a leaf in the dtype of another, weakly typed exactly if the other is."""
    new = jnp.asarray(new, old.dtype)
    # JAX has no other public way to make an array of a weak type than to write into one.
    return old.at[...].set(new) if getattr(old, "weak_type", False) else new


def is_known(*coefficients: Any) -> bool:
    """Return whether coefficients are numbers already while the program is being traced."""
    return not any(isinstance(coefficient, jax.Array) for coefficient in coefficients)


def is_zero(coefficient: Any) -> bool:
    """Return whether a coefficient is known to be 0 while the program is being traced."""
    return is_known(coefficient) and bool(coefficient == 0)


def zeros_like(params: PyTree) -> PyTree:
    """Return zeros with the shapes and sharding of the parameters, in their compute dtypes."""
    require_inexact(params)
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=compute_dtype(leaf)), params)


def combine(*terms: tuple[Scalar, PyTree], like: PyTree) -> PyTree:
    """Return the sum of coefficient × tree over the terms, in the dtypes of `like`.

    Where a tree or `like` has None, the result has the leaf of `like`. A term whose
    coefficient is known to be 0 while tracing is left out of the program: the step
    then reads no memory for it, and 0 × ∞ does not occur.
    """
    coefficients, trees = zip(*terms, strict=True)

    def add(kept: Any, *leaves: Any) -> Any:
        if kept is None or any(leaf is None for leaf in leaves):
            return kept
        dtype = compute_dtype(*leaves)
        products = [
            jnp.asarray(coefficient, dtype) * jnp.asarray(leaf, dtype)
            for coefficient, leaf in zip(coefficients, leaves, strict=True)
            if not is_zero(coefficient)
        ]
        total = sum(products[1:], start=products[0]) if products else jnp.zeros_like(kept)
        return total.astype(jnp.result_type(kept))

    return jax.tree.map(add, like, *trees, is_leaf=is_none)


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


def require_no_underflow(name: str, value: Scalar, tree: PyTree) -> None:
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
    scaled, _ = _scale_to_one(leaf)
    size = _root_of_squares(scaled)
    return scaled * (1 / jnp.where(size == 0, 1, size)).astype(scaled.dtype)


def sign_of_inner_product(tree: PyTree, other: PyTree) -> jax.Array:
    """Return the sign of the inner product over all leaves that are None in neither tree.

    Both trees are first divided by powers of two, so that no product over- or underflows.
    """
    return jnp.sign(inner_product(_scale_to_one(tree)[0], _scale_to_one(other)[0]))


def scale_leaves(scalars: PyTree, tree: PyTree) -> PyTree:
    """Multiply each leaf of a tree by its own scalar, in the compute dtype; None stays None."""

    def multiply(leaf: Any, c: jax.Array) -> jax.Array | None:
        return None if leaf is None else _upcast(leaf) * c.astype(compute_dtype(leaf))

    return jax.tree.map(multiply, tree, scalars, is_leaf=is_none)


def broadcast_rows(row: jax.Array, leaf: jax.Array) -> jax.Array:
    """Reshape one number per row so that it broadcasts against a leaf."""
    return jnp.reshape(row, jnp.shape(row) + (1,) * (jnp.ndim(leaf) - jnp.ndim(row)))


def read_rows(leaf: jax.Array, rows: jax.Array) -> jax.Array:
    """Return rows of a leaf; a row beyond the last is zeros."""
    leaf = jnp.asarray(leaf)
    out = sharding_in_type(leaf, whole_rows=True)
    return leaf.at[rows].get(mode="fill", fill_value=0, out_sharding=out)


def write_rows(leaf: jax.Array, rows: jax.Array, new: jax.Array) -> jax.Array:
    """Return a leaf with some rows replaced; rows beyond the last are ignored."""
    leaf = jnp.asarray(leaf)
    return leaf.at[rows].set(new, mode="drop", out_sharding=sharding_in_type(leaf))


def inner_product(tree: PyTree, other: PyTree) -> jax.Array:
    """Return the real inner product over all leaves that are None in neither tree.

    It is computed in the widest dtype of JAX, so that float16 neither over- nor underflows.
    """
    zero = jnp.zeros((), float_dtype())

    def product(leaf: Any, other: Any) -> Any:
        if leaf is None or other is None:
            return None
        dtype = compute_dtype(leaf, other, zero)
        leaf, other = jnp.asarray(leaf, dtype), jnp.asarray(other, dtype)
        return jnp.real(jnp.sum(jnp.conj(leaf) * other)).astype(zero.dtype)

    products = jax.tree.map(product, tree, other, is_leaf=is_none)
    return sum(jax.tree.leaves(products), start=zero)


def norm(tree: PyTree) -> jax.Array:
    """Return the Euclidean norm over all leaves, in float32 or wider.

    No square over- or underflows. The norm is infinite only where an entry is, or where the
    norm itself is too large for the dtype.
    """
    scaled, power = _scale_to_one(tree)
    return power * _root_of_squares(scaled)


def largest_to_square(*leaves: Any) -> float:
    """Return a power of two near √max / 8, so that the sum of some of its squares is finite.

    It is 2⁶¹ for float32, 2.3·10¹⁸. Of leaves of several dtypes the narrowest decides.
    """
    exponents = (jnp.finfo(compute_dtype(leaf)).maxexp for leaf in leaves)
    return 2.0 ** (min(exponents, default=128) // 2 - 3)


def limit_entries(tree: PyTree) -> PyTree:
    """Return a tree in its compute dtypes, with the entries made smaller whose square overflows.

    Such an entry keeps its direction and gets the magnitude `largest_to_square`. Where an entry
    is infinite or NaN, the result is NaN.
    """

    def limit(leaf: Any) -> jax.Array:
        leaf = _upcast(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            size = jnp.maximum(jnp.abs(leaf.real), jnp.abs(leaf.imag))
        else:
            size = jnp.abs(leaf)
        most = jnp.asarray(largest_to_square(leaf), size.dtype)
        return leaf * (most / jnp.maximum(size, most)).astype(leaf.dtype)

    return jax.tree.map(limit, tree)


def limit_norm(tree: PyTree, limit: Scalar) -> PyTree:
    """Return a tree scaled down to a norm where its own norm is larger.

    The norm is over all leaves. The result has the dtypes of the tree.
    """
    scaled, power = _scale_to_one(tree)
    size = _root_of_squares(scaled)
    return _choose_scaled(power * size > limit, limit / size, scaled, tree)


def limit_overflow(tree: PyTree, norm: Scalar) -> PyTree:
    """Return a tree scaled to a norm where the square of its own norm overflows.

    Where an entry is infinite or NaN, the result has NaN. Only large norms matter here, so that
    one factor keeps all squares in range, and the tree is read only once more.
    """
    most = largest_to_square(*jax.tree.leaves(tree))
    unit = most * 2.0**29
    scaled = jax.tree.map(lambda leaf: _upcast(leaf) / unit, tree)
    size = _root_of_squares(scaled)
    return _choose_scaled(size > most / unit, norm / size, scaled, tree)


def _choose_scaled(
    condition: jax.Array, factor: jax.Array, scaled: PyTree, tree: PyTree
) -> PyTree:
    """Return factor × scaled where a condition holds or the factor is NaN, and else the tree."""

    def choose(leaf: Any, scaled: jax.Array) -> jax.Array:
        shrunk, kept = scaled * factor.astype(scaled.dtype), jnp.asarray(leaf, scaled.dtype)
        chosen = jnp.where(condition | jnp.isnan(factor), shrunk, kept)
        return chosen.astype(jnp.result_type(leaf))

    return jax.tree.map(choose, tree, scaled)


def unit(tree: PyTree) -> PyTree:
    """Return the tree divided by its norm, which is NaN where the norm is 0."""
    scaled, _ = _scale_to_one(tree)
    return combine((1 / _root_of_squares(scaled), scaled), like=scaled)


def _scale_to_one(tree: PyTree) -> tuple[PyTree, jax.Array]:
    """Return a tree divided by a power of two, and that power, in the widest dtype of JAX.

    The power is near the largest entry, so that squares of the result neither over- nor
    underflow. It is 1 if an entry is infinite or NaN. Division by it is exact, and so is its
    reciprocal, by which the entries are multiplied.
    """
    largest = _largest(tree)
    info = jnp.finfo(largest.dtype)
    bounded = jnp.clip(jnp.where(jnp.isfinite(largest), largest, 1), info.tiny, 1 / info.tiny)
    power = jax.lax.reduce_precision(bounded, exponent_bits=info.nexp, mantissa_bits=0)
    power = jax.lax.stop_gradient(power)  # The norm does not depend on the power.
    inverse = 1 / power

    def divide(leaf: Any) -> jax.Array:
        dtype = compute_dtype(leaf, power)
        return jnp.asarray(leaf, dtype) * inverse.astype(dtype)

    return jax.tree.map(divide, tree), power


def _root_of_squares(tree: PyTree) -> jax.Array:
    """Return the norm of a tree whose squares neither over- nor underflow."""
    zero = jnp.zeros((), float_dtype())
    squares = (jnp.sum(leaf).astype(zero.dtype) for leaf in jax.tree.leaves(square(tree)))
    return jnp.sqrt(sum(squares, start=zero))


def _largest(tree: PyTree) -> jax.Array:
    """Return the largest magnitude of a real or imaginary part, or 0 for an empty tree."""
    zero = jnp.zeros((), float_dtype())

    def largest(leaf: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(leaf), initial=0).astype(zero.dtype)

    entries = [
        largest(part)
        for leaf in map(_upcast, jax.tree.leaves(tree))
        for part in ((leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,))
    ]
    return functools.reduce(jnp.maximum, entries, zero)


def _upcast(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, compute_dtype(leaf))
