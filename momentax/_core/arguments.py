"""Checks of arguments, and the sentences that they raise.

`as_*` converts an argument and returns it, `require_*` raises or returns nothing,
`is_*` asks, and `describe` shows a value in a message. Hyperparameters have a file of
their own, and so have trees.
"""

from __future__ import annotations

import inspect
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from momentax._core.typing import Reals
from momentax._core.without_jax import is_within
from momentax._core.without_jax import printable as printable

ANY_REAL = "(-inf, inf)"
LARGEST_COUNT = 2**31 - 1  # Counts are int32.


def describe(value: Any) -> str:
    """Describe a value for a message, on one line of limited length, without addresses."""
    if is_traced(value):
        return f"a traced array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return f"the function {printable(value.__name__)}"
    if isinstance(value, optax.GradientTransformation):
        return "a gradient transformation"
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if is_key(value):
            return f"a random key of shape {value.shape}"
        array = np.asarray(value)
        if array.ndim:
            text = np.array2string(array, separator=", ", threshold=6).replace("\n", "")
            return f"{text} of shape {array.shape}"
        value = array.item()
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = re.sub(" at 0x[0-9a-fA-F]+", "", repr(value).replace("\n", " "))
    except Exception:  # Python prints no very large integer, and a class may print itself wrongly.
        return f"an object of type {type(value).__name__}"
    text = printable(text)
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_traced(value: Any) -> bool:
    """Return whether JAX is tracing a value, so that its number is not known."""
    return isinstance(value, Tracer)


def dtype_of(value: Any) -> Any:
    """Return the dtype that JAX gives a value, or None if JAX does not take the value."""
    if isinstance(value, bool | int | float | complex):
        return jnp.result_type(value)
    try:
        return jax.typeof(value).dtype
    except Exception:  # JAX raises a TypeError, and a class whose representation fails anything.
        return None


def is_a(kind: Any, value: Any) -> bool:
    """Return whether JAX takes a value and its dtype is of a kind such as `jnp.floating`."""
    dtype = dtype_of(value)
    return dtype is not None and bool(jnp.issubdtype(dtype, kind))


def is_real(value: Any) -> bool:
    """Return whether a value holds real numbers, floating or integer, that JAX takes."""
    if type(value) is float:
        return True
    dtype = dtype_of(value)
    return dtype is not None and bool(
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    )


def is_key(value: Any) -> bool:
    """Return whether a value is an array of random keys of the new style."""
    return is_a(jax.dtypes.prng_key, value)


def as_flag(name: str, value: Any) -> bool:
    """Return a bool. A number or a string is refused, since it is probably another argument."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {describe(value)}")
    return bool(value)


def as_count(name: str, value: Any, least: int = 1, most: float = LARGEST_COUNT) -> int:
    """Return a whole number, such as a number of steps, as an int."""
    wrong = f"{name} must be a whole number, at least {least}, got {describe(value)}"
    # NumPy's durations are a subclass of its integers.
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, int | np.integer):
        raise TypeError(wrong)
    if value < least:
        raise ValueError(wrong)
    if value > most:
        limit = f"{most}, the largest int32 count" if most == LARGEST_COUNT else most
        raise ValueError(f"{name} must be at most {limit}, got {describe(value)}")
    return int(value)


def as_option(name: str, value: Any, options: Iterable[str]) -> Any:
    """Return one of a few words."""
    words = tuple(options)
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(map(repr, words))
        raise ValueError(f"{name} must be one of {listed}, got {describe(value)}")
    return value


def as_path(name: str, value: Any) -> Path:
    """Return the path of a file or folder, given as a string or as a path object."""
    wrong = (
        f'{name} must be a path, such as "results/sweep" or a pathlib.Path, got {describe(value)}'
    )
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise TypeError(wrong)
    if not path or "\0" in path:
        raise ValueError(wrong)
    return Path(path)


def as_text(name: str, value: Any, example: str) -> str:
    """Return a string, such as a path or the name of a metric."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string such as {example}, got {describe(value)}")
    return str(value)


