"""The Newton-Schulz iteration: the polar factors of a stack of matrices, by products alone.

A step takes X to a X + (b X Xᴴ + c (X Xᴴ)²) X, and each singular value s of X to a s + b s³ + c s⁵.
Singular vectors stay as they are. Matrices are wide here: they have at least as many columns as
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arithmetic
from momentax._core.typing import Reals

# So many entries are iterated together. Larger stacks are iterated part by part, since the
# iteration needs a few arrays of the size of its input, and such products fill a device.
_LARGEST_PART = 2**23

# Of products with at least so many rows that are Hermitian, a part is computed and then mirrored.
# With the 768 rows of GPT-2 small this would save a tenth of a step, and make the program take half
# as long again to compile.
_WORTH_HALVING = 1024

# The Gram form needs fewer products where the columns are more than this many times the rows.
_WIDE = 1.5

# A polynomial is computed around the square of a singular value, which is at most so large.
_LARGEST_CENTER = 4.0

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
    hermitian = partial(_hermitian, times)
    is_wide = _wide(x.dtype) == x.dtype

    def step(x: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        r = hermitian(x, _adjoint(x))
        if is_wide:
            r, row = r - row[3] * _identity(r), row[:3]
        return _multiply(times, _factor(hermitian, r, row, is_wide), x).astype(x.dtype), None

    return jax.lax.scan(step, x, _scanned(_around(rows) if is_wide else rows, x.dtype))[0]


def _around(rows: Reals) -> Reals:
    """Return rows (a, b, c, t) of a + b (s² - t) + c (s² - t)² that are the same polynomials.

    t is the square at which the polynomial turns, if it does. There the terms do not cancel as
    those of 8.2 - 22.5 s² + 15.9 s⁴ do, whose rounding errors are 30 times those of its value.
    """
    a, b, c = np.asarray(rows, float).T
    t = np.clip(-b / (2 * np.where(c == 0, np.inf, c)), 0, _LARGEST_CENTER)
    return np.stack([a + b * t + c * t**2, b + 2 * c * t, c, t], axis=1)


# The Gram form iterates R = X Xᴴ, whose shape is (rows, rows), and the polynomial Q of R by which X
# is to be multiplied. Rounding errors of R grow with each step, so that X is multiplied by Q and R
# is computed anew after at most three steps, and after two at first, where R changes most.
_STEPS = 3
_FIRST_STEPS = {1: (1,), 2: (2,), 0: (1, 2)}


class _Step(NamedTuple):
    """One step from R on: its coefficients, and which of its products are needed."""

    row: Any
    is_made: Any  # False for what fills a group up to _STEPS.
    is_first: Any  # Q is 1 before it.
    is_last: Any  # R is not needed after it.


def _gram_form(x: jax.Array, rows: Reals) -> jax.Array:
    """Return X after all steps, which multiplies matrices of the size of X only now and then.

    One to three steps from R on take 2 products of the size of X and 1, 5 or 9 of the size of R.
    The program has each product once: loops and conditions choose.
    """
    # On a TPU, products in the default precision are as inexact as bfloat16.
    times = _product_of(x.dtype, jax.lax.Precision.HIGH)
    step = partial(_step_from_gram, partial(_hermitian, times), _wide(x.dtype) == x.dtype)

    def group(x: jax.Array, steps: _Step) -> tuple[jax.Array, None]:
        r = _hermitian(times, x, _adjoint(x))
        (_, q), _ = jax.lax.scan(step, (r, r), steps)
        return times(q, x).astype(x.dtype), None

    return jax.lax.scan(group, x, _groups(rows, x.dtype))[0]


def _step_from_gram(
    times: _Product, is_wide: bool, carry: tuple[jax.Array, jax.Array], step: _Step
) -> tuple[tuple[jax.Array, jax.Array], None]:
    """Return R and Q after one step. All are polynomials of one R, and so are their products."""
    r, q = carry

    def make() -> tuple[jax.Array, jax.Array]:
        p = _factor(times, r, step.row, is_wide)
        times_p = partial(_multiply, times, p)
        new_q = jax.lax.cond(step.is_first, lambda: _as_matrix(p), lambda: times_p(q))
        return jax.lax.cond(step.is_last, lambda: r, lambda: times_p(times_p(r))), new_q

    return jax.lax.cond(step.is_made, make, lambda: carry), None


def _groups(rows: Reals, dtype: Any) -> _Step:
    """Return the steps in groups of equal length, filled up with steps that are not made."""
    rest = list(rows)
    lengths = list(_FIRST_STEPS[len(rest) % _STEPS])
    lengths += [_STEPS] * ((len(rest) - sum(lengths)) // _STEPS)
    table = np.zeros((len(lengths), _STEPS, 3))
    made, first, last = np.zeros((3, len(lengths), _STEPS), bool)
    for i, length in enumerate(lengths):
        table[i, :length], rest = rest[:length], rest[length:]
        made[i, :length] = first[i, 0] = last[i, length - 1] = True
    return _Step(_scanned(table, dtype), *map(jnp.asarray, (made, first, last)))


def _factor(
    times: _Product, r: jax.Array, row: jax.Array, is_wide: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Return (Z, a) with a I + b R + c R² = Z + a I, or (Z + a I, None) in float32 or wider.

    In half precision a large a on the diagonal would cost digits of Z, which products round.
    """
    a, b, c = row
    z = b * r + c * times(r, r)
    return (z + a * _identity(r), None) if is_wide else (z, a)


def _as_matrix(factor: tuple[jax.Array, jax.Array | None]) -> jax.Array:
    z, a = factor
    return z if a is None else z + a * _identity(z)


def _multiply(
    times: _Product, factor: tuple[jax.Array, jax.Array | None], y: jax.Array
) -> jax.Array:
    z, a = factor
    product = times(z, y)
    return product if a is None else product + a * y.astype(product.dtype)


def _identity(r: jax.Array) -> jax.Array:
    return jnp.eye(r.shape[1], dtype=r.dtype)[None]


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
