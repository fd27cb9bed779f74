"""Pytrees: paths, parts left to others, the first difference of two trees, and masks.

Parameters may contain None and `optax.MaskedNode`, which Optax puts where another
transformation is responsible. Gradients may be None where there is no gradient this step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core.arguments import as_flag, describe, dtype_of, is_a, require_function
from momentax._core.typing import PyTree


def path_name(path: Any) -> str:
    """Return a path as it is written in Python, such as "['dense']['kernel']"."""
    return jax.tree_util.keystr(path) or "the root"


def is_none(value: Any) -> bool:
    """Return whether a value is None; an `is_leaf` for `jax.tree.map`."""
    return value is None


def is_masked(value: Any) -> bool:
    """Return whether Optax left this part of a tree to another transformation."""
    return isinstance(value, optax.MaskedNode)


def is_absent(value: Any) -> bool:
    """Return whether there is no array here: None, or a part left to another transformation."""
    return is_none(value) or is_masked(value)


def is_array(leaf: Any) -> bool:
    """Return whether a leaf is an array or a number, and not a function, a string or the like."""
    return dtype_of(leaf) is not None or hasattr(leaf, "dtype")


def computed(function: Callable[[Any], Any], leaf: Any) -> Any:
    """Return a function of a parameter, or what is known of it if the parameter has no values.

    Optax's transformations accept `jax.ShapeDtypeStruct` in place of parameters at init.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(function, leaf)
    return function(leaf)


ARRAYS = (
    "split an Equinox module with eqx.partition(module, eqx.is_inexact_array), and pass the "
    "first part"
)


def copy_numpy(tree: PyTree) -> PyTree:
    """Return a tree with copies of NumPy's arrays, which their owner may write into.

    A tree without such arrays is returned itself.
    """
    if not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, tree)


def only_arrays(params: PyTree) -> PyTree:
    """Return parameters with None in place of each leaf that is no array.

    A module of Equinox has such leaves, for example its activation function.
    """
    return jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, params)


def with_others(arrays: PyTree, params: PyTree) -> PyTree:
    """Undo `only_arrays`, for other arrays in the places of those of the parameters."""
    return jax.tree.map(
        lambda array, leaf: leaf if array is None else array, arrays, params, is_leaf=is_none
    )


