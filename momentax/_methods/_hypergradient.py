"""Heavy ball with gradient descent on its learning rate and β."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arithmetic, hyperparameters, trees, xla
from momentax._core.hyperparameters import as_schedule
from momentax._core.transformations import method
from momentax._core.typing import PyTree, Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class HypergradientState(NamedTuple):
    """The state of heavy ball with hypergradients.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    learning_rate: α of the last step, a 0-d array in float32 or wider.
    beta: β of the last step, a 0-d array in float32 or wider.
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


@explain_keywords
def hypergradient(
    learning_rate: Scalar,
    beta: Scalar = 0.9,
    *,
    learning_rate_step: ScalarOrSchedule = 1e-4,
    beta_step: ScalarOrSchedule = 1e-4,
) -> optax.GradientTransformationExtraArgs:
    """Adapt the learning rate and β of heavy ball by the chain rule through the last step.

        α_t = max(α_{t-1} + κ_t ⟨g_t, v_{t-1}⟩, 0)
        β_t = min(max(β_{t-1} + κ'_t ⟨g_t, w_{t-1}⟩, 0), 1⁻)
        w_t = α_t v_{t-1},    v_t = β_t v_{t-1} + g_t,    w_0 = v_0 = 0
        d_t = α_t v_t

    The inner products are over all leaves, and 1⁻ is the largest float below 1.
    Since ∂f(θ_{t-1})/∂α_{t-1} = -⟨g_t, v_{t-1}⟩ and ∂f(θ_{t-1})/∂β_{t-1} =
    -⟨g_t, w_{t-1}⟩, both are gradient descent on the loss after the last step,
    with everything before that step fixed. The direction is the whole step: use
    the learning rate 1.0 in `sgd`. κ = κ' = 0 is heavy ball. κ' = 0 with β = 0
    adapts the learning rate of plain descent.

    A gradient that is far larger than the others changes α and β for good, since
    the inner products are proportional to it and those of the others are too small
    to undo the change. Only a
    gradient with a norm above 2⁶¹ in float32, whose square overflows, is scaled: it
    enters v with the norm 1 and changes neither α nor β: α and β would not recover
    from inner products of this size. A gradient that is infinite or NaN makes all
    directions NaN.

    Args:
        learning_rate: α_0 in [0, inf), the first learning rate, not a schedule.
        beta: β_0 in [0, 1), the first share of the velocity kept, not a schedule.
        learning_rate_step: κ in [0, inf), the step size of α, in the units of α
            over those of a squared gradient.
        beta_step: κ' in [0, inf), the step size of β, per unit of the loss. With
            the number 0, β is constant and the state does not keep the change
            of the velocity.

    Example:
        >>> tx = momentax.sgd(1.0, momentax.hypergradient(0.01))
        >>> updates, state = tx.update(grads, tx.init(params), params)

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
    adapts_β = not hyperparameters.is_always_zero(beta_step)

    def init(params):
        count = hyperparameters.first_count(κ_α, κ_β)
        v = arithmetic.zeros_like(params)
        change = arithmetic.zeros_like(params) if adapts_β else None
        return HypergradientState(
            count, v, arithmetic.as_scalar(α_0), arithmetic.as_scalar(β_0), change
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, last_α, β, change = state
        if v is not None and adapts_β != (change is not None):
            raise ValueError(
                "this state was made with "
                + (
                    "beta_step=0 and lacks"
                    if adapts_β
                    else "a beta_step other than the number 0 and has"
                )
                + " the field `change`; start with tx.init(params)"
            )
        trees.require_gradients(updates, v)
        overflows, c = arithmetic.overflow_factor(updates, norm=1.0)

        def inner_product(tree: PyTree) -> jax.Array:
            return jnp.where(overflows, 0, arithmetic.inner_product(updates, tree))

        along_v = inner_product(v)
        α = arithmetic.as_scalar(jnp.maximum(last_α + κ_α(t) * along_v, 0))
        if adapts_β:
            along_w = last_α * (along_v - inner_product(change))
            below_1 = np.nextafter(β.dtype.type(1), β.dtype.type(0))
            β = arithmetic.as_scalar(jnp.minimum(jnp.maximum(β + κ_β(t) * along_w, 0), below_1))
            change = arithmetic.combine((c, updates), (β - 1, v), like=change)
            # v_t is computed from the new change. The last term keeps v where g_t is None.
            v = arithmetic.combine((1.0, v), (1.0, change), (0.0, updates), like=v)
        else:
            # The inner product in α reads the old velocity.
            v = arithmetic.combine((xla.scalar_computed_after(β, α), v), (c, updates), like=v)
        d = arithmetic.combine((α, v), like=updates)
        return d, HypergradientState(optax.safe_increment(t), v, α, β, change)

    return method(init, update, HypergradientState)
