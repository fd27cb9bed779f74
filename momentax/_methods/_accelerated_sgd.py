"""Accelerated SGD: the average of a short and a long step."""

from __future__ import annotations

import jax
import optax

from momentax._core.hyperparameters import as_schedule, concrete_value
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def accelerated_sgd(
    kappa: ScalarOrSchedule = 1000.0, xi: ScalarOrSchedule = 10.0, c: ScalarOrSchedule = 0.7
) -> optax.GradientTransformationExtraArgs:
    """Mix a short step with a running average of long steps.

        w̄_t = (1 - b) w̄_{t-1} + b (w_{t-1} - (κ/c) α g_t),    b = c² ξ / κ
        w_t = (c (w_{t-1} - α g_t) + b w̄_t) / (c + b),    w̄_0 = w_0

    The learning rate α is the length of the short step, δ in the papers. The
    parameters are w. They move by

        v_t = β v_{t-1} + g_t,    v_0 = 0,    β = (κ - c² ξ) / (κ + c ξ)
        d_t = g_t + (c ξ (c ξ - 1) / (κ + c ξ)) v_t

    Args:
        kappa: κ in [1, inf), the ratio of the long step to the short step, times c.
        xi: ξ in (0, inf), the statistical advantage, at most √κ in the paper.
        c: c in (0, 1], the paper's small constant.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, or
            c² ξ is larger than κ, so that β would be negative.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.accelerated_sgd(kappa=1000.0, xi=10.0))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Jain, Kakade, Kidambi, Netrapalli and Sidford, Accelerating stochastic
        gradient descent for least squares regression, 2018, arXiv:1704.08227;
        Kidambi, Netrapalli, Jain and Kakade, On the insufficiency of existing
        momentum schemes for stochastic optimization, 2018, arXiv:1803.05591.
    """
    κ = as_schedule("kappa", kappa, "[1, inf)")
    ξ = as_schedule("xi", xi, "(0, inf)")
    small = as_schedule("c", c, "(0, 1]")
    is_concrete = all(concrete_value(value) is not None for value in (kappa, xi, c))
    if is_concrete and κ(0) < small(0) ** 2 * ξ(0):
        raise ValueError(
            f"kappa must be at least c² xi = {small(0) ** 2 * ξ(0)}, got {κ(0)}; raise kappa or "
            "lower xi: β would be negative"
        )

    def β(t: jax.Array) -> Scalar:
        return (κ(t) - small(t) ** 2 * ξ(t)) / (κ(t) + small(t) * ξ(t))

    def weight(t: jax.Array) -> Scalar:
        s = small(t) * ξ(t)
        return s * (s - 1) / (κ(t) + s)

    return linear(gradient_weight=1.0, velocity_weight=weight, beta=β)