def require_kind(params: PyTree, kind: Any, need: str, remedy: str) -> None:
    """Refuse parameters whose dtype is not of a kind such as `jnp.floating`, naming the first."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not is_array(leaf):
            raise TypeError(
                f"params must hold arrays only, got {describe(leaf)} at {path_name(path)}; {ARRAYS}"
            )
        if not is_a(kind, leaf):
            raise TypeError(
                f"the parameter at {path_name(path)} has dtype {_dtype_name(leaf)}, and {need}; "
                f"{remedy}"
            )


def require_inexact(params: PyTree) -> None:
    """Refuse parameters that have no momentum, naming the path of the first."""
    need = "momentum needs floating or complex ones"
    require_kind(params, jnp.inexact, need, "leave it out with optax.masked or optax.partition")


class Difference(NamedTuple):
    """Where two trees differ first, what each has there, and the error to raise."""

    path: Any
    given: str
    expected: str
    error: type[Exception]


def first_difference(
    tree: PyTree,
    like: PyTree,
    none_fits: bool = False,
    path: Any = (),
    compare_leaves: Callable[[Any, Any, Any], Difference | None] | None = None,
) -> Difference | None:
    """Return the first difference of two trees, a node before its contents, or None.

    Structures and shapes must be equal, and a leaf must be complex exactly where the
    other is. With `none_fits`, None in `tree` fits any leaf of `like`. `compare_leaves`
    compares two leaves at a path in another way.
    """
    if jax.tree_util.all_leaves([like]):
        if none_fits and tree is None:
            return None
        if jax.tree_util.all_leaves([tree]):
            return (compare_leaves or leaf_difference)(tree, like, path)
        return Difference(path, _kind(tree), _kind(like), ValueError)
    if type(tree) is not type(like):
        return Difference(path, _kind(tree), _kind(like), ValueError)
    (parts, node), (parts_like, node_like) = _children(tree), _children(like)
    keys, keys_like = dict(parts), dict(parts_like)
    reordered = f"{_kind(tree)} of another order or other fields"
    if keys.keys() == keys_like.keys() and node != node_like:
        return Difference(path, reordered, _kind(like), ValueError)
    nothing = (None, None)
    for (key, part), (key_like, part_like) in zip_longest(parts, parts_like, fillvalue=nothing):
        if key == key_like:
            if found := first_difference(part, part_like, none_fits, path + key, compare_leaves):
                return found
        elif key_like is not None and key_like not in keys:
            return Difference(path + key_like, "nothing", _kind(part_like), ValueError)
        elif key is not None and key not in keys_like:
            return Difference(path + key, _kind(part), "nothing", ValueError)
        else:
            return Difference(path, reordered, _kind(like), ValueError)
    return None


def require_fit(
    name: str,
    tree: PyTree,
    name_like: str,
    like: PyTree,
    remedy: str,
    none_fits: bool = True,
    compare_leaves: Callable[[Any, Any, Any], Difference | None] | None = None,
) -> None:
    """Refuse a tree that does not fit another, naming the first path that differs."""
    found = first_difference(tree, like, none_fits, compare_leaves=compare_leaves)
    if found is not None:
        raise found.error(
            f"{name} at {path_name(found.path)} does not fit {name_like}: "
            f"{found.given} where {found.expected} belongs; {remedy}"
        )


def require_gradients(updates: PyTree, velocity: PyTree) -> None:
    """Refuse gradients that do not fit the velocity, naming the first path that differs."""
    remedy = "pass gradients of the parameters that init was given"
    require_fit("the gradient", updates, "the velocity", velocity, remedy)


def require_params(updates: PyTree, params: PyTree) -> None:
    """Refuse gradients that do not fit the parameters, naming the first path that differs."""
    remedy = "pass the params that the gradients were taken at"
    require_fit("the gradient", updates, "the parameter", params, remedy)


def absent_like(velocity: PyTree, params: PyTree) -> PyTree:
    """Return parameters with None wherever the velocity has None, since they are no arrays.

    Parameters of another structure are returned unchanged.
    """
    try:
        return jax.tree.map(
            lambda v, leaf: None if is_none(v) else leaf, velocity, params, is_leaf=is_absent
        )
    except ValueError:
        return params


def masked_like(like: PyTree, tree: PyTree) -> PyTree:
    """Return `tree` with None or MaskedNode wherever `like` has one.

    A tree of another structure is returned unchanged, so that a later check names the
    place that differs.
    """
    try:
        return jax.tree.map(
            lambda leaf, part: leaf if is_absent(leaf) else part, like, tree, is_leaf=is_absent
        )
    except ValueError:
        return tree


def require_mask(name: str, value: Any) -> None:
    """Refuse what is neither a tree of bools, nor None, nor a function of the parameters."""
    if callable(value):
        require_function(name, value, "from params to a tree of bools", "params")
    elif not all(isinstance(leaf, bool | np.bool_) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"{name} must be a tree of bools, a prefix of one or a function from params to one, "
            f"got {describe(value)}"
        )


def as_mask(name: str, value: Any, params: PyTree) -> PyTree:
    """Return a bool for each parameter.

    `value` is a tree of bools, a prefix of one, or a function from the parameters to
    either. None selects all parameters.
    """
    prefix = True if value is None else value(params) if callable(value) else value

    def broadcast(keep: Any, part: PyTree) -> PyTree:
        keep = as_flag(f"each leaf of {name}", keep)
        return jax.tree.map(lambda _: keep, part)

    try:
        return jax.tree.map(broadcast, prefix, params)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a tree of bools with the structure of params, or a prefix of it, or a "
            f"function from params to one: {error}"
        ) from None


def _children(tree: PyTree) -> tuple[list[Any], Any]:
    """Return the direct children of a node with their keys, and the node's structure."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda part: part is not tree)


def leaf_difference(leaf: Any, like: Any, path: Any) -> Difference | None:
    """Return how two leaves differ: in shape, or in that only one of them is complex."""
    if not is_array(leaf):
        return Difference(path, _kind(leaf), "an array", TypeError)
    shape, shape_like = np.shape(leaf), np.shape(like)
    if shape != shape_like:
        return Difference(path, f"shape {shape}", f"shape {shape_like}", ValueError)
    # A real gradient of a complex parameter would drop the velocity's imaginary part.
    if not is_a(jnp.complexfloating if is_a(jnp.complexfloating, like) else jnp.floating, leaf):
        return Difference(path, f"dtype {_dtype_name(leaf)}", _dtype_name(like), TypeError)
    return None


def _dtype_name(value: Any) -> str:
    return str(dtype_of(value) or getattr(value, "dtype", type(value).__name__))


def _kind(node: PyTree) -> str:
    if node is None:
        return "None"
    if jax.tree_util.all_leaves([node]) and is_array(node):
        return "an array"
    name = type(node).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
