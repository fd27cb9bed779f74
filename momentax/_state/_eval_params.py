"""The base iterate of methods whose parameters are a shifted point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from momentax._core import arithmetic, trees
from momentax._core.typing import PyTree, Scalar
from momentax._state import _flax
from momentax._state._units import (
    as_step_size,
    node_and_units,
    step_size,
    velocity_like_params,
)
from momentax._state._velocity import has_velocity, is_optax_state, require_params_first


def eval_params(
    params: PyTree, state: PyTree, *, learning_rate: Scalar | None = None, path: str | None = None
) -> PyTree:
    """Return the iterate to evaluate, where the parameters are a point shifted from it.

        θ'_t = θ_t + α_t s_t v_t,    a velocity v in gradient units
        θ'_t = θ_t - s_t v_t,        a velocity v in parameter units

    θ are the parameters, and s is the shift that the state keeps. θ' is the base
    iterate of `nesterov`, `mass` and `overshoot`, the output of
    `synthesized_nesterov`, `item` and `generalized_primal_averaging`, and the
    gradient-step point of `accelerated`, except that at the horizon of OGM it is
    the parameters. For methods without a shift it is the parameters. For
    `optax.contrib.schedule_free` it is the average, as
    `optax.contrib.schedule_free_eval_params` returns it. For `outer` it is the slow parameters,
    and for `ema_nesterov` the end of the last step; the outermost wrapper decides.

    Args:
        params: The parameters after the update that returned `state`.
        state: The optimizer's state, or a pytree that contains it.
        learning_rate: α_t, any real number, as the last update used it, for a
            velocity in gradient units. After t updates that is a schedule's value
            at count t - 1. Leave it out where `sgd` or `ema_nesterov` keeps the
            velocity in parameter units; in other chains give -1 for these units.
            `outer` and `schedule_free` do not read it.
        path: The path of the velocity, as in `velocity`, for the base iterate
            of one method in a state that keeps several velocities.

    Returns:
        A pytree of the structure, shapes and dtypes of params.

    Raises:
        ValueError: As `velocity`; the velocity is one of Optax's, whose state
            does not contain a shift; learning_rate is missing, or given for
            parameter units; params do not fit the velocity.
        TypeError: learning_rate is not a number, or params and state are swapped.
            Of a schedule, give the value that the last update used.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.nesterov(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)
        >>> base = momentax.eval_params(params, state, learning_rate=0.1)
    """
    if learning_rate is not None:
        as_step_size(learning_rate)
    plain = _flax.unwrap(params)
    if path is None and (node := _schedule_free_state(state)) is not None:
        node = _flax.unwrap(node)
        remedy = "pass the params that the state's updates were applied to"
        fitted = trees.masked_like(node.z, plain)
        trees.require_fit("params", fitted, "z of the state", node.z, remedy, none_fits=False)
        average = arithmetic.combine((1 / node.b1, plain), (1 - 1 / node.b1, node.z), like=plain)
        return trees.copy_numpy(_flax.wrap_like(average, params))
    if path is None:
        found = _outermost_wrappers(state)
        if found and all(_is_outer(node) for _, node in found):
            return _slow_params(params, [node for _, node in found])
        path = next((f"{at}.average.velocity" for at, _ in found[:1]), None)
    require_params_first("eval_params", params, state)
    node, units = node_and_units(state, path)
    if not hasattr(node, "shift"):
        raise ValueError(
            f"a {type(node).__name__} does not say where its base iterate lies; use a method of "
            "momentax's, such as momentax.nesterov in place of optax.sgd(nesterov=True)"
        )
    v = velocity_like_params(node, plain)
    if "shift" not in node._fields:
        return trees.copy_numpy(params)
    α = step_size(learning_rate, units)
    base = arithmetic.combine((1.0, plain), (α * node.shift, v), like=plain)
    return trees.copy_numpy(_flax.wrap_like(base, params))


def _outermost_wrappers(state: PyTree) -> list[tuple[str, Any]]:
    """Return the states of `outer` and `ema_nesterov` that no other one contains, with paths."""
    named, _ = _flax.with_named_nodes(state, has_velocity)
    found = jax.tree_util.tree_leaves_with_path(named, is_leaf=_moves_params)
    return [(jax.tree_util.keystr(at), node) for at, node in found if _moves_params(node)]


def _moves_params(node: Any) -> bool:
    return _is_outer(node) or _has_fields(node, "average", "inner_state")


def _is_outer(node: Any) -> bool:
    return _has_fields(node, "slow", "outer_state")


def _has_fields(node: Any, *names: str) -> bool:
    """Return whether a node of a state has fields, or keys where Flax has made it a dictionary."""
    return set(names) <= set(node if isinstance(node, Mapping) else getattr(node, "_fields", ()))


def _slow_params(params: PyTree, nodes: list[Any]) -> PyTree:
    """Return parameters with the slow ones of each state of `outer` in their places."""
    new = _flax.unwrap(params)
    for node in nodes:
        slow = _flax.unwrap(node["slow"] if isinstance(node, Mapping) else node.slow)
        fitted = trees.masked_like(slow, new)
        remedy = "pass the params that the state's updates were applied to"
        trees.require_fit("params", fitted, "the slow parameters", slow, remedy, none_fits=False)
        own = jax.tree.map(
            lambda w, _: None if trees.is_absent(w) else w, slow, new, is_leaf=trees.is_absent
        )
        new = arithmetic.combine((1.0, own), like=new)
    return trees.copy_numpy(_flax.wrap_like(new, params))


def _schedule_free_state(state: PyTree) -> Any:
    """Return the state of Optax's schedule-free wrapper, or None if there is none."""
    nodes = jax.tree.leaves(state, is_leaf=_is_schedule_free)
    return next(filter(_is_schedule_free, nodes), None)


def _is_schedule_free(node: Any) -> bool:
    return is_optax_state(node, "ScheduleFreeState")
