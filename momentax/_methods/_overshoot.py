"""Overshoot: gradients beyond the point that the velocity leads to."""

from __future__ import annotations

import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._synthesized_nesterov import synthesized_nesterov


@explain_keywords
def overshoot(
    beta: ScalarOrSchedule = 0.9, gamma: ScalarOrSchedule = 5.0
) -> optax.GradientTransformationExtraArgs:
    """Take gradients γ velocities ahead of the base iterate θ'.

        v_t = β_t v_{t-1} + g_t,    v_0 = 0,    g_t at θ'_{t-1} - α γ_t v_{t-1}
        θ'_t = θ'_{t-1} - α v_t

    This is `synthesized_nesterov` with β1 = β and β2 = γ. The parameters are the
    overshot point. They move along (γ_t / β_t) g_t + (1 + γ_{t+1} - γ_t / β_t) v_t,
    and `eval_params` returns θ'. γ = β is Nesterov's momentum, γ = 0 is heavy ball.

    Args:
        beta: β in (0, 1), the share of the velocity kept each step.
        gamma: γ in [0, inf), how many velocities ahead gradients are taken.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.overshoot(0.9, gamma=5.0))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Kopal, Gregor, de Leon-Martinez and Simko, Overshoot: taking advantage
        of future gradients in momentum-based stochastic optimization, 2025,
        arXiv:2501.09556.
    """
    β = as_schedule("beta", beta, "(0, 1)")
    γ = as_schedule("gamma", gamma, "[0, inf)")
    return synthesized_nesterov(β, γ)
