"""Positive-negative momentum: the weighted difference of two interleaved averages."""

from __future__ import annotations

from typing import Any, NamedTuple

import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class PositiveNegativeState(NamedTuple):
    """The state of positive-negative momentum.

    count: updates made so far, a 0-d int32 array.
    velocity: m_t, the newest average, shaped like the parameters, in float32 or wider.
    change: m_t - m_{t-1}, shaped like the parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree
    change: PyTree

    restarts_with_velocity = ("change",)
    sums_gradients = False
    shift = 0.0


@explain_keywords
def positive_negative(
    beta: ScalarOrSchedule = 0.9, beta0: ScalarOrSchedule = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Subtract from one average of every second gradient the average of the other gradients.

        m_t = β² m_{t-2} + (1 - β²) g_t,    m_0 = m_{-1} = 0
        d_t = ((1 + β0) m_t - β0 m_{t-1}) / √((1 + β0)² + β0²)

    The two averages have no gradient in common. So the direction has the noise of
    one average, and the mean gradient divided by √((1 + β0)² + β0²). The state
    keeps the velocity v_t = m_t and its change q_t:

        q_t = (1 - β²) (g_t - v_{t-1}) - β² q_{t-1},    v_0 = q_0 = 0
        v_t = v_{t-1} + q_t
        d_t = (v_t + β0 q_t) / √((1 + β0)² + β0²)

    Args:
        beta: β in [0, 1); β² is the share of an average kept every second step.
        beta0: β0 in [0, inf), the weight of the older average.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.positive_negative(0.9, beta0=1.0))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Xie, Yuan, Zhu and Sugiyama, Positive-negative momentum: manipulating
        stochastic gradient noise to improve generalization, 2021,
        arXiv:2103.17182.
    """
    β = as_schedule("beta", beta)
    β0 = as_schedule("beta0", beta0, "[0, inf)")

    def init(params):
        v, q = arithmetic.zeros_like(params), arithmetic.zeros_like(params)
        return PositiveNegativeState(first_count(β, β0), v, q)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, q = state
        trees.require_gradients(updates, v)
        kept, b = β(t) ** 2, β0(t)
        # Everything is computed from the new change, so that a donated step copies no buffer.
        q = arithmetic.combine((-kept, q), (1 - kept, updates), (kept - 1, v), like=q)
        # The term of weight 0 reads no gradient. It keeps v where the gradient is None.
        v = arithmetic.combine((1.0, v), (1.0, q), (0.0, updates), like=v)
        scale = ((1 + b) ** 2 + b**2) ** -0.5
        d = arithmetic.combine((scale, v), (b * scale, q), like=updates)
        return d, PositiveNegativeState(optax.safe_increment(t), v, q)

    return method(init, update, PositiveNegativeState, beta=β)
