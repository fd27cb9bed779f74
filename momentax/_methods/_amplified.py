"""Gradients with their slow part amplified, for any optimizer to follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def amplified(
    beta: ScalarOrSchedule = 0.98, factor: ScalarOrSchedule = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Add to each gradient g a multiple of the running average v of all gradients.

        v_t = β v_{t-1} + (1 - β) g_t,    v_1 = g_1
        d_t = g_t + λ v_t

    This is Grokfast-EMA. Chain it before an optimizer. The average starts at the
    first gradient. The average of a leaf whose first gradient comes after the
    first step, or whose velocity was reset, starts at 0.

    Args:
        beta: β in [0, 1), the share of the average kept each step.
        factor: λ in [0, inf), the multiple of the average that is added.

    Example:
        >>> tx = optax.chain(momentax.amplified(0.98, factor=2.0), optax.adamw(1e-3))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Lee, Kang, Kim and Lee, Grokfast: accelerated grokking by amplifying
        slow gradients, 2024, arXiv:2405.20233.
    """
    β = as_schedule("beta", beta)
    λ = as_schedule("factor", factor, "[0, inf)")

    def gain(t: jax.Array) -> Scalar:
        return jnp.where(t == 0, 1.0, 1 - β(t))

    return linear(gradient_weight=1.0, velocity_weight=λ, beta=β, gain=gain)
