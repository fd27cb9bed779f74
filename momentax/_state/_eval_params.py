"""The base iterate of methods whose parameters are a shifted point."""

from __future__ import annotations

from typing import Any

import jax

from momentax._core import arithmetic
from momentax._core.typing import PyTree, Scalar
from momentax._state._velocity import holder, own_rate, unmasked


def eval_params(
    params: PyTree, state: PyTree, *, learning_rate: Scalar | None = None, path: str | None = None
) -> PyTree:
    """Return the iterate to evaluate, where the parameters are a point shifted from it.

        θ'_t = θ_t + α_t s_t v_t,    a velocity v in gradient units
        θ'_t = θ_t - s_t v_t,        in parameter units

    with θ the parameters and s the shift that the state holds. θ' is the base
    iterate of `nesterov`, `mass` and `overshoot`, the output of
    `synthesized_nesterov`, `item` and `generalized_primal_averaging`, and the
    gradient-step point of `accelerated`, or the parameters themselves at OGM's
    horizon. Methods without a shift give the parameters back. Of
    `optax.contrib.schedule_free` it is the average, as its own
    schedule_free_eval_params gives it.

    Args:
        params: The parameters after the update that gave `state`.
        state: The optimizer's state, or a pytree that holds it.
        learning_rate: α_t in (0, inf), as the last update used it, for a velocity
            in gradient units: after t updates a schedule's value at count t - 1.
            None where `sgd` keeps the velocity in parameter units; elsewhere
            give -1 for those.
        path: Which velocity, as in `velocity`.

    Returns:
        A pytree of the structure, shapes and dtypes of params.

    Raises:
        ValueError: As `velocity`; the velocity is one of Optax's, which does not
            say how far it looks ahead; learning_rate is missing, or given for
            parameter units; params do not fit the velocity.
        TypeError: learning_rate is no number; of a schedule give the value that
            the last update used.
    """
    if (free := _schedule_free(state)) is not None:
        return arithmetic.combine((1 / free.b1, params), (1 - 1 / free.b1, free.z), like=params)
    node, units = holder(state, path)
    if not hasattr(node, "shift"):
        raise ValueError(
            f"a {type(node).__name__} does not say where its base iterate lies; use a method of "
            "momentax's, such as momentax.nesterov in place of optax.sgd(nesterov=True)"
        )
    if "shift" not in node._fields:
        return params
    α = own_rate(learning_rate, units)
    v = unmasked(node.velocity, params)
    return arithmetic.combine((1.0, params), (α * node.shift, v), like=params)


def _schedule_free(state: PyTree) -> Any:
    """The state of Optax's schedule-free wrapper, if one is there."""
    nodes = jax.tree.leaves(state, is_leaf=_is_schedule_free)
    return next(filter(_is_schedule_free, nodes), None)


def _is_schedule_free(node: object) -> bool:
    # By name: importing optax.contrib for its class would cost every user.
    known = type(node).__module__.partition(".")[0] == "optax"
    return known and type(node).__name__ == "ScheduleFreeState"
