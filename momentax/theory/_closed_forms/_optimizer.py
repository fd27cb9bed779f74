"""The constant-coefficient recurrence as a complete optimizer, for the tunings to offer."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from momentax._core import arithmetic, trees
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree


def linear_optimizer(
    learning_rate: Any, gradient_weight: Any, velocity_weight: Any, beta: Any
) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer that the theory's formulas describe, independent of the methods.

        v_t = β v_{t-1} + g_t,    v_0 = 0
        θ_t = θ_{t-1} - α (a g_t + b v_t)

    The velocity is kept in float32 or wider, in Optax's TraceState. A parameter whose gradient
    is None stays as it is, and so does its velocity.
    """
    for name, value in (("learning_rate", learning_rate), ("beta", beta)):
        if np.ndim(value):
            raise ValueError(
                f"tx needs one tuning, got {name} of shape {np.shape(value)}; tune for one mu and "
                "one L, or use jax.vmap or momentax.sweep over the hyperparameters"
            )
    α, β = float(learning_rate), float(beta)
    a, b = -α * float(gradient_weight), -α * float(velocity_weight)

    def init(params: PyTree) -> optax.TraceState:
        return optax.TraceState(arithmetic.zeros_like(params))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> Any:
        del extra_args
        trees.require_gradients(updates, state.trace)
        v = arithmetic.combine((β, state.trace), (1.0, updates), like=state.trace)
        steps = arithmetic.combine((a, updates), (b, v), like=updates)
        if params is not None:  # optax.apply_updates takes no None for a parameter.
            steps = jax.tree.map(
                lambda u, leaf: (
                    arithmetic.zero_update(leaf) if u is None and leaf is not None else u
                ),
                steps,
                params,
                is_leaf=trees.is_none,
            )
        return steps, optax.TraceState(v)

    return transformation(init, update, optax.TraceState)
