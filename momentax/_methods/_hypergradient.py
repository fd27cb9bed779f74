"""Heavy ball that descends on its own learning rate and β."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arithmetic, hyperparameters, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, Scalar, ScalarOrSchedule


class HypergradientState(NamedTuple):
    """The state of heavy ball with hypergradients.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    learning_rate: α of the last step, a 0-d array in float32 or wider.
    beta: β of the last step, likewise.
    change: v_t - v_{t-1}, shaped like the parameters, in float32 or wider; None
        where β is constant.
    """

    count: Any
    velocity: PyTree
    learning_rate: jax.Array
    beta: jax.Array
    change: PyTree

    restarts_with_velocity = ("change",)
    sums_gradients = False
    shift = 0.0


def hypergradient(
    learning_rate: Scalar,
    beta: Scalar = 0.9,
    *,
    learning_rate_step: ScalarOrSchedule = 1e-4,
    beta_step: ScalarOrSchedule = 1e-4,
) -> optax.GradientTransformationExtraArgs:
    """Adapt heavy ball's learning rate and β by the chain rule through the last step.

        α_t = max(α_{t-1} + κ_t ⟨g_t, v_{t-1}⟩, 0)
        β_t = min(max(β_{t-1} + κ'_t ⟨g_t, w_{t-1}⟩, 0), 1⁻)
        w_t = α_t v_{t-1},    v_t = β_t v_{t-1} + g_t,    w_0 = v_0 = 0
        d_t = α_t v_t

    with inner products over all leaves and 1⁻ the largest float below 1. Since
    ∂f(θ_{t-1})/∂α_{t-1} = -⟨g_t, v_{t-1}⟩ and ∂f(θ_{t-1})/∂β_{t-1} =
    -⟨g_t, w_{t-1}⟩, both are gradient descent on the loss after the last step,
    all before that step being held fixed. The direction is the whole step: use
    `sgd(1.0, hypergradient(0.01))`. κ = κ' = 0 is heavy ball, and κ' = 0 with
    β = 0 the learning rate's rule for plain descent.

    Args:
        learning_rate: α_0 in (0, inf), the first learning rate.
        beta: β_0 in [0, 1), the first share of the velocity kept.
        learning_rate_step: κ in [0, inf), the step size of α. It has the units
            of α over those of a squared gradient.
        beta_step: κ' in [0, inf), the step size of β, per unit of the loss. The
            number 0 keeps β and saves the memory of the change.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state, HypergradientState, holds the velocity and its last
        change, from which w follows, in float32 or wider, and α and β.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval.
        TypeError: learning_rate or beta is a schedule; they are where α and β
            start.

    Source:
        The learning rate: Baydin and others, Online learning rate adaptation
        with hypergradient descent, 2018, arXiv:1703.04782; any hyperparameter:
        Chandra and others, Gradient descent: the ultimate optimizer, 2022,
        arXiv:1909.13371.
    """
    α_0 = hyperparameters.as_constant("learning_rate", learning_rate)(0)
    β_0 = hyperparameters.as_constant("beta", beta)(0)
    κ_α = as_schedule("learning_rate_step", learning_rate_step, "[0, inf)")
    κ_β = as_schedule("beta_step", beta_step, "[0, inf)")
    adapts_β = callable(beta_step) or not arithmetic.is_zero(κ_β(0))

    def init(params):
        count, v = jnp.zeros((), jnp.int32), arithmetic.zeros_like(params)
        change = arithmetic.zeros_like(params) if adapts_β else None
        return HypergradientState(
            count, v, arithmetic.as_scalar(α_0), arithmetic.as_scalar(β_0), change
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, last_α, β, change = state
        trees.require_gradients(updates, v)
        along_v = arithmetic.inner_product(updates, v)
        α = arithmetic.as_scalar(jnp.maximum(last_α + κ_α(t) * along_v, 0))
        if adapts_β:
            along_w = last_α * (along_v - arithmetic.inner_product(updates, change))
            below_1 = np.nextafter(β.dtype.type(1), β.dtype.type(0))
            β = arithmetic.as_scalar(jnp.minimum(jnp.maximum(β + κ_β(t) * along_w, 0), below_1))
            change = arithmetic.combine((1.0, updates), (β - 1, v), like=change)
            # v_t written from the new change; the last term holds back where there is no gradient.
            v = arithmetic.combine((1.0, v), (1.0, change), (0.0, updates), like=v)
        else:
            # β itself, but so v waits for α, or XLA would copy v for the inner product.
            kept = jnp.where(jnp.isnan(α), α, β)
            v = arithmetic.combine((kept, v), (1.0, updates), like=v)
        d = arithmetic.combine((α, v), like=updates)
        return d, HypergradientState(optax.safe_increment(t), v, α, β, change)

    return optax.GradientTransformationExtraArgs(init, update)
