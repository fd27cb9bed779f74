"""Quasi-hyperbolic momentum: each gradient mixed with the running average."""

from __future__ import annotations

import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def quasi_hyperbolic(
    beta: ScalarOrSchedule = 0.999, nu: ScalarOrSchedule = 0.7
) -> optax.GradientTransformationExtraArgs:
    """Mix each gradient g with the running average v of all gradients.

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        d_t = (1 - ν) g_t + ν v_t

    ν = 0 is plain descent, ν = 1 heavy ball and ν = β Nesterov's momentum, the
    last two at a learning rate larger by the factor 1 / (1 - β).

    Args:
        beta: β in [0, 1), the share of the average kept each step.
        nu: ν in [0, 1], the weight of the average in the direction.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.quasi_hyperbolic(0.999, nu=0.7))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning,
        2019, arXiv:1810.06801.
    """
    β = as_schedule("beta", beta)
    ν = as_schedule("nu", nu)
    return linear(
        gradient_weight=lambda t: 1 - ν(t),
        velocity_weight=ν,
        beta=β,
        gain=lambda t: 1 - β(t),
    )
