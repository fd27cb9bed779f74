"""Find the velocity in the state of any Optax pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.codecs import decode, encode_like
from momentax._core.typing import PyTree
from momentax._state import _flax
from momentax._state._names import as_separator, join_names, leaf_names


class _OptaxState(NamedTuple):
    """Where a state of Optax's keeps its velocities, and what restarts with them."""

    velocities: tuple[str, ...]
    restarts: tuple[str, ...] = ()  # Fields that only the debiasing of the velocity reads.
    sums_gradients: bool = False  # Whether the velocity is a sum, as the buffer of SGD is.


# Optax's own states by the names of their classes: importing optax.contrib for the classes
# would slow down `import momentax`. Adam and its variants use one count for both moments. A
# count of 0 would inflate the second moment, so that the count does not restart there. States
# of momentax's need no row: they have a field `velocity` and the class attributes that
# momentax/_methods/__init__.py names.
_OPTAX_STATES = {
    "TraceState": _OptaxState(("trace",), sums_gradients=True),
    "EmaState": _OptaxState(("ema",), restarts=("count",)),
    "ScaleByAdamState": _OptaxState(("mu",)),
    "ScaleByAmsgradState": _OptaxState(("mu",)),
    "ScaleByBeliefState": _OptaxState(("mu",)),
    "ScaleByLionState": _OptaxState(("mu",)),
    "ScaleByNovogradState": _OptaxState(("mu",)),
    "ScaleByAdanState": _OptaxState(("m",)),
    "MuonState": _OptaxState(("mu",), restarts=("count",)),
    "SophiaState": _OptaxState(("mu",)),
    "MomoState": _OptaxState(("exp_avg",)),
    "MomoAdamState": _OptaxState(("exp_avg",)),
    "ProdigyState": _OptaxState(("exp_avg",)),
    "DAdaptAdamWState": _OptaxState(("exp_avg",)),
    "ScaleByAdemamixState": _OptaxState(("m1", "m2")),
    "ScaleBySimplifiedAdEMAMixState": _OptaxState(("m",)),
}


def is_optax_state(node: Any, name: str) -> bool:
    """Return whether a node of a state is Optax's class of this name."""
    kind = type(node)
    return kind.__name__ == name and kind.__module__.partition(".")[0] == "optax"


def _optax_state(node: Any) -> _OptaxState | None:
    name = type(node).__name__
    return _OPTAX_STATES.get(name) if is_optax_state(node, name) else None


def _velocity_fields(node: Any) -> tuple[str, ...]:
    """Return the fields in which a node keeps velocities; any NamedTuple may have `velocity`."""
    if "velocity" in getattr(node, "_fields", ()):
        return ("velocity",)
    row = _optax_state(node)
    return row.velocities if row else ()


def fields_that_restart(node: Any) -> tuple[str, ...]:
    """Return the fields of a node that restart with its velocity."""
    row = _optax_state(node)
    return row.restarts if row else getattr(node, "restarts_with_velocity", ())


def sums_gradients(node: Any) -> bool:
    """Return whether the velocity of a node is a sum of gradients, as the buffer of SGD is.

    An average and Adam's first moment are not: whatever debiases or divides them
    would have to be converted too.
    """
    row = _optax_state(node)
    return row.sums_gradients if row else getattr(type(node), "sums_gradients", False)


def has_velocity(node: Any) -> bool:
    """Return whether a node keeps a velocity; an `is_leaf` for `jax.tree` functions."""
    return bool(_velocity_fields(node))


def paths_of_velocities(path: Any, node: Any) -> dict[str, str]:
    """Return the path of each velocity of a node, and the field that keeps it."""
    return {
        jax.tree_util.keystr((*path, jax.tree_util.GetAttrKey(field))): field
        for field in _velocity_fields(node)
    }


def _nodes(state: PyTree) -> dict[str, tuple[Any, str]]:
    """Return the node and the field of every velocity in a state, by the velocity's path."""
    state, _ = _flax.with_named_nodes(state, has_velocity)
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=has_velocity)
    return {
        path: (node, field)
        for at, node in found
        for path, field in paths_of_velocities(at, node).items()
    }


