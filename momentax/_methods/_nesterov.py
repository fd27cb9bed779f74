"""Nesterov's momentum: gradients at the point that the velocity leads to."""

from __future__ import annotations

import jax
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def nesterov(beta: ScalarOrSchedule = 0.9) -> optax.GradientTransformationExtraArgs:
    """Move along the gradient g and the velocity that the next step keeps.

        v_t = β_t v_{t-1} + g_t,    v_0 = 0
        d_t = g_t + β_{t+1} v_t

    The parameters are the look-ahead point: g_t is the gradient at
    θ'_{t-1} - α β_t v_{t-1}, where θ' is the base iterate that `eval_params`
    returns. Under a schedule of β the look-ahead needs the β of the next step;
    using β_t twice is another method. Under a schedule of the learning rate the
    look-ahead is exact only with velocity_units="parameter" of `sgd`.

    Args:
        beta: β in [0, 1), the share of the velocity kept each step.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.nesterov(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Nesterov, A method of solving a convex programming problem with
        convergence rate O(1/k²), 1983; in this form Bengio,
        Boulanger-Lewandowski and Pascanu, Advances in optimizing recurrent
        networks, 2012, arXiv:1212.0901.
    """
    β = as_schedule("beta", beta)

    def next_β(t: jax.Array) -> Scalar:
        return β(optax.safe_increment(t))

    return linear(gradient_weight=1.0, velocity_weight=next_β, beta=β, shift=next_β)
