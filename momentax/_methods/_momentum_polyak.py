"""Heavy ball with Polyak's step size, computed from the value of the loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class MomentumPolyakState(NamedTuple):
    """The state of momentum with Polyak's step size.

    count: updates made so far, a 0-d int32 array.
    velocity: v, a sum of whole steps, shaped like the parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def momentum_polyak(
    beta: ScalarOrSchedule = 0.9,
    *,
    c: ScalarOrSchedule = 1.0,
    gamma_max: ScalarOrSchedule = 10.0,
    lower_bound: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Accumulate steps whose size is the gap to the least loss over the squared gradient.

        α_t = (1 - β) min(max(f_t - l, 0) / (c ‖g_t‖²), γ_max)
        v_t = β v_{t-1} + α_t g_t,    v_0 = 0
        d_t = v_t

    f_t is the loss whose gradient is g_t, and the norm is over all leaves. A loss
    that is infinite or NaN makes all directions NaN. This is
    MomSPS: θ_t = θ_{t-1} - α_t g_t + β (θ_{t-1} - θ_{t-2}). The direction is the
    whole step: use the learning rate 1.0 in `sgd`, and pass `value=f_t` to update.
    β = 0 is the stochastic Polyak step.

    Args:
        beta: β in [0, 1), the share of the last step kept.
        c: c in (0, inf), which divides the step size; c = 1 is Polyak's step.
        gamma_max: γ_max in (0, inf), the largest step size before the factor
            1 - β, in parameters per gradient.
        lower_bound: l, the least value of the loss on this batch, or a number
            below it, in units of the loss; any real number.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval; at
            update, `value` is missing or is not a scalar.

    Example:
        >>> tx = momentax.sgd(1.0, momentax.momentum_polyak(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params, value=0.5)

    Source:
        Oikonomou and Loizou, Stochastic Polyak step-sizes and momentum:
        convergence guarantees and practical performance, 2024,
        arXiv:2406.04142.
    """
    β = as_schedule("beta", beta)
    c_t = as_schedule("c", c, "(0, inf)")
    γ_max = as_schedule("gamma_max", gamma_max, "(0, inf)")
    bound = as_schedule("lower_bound", lower_bound)

    def init(params):
        count = first_count(β, c_t, γ_max, bound)
        return MomentumPolyakState(count, arithmetic.zeros_like(params))

    def update(updates, state, params=None, *, value=None, **extra_args):
        del params, extra_args
        t, v = state
        trees.require_gradients(updates, v)
        loss = _loss(value, updates)
        gap = jnp.maximum(loss - bound(t), 0)
        # For a gradient of 0 the step is 0, provided that the quotient is not NaN. The square of
        # the norm may overflow where the quotient does not underflow; as a quotient of a
        # quotient, XLA would compute it again.
        size = jnp.maximum(arithmetic.norm(updates), jnp.finfo(gap.dtype).tiny)
        α = (1 - β(t)) * jnp.minimum(gap / size * (1 / size) / c_t(t), γ_max(t))
        α = jnp.where(jnp.isfinite(loss), α, jnp.nan)
        v = arithmetic.combine((β(t), v), (α, updates), like=v)
        d = arithmetic.combine((1.0, v), like=updates)
        return d, MomentumPolyakState(optax.safe_increment(t), v)

    return method(init, update, MomentumPolyakState, beta=β)


def _loss(value: Any, updates: PyTree) -> jax.Array:
    """Return the loss as a scalar in the dtype of hyperparameters."""
    if value is None and not jax.tree.leaves(updates):
        return arithmetic.as_scalar(0.0)
    if value is None or not arguments.is_real(value) or np.shape(value):
        given = "nothing" if value is None else arguments.describe(value)
        raise ValueError(
            "momentum_polyak needs the loss at the parameters, one number: call "
            f"update(grads, state, params, value=loss), got {given}"
        )
    return arithmetic.as_scalar(float(value) if isinstance(value, int) else value)
