"""Correct the velocity for a change of the learning rate."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from momentax._core import arguments, arithmetic, hyperparameters
from momentax._core.typing import PyTree, Scalar
from momentax._state._replace import replace_velocity
from momentax._state._velocity import find_velocity


def rescale_velocity(
    state: PyTree,
    old_learning_rate: Scalar,
    new_learning_rate: Scalar,
    *,
    velocity_units: str = "gradient",
    path: str | None = None,
) -> PyTree:
    """Correct the velocity for a change of the learning rate.

        velocity_units="gradient":     v ← v α_old / α_new
        velocity_units="parameter":    v ← v α_new / α_old

    Call it between the last step with α_old and the first step with α_new. A
    velocity in parameter units then moves the parameters as one in gradient
    units does: α_new multiplies the gradients that it contains already (the
    momentum correction of Goyal et al.). A velocity in gradient units moves them
    as one in parameter units does: α_old still multiplies these gradients.
    Without the correction each velocity follows the rule of its own units.

    Args:
        state: An optimizer state with one velocity, or a pytree that contains one.
        old_learning_rate: α_old in (0, inf), of the last step made.
        new_learning_rate: α_new in (0, inf), of the next step; with
            velocity_units="parameter" it may be 0.
        velocity_units: "gradient" or "parameter", what the velocity accumulates.
        path: The path of the velocity, as in `velocity`.

    Returns:
        The state with the rescaled velocity, in its own dtypes.

    Raises:
        ValueError: A concrete learning rate lies outside its interval. With
            α_old = 0 a velocity in parameter units does not contain the last
            gradients; with α_new = 0 a velocity in gradient units cannot move
            the parameters at all. Or as `velocity`.
        TypeError: A learning rate is not a number.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
        >>> _, state = tx.update(grads, tx.init(params), params)
        >>> state = momentax.rescale_velocity(state, 0.1, 0.05)
        >>> momentax.velocity(state)
        {'w': Array([0.2, 0.4, 0.6], dtype=float32)}

    Source:
        Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1
        hour, 2017, arXiv:1706.02677.
    """
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))
    in_gradients = velocity_units == "gradient"
    old = _as_learning_rate("old_learning_rate", old_learning_rate, "(0, inf)")
    interval = "(0, inf)" if in_gradients else "[0, inf)"
    new = _as_learning_rate("new_learning_rate", new_learning_rate, interval)
    factor = old / new if in_gradients else new / old
    velocity = find_velocity(state, path)[1]
    velocity = arithmetic.combine((factor, velocity), like=velocity)
    return replace_velocity(state, velocity, path=path)


def _as_learning_rate(name: str, value: Any, interval: str) -> Any:
    """Return a learning rate, checked; a concrete JAX array of 0 is not accepted as a warm-up."""
    if isinstance(value, jax.Array) and not arguments.is_traced(value):
        value = np.asarray(value)
    return hyperparameters.as_constant(name, value, interval)(0)
