"""Whether a step is finite, and the gradients that a guard accepts."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.sharding import is_on_mesh
from momentax._core.typing import PyTree
from momentax._state._velocity import velocities, velocity_node


def is_finite(*trees_of_arrays: PyTree) -> jax.Array:
    """Return whether no entry of some trees is infinite or NaN; leaves of integers are finite.

    The largest magnitude of all leaves of one shape is one reduction, which reads each of them
    once. XLA:CPU would write the results of `jnp.isfinite` to memory before it combines them. On a
    mesh each leaf has a reduction of its own, since the compiler places alike what it compares
    entry by entry, and leaves of one shape may lie in different places.
    """
    largest: dict[Any, jax.Array] = {}
    leaves = filter(_has_entries, jax.tree.leaves(trees_of_arrays))
    for number, leaf in enumerate(map(jnp.asarray, leaves)):
        size = _size(leaf)
        key = number if is_on_mesh(leaf) else (size.shape, size.dtype)
        largest[key] = jnp.maximum(largest[key], size) if key in largest else size
    flags = [jnp.isfinite(jnp.max(size)) for size in largest.values()]
    return functools.reduce(jnp.logical_and, flags, jnp.array(True))


def _has_entries(leaf: Any) -> bool:
    return arguments.is_a(jnp.inexact, leaf) and jnp.size(leaf) > 0


def _size(leaf: jax.Array) -> jax.Array:
    """Return a magnitude of each entry that is finite exactly where the entry is."""
    if jnp.iscomplexobj(leaf):  # |z| may overflow.
        return jnp.maximum(jnp.abs(leaf.real), jnp.abs(leaf.imag))
    return jnp.abs(leaf).astype(arithmetic.compute_dtype(leaf))


def with_zeros(
    updates: PyTree, extra_args: dict[str, Any]
) -> tuple[PyTree, dict[str, Any], jax.Array]:
    """Return gradients with 0 for each entry that is not finite, and whether there was one.

    The gradients are also cleaned where an extra argument repeats them, as `grad` does.
    """
    leaves, structure = jax.tree.flatten(updates)
    cleaned = [_cleaned(leaf) if _has_entries(leaf) else leaf for leaf in leaves]
    replaced = {id(old): new for old, new in zip(leaves, cleaned, strict=True)}
    extra_args = jax.tree.map(lambda leaf: replaced.get(id(leaf), leaf), extra_args)
    if "grad" in extra_args:
        grad = jax.tree.map(lambda g: _cleaned(g) if _has_entries(g) else g, extra_args["grad"])
        extra_args = extra_args | {"grad": grad}
    return structure.unflatten(cleaned), extra_args, ~is_finite(leaves)


def _cleaned(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return jnp.where(jnp.isfinite(leaf), leaf, jnp.zeros_like(leaf))


# It fits whatever differs: a key, a shape, a dtype or a leaf that is no array.
_REMEDY = (
    "pass the gradients as jax.grad returns them at these params, with None for a parameter that "
    "has no gradient"
)


def require_gradients(updates: PyTree, inner: Any, params: PyTree) -> None:
    """Refuse gradients that do not fit the parameters or, without these, the only velocity."""
    if isinstance(params, optax.LookaheadParams):
        params = params.fast
    if params is not None:
        trees.require_fit(
            "the gradient", updates, "the parameter", params, _REMEDY, compare_leaves=_difference
        )
        return
    found = {path: v for path, v in velocities(inner).items() if jax.tree.leaves(v)}
    for path, v in found.items():
        # Several velocities of one parameter are stacked, and parts of one tree are masked.
        is_stacked = getattr(velocity_node(inner, path), "leading_axes", 0)
        if len(found) == 1 and not is_stacked:
            trees.require_gradients(trees.masked_like(v, updates), v)


def _difference(g: Any, leaf: Any, path: Any) -> trees.Difference | None:
    """Compare a gradient with a parameter; one without a derivative may have any gradient."""
    if not arguments.is_a(jnp.inexact, leaf):
        return None
    return trees.leaf_difference(g, leaf, path)


def describe_not_finite(updates: PyTree, extra_args: dict[str, Any]) -> str:
    """Say where a step whose arrays are known is not finite."""
    for name, tree in (("the gradient", updates), *((f"{k}=", v) for k, v in extra_args.items())):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if _has_entries(leaf) and (count := int(jnp.sum(~jnp.isfinite(leaf)))):
                entries = "1 entry that is" if count == 1 else f"{count} entries that are"
                return f"{name} at {trees.path_name(path)} has {entries} infinite or NaN"
    return (
        "the updates or the new state of tx have an entry that is infinite or NaN, although "
        "everything that update was given is finite: tx has overflowed"
    )
