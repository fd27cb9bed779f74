"""The Newton-Schulz iteration: the polar factors of a stack of matrices, by products alone.

A step takes X to a X + (b X Xᴴ + c (X Xᴴ)²) X, and each singular value s of X to a s + b s³ + c s⁵.
Singular vectors stay as they are. Matrices are wide here: they have at least as many columns as
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import arithmetic
from momentax._core.typing import Reals

# So many entries are iterated together. Larger stacks are iterated part by part, since the
# iteration needs a few arrays of the size of its input, and such products fill a device.
_LARGEST_PART = 2**23

# Of products with at least so many rows that are Hermitian, a part is computed and then mirrored.
_WORTH_HALVING = 256

# The Gram form needs fewer products where the columns are more than this many times the rows.
_WIDE = 1.5

_Product = Callable[[jax.Array, jax.Array], jax.Array]


def polar_factors(x: jax.Array, rows: Reals, dtype: Any, eps: float = 0.0) -> jax.Array:
    """Return the approximate polar factor of each wide matrix in a stack.

    Args:
        x: Matrices of the shape (count, rows, columns), in float32 or wider.
        rows: (a, b, c) for each step.
        dtype: The dtype of the iteration, real. Norms are computed in that of x.
        eps: A matrix with a smaller norm is divided by this number in place of its norm.

    Returns:
        An array of the shape and dtype of x. A matrix of zeros stays so.
    """
    count, n, m = x.shape
    form = _gram_form if _prefers_gram_form(n, m, dtype) else _standard_form

    def iterate(part: jax.Array) -> jax.Array:
        return form(_normalize(part, eps).astype(_like(part, dtype)), rows).astype(part.dtype)

    size = _largest_divisor(count, _LARGEST_PART // (n * m))
    if size == count:
        return iterate(x)
    parts = x.reshape(count // size, size, n, m)
    return jax.lax.map(iterate, parts).reshape(count, n, m)


def _largest_divisor(count: int, most: int) -> int:
    """Return the largest divisor of a number that is at most `most`, and at least 1."""
    return next((d for d in range(min(count, most), 1, -1) if count % d == 0), 1)


def _prefers_gram_form(n: int, m: int, dtype: Any) -> bool:
    # In bfloat16 the Gram form is wrong by more than its result, and in float64 a twin has to be
    # equal to the last digits.
    return m > _WIDE * n and jnp.dtype(dtype) in (jnp.float32, jnp.float16)


def _like(x: jax.Array, dtype: Any) -> Any:
    """Return the dtype of the iteration for matrices that may be complex."""
    if not jnp.iscomplexobj(x):
        return dtype
    return jnp.complex128 if jnp.dtype(dtype) == jnp.float64 else jnp.complex64


def _normalize(x: jax.Array, eps: float) -> jax.Array:
    """Return each matrix divided by max(‖x‖, ε), where ε is at least the smallest normal number.

    It is divided by a power of two near its largest entry first, so that no square over- or
    underflows.
    """
    largest = jnp.max(jnp.abs(x.real), axis=(1, 2), keepdims=True)
    if jnp.iscomplexobj(x):
        largest = jnp.maximum(largest, jnp.max(jnp.abs(x.imag), axis=(1, 2), keepdims=True))
    info = jnp.finfo(largest.dtype)
    # The inverse of the power must be a normal number as well.
    bounded = jnp.minimum(jnp.maximum(largest, info.tiny), 1 / info.tiny)
    power = jax.lax.reduce_precision(bounded, info.nexp, mantissa_bits=0)
    x = x * (1 / power).astype(x.dtype)
    square = (x * jnp.conj(x)).real
    norm = jnp.sqrt(jnp.sum(square, axis=(1, 2), keepdims=True))
    # After the division by a power of two, ε is divided by it as well.
    least = jnp.maximum(eps * (1 / power), info.tiny)
    return x / jnp.maximum(norm, least).astype(x.dtype)


def _standard_form(x: jax.Array, rows: Reals) -> jax.Array:
    """Return X after all steps, one step at a time."""
    times = _product_of(x.dtype)

    def step(x: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        a, b, c = row
        r = _hermitian(times, x, _adjoint(x))
        z = b * r + c * _hermitian(times, r, r)
        return (a * x.astype(z.dtype) + times(z, x)).astype(x.dtype), None

    return jax.lax.scan(step, x, _scanned(rows, x.dtype))[0]


# The Gram form iterates R = X Xᴴ, whose shape is (rows, rows), and the polynomial Q of R by which X
# is to be multiplied. Rounding errors of R grow with each step, so that X is multiplied by Q and R
# is computed anew after at most three steps, and after two at first, where R changes most.
_STEPS = 3
_FIRST_STEPS = {1: (1,), 2: (2,), 0: (1, 2)}


def _gram_form(x: jax.Array, rows: Reals) -> jax.Array:
    """Return X after all steps, which multiplies matrices of the size of X only now and then.

    One to three steps from R = X Xᴴ on take 2 products of the size of X and 1, 5 or 9 of R's size.
    """
    start = 0
    for steps in _FIRST_STEPS[len(rows) % _STEPS]:
        x = _steps_from_gram(x, _scanned(rows[start : start + steps], x.dtype))
        start += steps
    rest = _scanned(rows[start:], x.dtype).reshape(-1, _STEPS, 3)
    if not len(rest):
        return x
    return jax.lax.scan(lambda x, group: (_steps_from_gram(x, group), None), x, rest)[0]


def _steps_from_gram(x: jax.Array, rows: jax.Array) -> jax.Array:
    """Return X after a few steps that update R = X Xᴴ and not X itself."""
    times = _product_of(x.dtype, jax.lax.Precision.HIGH)
    square = partial(_hermitian, times)  # All are polynomials of R, and so are their products.
    r, q = square(x, _adjoint(x)), None
    for j, (a, b, c) in enumerate(rows):
        z = b * r + c * square(r, r)
        q = z + a * jnp.eye(x.shape[1], dtype=z.dtype)[None] if q is None else square(z, q) + a * q
        if j + 1 < len(rows):
            # R becomes (Z + a I) R (Z + a I).
            half = square(z, r) + a * r
            r = square(z, half) + a * half
    return times(q, x).astype(x.dtype)


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jax.lax.transpose(x, (0, 2, 1)))


def _scanned(rows: Reals, dtype: Any) -> jax.Array:
    """Return coefficients in float32 or wider: bfloat16 would change them by up to 0.4%."""
    return jnp.asarray(rows, _wide(dtype))


def _wide(dtype: Any) -> Any:
    return arithmetic.compute_dtype(jnp.zeros((), dtype))


def _hermitian(times: _Product, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return products that are known to be Hermitian, of which a quarter is not computed twice."""
    n = x.shape[1]
    if n < _WORTH_HALVING:
        return times(x, y)
    half, cut = n // 2, jax.lax.slice_in_dim
    above = times(cut(x, 0, half, axis=1), y)
    below = times(cut(x, half, n, axis=1), cut(y, half, n, axis=2))
    below = jax.lax.concatenate([_adjoint(cut(above, half, n, axis=2)), below], 2)
    return jax.lax.concatenate([above, below], 1)


def _product_of(dtype: Any, precision: Any = None) -> _Product:
    """Return the product of two stacks of matrices in a dtype, summed in float32 or wider."""

    def times(x: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.dot_general(
            x.astype(dtype),
            y.astype(dtype),
            (((2,), (1,)), ((0,), (0,))),
            precision=precision,
            preferred_element_type=_wide(dtype),
        )

    return times
