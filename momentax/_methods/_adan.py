"""Adan: Nesterov's look-ahead estimated from the differences of gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._average import update_average
from momentax._methods._keywords import explain_keywords


class AdanState(NamedTuple):
    """The state of Adan.

    count: updates made so far, a 0-d int32 array.
    velocity: m, shaped like the parameters, in float32 or wider.
    difference: v, shaped like the parameters, in float32 or wider.
    squares: n, shaped like the parameters, real, in float32 or wider.
    gradient: the last gradient, shaped like the parameters, in float32 or wider.
    weight: the sum of the weights in m, a 0-d array.
    difference_weight: the sum of the weights in v, a 0-d array.
    squares_weight: the sum of the weights in n, a 0-d array.
    """

    count: Any
    velocity: PyTree
    difference: PyTree
    squares: PyTree
    gradient: PyTree
    weight: jax.Array
    difference_weight: jax.Array
    squares_weight: jax.Array

    restarts_with_velocity = ("weight",)
    sums_gradients = False
    shift = 0.0


@explain_keywords
def adan(
    beta1: ScalarOrSchedule = 0.98,
    beta2: ScalarOrSchedule = 0.92,
    beta3: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Divide the average gradient, extrapolated by its average change, by the root of the squares.

        m_t = β1 m_{t-1} + (1 - β1) g_t
        v_t = β2 v_{t-1} + (1 - β2) (g_t - g_{t-1}),    g_0 = g_1
        n_t = β3 n_{t-1} + (1 - β3) |g_t + β2 (g_t - g_{t-1})|²
        d_t = (m̂_t + β2 v̂_t) / (√n̂_t + ε)

    m, v and n start at 0. A hat divides by the sum of the weights, which is
    1 - β1ᵗ for a constant β1. The velocity is m. The paper writes β for 1 - β.
    Its decay is proximal, θ ← θ / (1 + α λ) after the step; the decoupled decay
    of `sgd` agrees with it to first order in α λ. `optax.adan` multiplies the
    differences by 1 - β2 in place of β2, which is another method. For a leaf
    whose first gradient comes after the first step, the gradient before it is 0.
    An entry of g whose square overflows counts as the largest one that is
    squared, 2⁶¹ in float32, so that n stays finite and decays.

    Args:
        beta1: β1 in [0, 1), the share of the average gradient kept each step.
        beta2: β2 in [0, 1), the share of the average difference kept each step,
            and the weight of the difference.
        beta3: β3 in [0, 1), the share of the squares kept each step.
        eps: ε in (0, inf), in units of the gradient.

    Example:
        >>> tx = momentax.sgd(1e-3, momentax.adan(), weight_decay=0.02, decoupled=True)
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Xie, Zhou, Li, Lin and Yan, Adan: adaptive Nesterov momentum algorithm
        for faster optimizing deep models, 2022, arXiv:2208.06677.
    """
    β1 = as_schedule("beta1", beta1)
    β2 = as_schedule("beta2", beta2)
    β3 = as_schedule("beta3", beta3)
    ε = as_schedule("eps", eps, "(0, inf)")

    def init(params):
        m, v, g = (arithmetic.zeros_like(params) for _ in range(3))
        weights = (arithmetic.as_scalar(0) for _ in range(3))
        count, n = first_count(β1, β2, β3, ε), arithmetic.square(g)
        arithmetic.require_no_underflow("eps", ε(count), n)
        return AdanState(count, m, v, n, g, *weights)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, m, v, n, last, wm, wv, wn = state
        trees.require_gradients(updates, m)
        g, before = map(arithmetic.limit_entries, (updates, last))
        seen = jnp.where(t == 0, 0.0, 1.0)
        change = arithmetic.combine((seen, g), (-seen, before), like=g)
        ahead = arithmetic.combine((1.0, g), (β2(t), change), like=g)
        m, wm = update_average(β1(t), m, wm, g)
        v, wv = update_average(β2(t), v, wv, change)
        n, wn = update_average(β3(t), n, wn, arithmetic.square(ahead))
        lead = arithmetic.combine((1 / wm, m), (β2(t) / wv, v), like=m)
        squares = arithmetic.combine((1 / wn, n), like=n)
        d = arithmetic.normalize_by(lead, squares, ε(t), like=updates)
        last = xla.computed_after(t, arithmetic.combine((1.0, updates), like=last), v, n)
        return d, AdanState(optax.safe_increment(t), m, v, n, last, wm, wv, wn)

    return method(init, update, AdanState, beta=β1)
