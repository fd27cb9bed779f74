"""Averages of iterates in place of averages of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._linear import linear


def primal_averaging(c: ScalarOrSchedule = 0.1) -> optax.GradientTransformationExtraArgs:
    """Average the iterates of descent and take gradients at the average.

        z_t = z_{t-1} - α g_t,    g_t at x_{t-1}
        x_t = (1 - c_t) x_{t-1} + c_t z_t,    x_0 = z_0

    The parameters hold x, the point to evaluate, and move by

        v_t = (1 - c_{t-1}) v_{t-1} + g_t,    v_0 = 0
        d_t = c_t v_t

    where α v_t = x_{t-1} - z_t. A constant c is heavy ball with β = 1 - c at a
    learning rate larger by the factor 1 / c.

    Args:
        c: c in (0, 1], the weight of the newest iterate in the average.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds one velocity, in float32 or wider.

    Raises:
        ValueError: A concrete c lies outside its interval.

    Source:
        Defazio, Momentum via primal averaging: theoretical insights and
        learning rate schedules for non-convex optimization, 2020,
        arXiv:2010.00406.
    """
    weight = as_schedule("c", c, "(0, 1]")
    return linear(
        gradient_weight=0.0, velocity_weight=weight, beta=lambda t: 1 - weight(_previous(t))
    )


def generalized_primal_averaging(
    mu_x: ScalarOrSchedule = 0.9967, mu_y: ScalarOrSchedule = 0.7
) -> optax.GradientTransformationExtraArgs:
    """Average the iterates of descent and take gradients between the two.

        z_t = z_{t-1} - α g_t,    g_t at y_{t-1}
        x_t = μx_t x_{t-1} + (1 - μx_t) z_t
        y_t = μy_t x_t + (1 - μy_t) z_t,    x_0 = y_0 = z_0

    The parameters hold y and move by

        v_t = μx_{t-1} v_{t-1} + g_t,    v_0 = 0
        d_t = (1 - μy_{t-1}) g_t + (μy_{t-1} - μx_t μy_t) v_t

    where α μx_t v_t = x_t - z_t; `eval_params` gives the average x. With
    constants it is `quasi_hyperbolic` at β = μx and ν = μy, and at μy = 1
    `primal_averaging` at c = 1 - μx.

    Args:
        mu_x: μx in [0, 1), the share of the average kept each step.
        mu_y: μy in [0, 1], the weight of the average in the point where
            gradients are taken.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds one velocity, in float32 or wider.

    Raises:
        ValueError: A concrete mu_x or mu_y lies outside its interval.

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
    """The count before; at the first update the velocity is 0 and any will do."""
    return jnp.maximum(count - 1, 0)
