"""Find, replace, reset and measure the velocity in any Optax state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, hyperparameters, trees
from momentax._core.codecs import decode, encode_like
from momentax._core.typing import PyTree, Scalar

# Where Optax keeps a velocity: the state's class and the field. Any NamedTuple with a field
# called "velocity", as momentax's own states have, needs no row.
_FIELDS = {
    "TraceState": ("trace",),
    "EmaState": ("ema",),
    "ScaleByAdamState": ("mu",),
    "ScaleByAmsgradState": ("mu",),
    "ScaleByBeliefState": ("mu",),
    "ScaleByLionState": ("mu",),
    "ScaleByNovogradState": ("mu",),
    "ScaleByAdanState": ("m",),
    "MuonState": ("mu",),
    "SophiaState": ("mu",),
    "MomoState": ("exp_avg",),
    "MomoAdamState": ("exp_avg",),
    "ProdigyState": ("exp_avg",),
    "DAdaptAdamWState": ("exp_avg",),
    "ScaleByAdemamixState": ("m1", "m2"),
    "ScaleBySimplifiedAdEMAMixState": ("m",),
}
# Fields of Optax's states that restart with the velocity, because only its debiasing reads them.
# Adam's family shares one count between both moments. Setting that count to 0 would inflate the
# second moment, so it goes on. momentax's own states say what restarts in a class attribute.
_RESTARTS_IN_OPTAX = {"EmaState": ("count",), "MuonState": ("count",)}


def _library(node: Any) -> str:
    return type(node).__module__.partition(".")[0]


def _fields(node: Any) -> tuple[str, ...]:
    if "velocity" in getattr(node, "_fields", ()):
        return ("velocity",)
    return _FIELDS.get(type(node).__name__, ()) if _library(node) == "optax" else ()


def _restarts(node: Any) -> tuple[str, ...]:
    """Return the fields that restart with the velocity."""
    if _library(node) == "optax":
        return _RESTARTS_IN_OPTAX.get(type(node).__name__, ())
    return getattr(node, "restarts_with_velocity", ())


def _holds_velocity(node: Any) -> bool:
    return bool(_fields(node))


def _place(path: Any, field: str) -> str:
    return jax.tree_util.keystr((*path, jax.tree_util.GetAttrKey(field)))


def velocities(state: PyTree) -> dict[str, PyTree]:
    """Every velocity by its place."""
    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=_holds_velocity)
    return {
        _place(at, field): decode(getattr(node, field))
        for at, node in nodes
        for field in _fields(node)
    }


def pick(state: PyTree, path: str | None) -> tuple[str, PyTree]:
    """The place and the value of the one velocity asked for."""
    found = velocities(state)
    if path is not None:
        if path not in found:
            raise ValueError(f"there is no velocity at path={path!r}; {_listed(found)}")
        return path, found[path]
    # Optax fills a branch that owns no parameter, as of a partition, with empty velocities.
    held = {place: v for place, v in found.items() if jax.tree.leaves(v)} or found
    if len(held) != 1:
        raise ValueError(_listed(held))
    return next(iter(held.items()))


def _listed(found: dict[str, PyTree]) -> str:
    if not found:
        return "the state holds no velocity: no momentax method and no momentum of Optax's is in it"
    places, many = ", ".join(found), "velocities" if len(found) > 1 else "velocity"
    return f"the state holds {len(found)} {many}, at {places}; pick with path={next(iter(found))!r}"


def exchange(state: PyTree, place: str, change: Callable[[Any, str], Any]) -> PyTree:
    """The state with the node that holds the velocity at one place, as it is kept, changed."""

    def visit(path: Any, node: Any) -> Any:
        for field in _fields(node):
            if _place(path, field) == place:
                return change(node, field)
        return node

    return jax.tree_util.tree_map_with_path(visit, state, is_leaf=_holds_velocity)


def amend(state: PyTree, place: str, change: Callable[[Any, str], Any]) -> PyTree:
    """As `exchange`, but the change sees the velocity decoded, and what is encoded stays so."""
    return exchange(
        state, place, lambda node, field: encode_like(change(decode(node), field), node)
    )


def holder(state: PyTree, path: str | None = None) -> tuple[Any, str | None]:
    """The NamedTuple that holds the velocity, and its units where `sgd` tells.

    In a chain the learning rate comes after a velocity in gradient units and
    before one in parameter units, however deep in its own part the velocity
    lies. The state of a named chain does not say in which order it runs.
    """
    place = pick(state, path)[0]
    stops = jax.tree_util.tree_leaves_with_path(
        state, is_leaf=lambda node: _holds_velocity(node) or _scales(node)
    )
    at, node = next(
        (at, node) for at, node in stops for field in _fields(node) if _place(at, field) == place
    )
    beside = [
        stop
        for stop, other in stops
        if _scales(other)
        and stop[:-1] == at[: len(stop) - 1]
        and isinstance(stop[-1], jax.tree_util.SequenceKey)
    ]
    if not beside:
        return decode(node), None
    nearest = max(beside, key=len)
    return decode(node), "parameter" if nearest[-1].idx < at[len(nearest) - 1].idx else "gradient"


def own_rate(learning_rate: Scalar | None, units: str | None) -> Any:
    """α for a velocity in gradient units and -1 for one in parameter units: θ moves by -α v."""
    if (learning_rate is None) != (units == "parameter"):
        raise ValueError(
            "the velocity is in parameter units, which hold the learning rate: leave learning_rate "
            f"out, got {learning_rate!r}"
            if units == "parameter"
            else "learning_rate is needed, as the last update used it, since the velocity is not "
            "known to be in parameter units; for a chain of your own that scales gradients before "
            "the method give -1"
        )
    α = -1 if learning_rate is None else learning_rate
    return hyperparameters.as_constant("learning_rate", α, "(-inf, inf)")(0)


def unmasked(velocity: PyTree, params: PyTree) -> PyTree:
    """The velocity with None where a mask leaves parameters out, checked to fit the others."""
    v = jax.tree.map(
        lambda leaf: None if trees.is_masked(leaf) else leaf, velocity, is_leaf=trees.is_masked
    )
    remedy = "pass the params that the state's updates were applied to"
    trees.require_fit("the velocity", v, "the parameter", params, remedy)
    return v


def _scales(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def velocity(state: PyTree, *, path: str | None = None) -> PyTree:
    """Find the velocity in the state of any Optax pipeline, at any depth.

    It is found in momentax's states, in those of Optax that keep one (`trace`,
    `ema`, Adam's and its kin's first moment, `lion`, `contrib.muon`, ...), in
    any NamedTuple with a field called `velocity`, and inside `chain`, `masked`,
    `partition`, `inject_hyperparams`, `MultiSteps`, `apply_if_finite` and any
    other container. A state may also keep something shaped like the parameters,
    as `MultiSteps` does; if these are such NamedTuples themselves, `path` picks.

    Args:
        state: An optimizer state, or a pytree that holds one.
        path: Which velocity, where there are several: a path as the error for
            several lists it, such as "[0].trace".

    Returns:
        The velocity as it is kept, shaped like the parameters and not debiased;
        what `stored` encodes is decoded to float32. Parameters that another
        branch of a `partition` owns are MaskedNodes.

    Raises:
        ValueError: There is no velocity, none at `path`, or several and no
            `path`; the message lists them.
    """
    return pick(state, path)[1]


def velocity_norms(state: PyTree, *, path: str | None = None) -> dict[str, jax.Array]:
    """Measure each leaf of the velocity by its Euclidean norm.

    Args:
        state: An optimizer state, or a pytree that holds one.
        path: Which velocity, as in `velocity`.

    Returns:
        A dict from each leaf's path, such as "['dense']['kernel']", to its norm,
        a 0-d array in float32 or wider. It can be returned from jit.

    Raises:
        ValueError: As `velocity`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(velocity(state, path=path))
    return {jax.tree_util.keystr(place): arithmetic.norm(leaf) for place, leaf in leaves}


