"""Heavy ball: the velocity itself is the direction."""

from __future__ import annotations

import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def heavy_ball(
    beta: ScalarOrSchedule = 0.9, *, dampening: ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Move along the accumulated gradients g.

        v_t = β v_{t-1} + (1 - τ) g_t,    v_0 = 0
        d_t = v_t

    β = 0 is plain descent. With τ = β, v is a running average whose weights sum
    to 1 - βᵗ. PyTorch does not dampen the first gradient: with τ > 0 its buffer
    is larger by τ βᵗ⁻¹ g_1.

    Args:
        beta: β in [0, 1), the share of the velocity kept each step.
        dampening: τ in [0, 1), the share of each gradient left out.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Polyak, Some methods of speeding up the convergence of iteration
        methods, USSR Computational Mathematics and Mathematical Physics 4(5),
        1964.
    """
    β = as_schedule("beta", beta)
    τ = as_schedule("dampening", dampening)
    return linear(gradient_weight=0.0, velocity_weight=1.0, beta=β, gain=lambda t: 1 - τ(t))
