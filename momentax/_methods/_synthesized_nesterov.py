"""The three-parameter family around Nesterov's momentum, tuned for the worst case."""

from __future__ import annotations

import jax
import optax

from momentax._core.arguments import ANY_REAL
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def synthesized_nesterov(
    beta1: ScalarOrSchedule, beta2: ScalarOrSchedule, *, delta: ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Look ahead by another multiple of the velocity than the share that is kept.

        ξ_t = ξ_{t-1} + β1_t (ξ_{t-1} - ξ_{t-2}) - α g_t,    g_t at y_{t-1}
        y_t = ξ_t + β2_{t+1} (ξ_t - ξ_{t-1})

    With v_t = (ξ_{t-1} - ξ_t) / α the parameters y move by

        v_t = β1_t v_{t-1} + g_t,    v_0 = 0
        d_t = (β2_t / β1_t) g_t + (1 + β2_{t+1} - β2_t / β1_t) v_t

    β1 = β2 is Nesterov's momentum, and β2 = 0 is heavy ball.
    `theory.triple_momentum` and `theory.robust_momentum` return the
    hyperparameters that are best in the worst case over smooth strongly convex
    functions. `eval_params` returns the output x_t = ξ_t + δ (ξ_t - ξ_{t-1}).

    Args:
        beta1: β1 in (0, 1), the share of the velocity kept each step.
        beta2: β2, how far along the velocity gradients are taken; any real number.
        delta: δ, how far along the velocity the output lies; any real number.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.synthesized_nesterov(0.9, 0.5))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Lessard, Recht and Packard, Analysis and design of optimization
        algorithms via integral quadratic constraints, 2016, arXiv:1408.3595;
        Van Scoy, Freeman and Lynch, The fastest known globally convergent
        first-order method, IEEE Control Systems Letters 2(1), 2018.
    """
    β1 = as_schedule("beta1", beta1, "(0, 1)")
    β2 = as_schedule("beta2", beta2, ANY_REAL)
    δ = as_schedule("delta", delta)

    def next_β2(t: jax.Array) -> Scalar:
        return β2(optax.safe_increment(t))

    return linear(
        gradient_weight=lambda t: β2(t) / β1(t),
        # 1 + β2_{t+1} - β2_t / β1_t, in a form that does not cancel near β1 = 1.
        velocity_weight=lambda t: 1 + (next_β2(t) - β2(t)) - β2(t) * (1 - β1(t)) / β1(t),
        beta=β1,
        shift=lambda t: next_β2(t) - δ(t),
    )
