"""Methods that average iterates in place of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def primal_averaging(c: ScalarOrSchedule = 0.1) -> optax.GradientTransformationExtraArgs:
    """Average the iterates of descent and take gradients at the average.

        z_t = z_{t-1} - α g_t,    g_t at x_{t-1}
        x_t = (1 - c_t) x_{t-1} + c_t z_t,    x_0 = z_0

    The parameters are x, the point to evaluate. They move by

        v_t = (1 - c_{t-1}) v_{t-1} + g_t,    v_0 = 0
        d_t = c_t v_t

    where α v_t = x_{t-1} - z_t. A constant c is heavy ball with β = 1 - c at a
    learning rate larger by the factor 1 / c.

    Args:
        c: c in (0, 1], the weight of the newest iterate in the average.

    Example:
        >>> tx = momentax.sgd(1.0, momentax.primal_averaging(0.1))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Defazio, Momentum via primal averaging: theoretical insights and
        learning rate schedules for non-convex optimization, 2020,
        arXiv:2010.00406.
    """
    weight = as_schedule("c", c, "(0, 1]")
    return linear(
        gradient_weight=0.0, velocity_weight=weight, beta=lambda t: 1 - weight(_previous(t))
    )


@explain_keywords
def generalized_primal_averaging(
    mu_x: ScalarOrSchedule = 0.9967, mu_y: ScalarOrSchedule = 0.7
) -> optax.GradientTransformationExtraArgs:
    """Average the iterates of descent and take gradients between the average and the iterate.

        z_t = z_{t-1} - α g_t,    g_t at y_{t-1}
        x_t = μx_t x_{t-1} + (1 - μx_t) z_t
        y_t = μy_t x_t + (1 - μy_t) z_t,    x_0 = y_0 = z_0

    The parameters are y. They move by

        v_t = μx_{t-1} v_{t-1} + g_t,    v_0 = 0
        d_t = (1 - μy_{t-1}) g_t + (μy_{t-1} - μx_t μy_t) v_t

    where α μx_t v_t = x_t - z_t. `eval_params` returns the average x. With
    constants this is `quasi_hyperbolic` with β = μx and ν = μy, and with μy = 1
    `primal_averaging` with c = 1 - μx.

    Args:
        mu_x: μx in [0, 1), the share of the average kept each step.
        mu_y: μy in [0, 1], the weight of the average in the point where
            gradients are taken.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.generalized_primal_averaging(0.9, mu_y=0.7))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Defazio and others, Smoothing DiLoCo with primal averaging for faster
        training of LLMs, 2025, arXiv:2512.17131.
    """
    μx = as_schedule("mu_x", mu_x, "[0, 1)")
    μy = as_schedule("mu_y", mu_y, "[0, 1]")
    return linear(
        gradient_weight=lambda t: 1 - μy(_previous(t)),
        velocity_weight=lambda t: μy(_previous(t)) - μx(t) * μy(t),
        beta=lambda t: μx(_previous(t)),
        shift=lambda t: (1 - μy(t)) * μx(t),
    )


def _previous(count: jax.Array) -> jax.Array:
    """Return the count before. At the first update it has no effect, since the velocity is 0."""
    return jnp.maximum(count - 1, 0)
