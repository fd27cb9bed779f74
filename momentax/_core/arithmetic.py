"""All dtype-aware arithmetic on trees: compute wide, return what the reader expects."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from momentax import _check
from momentax._typing import PyTree, Scalar


def wide(*leaves: Any) -> Any:
    """The dtype that arithmetic on these leaves runs in: float32, or wider if one is."""
    dtypes = [jnp.result_type(leaf) for leaf in leaves]
    double = any(dtype in (jnp.float64, jnp.complex128) for dtype in dtypes)
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return jnp.complex128 if double else jnp.complex64
    return jnp.float64 if double else jnp.float32


def scalar(value: Scalar) -> jax.Array:
    """A scalar of the state, in the dtype of hyperparameters and of no weak type."""
    return jax.lax.convert_element_type(jnp.asarray(value), _check.float_dtype())


def typed(new: Any, old: Any) -> jax.Array:
    """A leaf in the dtype of another and as weakly typed."""
    new = jnp.asarray(new, old.dtype)
    # JAX has no other public way to make an array of a weak type than to write into one.
    return old.at[...].set(new) if getattr(old, "weak_type", False) else new


def is_known(*coefficients: Any) -> bool:
    """Whether coefficients are numbers while the program is still being traced."""
    return not any(isinstance(coefficient, jax.Array) for coefficient in coefficients)


def is_zero(coefficient: Any) -> bool:
    """Whether a coefficient is known to be 0 while the program is still being traced."""
    return is_known(coefficient) and bool(coefficient == 0)


def zeros_like(params: PyTree) -> PyTree:
    """A velocity of zeros: the parameters' shapes and sharding, in float32 or wider."""
    _check.require_inexact(params)
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=wide(leaf)), params)


def combine(*terms: tuple[Scalar, PyTree], like: PyTree) -> PyTree:
    """Add coefficient × tree over the terms, leaf by leaf, in the dtypes of `like`.

    Where a tree has None, and where `like` has, the leaf of `like` stands. A
    term whose coefficient is exactly 0 at tracing is not read at all: a fused
    step then moves no byte for it, and 0 × ∞ does not arise.
    """
    coefficients, trees = zip(*terms, strict=True)

    def add(kept: Any, *leaves: Any) -> Any:
        if kept is None or any(leaf is None for leaf in leaves):
            return kept
        dtype = wide(*leaves)
        products = [
            jnp.asarray(coefficient, dtype) * jnp.asarray(leaf, dtype)
            for coefficient, leaf in zip(coefficients, leaves, strict=True)
            if not is_zero(coefficient)
        ]
        total = sum(products[1:], start=products[0]) if products else jnp.zeros_like(kept)
        return total.astype(jnp.result_type(kept))

    return jax.tree.map(add, like, *trees, is_leaf=_check.is_none)


def accumulate(count: jax.Array, β: Scalar, v: PyTree, *terms: tuple[Scalar, PyTree]) -> PyTree:
    """β v + γ g over the terms (γ, g), in the dtypes of v and a form that takes its place.

    From v/2 + g/2 XLA makes (v + g)/2, and computes that anew wherever it is
    read, from the old v too, of which it then keeps a copy. So it must not see
    that β and γ are one number. The count, or another scalar given for it, is
    never negative; but this the compiler does not know.
    """
    if any(is_known(β, γ) and β == γ != 0 for γ, _ in terms):
        β = jnp.where(count < 0, 0, scalar(β))
    return combine((β, v), *terms, like=v)


def behind(count: jax.Array, tree: PyTree, *earlier: PyTree) -> PyTree:
    """A tree as it is, but which XLA computes behind others that have its shapes.

    What takes the place of a buffer while others are still computed from it makes
    XLA copy the buffer, unless it reads those others. No count is negative, so
    that nothing of them arrives; but this the compiler does not know.
    """

    def wait(leaf: jax.Array, *others: jax.Array) -> jax.Array:
        return jnp.where(count < 0, sum(other.astype(leaf.dtype) for other in others), leaf)

    return jax.tree.map(wait, tree, *earlier)


def widened(tree: PyTree) -> PyTree:
    """A tree in the dtypes that arithmetic on it runs in."""
    return jax.tree.map(_widened, tree)


def squared(tree: PyTree) -> PyTree:
    """|x|² of every entry x: real, also where x is complex, and in float32 or wider."""
    return jax.tree.map(lambda leaf: (_widened(leaf) * jnp.conj(_widened(leaf))).real, tree)


def sign(tree: PyTree, like: PyTree) -> PyTree:
    """The sign of every entry, z / |z| of complex ones and 0 of 0, in the dtypes of `like`.

    Where that has None, None stands.
    """

    def of(kept: Any, leaf: Any) -> jax.Array | None:
        return None if kept is None else jnp.sign(leaf).astype(jnp.result_type(kept))

    return jax.tree.map(of, like, tree, is_leaf=_check.is_none)


