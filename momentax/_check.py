"""Every check of arguments and trees, and the sentences that say what is wrong."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import partial
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from momentax._typing import PyTree, Scalar, ScalarOrSchedule, Schedule

# Where each hyperparameter may lie, whichever method takes it; others are any real number.
INTERVALS = {
    "learning_rate": "(0, inf)",
    "beta": "[0, 1)",
    "nu": "[0, 1]",
    "dampening": "[0, 1)",
    "weight_decay": "[0, inf)",
}
_REALS = "(-inf, inf)"
_MANY = "to try several values use jax.vmap or momentax.sweep"


def float_dtype() -> Any:
    """The dtype of hyperparameters: float32, or float64 where JAX keeps 64 bits."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def contains(interval: str, value: Any) -> Any:
    """Whether value, a number or an array, lies in an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    above = operator.ge if interval[0] == "[" else operator.gt
    below = operator.le if interval[-1] == "]" else operator.lt
    return above(value, low) & below(value, high)


def is_traced(value: Any) -> bool:
    return isinstance(value, Tracer)


def shown(value: Any) -> str:
    """A value as a message shows it, on one line and not without end."""
    if is_traced(value):
        return f"a traced array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"a random key of shape {value.shape}"
        array = np.asarray(value)
        if array.ndim:
            text = np.array2string(array, separator=", ", threshold=6).replace("\n", "")
            return f"{text} of shape {array.shape}"
        value = array.item()
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # Such an integer in a container.
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def dtype_of(value: Any) -> Any:
    """The dtype that JAX gives a value, and None where it takes none such."""
    if isinstance(value, bool | int | float | complex):
        return jnp.result_type(value)
    try:
        return jax.typeof(value).dtype
    except TypeError:
        return None


def _is_a(kind: Any, value: Any) -> bool:
    dtype = dtype_of(value)
    return dtype is not None and bool(jnp.issubdtype(dtype, kind))


def _dtype_name(value: Any) -> str:
    return str(dtype_of(value) or getattr(value, "dtype", type(value).__name__))


def is_real(value: Any) -> bool:
    """Whether a value holds real numbers, floating or whole, that JAX takes."""
    return _is_a(jnp.floating, value) or _is_a(jnp.integer, value)


def _require_scalar(value: Any, wrong: str, remedy: str) -> None:
    vector = isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))
    vector = vector and not isinstance(value, optax.GradientTransformation)  # A tuple too.
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"{wrong}; {_MANY if vector else remedy}")
    if not is_real(value):
        raise TypeError(f"{wrong}; {remedy}")
    if vector:
        raise ValueError(f"{wrong}; {_MANY}")


def _exact(value: Any, wrong: str) -> Any:
    try:
        return np.asarray(value).astype(np.float64)[()]
    except OverflowError:  # A whole number beyond float64.
        raise ValueError(wrong) from None


def rounded(value: Any) -> Any:
    """Concrete numbers in the dtype of hyperparameters, infinite where that holds no such."""
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(float_dtype())[()]


def _kept(value: Any) -> Any:
    """A scalar in the dtype of hyperparameters; NumPy's, unless JAX or a caller traces it.

    Equinox, for one, turns the NumPy scalars that a function closes over into tracers.
    """
    return jnp.asarray(value, float_dtype()) if isinstance(value, jax.Array) else rounded(value)


def scheduled(name: str, value: ScalarOrSchedule, interval: str | None = None) -> Schedule:
    """Return a hyperparameter as a schedule `count -> scalar` in float32 or wider.

    A number becomes a constant and is checked now; it stays a NumPy scalar, so
    that a coefficient of exactly 0 costs nothing (`_tree.combine`). Of a tracer
    only the shape and dtype can be checked. Of what a schedule
    returns, the type and the shape are checked when it is called.
    """
    if callable(value):
        schedule: Schedule = value

        def checked(count: Any) -> Any:
            scalar = schedule(count)
            wrong = f"{name} must be a schedule of scalars, got one that returns {shown(scalar)}"
            _require_scalar(scalar, wrong, "return a number or a 0-d array")
            if isinstance(scalar, jax.Array):
                return _kept(scalar)
            kept = rounded(exact := _exact(scalar, wrong))
            if np.isinf(kept) and not np.isinf(exact):
                raise ValueError(f"{wrong}, which {kept.dtype} rounds to {kept}")
            return kept

        return checked

    interval = interval or INTERVALS.get(name, _REALS)
    wrong = f"{name} must be in {interval}, got {shown(value)}"
    _require_scalar(value, wrong, "give a number, a 0-d array or a schedule")
    if is_traced(value):
        return lambda _: _kept(value)
    if isinstance(value, jax.Array):
        # optax.inject_hyperparams hands over a schedule's value, and a warm-up may start at 0.
        interval = interval.replace("(0", "[0")
    if not contains(interval, exact := _exact(value, wrong)):
        narrow = dtype_of(value) in (jnp.bfloat16, jnp.float16)
        raise ValueError(f"{wrong} in {dtype_of(value)}; keep it in float32" if narrow else wrong)
    if not contains(interval, kept := rounded(exact)):
        raise ValueError(f"{wrong}, which {kept.dtype} rounds to {kept}")
    return lambda _: _kept(exact)  # Anew, since JAX's precision may be another by then.


def number(value: ScalarOrSchedule) -> np.float64 | None:
    """A hyperparameter as it was given, in float64, if it is a number that is known by now."""
    return None if callable(value) or is_traced(value) else _exact(value, shown(value))


def constant(name: str, value: Scalar, interval: str | None = None) -> Schedule:
    """Return a hyperparameter that may be traced but is no schedule, as `scheduled` does."""
    if callable(value):
        raise TypeError(f"{name} must be a number or a 0-d array, got {shown(value)}")
    return scheduled(name, value, interval)


def flag(name: str, value: Any) -> bool:
    """Return a bool as it is; a number or a string in its place is a mistake."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a count of steps or the like as an int."""
    wrong = f"{name} must be a whole number, at least {least}, got {shown(value)}"
    # NumPy counts its durations among the integers.
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, int | np.integer):
        raise TypeError(wrong)
    if value < least:
        raise ValueError(wrong)
    return int(value)