def as_items(name: str, value: Any, kind: str) -> tuple[Any, ...]:
    """Return the items of a list, an array or another iterable whose order is that of the items."""
    unordered = isinstance(value, str | bytes | Mapping | set | frozenset)
    try:
        if unordered:
            raise TypeError
        return tuple(value)
    except TypeError:  # It cannot be iterated over, as an array without an axis.
        raise TypeError(f"{name} must be a sequence of {kind}, got {describe(value)}") from None


def as_reals(
    name: str, value: Any, interval: str = ANY_REAL, expected: str = "real numbers"
) -> Reals:
    """Return real numbers as a float64 array, with every entry checked."""
    if is_traced(value):
        raise TypeError(
            f"{name} must be concrete: the theory runs in NumPy, outside of jit and vmap"
        )
    must_be = f"{name} must be {expected} in {interval}"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Rows of different lengths, or a random key.
        raise TypeError(f"{must_be}, got {describe(value)}") from None
    # NumPy has no dtype for integers beyond 64 bits.
    is_large = array.dtype == object and all(type(each) is int for each in array.flat)
    if array.dtype.kind not in "iuf" and not is_large and not is_real(array):
        raise TypeError(f"{must_be}, got {describe(value)}")
    try:
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{must_be}, got {describe(value)}") from None
    inside = is_within(interval, array)
    if not np.all(inside):
        raise ValueError(f"{name} must be in {interval}, got {array[~inside].flat[0]!s}")
    return array


def as_real(name: str, value: Any, interval: str) -> float:
    """Return one real number as a float."""
    array = as_reals(name, value, interval, "a real number")
    if array.ndim:
        raise ValueError(f"{name} must be one number in {interval}, got shape {array.shape}")
    return float(array)


def broadcast(**arrays: Any) -> tuple[Reals, ...]:
    """Return arrays broadcast to one shape; the keywords are the names of the arguments."""
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} of shape {np.shape(each)}" for name, each in arrays.items())
        raise ValueError(f"the arguments must have shapes that broadcast, got {shapes}") from None


def as_symmetric(name: str, value: Any) -> Reals:
    """Return a symmetric matrix in float64, made symmetric to the last bit."""
    matrix = as_reals(name, value)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    skew = np.abs(matrix - matrix.T).max(initial=0)
    if skew > 1e-6 * np.abs(matrix).max(initial=0):
        raise ValueError(
            f"{name} must be symmetric, but an entry differs by {skew:.3g} from the entry across "
            "the diagonal; pass (H + H.T) / 2"
        )
    return (matrix + matrix.T) / 2


def is_curvature(value: Any) -> bool:
    """Return whether a value is a `Curvature`, or another record of a mu and an L."""
    return hasattr(value, "mu") and hasattr(value, "L")


def split_curvature(mu: Any, L: Any) -> tuple[Any, Any]:
    """Return (mu, L), which may be given as one `Curvature` in the place of mu."""
    if is_curvature(mu):
        if L is not None:
            raise TypeError(
                f"L must be left out where mu is a Curvature, which holds both, got L={describe(L)}"
            )
        return mu.mu, mu.L
    if isinstance(mu, tuple | list) and L is None:
        raise TypeError(f"give mu and L as two arguments, or one Curvature, got {describe(mu)}")
    if L is None:
        raise TypeError(
            "L is missing: give the smallest curvature mu and the largest curvature L, or what "
            f"momentax.curvature returns, got mu={describe(mu)} alone"
        )
    return mu, L


def as_curvature_range(
    mu: Any, L: Any = None, *, interval: str = "(0, inf)"
) -> tuple[float, float]:
    """Return the smallest and the largest curvature as floats, checked to be in order.

    `interval` is that of mu; L is always in (0, inf).
    """
    if is_curvature(mu) and L is None and is_real(mu.L) and np.all(mu.L <= 0):
        raise ValueError(
            f"mu is a Curvature without a positive curvature, got mu={describe(mu.mu)} and "
            f"L={describe(mu.L)}: the loss is flat or concave at the params where it was measured"
        )
    mu, L = split_curvature(mu, L)
    μ, L = as_real("mu", mu, interval), as_real("L", L, "(0, inf)")
    if μ > L:
        raise ValueError(f"mu must not exceed L, got mu={μ} and L={L}; are they swapped?")
    return μ, L