def normalized(tree: PyTree, squares: PyTree, ε: Scalar, like: PyTree) -> PyTree:
    """Divide every entry x of a tree by √s + ε, with s its entry in squares.

    The result has the dtypes of `like`; where that has None, None stands.
    """

    def divide(kept: Any, x: jax.Array, s: jax.Array) -> jax.Array | None:
        if kept is None:
            return None
        size = jnp.sqrt(s) + jnp.asarray(ε, s.dtype)
        return (x / size.astype(x.dtype)).astype(jnp.result_type(kept))

    return jax.tree.map(divide, like, tree, squares, is_leaf=_check.is_none)


def cosines(first: PyTree, second: PyTree) -> PyTree:
    """The cosine of the angle between each two leaves, 0 where one of them is 0.

    Of complex leaves it is the real part. Where the first tree has None, None
    stands.
    """

    def cosine(x: Any, y: Any) -> jax.Array | None:
        if x is None:
            return None
        # Each by its own norm: the product of two norms, or of two entries, may over- or underflow.
        x, y = (_directed(jnp.asarray(leaf, wide(x, y))) for leaf in (x, y))
        return jnp.sum((x * jnp.conj(y)).real).astype(_check.float_dtype())

    return jax.tree.map(cosine, first, second, is_leaf=_check.is_none)


def _directed(leaf: jax.Array) -> jax.Array:
    """A leaf divided by its norm; zeros stay zeros."""
    size = norm(leaf)
    return leaf * (1 / jnp.where(size > 0, size, 1)).astype(leaf.dtype)


def scaled(scalars: PyTree, tree: PyTree) -> PyTree:
    """Each leaf of a tree times its own scalar, in float32 or wider; None stays None."""

    def multiply(leaf: Any, c: jax.Array) -> jax.Array | None:
        return None if leaf is None else _widened(leaf) * c.astype(wide(leaf))

    return jax.tree.map(multiply, tree, scalars, is_leaf=_check.is_none)


def per_row(row: jax.Array, leaf: jax.Array) -> jax.Array:
    """One number a row, in a shape that broadcasts against the leaf."""
    return jnp.reshape(row, jnp.shape(row) + (1,) * (jnp.ndim(leaf) - jnp.ndim(row)))


def read_rows(leaf: jax.Array, rows: jax.Array) -> jax.Array:
    """The rows of a leaf; zeros beyond the last."""
    return jnp.asarray(leaf).at[rows].get(mode="fill", fill_value=0)


def write_rows(leaf: jax.Array, rows: jax.Array, new: jax.Array) -> jax.Array:
    """A leaf with new rows in place of those given, if it has them."""
    return jnp.asarray(leaf).at[rows].set(new, mode="drop")


def inner(tree: PyTree, other: PyTree) -> jax.Array:
    """The real inner product over all leaves but those that are None in either.

    It is taken in float32 or wider, so that float16 neither over- nor underflows.
    """
    zero = jnp.zeros((), _check.float_dtype())

    def product(leaf: Any, fellow: Any) -> Any:
        if leaf is None or fellow is None:
            return None
        dtype = wide(leaf, fellow)
        leaf, fellow = jnp.asarray(leaf, dtype), jnp.asarray(fellow, dtype)
        return jnp.real(jnp.sum(jnp.conj(leaf) * fellow)).astype(zero.dtype)

    products = jax.tree.map(product, tree, other, is_leaf=_check.is_none)
    return sum(jax.tree.leaves(products), start=zero)


def present(like: PyTree, tree: PyTree) -> PyTree:
    """A tree without what another has not: there that one's None or MaskedNode stands.

    A tree of another structure is returned as it is, for a check to name the place.
    """
    try:
        return jax.tree.map(
            lambda leaf, part: leaf if _check.is_absent(leaf) else part,
            *(like, tree),
            is_leaf=_check.is_absent,
        )
    except ValueError:
        return tree


def norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm over all leaves, in float32 or wider.

    Entries are divided by the largest first, so that no square over- or underflows.
    """
    largest = _largest(tree)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    zero = jnp.zeros((), scale.dtype)
    squares = [
        jnp.sum(jnp.square(jnp.abs(leaf))) for leaf in jax.tree.leaves(_divided(tree, scale))
    ]
    return scale * jnp.sqrt(sum((square.astype(zero.dtype) for square in squares), start=zero))


def unit(tree: PyTree) -> PyTree:
    """The tree divided by its norm; NaN where that is 0.

    It is divided by its largest entry first, as in `norm`.
    """
    tree = _divided(tree, _largest(tree))
    return combine((1 / norm(tree), tree), like=tree)


def _divided(tree: PyTree, divisor: jax.Array) -> PyTree:
    return jax.tree.map(lambda leaf: _widened(leaf) / divisor.astype(wide(leaf)), tree)


def _largest(tree: PyTree) -> jax.Array:
    """The largest magnitude over all leaves; 0 where there is none."""
    zero = jnp.zeros((), _check.float_dtype())
    entries = [jnp.max(jnp.abs(_widened(leaf)), initial=0) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.maximum, (entry.astype(zero.dtype) for entry in entries), zero)


def _widened(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, wide(leaf))
