"""Signum: the sign of the running average of the gradients."""

from __future__ import annotations

from typing import Any

import optax

from momentax._core import arithmetic
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._linear import linear


def sign_average(beta: ScalarOrSchedule = 0.9) -> optax.GradientTransformationExtraArgs:
    """Move by the sign of the running average v of the gradients g.

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        d_t = sign(v_t)

    This is Signum, and signSGD for β = 0. sign(0) = 0, and of a complex number
    z it is z / |z|. As every coordinate moves by the learning rate, that is
    smaller than for other methods.

    Args:
        beta: β in [0, 1), the share of the average kept each step.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state, LinearState(count, velocity), holds one velocity, in
        float32 or wider.

    Raises:
        ValueError: A concrete beta lies outside its interval.

    Source:
        Bernstein, Wang, Azizzadenesheli and Anandkumar, signSGD: compressed
        optimisation for non-convex problems, 2018, arXiv:1802.04434.
    """
    β = as_schedule("beta", beta)
    average = linear(0.0, 1.0, beta, gain=lambda t: 1 - β(t))

    def update(updates, state, params=None, **extra_args):
        new: Any = average.update(updates, state, params, **extra_args)[1]
        # Of the velocity, which is wider than the direction: what that rounds to 0 has a sign.
        return arithmetic.sign(new.velocity, like=updates), new

    return optax.GradientTransformationExtraArgs(average.init, update)
