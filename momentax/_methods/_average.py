"""The running average of the gradients, as Adam's first moment keeps it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, hyperparameters, trees, xla
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


class AverageState(NamedTuple):
    """The state of a debiased average.

    count: updates made so far, a 0-d int32 array.
    velocity: v, the average before debiasing, shaped like the parameters, in
        float32 or wider.
    weight: w, the sum of the weights of the gradients in the velocity, a 0-d array.
    """

    count: Any
    velocity: PyTree
    weight: jax.Array

    restarts_with_velocity = ("weight",)
    sums_gradients = False
    shift = 0.0


def update_average(
    β: Any, mean: PyTree, weight: jax.Array, new: PyTree
) -> tuple[PyTree, jax.Array]:
    """Return a running average and the sum of its weights after one more tree.

        mean ← β mean + (1 - β) new,    weight ← β weight + (1 - β)

    Args:
        β: The share of the average that is kept, in [0, 1).
        mean: The average so far, in float32 or wider.
        weight: The sum of its weights, a 0-d array; 0 before the first tree.
        new: The tree that enters; a leaf of None leaves its average unchanged.
    """
    mean = xla.decay_and_add(weight, β, mean, (1 - β, new))
    return mean, jnp.asarray(β * weight + (1 - β), weight.dtype)


@explain_keywords
def average(
    beta: ScalarOrSchedule = 0.9, *, debias: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Move along the running average v of the gradients g.

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        w_t = β w_{t-1} + (1 - β),        w_0 = 0
        d_t = v_t / w_t

    For a constant β, w_t = 1 - βᵗ; under a schedule of β, w is the exact sum of
    the weights. All leaves share w, which also grows at a step without a
    gradient. Without debiasing d_t = v_t, which is heavy ball at a learning rate
    smaller by the factor 1 - β.

    Args:
        beta: β in [0, 1), the share of the average kept each step.
        debias: Whether to divide by w, so that the first directions are
            averages of the first gradients and not smaller.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.average(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015,
        arXiv:1412.6980.
    """
    β = as_schedule("beta", beta)
    if not as_flag("debias", debias):
        return linear(gradient_weight=0.0, velocity_weight=1.0, beta=β, gain=lambda t: 1 - β(t))

    def init(params):
        weight = jnp.zeros((), hyperparameters.float_dtype())
        return AverageState(first_count(β), arithmetic.zeros_like(params), weight)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, w = state
        trees.require_gradients(updates, v)
        v, w = update_average(β(t), v, w, updates)
        d = arithmetic.combine((1 / w, v), like=updates)
        return d, AverageState(optax.safe_increment(t), v, w)

    return method(init, update, AverageState, beta=β)