def velocities(state: PyTree) -> dict[str, PyTree]:
    """Return every velocity in a state, decoded, by its path."""
    return {path: decode(getattr(node, field)) for path, (node, field) in _nodes(state).items()}


def find_velocities(state: PyTree, path: str | None) -> dict[str, PyTree]:
    """Return the velocity at `path`, or the only one, or those that share the parameters.

    The branches of `momentax.muon` have a velocity each, of different parameters.
    """
    if path is None and not isinstance(state, optax.GradientTransformation):
        found = {place: v for place, v in velocities(state).items() if jax.tree.leaves(v)}
        if len(found) > 1 and any(map(_splits_parameters, _splitting_nodes(state))):
            try:
                join_velocities(found)
            except ValueError:  # Several velocities of one parameter.
                pass
            else:
                return found
    return dict([find_velocity(state, path)])


def join_velocities(found: dict[str, PyTree]) -> PyTree:
    """Return one tree of the velocities of different parameters, which are MaskedNodes elsewhere.

    Two velocities of one parameter raise a ValueError.
    """
    if len(found) == 1:
        return next(iter(found.values()))

    def pick(*parts: Any) -> Any:
        there = [part for part in parts if not trees.is_masked(part)]
        if len(there) > 1 and not all(map(trees.is_none, there)):
            raise ValueError("one parameter has several velocities")
        return there[0] if there else parts[0]

    return jax.tree.map(pick, *found.values(), is_leaf=trees.is_absent)


def _splits_parameters(node: Any) -> bool:
    return getattr(type(node), "splits_parameters", False)


def _splitting_nodes(state: PyTree) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=_splits_parameters)


def find_velocity(state: PyTree, path: str | None) -> tuple[str, PyTree]:
    """Return the path and the value of the velocity at `path`, or of the only one."""
    if isinstance(state, optax.GradientTransformation):
        raise TypeError("state is a gradient transformation; pass its state, tx.init(params)")
    if path is not None and not isinstance(path, str):
        raise TypeError(
            "path must be the path of a velocity in the state, such as '[0].trace', or None, got "
            f"{arguments.describe(path)}"
        )
    found = velocities(state)
    if path is not None:
        if arguments.as_text("path", path, '"[0].trace"') not in found:
            raise ValueError(f"there is no velocity at path={path!r}; {describe_paths(found)}")
        return path, found[path]
    # Optax gives a branch without parameters, such as one of a partition, empty velocities.
    nonempty = {path: v for path, v in found.items() if jax.tree.leaves(v)} or found
    if len(nonempty) != 1:
        raise ValueError(describe_paths(nonempty))
    return next(iter(nonempty.items()))


def describe_paths(found: dict[str, PyTree]) -> str:
    """Describe the velocities that a state holds, for a message."""
    if not found:
        return (
            "the state holds no velocity: it contains no state of a momentax method and none of "
            "an Optax transformation with momentum"
        )
    paths, noun = ", ".join(found), "velocities" if len(found) > 1 else "velocity"
    return f"the state holds {len(found)} {noun}, at {paths}; pick with path={next(iter(found))!r}"


def require_params_first(function: str, params: PyTree, state: PyTree) -> None:
    """Refuse an optimizer state in the place of the params, where the two are swapped."""
    if _nodes(params) and not _nodes(state):
        raise TypeError(f"params come first: {function}(params, state), got a state as params")


def velocity_node(state: PyTree, path: str) -> Any:
    """Return the node of the velocity at `path`, decoded."""
    return decode(_nodes(state)[path][0])


def map_encoded_node(state: PyTree, path: str, function: Callable[[Any, str], Any]) -> PyTree:
    """Return the state with the node of one velocity replaced by function(node, field).

    The function sees the node as `stored` encodes it.
    """

    def visit(at: Any, node: Any) -> Any:
        field = paths_of_velocities(at, node).get(path)
        return node if field is None else function(node, field)

    named, restore = _flax.with_named_nodes(state, has_velocity)
    return restore(jax.tree_util.tree_map_with_path(visit, named, is_leaf=has_velocity))