def choice(name: str, value: Any, params: PyTree) -> PyTree:
    """A bool for each parameter, from a tree of bools, a prefix of one or a function to one.

    None chooses all.
    """
    chosen = True if value is None else value(params) if callable(value) else value

    def spread(keep: Any, part: PyTree) -> PyTree:
        keep = flag(f"each leaf of {name}", keep)
        return jax.tree.map(lambda _: keep, part)

    try:
        return jax.tree.map(spread, chosen, params)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a tree of bools with the structure of params, or a prefix of it, or a "
            f"function from params to one: {error}"
        ) from None


def one_of(name: str, value: Any, options: Iterable[str]) -> Any:
    """Return one of a few words."""
    words = tuple(options)
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {shown(value)}")
    return value


def transformation(name: str, value: Any) -> None:
    """Refuse what is no gradient transformation, such as a factory that was not called."""
    if isinstance(value, optax.MultiSteps):
        raise TypeError(f"{name} is an optax.MultiSteps: give its .gradient_transformation()")
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be a gradient transformation such as momentax.sgd(0.1) or "
            f"momentax.heavy_ball(0.9), got {shown(value)}"
        )


def require_loss(loss: Any, *arguments: Any) -> None:
    """Refuse a loss that does not return one real floating scalar for these arguments."""
    values = jax.tree.leaves(jax.eval_shape(loss, *arguments))
    if (shapes := [leaf.shape for leaf in values]) != [()]:
        raise ValueError(f"loss must return one scalar, got arrays of shapes {shapes}")
    if not jnp.issubdtype(values[0].dtype, jnp.floating):
        raise ValueError(f"loss must return one real scalar, got {values[0].dtype}")


def hashable(function: Any) -> Any:
    """A function as jit's key; one that has no hash gets a new one, as it may be changed."""
    try:
        hash(function)
    except TypeError:
        return partial(function)
    return function


