"""Gradients with their slow part amplified, for any optimizer to follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._linear import linear


def amplified(
    beta: ScalarOrSchedule = 0.98, factor: ScalarOrSchedule = 2.0
) -> optax.GradientTransformationExtraArgs:
    """Add to each gradient g a multiple of the running average v of all gradients.

        v_t = β v_{t-1} + (1 - β) g_t,    v_1 = g_1
        d_t = g_t + λ v_t

    This is Grokfast-EMA: chain it before an optimizer, as in
    `optax.chain(amplified(), optax.adamw(1e-3))`. The average starts at the
    first gradient; a leaf whose first gradient comes later, or whose velocity
    is reset, starts at 0.

    Args:
        beta: β in [0, 1), the share of the average kept each step.
        factor: λ in [0, inf), how many times the average is added.

    Returns:
        A transformation of gradients into amplified gradients of the same
        shapes and dtypes; its state holds one velocity, in float32 or wider.

    Raises:
        ValueError: A concrete beta or factor lies outside its interval.

    Source:
        Lee, Kang, Kim and Lee, Grokfast: accelerated grokking by amplifying
        slow gradients, 2024, arXiv:2405.20233.
    """
    β = as_schedule("beta", beta)
    λ = as_schedule("factor", factor, "[0, inf)")

    def gain(t: jax.Array) -> Scalar:
        return jnp.where(t == 0, 1.0, 1 - β(t))

    return linear(gradient_weight=1.0, velocity_weight=λ, beta=β, gain=gain)