def as_hashable(function: Any) -> Any:
    """Return a function that `jax.jit` can use as a static argument.

    A callable without a hash may change between calls. It is wrapped anew each time, so
    that it is compiled each time.
    """
    try:
        hash(function)
    except TypeError:
        return partial(function)
    return function


def require_function(name: str, value: Any, signature: str, /, *args: Any, **keywords: Any) -> None:
    """Refuse what cannot be called, or cannot take some arguments if these are given.

    `signature` says in words from what to what the function maps. With `...` as the last of
    the arguments, more may follow.
    """
    wrong = f"{name} must be a function {signature}, got {describe(value)}"
    if not callable(value):
        raise TypeError(wrong)
    if not (args or keywords):
        return
    try:
        parameters = inspect.signature(value)
    except (TypeError, ValueError):  # Some functions that are written in C say nothing.
        return
    bind = parameters.bind
    if args and args[-1] is ...:
        bind, args = parameters.bind_partial, args[:-1]
    try:
        bind(*args, **keywords)
    except TypeError:
        taken = ", ".join(parameters.parameters) or "no arguments"
        raise TypeError(f"{wrong}, which takes {taken}") from None


def require_key(name: str, key: Any) -> None:
    """Refuse what is not one random key, of the new style or of the old."""
    data = key
    if is_key(key):
        data = jax.random.key_data(key)
        single = not jnp.ndim(key)
    else:
        single = isinstance(key, np.ndarray | jax.Array) and jnp.ndim(key) == 1
    if not (single and is_a(jnp.uint32, data)):
        raise TypeError(f"{name} must be a random key, as jax.random.key(0), got {describe(key)}")


def require_transformation(
    name: str,
    value: Any,
    alternative: str = "",
    *,
    example: str = "momentax.sgd(0.1) or momentax.heavy_ball(0.9)",
) -> None:
    """Refuse what is not a gradient transformation, such as a function that makes one.

    `alternative` says what else may be given.
    """
    if isinstance(value, optax.GradientTransformation):
        return
    if isinstance(value, optax.MultiSteps):
        raise TypeError(
            f"{name} must be a gradient transformation, got an optax.MultiSteps, which is none; "
            "write optax.MultiSteps(...).gradient_transformation()"
        )
    remedy = ""
    if callable(value) and getattr(value, "__name__", "").isidentifier():
        library = (value.__module__ or "").partition(".")[0]
        prefix = f"{library}." if library in ("momentax", "optax") else ""
        remedy = f"; write {prefix}{value.__name__}(...)"
    raise TypeError(
        f"{name} must be a gradient transformation such as {example}{alternative}, "
        f"got {describe(value)}{remedy}"
    )


def require_loss(loss: Callable[..., Any], *arguments: Any) -> None:
    """Refuse a loss that does not return one real floating scalar for these arguments."""
    require_loss_value(jax.eval_shape(loss, *arguments))


def require_loss_value(value: Any) -> None:
    """Refuse what a loss has returned, or its shape and dtype, if it is not one real scalar."""
    if not jax.tree_util.all_leaves([value]):
        raise ValueError(f"loss must return one scalar, got {describe_returned(value)}")
    if shape := getattr(value, "shape", ()):
        raise ValueError(
            f"loss must return one scalar, got an array of shape {shape}; return its mean or sum"
        )
    dtype = getattr(value, "dtype", None) or dtype_of(value)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"loss must return one real scalar, got {dtype or describe(value)}")


def describe_returned(value: Any) -> str:
    """Describe what a loss has returned for a message."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, jax.Array):
        return f"an array of shape {value.shape}"
    return describe(value)
