"""See through the containers of Flax, without importing Flax.

Flax NNX keeps each array in a Variable, and trees of them in a State. `nnx.state(optimizer)` also
turns every tuple and NamedTuple into a dictionary: of positions, without the empty ones, or of
fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from momentax._core.typing import PyTree


def _is_of_flax(node: Any, *names: str) -> bool:
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] == "flax"
        for kind in type(node).__mro__
    )


def is_variable(node: Any) -> bool:
    """Return whether a node is a box of Flax's around one array."""
    return _is_of_flax(node, "Variable", "VariableState", "AxisMetadata")


def is_state(node: Any) -> bool:
    """Return whether a node is a State of Flax NNX, a mapping that is a pytree."""
    return _is_of_flax(node, "State") and isinstance(node, Mapping)


def unwrap(tree: PyTree) -> PyTree:
    """Return a tree with dictionaries in place of States, and arrays in place of Variables."""

    def open_container(node: Any) -> Any:
        if is_state(node):
            return {key: unwrap(part) for key, part in node.items()}
        if is_variable(node):
            (content,) = jax.tree.leaves(node, is_leaf=lambda part: part is not node)
            return unwrap(content)
        return node

    return jax.tree.map(
        open_container, tree, is_leaf=lambda node: is_state(node) or is_variable(node)
    )


def wrap_like(tree: PyTree, like: PyTree) -> PyTree:
    """Put the leaves of an unwrapped tree into the containers of the tree that it came from."""
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(tree))


def with_named_nodes(
    state: PyTree, has_velocity: Callable[[Any], bool]
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Put tuples and NamedTuples back into the States of an optimizer's state.

    Also returns the function that undoes this. What belongs to a node for which
    `has_velocity` holds stays in its containers.
    """

    def is_end(node: Any) -> bool:
        return is_state(node) or has_velocity(node)

    if not any(map(is_state, jax.tree.leaves(state, is_leaf=is_end))):
        return state, lambda named: named

    def name(state: PyTree) -> PyTree:
        return jax.tree.map(
            lambda node: _named(node, has_velocity, False) if is_state(node) else node,
            state,
            is_leaf=is_end,
        )

    # The order of the leaves in the named tree: dictionaries are sorted, NamedTuples are not.
    leaves, structure = jax.tree.flatten(state)
    numbers, named = jax.tree.flatten(name(structure.unflatten(range(len(leaves)))))

    def restore(state: PyTree) -> PyTree:
        found = dict(zip(numbers, jax.tree.leaves(state), strict=True))
        return structure.unflatten([found[number] for number in range(len(leaves))])

    return named.unflatten([leaves[number] for number in numbers]), restore


def _named(node: Any, has_velocity: Callable[[Any], bool], stored: bool) -> Any:
    """Return what a dictionary of positions or fields was made from.

    `stored` says whether the node lies in the state of `momentax.stored`.
    """
    if is_variable(node) or not isinstance(node, Mapping):
        return node
    if node and all(isinstance(key, int) for key in node):
        return tuple(_named(node.get(i), has_velocity, stored) for i in range(max(node) + 1))
    kind = _state_type(set(node), has_velocity)
    if kind is None:
        stored = stored or {*node, "seed"} == {"wrapper_count", "seed", "inner_state"}
        return {key: _named(part, has_velocity, stored) for key, part in node.items()}
    parts = (node.get(field) for field in kind._fields)
    return kind(*(_packed(part) if stored else part for part in parts))


def _named_tuples() -> list[Any]:
    """Return the NamedTuples that Optax and momentax have defined so far."""
    return [
        kind
        for kind in tuple.__subclasses__()
        if hasattr(kind, "_fields") and kind.__module__.partition(".")[0] in ("momentax", "optax")
    ]


def _state_type(fields: set[Any], has_velocity: Callable[[Any], bool]) -> Any:
    """Return the type of a state with a velocity, of Optax or momentax, by its fields, or None.

    Fields that are None are missing in a dictionary. The types that have the same fields
    have the same class attributes, except for the units of the velocity, where those of the
    linear methods are taken.
    """
    found = {
        (len(set(kind._fields) - fields), kind.__name__ != "LinearState", kind.__name__): kind
        for kind in _named_tuples()
        if fields <= set(kind._fields)
        and has_velocity(kind(*kind._fields))
        and not {"count", "velocity", "trace"} & (set(kind._fields) - fields)
    }
    return found[min(found)] if found else None


def _packed(part: Any) -> Any:
    """Return the NamedTuple of a storage with the fields of a dictionary, or the part itself."""
    if isinstance(part, Mapping) and not is_variable(part):
        for kind in _named_tuples():
            if hasattr(kind, "codec") and set(kind._fields) == set(part):
                return kind(*(part[field] for field in kind._fields))
    return part


# How Flax NNX places arrays. A Variable may say it of its own array (`out_sharding`), and of the
# optimizer's arrays for it (`optimizer_sharding`), which `nnx.Optimizer` places once more.


def annotations(tree: PyTree) -> dict[Any, tuple[Any, ...]]:
    """Return what the metadata of Variables says of the mesh axes that split each leaf."""
    found = {}
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_variable):
        sharding = _metadata(node).get("out_sharding")
        if sharding:
            entries = tuple(getattr(sharding, "spec", sharding))
            for inner, _ in jax.tree_util.tree_leaves_with_path(node):
                found[(*path, *inner)] = entries
    return found


def annotate_state(state: PyTree, specs: Mapping[Any, tuple[Any, ...]]) -> PyTree:
    """Say in the metadata of Variables in a state how their arrays are split, by their paths.

    `nnx.Optimizer` would otherwise place a velocity like its parameter.
    """

    def annotate(path: Any, node: Any) -> Any:
        metadata = _metadata(node)
        if not metadata.get("out_sharding") or "optimizer_sharding" in metadata:
            return node
        spec = next((specs[at] for at in specs if at[: len(path)] == path), None)
        return node if spec is None else node.copy(optimizer_sharding=spec)

    return jax.tree_util.tree_map_with_path(annotate, state, is_leaf=is_variable)


def without_annotations(state: PyTree) -> PyTree:
    """Undo `annotate_state`, so that the Variables fit those of the gradients."""

    def clean(node: Any) -> Any:
        metadata = dict(_metadata(node))
        if metadata.pop("optimizer_sharding", None) is None:
            return node
        node = node.copy()
        node.set_metadata(metadata)
        return node

    return jax.tree.map(clean, state, is_leaf=is_variable)


def _metadata(node: Any) -> Mapping[str, Any]:
    return node.get_metadata() if is_variable(node) and hasattr(node, "get_metadata") else {}
