"""Dtype-aware arithmetic on trees.

Every function computes in the compute dtype, which is float32 or wider, and returns the
dtype that its docstring names. Low-precision parameters therefore cost no precision here.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.arguments import is_key
from momentax._core.hyperparameters import float_dtype
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
    """Return zeros with the shapes and sharding of the parameters, in their compute dtypes.

    A parameter that is no array has None in its place.
    """
    params = only_arrays(params)
    require_inexact(params)
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=compute_dtype(leaf)), params)


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

    The sign of a complex z is z / |z|, and the sign of 0 is 0.
    """

    def of(kept: Any, leaf: Any) -> jax.Array | None:
        return None if kept is None else jnp.sign(leaf).astype(jnp.result_type(kept))

    return jax.tree.map(of, like, tree, is_leaf=is_none)


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
        return jnp.sum((x * jnp.conj(y)).real).astype(float_dtype())

    return jax.tree.map(cosine, first, second, is_leaf=is_none)


def _to_unit_norm(leaf: jax.Array) -> jax.Array:
    """Return a leaf divided by its norm; zeros stay zeros."""
    size = norm(leaf)
    return leaf * (1 / jnp.where(size > 0, size, 1)).astype(leaf.dtype)


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
    return jnp.asarray(leaf).at[rows].get(mode="fill", fill_value=0)


def write_rows(leaf: jax.Array, rows: jax.Array, new: jax.Array) -> jax.Array:
    """Return a leaf with some rows replaced; rows beyond the last are ignored."""
    return jnp.asarray(leaf).at[rows].set(new, mode="drop")


def inner_product(tree: PyTree, other: PyTree) -> jax.Array:
    """Return the real inner product over all leaves that are None in neither tree.

    It is computed in float32 or wider, so that float16 neither over- nor underflows.
    """
    zero = jnp.zeros((), float_dtype())

    def product(leaf: Any, other: Any) -> Any:
        if leaf is None or other is None:
            return None
        dtype = compute_dtype(leaf, other)
        leaf, other = jnp.asarray(leaf, dtype), jnp.asarray(other, dtype)
        return jnp.real(jnp.sum(jnp.conj(leaf) * other)).astype(zero.dtype)

    products = jax.tree.map(product, tree, other, is_leaf=is_none)
    return sum(jax.tree.leaves(products), start=zero)


def norm(tree: PyTree) -> jax.Array:
    """Return the Euclidean norm over all leaves, in float32 or wider.

    Entries are first divided by the largest, so that no square over- or underflows.
    """
    largest = _largest(tree)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    zero = jnp.zeros((), scale.dtype)
    squares = [jnp.sum(jnp.square(jnp.abs(leaf))) for leaf in jax.tree.leaves(_divide(tree, scale))]
    return scale * jnp.sqrt(sum((square.astype(zero.dtype) for square in squares), start=zero))


def unit(tree: PyTree) -> PyTree:
    """Return the tree divided by its norm, which is NaN where the norm is 0.

    Entries are first divided by the largest, as in `norm`.
    """
    tree = _divide(tree, _largest(tree))
    return combine((1 / norm(tree), tree), like=tree)


def _divide(tree: PyTree, divisor: jax.Array) -> PyTree:
    return jax.tree.map(lambda leaf: _upcast(leaf) / divisor.astype(compute_dtype(leaf)), tree)


def _largest(tree: PyTree) -> jax.Array:
    """Return the largest magnitude over all leaves, or 0 for an empty tree."""
    zero = jnp.zeros((), float_dtype())
    entries = [jnp.max(jnp.abs(_upcast(leaf)), initial=0) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.maximum, (entry.astype(zero.dtype) for entry in entries), zero)


def _upcast(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, compute_dtype(leaf))
