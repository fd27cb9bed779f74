"""Take the steps that rows of a lazy method have waited, all at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from momentax._core import arithmetic, trees
from momentax._core.rows import as_rows, broadcast_rows, read_rows, write_rows
from momentax._core.typing import PyTree, Scalar
from momentax._methods._lazy import LazyState
from momentax._state import _flax
from momentax._state._units import node_and_units, step_size, velocity_like_params
from momentax._state._velocity import find_velocity, map_node, require_params_first


def catch_up(
    params: PyTree,
    state: PyTree,
    rows: PyTree = None,
    *,
    learning_rate: Scalar | None = None,
    path: str | None = None,
) -> tuple[PyTree, PyTree]:
    """Take the steps that rows of `lazy` have waited for a gradient, all at once.

        θ ← θ - α b (β + β² + ... + βᵏ) v,    v ← βᵏ v    after k steps

    Call it on the rows that the next gradient reads, and on all rows before the
    parameters are evaluated, saved or given to another optimizer.

    Args:
        params: The parameters after the update that returned `state`.
        state: The optimizer's state, or a pytree that contains it.
        rows: A tree like the parameters of 1-d integer arrays: the rows of each
            leaf. A row may occur more than once. Indices out of range are
            ignored, both negative ones such as -1 and those beyond the last row.
            None means all rows.
        learning_rate: α, any real number, the same at every step, for a velocity
            in gradient units. Leave it out where `sgd` keeps the velocity in
            parameter units; in other chains give -1 for these units.
        path: The path of the velocity, as in `velocity`.

    Returns:
        The parameters and the state after these steps, in the structures, shapes
        and dtypes of the arguments.

    Raises:
        ValueError: As `velocity`; the velocity is not that of `lazy`;
            learning_rate is missing, or given for parameter units; rows or
            params do not fit the velocity.
        TypeError: learning_rate is not a number, or params and state are swapped.
            Under a schedule, several steps cannot be taken at once.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.9)))
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)
        >>> params, state = momentax.catch_up(params, state, learning_rate=0.1)
    """
    require_params_first("catch_up", params, state)
    node, units = node_and_units(state, path)
    if not isinstance(node, LazyState):
        raise ValueError(
            f"catch_up needs the state of momentax.lazy, got one that holds a {type(node).__name__}"
        )
    α = step_size(learning_rate, units)
    plain = _flax.unwrap(params)
    velocity_like_params(node, plain)  # Raises if the parameters do not fit.

    leaves, structure = jax.tree.flatten(node.velocity, is_leaf=trees.is_absent)
    indices = [None] * len(leaves)
    if rows is not None:
        indices = structure.flatten_up_to(as_rows(rows, node.velocity))
    columns = (structure.flatten_up_to(tree) for tree in (plain, node.velocity, node.last))
    results = [_catch_up_leaf(node, α, *each) for each in zip(*columns, indices, strict=True)]
    new, v, last = (structure.unflatten([each[i] for each in results]) for i in range(3))
    new_node = node._replace(velocity=v, last=last)
    path, _ = find_velocity(state, path)
    state = map_node(state, path, lambda node, _: _flax.wrap_like(new_node, node))
    return trees.copy_numpy(_flax.wrap_like(new, params)), state


def _catch_up_leaf(
    node: LazyState, α: Any, param: Any, v: Any, last: Any, index: Any
) -> tuple[Any, Any, Any]:
    """Return a parameter, its velocity and its row counts after the steps of the rows in `index`.

    An index of None means all rows.
    """
    if trees.is_absent(v):
        return param, v, last
    leaves = param, v, last
    if index is not None:
        param, v, last = (read_rows(leaf, index) for leaf in leaves)
    k = broadcast_rows(node.count - last, v).astype(node.kept.dtype)
    log_power = jnp.where(k == 0, 0, k * jnp.log1p(node.kept - 1))  # log βᵏ without cancellation.
    distance = -node.coast * jnp.expm1(log_power) / (1 - node.kept)
    new = (
        arithmetic.combine((1.0, param), (-α * distance, v), like=param),
        arithmetic.combine((jnp.exp(log_power), v), like=v),
        jnp.full_like(last, node.count),
    )
    if index is None:
        return new
    new_param, new_v, new_last = (
        write_rows(leaf, index, rows) for leaf, rows in zip(leaves, new, strict=True)
    )
    return new_param, new_v, new_last