def map_node(state: PyTree, path: str, function: Callable[[Any, str], Any]) -> PyTree:
    """Return the state with the node of one velocity replaced by function(node, field).

    The function sees the node decoded, and what it returns is encoded again. The new state
    shares no memory of NumPy's with the old one.
    """

    def change(node: Any, field: str) -> Any:
        return encode_like(function(decode(node), field), node)

    return trees.copy_numpy(map_encoded_node(state, path, change))


def fill_velocities(state: PyTree, value: Any) -> PyTree:
    """Return a state whose velocities have one number in every entry; none may be encoded."""

    def fill(node: Any, field: str) -> Any:
        filled = jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), getattr(node, field)
        )
        return node._replace(**{field: filled})

    for path in velocities(state):
        state = map_encoded_node(state, path, fill)
    return state


def limit_velocities(state: PyTree, limit: Any) -> PyTree:
    """Return the state with its velocities scaled down where their joint norm exceeds a limit.

    A velocity that does not exceed it keeps every bit.
    """
    found = velocities(state)
    limited = arithmetic.limit_norm(found, limit)
    exceeds = ~(arithmetic.norm(found) <= limit)
    new = state
    for path, v in limited.items():
        new = map_node(new, path, lambda node, field, v=v: node._replace(**{field: v}))
    return jax.tree.map(lambda new, old: jnp.where(exceeds, new, old), new, state)


def velocity(state: PyTree, *, path: str | None = None) -> PyTree:
    """Find the velocity in the state of any Optax pipeline, at any depth.

    The velocity is found in momentax's states, in the states of Optax that keep
    one (those of `optax.trace`, `ema`, `optax.lion`, `contrib.muon`, Adam and its
    variants, whose velocity is the first moment), and in any NamedTuple with a
    field called `velocity`. The state may be nested in `chain`, `masked`,
    `partition`, `inject_hyperparams`, `MultiSteps`, `apply_if_finite` or any
    other container. If a state contains several velocities, `path` picks one.

    Args:
        state: An optimizer state, or a pytree that contains one.
        path: The path of the velocity where there are several, such as
            "[0].trace". The error for several velocities lists their paths.

    Returns:
        The velocity as the state keeps it, shaped like the parameters and not
        debiased. A velocity that `stored` encodes is decoded to float32. From an
        `nnx.Optimizer`, its `opt_state` or `nnx.state` of it, dictionaries of
        arrays are returned. Parameters that another branch of a `partition` owns are MaskedNodes.
        The velocities of the two branches of `momentax.muon` are joined to one tree.

    Raises:
        ValueError: The state contains no velocity, none at `path`, or several
            and `path` is None. The message lists them.
        TypeError: state is a gradient transformation.

    Example:
        >>> tx = optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale(-0.1))
        >>> _, state = tx.update(grads, tx.init(params))
        >>> momentax.velocity(state)
        {'w': Array([0.1, 0.2, 0.3], dtype=float32)}
    """
    found = find_velocities(state, path)
    return trees.copy_numpy(_flax.unwrap(join_velocities(found)))


def velocity_norms(
    state: PyTree, *, path: str | None = None, separator: str = "/"
) -> dict[str, jax.Array]:
    """Measure each leaf of the velocity by its Euclidean norm.

    Args:
        state: An optimizer state, or a pytree that contains one.
        path: The path of the velocity, as in `velocity`.
        separator: What stands between the parts of a leaf's name.

    Returns:
        A dict from the name of each leaf, such as "dense/kernel", to the leaf's
        norm, a 0-d array in float32 or wider. Names are alike on dictionaries,
        NNX, Linen and Equinox; an item of a tuple or list has its number as its
        name. A function under `jax.jit` can return the dict.

    Raises:
        ValueError: As `velocity`, or two leaves get the same name.
        TypeError: As `velocity`, or separator is not a string.

    Example:
        >>> state = momentax.heavy_ball(0.9).init(params)
        >>> momentax.velocity_norms(state)
        {'w': Array(0., dtype=float32)}
    """
    separator = as_separator(separator)
    v = velocity(state, path=path)
    names = join_names(leaf_names(v), separator)
    return dict(zip(names, map(arithmetic.norm, jax.tree.leaves(v)), strict=True))
