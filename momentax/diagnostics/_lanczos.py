"""The Lanczos process on the Hessian of a loss, from its products with vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.sharding import place_like, replicate_like
from momentax._core.typing import PyTree

# The progress bars on the screen. The compiled program is reused, so each run passes it the number
# of its bar.
_BARS: dict[int, Any] = {}
_BAR_NUMBERS = itertools.count()


class Matrix(NamedTuple):
    """A symmetric matrix of the parameters' size, known by its products with vectors.

    loss: from (outputs, *arguments) to a scalar, where outputs = model(params, *arguments).
    model: None where the outputs are the parameters themselves.
    gauss_newton: whether the matrix is the Gauss-Newton matrix, not the Hessian.
    """

    loss: Callable[..., Any]
    model: Callable[..., Any] | None
    gauss_newton: bool

    def outputs(self, params: PyTree, arguments: tuple[Any, ...]) -> PyTree:
        """Return the outputs of the model, which the loss takes."""
        return params if self.model is None else self.model(params, *arguments)

    def times(self, direction: PyTree, params: PyTree, arguments: tuple[Any, ...]) -> PyTree:
        """Return the matrix at the parameters times a direction."""

        def outputs(params: PyTree) -> PyTree:
            return self.outputs(params, arguments)

        def loss(outputs: PyTree) -> jax.Array:
            return self.loss(outputs, *arguments)

        if not self.gauss_newton:
            gradient = jax.grad(lambda params: loss(outputs(params)))
            return jax.jvp(gradient, (params,), (direction,))[1]
        z, pull_back = jax.vjp(outputs, params)
        _, dz = jax.jvp(outputs, (params,), (direction,))
        return pull_back(jax.jvp(jax.grad(loss), (z,), (dz,))[1])[0]


class Ritz(NamedTuple):
    """The approximate eigenvalues from the Krylov space of one start.

    values: the eigenvalues of the matrix within the space, ascending.
    weights: of each value in the quadrature of the spectrum.
    history: a row after each iteration: mu, L and the bounds of their errors.
    """

    values: np.ndarray
    weights: np.ndarray
    history: np.ndarray


@contextmanager
def numbered_bar(bar: Any) -> Iterator[np.int32]:
    """Register a progress bar, and yield the number by which `tridiagonalize` finds it."""
    _BARS[number := next(_BAR_NUMBERS)] = bar
    try:
        yield np.int32(number)
        jax.effects_barrier()  # The last callbacks may still be pending.
    finally:
        del _BARS[number]


@partial(jax.jit, static_argnums=(1, 2))
def draw_start(key: jax.Array, size: int, dtype: Any) -> jax.Array:
    """Draw the vector that a Lanczos process starts at.

    It is isotropic, so that it is orthogonal to no eigenvector, as a vector of random signs may
    be. It is a separate program, compiled once for each size and reused for every loss.
    """
    return jax.random.normal(key, (size,), dtype)


@partial(jax.jit, static_argnums=(0, 1, 2))
def tridiagonalize(
    matrix: Matrix,
    iterations: int,
    has_bar: bool,
    bar_number: Any,
    params: PyTree,
    arguments: tuple[Any, ...],
    groups: list[tuple[np.ndarray, PyTree]],
    start: jax.Array,
) -> tuple[Any, jax.Array]:
    """Return the projection of a matrix on a Krylov space, and the last residual's norm.

    The matrix is the mean over batches; groups hold the batches of equal shapes stacked on a
    leading axis, each with its index.
    """
    from matfree import decomp

    count = sum(len(indices) for indices, _ in groups)

    def product(vector: jax.Array) -> jax.Array:
        if has_bar:
            jax.debug.callback(_advance_bar, bar_number)
        direction = _unflatten(vector, params)

        def add(total: jax.Array, indexed: Any) -> tuple[jax.Array, None]:
            _, batch = indexed
            part = matrix.times(direction, params, (*arguments, *batch))
            return total + _flatten(part, start.dtype), None

        total = jnp.zeros_like(vector)
        for group in groups:
            total, _ = jax.lax.scan(add, total, group)
        return total / count

    # In an accelerator's fast low precision the basis would lose its orthogonality.
    with jax.default_matmul_precision("highest"):
        # Lanczos with full reorthogonalization is the Arnoldi process. matfree's returns the
        # lengths beside the rest of the basis, which is NaN once a length is exactly 0.
        basis = decomp.hessenberg(iterations, reortho="full", custom_vjp=False)
        result = basis(product, start)
    return result.J_small, jnp.linalg.norm(result.residual)


def ritz(projection: Any, residual: Any) -> Ritz:
    """Return the Ritz values of a tridiagonal projection, with their history."""
    digits = jnp.finfo(projection.dtype)
    H = np.asarray(projection, np.float64)
    diagonal, lengths = np.diagonal(H), np.append(np.diagonal(H, -1), np.float64(residual))
    _require_representable_squares(diagonal[0], lengths[0], digits)
    return _ritz_of_tridiagonal(diagonal, lengths, rounding=10 * float(digits.eps))


def _advance_bar(number: Any) -> None:
    if bar := _BARS.get(int(number)):
        bar.update()


def _unflatten(vector: jax.Array, params: PyTree) -> PyTree:
    """Return the parts of a vector with the shapes, dtypes and sharding of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = zip(jnp.split(vector, ends[:-1]), leaves, strict=True)
    return structure.unflatten(
        place_like(part.reshape(leaf.shape).astype(leaf.dtype), leaf) for part, leaf in parts
    )


