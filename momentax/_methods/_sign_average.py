"""Signum: the sign of the running average of the gradients."""

from __future__ import annotations

from typing import Any

import optax

from momentax._core import arithmetic
from momentax._core.hyperparameters import as_schedule
from momentax._core.transformations import method
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import LinearState, linear


@explain_keywords
def sign_average(beta: ScalarOrSchedule = 0.9) -> optax.GradientTransformationExtraArgs:
    """Move by the sign of the running average v of the gradients g.

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        d_t = sign(v_t)

    This is Signum, and signSGD for β = 0. sign(0) = 0, and the sign of a complex
    number z is z / |z|. The sign of what is infinite or NaN is NaN: the sign ±1
    would hide that v stays infinite or NaN after one such gradient. Every
    coordinate moves by the learning rate, so use a smaller learning rate than for
    other methods.

    Args:
        beta: β in [0, 1), the share of the average kept each step.

    Example:
        >>> tx = momentax.sgd(1e-4, momentax.sign_average(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Bernstein, Wang, Azizzadenesheli and Anandkumar, signSGD: compressed
        optimisation for non-convex problems, 2018, arXiv:1802.04434.
    """
    β = as_schedule("beta", beta)
    average = linear(0.0, 1.0, beta, gain=lambda t: 1 - β(t))

    def update(updates, state, params=None, **extra_args):
        new: Any = average.update(updates, state, params, **extra_args)[1]
        # The dtype of the direction may round an entry of the velocity to 0; its sign is kept.
        return arithmetic.sign(new.velocity, like=updates), new

    return method(average.init, update, LinearState, beta=β)
