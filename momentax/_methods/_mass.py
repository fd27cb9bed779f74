"""MASS: Nesterov's momentum with a compensation that keeps it fast under noise."""

from __future__ import annotations

import jax
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def mass(
    beta: ScalarOrSchedule = 0.9, compensation: ScalarOrSchedule = 0.05
) -> optax.GradientTransformationExtraArgs:
    """Look ahead as Nesterov's momentum does, then step back a little along the last gradient.

        w_t = u_{t-1} - α g_t,    g_t at u_{t-1}
        u_t = w_t + β_{t+1} (w_t - w_{t-1}) + α c_{t+1} g_t

    The parameters are u. They move by

        v_t = β_{t+1} v_{t-1} + (β_{t+1} - c_{t+1}) g_t,    v_0 = 0
        d_t = g_t + v_t

    `eval_params` returns w. c = 0 is Nesterov's momentum. In the letters of the
    paper η1 = α, η2 = α c and γ = β.

    Args:
        beta: β in [0, 1), the share of the velocity kept each step.
        compensation: c in [0, inf), the share of the last step that is taken back.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.mass(0.9, compensation=0.05))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Liu and Belkin, Accelerating SGD with momentum for over-parameterized
        learning, 2020, arXiv:1810.13395.
    """
    β = as_schedule("beta", beta)
    c = as_schedule("compensation", compensation, "[0, inf)")

    def next_β(t: jax.Array) -> Scalar:
        return β(optax.safe_increment(t))

    return linear(
        gradient_weight=1.0,
        velocity_weight=1.0,
        beta=next_β,
        gain=lambda t: next_β(t) - c(optax.safe_increment(t)),
        shift=1.0,
    )