def _flatten(tree: PyTree, dtype: Any) -> jax.Array:
    """Return all numbers of a tree in one vector, replicated on every device."""
    parts = (replicate_like(leaf, leaf) for leaf in jax.tree.leaves(tree))
    return jnp.concatenate([part.ravel().astype(dtype) for part in parts])


def _require_representable_squares(diagonal: float, length: float, digits: Any) -> None:
    """Refuse a matrix whose first product has a norm that the dtype cannot square."""
    first = np.abs([diagonal, length])
    size = first[np.isfinite(first)].max(initial=0)
    underflows = 0 < size < np.sqrt(digits.tiny / digits.eps)
    if underflows or (size > 0 and np.isinf(length)):
        raise ValueError(
            f"the curvatures, about {size:.1g}, have squares outside the range of "
            f"{digits.dtype}; multiply the loss by a number that brings them near 1"
        )


def _ritz_of_tridiagonal(diagonal: np.ndarray, lengths: np.ndarray, rounding: float) -> Ritz:
    """Return the eigenvalues of a tridiagonal matrix, after each of its rows."""
    from scipy.linalg import eigh_tridiagonal  # Importing momentax does not load SciPy.

    iterations = len(diagonal)
    history = []
    values = weights = np.zeros(0)
    for k in range(1, iterations + 1):
        if not np.all(np.isfinite([diagonal[k - 1], lengths[k - 1]])):
            raise ValueError(
                f"the Hessian times a vector is not finite in product {k}: the loss or one of "
                "its derivatives overflows or is undefined at these params or in this batch; "
                "jax.debug_nans(True) shows where"
            )
        values, vectors = eigh_tridiagonal(diagonal[:k], lengths[: k - 1])
        weights = vectors[0] ** 2
        floor = rounding * np.abs(values).max()
        errors = np.maximum(lengths[k - 1] * np.abs(vectors[-1, [0, -1]]), floor)
        history.append((*values[[0, -1]], *errors))
        if lengths[k - 1] <= floor:
            break  # The space is invariant, so that the Ritz values are eigenvalues.
    missing = (0, iterations - len(values))
    return Ritz(
        np.pad(values, missing, mode="edge"),
        np.pad(weights, missing),
        np.pad(history, (missing, (0, 0)), mode="edge"),
    )