def real_array(name: str, value: Any, interval: str = _REALS) -> np.ndarray:
    """Return an argument of the theory as a float64 array, every entry checked."""
    wrong = f"{name} must be real numbers in {interval}, got {shown(value)}"
    if is_traced(value):
        raise TypeError(
            f"{name} must be concrete: the theory runs in NumPy, outside of jit and vmap"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Rows of different lengths, or a random key.
        raise TypeError(wrong) from None
    if array.dtype.kind not in "iuf" and not is_real(array):
        raise TypeError(wrong)
    with np.errstate(over="ignore"):
        array = array.astype(np.float64)
    inside = contains(interval, array)
    if not np.all(inside):
        raise ValueError(f"{name} must be in {interval}, got {array[~inside].flat[0]!s}")
    return array


def real_scalar(name: str, value: Any, interval: str) -> float:
    """Return one real number as a float."""
    array = real_array(name, value, interval)
    if array.ndim:
        raise ValueError(f"{name} must be one number in {interval}, got shape {array.shape}")
    return float(array)


def symmetric(name: str, value: Any) -> np.ndarray:
    """Return a symmetric matrix in float64, symmetric to the last bit."""
    matrix = real_array(name, value)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    skew = np.abs(matrix - matrix.T).max(initial=0)
    if skew > 1e-6 * np.abs(matrix).max(initial=0):
        raise ValueError(
            f"{name} must be symmetric, got entries that differ by {skew:.3g} from their mirror "
            "images; pass (H + H.T) / 2"
        )
    return (matrix + matrix.T) / 2


def path_name(path: Any) -> str:
    """A leaf's path as it is written in Python, such as "['dense']['kernel']"."""
    return jax.tree_util.keystr(path) or "the root"


def is_none(value: Any) -> bool:
    return value is None


def is_masked(value: Any) -> bool:
    """Whether Optax left this part of a tree to another transformation."""
    return isinstance(value, optax.MaskedNode)


def is_absent(value: Any) -> bool:
    return is_none(value) or is_masked(value)


def require_inexact(params: PyTree) -> None:
    """Refuse parameters that have no gradient, naming the first one's path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not _is_a(jnp.inexact, leaf):
            raise TypeError(
                f"the parameter at {path_name(path)} has dtype {_dtype_name(leaf)}, and momentum "
                "needs floating or complex ones; leave it out with optax.masked or optax.partition"
            )


def _kind(node: PyTree) -> str:
    if node is None:
        return "None"
    if jax.tree_util.all_leaves([node]):
        return "an array"
    name = type(node).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


# Where two trees differ, what stands there in each, and what kind of error that is.
_Difference = tuple[Any, str, str, type[Exception]] | None


def _leaf_difference(leaf: Any, like: Any, path: Any) -> _Difference:
    shape, shape_like = np.shape(leaf), np.shape(like)
    if shape != shape_like:
        return path, f"shape {shape}", f"shape {shape_like}", ValueError
    # A real gradient of a complex parameter would drop the velocity's imaginary part.
    if not _is_a(jnp.complexfloating if _is_a(jnp.complexfloating, like) else jnp.floating, leaf):
        return path, f"dtype {_dtype_name(leaf)}", _dtype_name(like), TypeError
    return None


def _difference(tree: PyTree, like: PyTree, path: Any, none_fits: bool) -> _Difference:
    """The first difference of two trees, each node before what is in it."""
    if jax.tree_util.all_leaves([like]):
        if none_fits and tree is None:
            return None
        if jax.tree_util.all_leaves([tree]):
            return _leaf_difference(tree, like, path)
        return path, _kind(tree), _kind(like), ValueError
    (parts, node), (parts_like, node_like) = (
        jax.tree_util.tree_flatten_with_path(root, is_leaf=lambda part, root=root: part is not root)
        for root in (tree, like)
    )
    keys, keys_like = dict(parts), dict(parts_like)
    if type(tree) is not type(like):
        return path, _kind(tree), _kind(like), ValueError
    other = path, f"{_kind(tree)} of another order or other fields", _kind(like), ValueError
    if keys.keys() == keys_like.keys() and node != node_like:
        return other
    nothing = (None, None)
    for (key, part), (key_like, part_like) in zip_longest(parts, parts_like, fillvalue=nothing):
        if key == key_like:
            if found := _difference(part, part_like, path + key, none_fits):
                return found
        elif key_like is not None and key_like not in keys:
            return path + key_like, "nothing", _kind(part_like), ValueError
        elif key is not None and key not in keys_like:
            return path + key, _kind(part), "nothing", ValueError
        else:
            return other
    return None


def require_fit(
    name: str, tree: PyTree, name_like: str, like: PyTree, remedy: str, none_fits: bool = True
) -> None:
    """Refuse a tree that does not fit another, naming the first path that differs.

    Structures and shapes are the same and a leaf is complex just where the
    other is; None fits any leaf unless none_fits is False.
    """
    if (found := _difference(tree, like, (), none_fits)) is not None:
        path, given, expected, error = found
        raise error(
            f"{name} at {path_name(path)} does not fit {name_like}: "
            f"{given} where {expected} belongs; {remedy}"
        )


def require_gradients(updates: PyTree, velocity: PyTree) -> None:
    """Refuse gradients that do not fit the velocity, naming the first path that differs."""
    remedy = "pass gradients of the parameters that init was given"
    require_fit("the gradient", updates, "the velocity", velocity, remedy)


def require_params(updates: PyTree, params: PyTree) -> None:
    """Refuse gradients that do not fit the parameters, naming the first path that differs."""
    remedy = "pass the params that the gradients were taken at"
    require_fit("the gradient", updates, "the parameter", params, remedy)


def rows(value: PyTree, velocity: PyTree) -> PyTree:
    """Return the rows of the leaves that the velocity has, each as an array of integers."""
    wrong = (
        "rows must be a tree like the parameters of 1-d arrays of whole numbers, got "
        f"{shown(value)}"
    )

    def index(leaf: Any, part: Any) -> Any:
        if is_masked(leaf):
            return leaf
        if np.ndim(part) != 1 or not jnp.issubdtype(jnp.result_type(part), jnp.integer):
            raise ValueError(wrong)
        return jnp.asarray(part)

    try:
        return jax.tree.map(index, velocity, value, is_leaf=is_masked)
    except (TypeError, ValueError):  # A node or None where a leaf belongs.
        raise ValueError(wrong) from None
