"""Nadam: Adam with Nesterov's look-ahead and a growing weight of the velocity."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._average import update_average
from momentax._methods._keywords import explain_keywords


class NadamState(NamedTuple):
    """The state of Nadam.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    squares: s, shaped like the parameters, real, in float32 or wider.
    weight: w, a 0-d array.
    squares_weight: the sum of the weights in the squares, a 0-d array.
    """

    count: Any
    velocity: PyTree
    squares: PyTree
    weight: jax.Array
    squares_weight: jax.Array

    restarts_with_velocity = ("weight",)
    sums_gradients = False
    shift = 0.0


@explain_keywords
def nadam(
    beta1: ScalarOrSchedule = 0.9,
    beta2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    psi: ScalarOrSchedule = 0.004,
) -> optax.GradientTransformationExtraArgs:
    """Divide the velocity that the next step keeps by the root of the squares.

        μ_t = β1 (1 - 0.96^{tψ} / 2),          w_t = 1 - μ_1 μ_2 ⋯ μ_t
        v_t = β1 v_{t-1} + (1 - β1) g_t,       v_0 = 0
        s_t = β2 s_{t-1} + (1 - β2) |g_t|²,    s_0 = 0
        d_t = (μ_{t+1} v_t / w_{t+1} + (1 - μ_t) g_t / w_t) / (√(s_t / (1 - β2ᵗ)) + ε)

    μ grows from β1 / 2 to β1 with a time constant of 24.5 / ψ steps. Under
    schedules μ_{t+1} uses β1 and ψ of the next step, and the squares are divided
    by the sum of their weights. `optax.nadam` uses μ = β1 throughout, which is the
    limit of a large ψ. An entry of g whose square overflows counts as the largest
    one that is squared, 2⁶¹ in float32, so that s stays finite and decays. Use a
    learning rate as for Adam.

    Args:
        beta1: β1 in [0, 1), the share of the velocity kept each step.
        beta2: β2 in [0, 1), the share of the squares kept each step.
        eps: ε in (0, inf), in units of the gradient.
        psi: ψ in [0, inf), how fast μ grows.

    Example:
        >>> tx = momentax.sgd(1e-3, momentax.nadam())
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016.
    """
    β1 = as_schedule("beta1", beta1)
    β2 = as_schedule("beta2", beta2)
    ε = as_schedule("eps", eps, "(0, inf)")
    ψ = as_schedule("psi", psi, "[0, inf)")

    def μ(t: Any) -> jax.Array:
        """Return μ of the update at count t, which is step t + 1 of the paper."""
        return β1(t) * (1 - 0.96 ** ((arithmetic.as_scalar(t) + 1) * ψ(t)) / 2)

    def init(params):
        v, weights = (
            arithmetic.zeros_like(params),
            (arithmetic.as_scalar(0), arithmetic.as_scalar(0)),
        )
        count, s = first_count(β1, β2, ε, ψ), arithmetic.square(v)
        arithmetic.require_no_underflow("eps", ε(count), s)
        return NadamState(count, v, s, *weights)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, s, w, u = state
        trees.require_gradients(updates, v)
        g = arithmetic.limit_entries(updates)
        next_t = optax.safe_increment(t)
        μ_t, μ_next = μ(t), μ(next_t)
        v = xla.decay_and_add(t, β1(t), v, (1 - β1(t), g))
        s, u = update_average(β2(t), s, u, arithmetic.square(g))
        # 1 - w is a product of μ. As a sum of weights, w loses no digits and restarts at 0.
        w = arithmetic.as_scalar(μ_t * w + (1 - μ_t))
        w_next = μ_next * w + (1 - μ_next)
        ahead = arithmetic.combine((μ_next / w_next, v), ((1 - μ_t) / w, g), like=v)
        squares = arithmetic.combine((1 / u, s), like=s)
        d = arithmetic.normalize_by(ahead, squares, ε(t), like=updates)
        return d, NadamState(next_t, v, s, w, u)

    return method(init, update, NadamState, beta=β1)