def replace_velocity(state: PyTree, new_velocity: PyTree, *, path: str | None = None) -> PyTree:
    """Put another velocity in the place of the one in a state.

    Args:
        state: An optimizer state, or a pytree that holds one.
        new_velocity: A pytree of the structure and shapes of `velocity(state)`;
            it is kept in the dtypes of the velocity it replaces, weak or not.
        path: Which velocity, as in `velocity`.

    Returns:
        The state with the new velocity and everything else as it was.

    Raises:
        ValueError: As `velocity`; or new_velocity has another structure or
            other shapes, and the first path that differs is named.
        TypeError: A leaf is complex where the velocity is real, or real where it is complex.
    """
    place, old = pick(state, path)
    remedy = "shape the new velocity like momentax.velocity(state)"
    trees.require_fit("new_velocity", new_velocity, "the velocity", old, remedy, none_fits=False)
    new = jax.tree.map(arithmetic.cast_like, new_velocity, old)
    return amend(state, place, lambda node, field: node._replace(**{field: new}))


def reset_velocity(state: PyTree, *, path: str | None = None) -> PyTree:
    """Set the velocity to zero.

    Debiasing that serves the velocity alone restarts, so that the next average
    is the next gradient (`average`, `adan`, `optax.ema`, `contrib.muon`, ...),
    and so does the change of the velocity in `positive_negative`. A count that
    something else reads too goes on: a β schedule, or Adam's second moment,
    which a count of zero would inflate by 1 / (1 - β₂).

    Args:
        state: An optimizer state, or a pytree that holds one.
        path: Which velocity, as in `velocity`.

    Returns:
        The state with a velocity of zeros and everything else as it was.

    Raises:
        ValueError: As `velocity`.
    """
    place, old = pick(state, path)
    zeros = jax.tree.map(jnp.zeros_like, old)

    def restart(node: Any, field: str) -> Any:
        fresh = {
            name: jax.tree.map(jnp.zeros_like, getattr(node, name)) for name in _restarts(node)
        }
        return node._replace(**{field: zeros}, **fresh)

    return amend(state, place, restart)


def renew(
    state: PyTree,
    init: Callable[[PyTree], PyTree],
    updates: PyTree,
    params: PyTree,
    *,
    where: Any,
    path: str | None = None,
) -> PyTree:
    """Put the node that holds the velocity to what init gives, where a condition holds.

    Without params the gradients stand in for them: they have the same shapes.
    """
    place, old = pick(state, path)
    fresh = init(updates if params is None else params)
    if params is None:
        trees.require_gradients(pick(fresh, place)[1], old)
        if jax.tree.structure(fresh) != jax.tree.structure(state):
            raise ValueError(
                "a restart needs the parameters where a gradient is None: "
                "call update(grads, state, params)"
            )

    def choose(new: Any, held: jax.Array) -> jax.Array:
        return jnp.where(where, jnp.asarray(new, held.dtype), held)

    return amend(state, place, lambda node, _: jax.tree.map(choose, node_at(fresh, place), node))


def node_at(state: PyTree, place: str) -> Any:
    """The NamedTuple that holds the velocity at one place."""
    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=_holds_velocity)
    return next(
        decode(node) for at, node in nodes for field in _fields(node) if _place(at, field) == place
    )
