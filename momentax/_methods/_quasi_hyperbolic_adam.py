"""Quasi-hyperbolic Adam: both averages of Adam mixed with the newest gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._average import update_average
from momentax._methods._keywords import explain_keywords


class QuasiHyperbolicAdamState(NamedTuple):
    """The state of quasi-hyperbolic Adam.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    squares: s, shaped like the parameters, real, in float32 or wider.
    weight: w, the sum of the weights in the velocity, a 0-d array.
    squares_weight: u, the sum of the weights in the squares, a 0-d array.
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
def quasi_hyperbolic_adam(
    beta1: ScalarOrSchedule = 0.995,
    beta2: ScalarOrSchedule = 0.999,
    nu1: ScalarOrSchedule = 0.7,
    nu2: ScalarOrSchedule = 1.0,
    eps: ScalarOrSchedule = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Divide a mixture of gradient and average by the root of a mixture of their squares.

        v_t = β1 v_{t-1} + (1 - β1) g_t,       w_t = β1 w_{t-1} + 1 - β1
        s_t = β2 s_{t-1} + (1 - β2) |g_t|²,    u_t = β2 u_{t-1} + 1 - β2
        d_t = ((1 - ν1) g_t + ν1 v_t / w_t) / (√((1 - ν2) |g_t|² + ν2 s_t / u_t) + ε)

    All four start at 0. For constant β, w_t = 1 - β1ᵗ and u_t = 1 - β2ᵗ. ν1 = ν2 =
    1 is Adam. An entry of g whose square overflows counts as the largest one that
    is squared, 2⁶¹ in float32, so that s stays finite and decays. Use a learning
    rate as for Adam.

    Args:
        beta1: β1 in [0, 1), the share of the velocity kept each step.
        beta2: β2 in [0, 1), the share of the squares kept each step.
        nu1: ν1 in [0, 1], the weight of the average in the mixture.
        nu2: ν2 in [0, 1], the weight of the average in the mixture of squares.
        eps: ε in (0, inf), in units of the gradient.

    Example:
        >>> tx = momentax.sgd(1e-3, momentax.quasi_hyperbolic_adam())
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Ma and Yarats, Quasi-hyperbolic momentum and Adam for deep learning,
        2019, arXiv:1810.06801.
    """
    β1 = as_schedule("beta1", beta1)
    β2 = as_schedule("beta2", beta2)
    ν1 = as_schedule("nu1", nu1, "[0, 1]")
    ν2 = as_schedule("nu2", nu2, "[0, 1]")
    ε = as_schedule("eps", eps, "(0, inf)")

    def init(params):
        v, weights = (
            arithmetic.zeros_like(params),
            (arithmetic.as_scalar(0), arithmetic.as_scalar(0)),
        )
        count, s = first_count(β1, β2, ν1, ν2, ε), arithmetic.square(v)
        arithmetic.require_no_underflow("eps", ε(count), s)
        return QuasiHyperbolicAdamState(count, v, s, *weights)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, s, w, u = state
        trees.require_gradients(updates, v)
        g = arithmetic.limit_entries(updates)
        square = arithmetic.square(g)
        v, w = update_average(β1(t), v, w, g)
        s, u = update_average(β2(t), s, u, square)
        mix = arithmetic.combine((1 - ν1(t), g), (ν1(t) / w, v), like=v)
        squares = arithmetic.combine((1 - ν2(t), square), (ν2(t) / u, s), like=s)
        d = arithmetic.normalize_by(mix, squares, ε(t), like=updates)
        return d, QuasiHyperbolicAdamState(optax.safe_increment(t), v, s, w, u)

    return method(init, update, QuasiHyperbolicAdamState, beta=β1)
