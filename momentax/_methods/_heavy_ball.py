"""Heavy ball: the velocity itself is the direction."""

from __future__ import annotations

import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._linear import linear


def heavy_ball(
    beta: ScalarOrSchedule = 0.9, *, dampening: ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Move along the accumulated gradients g.

        v_t = β v_{t-1} + (1 - τ) g_t,    v_0 = 0
        d_t = v_t

    β = 0 is plain descent. τ = β makes v a running average whose weights sum to
    1 - βᵗ. PyTorch leaves its first gradient undamped: with τ > 0 its buffer
    is larger by τ βᵗ⁻¹ g_1.

    Args:
        beta: β in [0, 1), the share of the velocity kept each step.
        dampening: τ in [0, 1), the share of each gradient left out.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds one velocity, in float32 or wider.

    Raises:
        ValueError: A concrete beta or dampening lies outside its interval.

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964.
    """
    β = as_schedule("beta", beta)
    τ = as_schedule("dampening", dampening)
    return linear(gradient_weight=0.0, velocity_weight=1.0, beta=β, gain=lambda t: 1 - τ(t))
