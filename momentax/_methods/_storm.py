"""Stochastic recursive momentum: a velocity corrected for the change of the parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._previous import previous


class RecursiveState(NamedTuple):
    """The state of recursive momentum.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    weight: 0 before the first gradient and 1 after it, a 0-d array.
    """

    count: Any
    velocity: PyTree
    weight: jax.Array

    restarts_with_velocity = ("weight",)
    sums_gradients = False
    shift = 0.0


class StormState(NamedTuple):
    """The state of STORM.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    beta: 1 - a of the next step, 0 before the first, a 0-d array.
    squares: the sum of the gradients' squared norms, a 0-d array.
    """

    count: Any
    velocity: PyTree
    beta: jax.Array
    squares: jax.Array

    restarts_with_velocity = ("beta",)
    sums_gradients = False
    shift = 0.0


def _correct(β: Any, v: PyTree, g: tuple[Any, PyTree], before: tuple[Any, PyTree]) -> PyTree:
    """Return g + β (v - g'), where g and g' are given as pairs of a factor and a tree."""
    return arithmetic.combine(g, (β, v), (-β * before[0], before[1]), like=v)


@explain_keywords
def recursive_momentum(
    beta: ScalarOrSchedule = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Correct the velocity by the change of the gradient on the same batch.

        v_t = g_t + β_t (v_{t-1} - g'_t),    v_1 = g_1
        d_t = v_t

    g_t is the gradient at θ_{t-1} and g'_t the gradient at θ_{t-2}, both on the
    batch of step t. Pass g'_t to update as `prev_grad`; at the first step pass any
    finite numbers of its shape, such as g_1. Both gradients contain the noise of
    the batch, which cancels, so that v approaches the full gradient. This is
    `storm` with a = 1 - β given. β = 0 is plain descent, and without noise so is
    every β. If g' were always 0, this would be heavy ball.

    Args:
        beta: β in [0, 1), the share of the corrected velocity kept each step.

    Raises:
        ValueError: A concrete beta lies outside its interval; at update,
            `prev_grad` is missing or does not fit the gradients. Only its leaves
            that have a gradient are read.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.recursive_momentum(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params, prev_grad=grads)

    Source:
        Cutkosky and Orabona, Momentum-based variance reduction in non-convex
        SGD, 2019, arXiv:1905.10018.
    """
    β = as_schedule("beta", beta)

    def init(params):
        v = arithmetic.zeros_like(params)
        return RecursiveState(first_count(β), v, arithmetic.as_scalar(0))

    def update(updates, state, params=None, *, prev_grad=None, **extra_args):
        del params, extra_args
        t, v, w = state
        trees.require_gradients(updates, v)
        prev_grad = previous("recursive_momentum", prev_grad, updates)
        v = _correct(w * β(t), v, (1.0, updates), (1.0, prev_grad))
        d = arithmetic.combine((1.0, v), like=updates)
        return d, RecursiveState(optax.safe_increment(t), v, arithmetic.as_scalar(1))

    return method(init, update, RecursiveState, beta=β)


@explain_keywords
def storm(
    k: ScalarOrSchedule = 0.1, w: ScalarOrSchedule = 0.1, c: ScalarOrSchedule = 10.0
) -> optax.GradientTransformationExtraArgs:
    """Reduce the gradient's variance by recursive momentum with an adaptive β and step size.

        η_t = k / (w + Σ_{s≤t} ‖g_s‖²)^{1/3}
        v_t = g_t + (1 - a_t) (v_{t-1} - g'_t),    a_1 = 1
        d_t = η_t v_t,    a_{t+1} = min(c η_t², 1)

    g_t is the gradient at θ_{t-1} and g'_t the gradient at θ_{t-2}, both on the
    batch of step t. The norms are over all leaves. The direction is the whole
    step: use the learning rate 1.0 in `sgd`, and pass g'_t to update as
    `prev_grad`; at the first step pass any finite numbers of its shape.
    `recursive_momentum` takes 1 - a as an argument. With the constants of the
    paper c η² is at most 1 without the minimum.

    The sum of squared norms never decreases, so that one gradient that is far
    larger than the others makes η smaller for ever. Only a gradient g or g' with a
    norm above 2⁶¹ in float32, whose square overflows, is scaled to
    √((w + Σ‖g‖²) / (t + 1)), the root mean square of the earlier norms with w as
    one more squared norm, for t earlier gradients. A gradient that is infinite or
    NaN makes η and all directions NaN.

    Args:
        k: k in (0, inf), the scale of the step size.
        w: w in (0, inf), a squared norm that bounds the first step size.
        c: c in [0, inf), the scale of a; with 0 the velocity does not decay.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval; at
            update, `prev_grad` is missing or does not fit the gradients. Only
            its leaves that have a gradient are read.

    Example:
        >>> tx = momentax.sgd(1.0, momentax.storm())
        >>> updates, state = tx.update(grads, tx.init(params), params, prev_grad=grads)

    Source:
        Cutkosky and Orabona, Momentum-based variance reduction in non-convex
        SGD, 2019, arXiv:1905.10018.
    """
    k_t = as_schedule("k", k, "(0, inf)")
    w_t = as_schedule("w", w, "(0, inf)")
    c_t = as_schedule("c", c, "[0, inf)")

    def init(params):
        count, v = first_count(k_t, w_t, c_t), arithmetic.zeros_like(params)
        return StormState(count, v, arithmetic.as_scalar(0), arithmetic.as_scalar(0))

    def update(updates, state, params=None, *, prev_grad=None, **extra_args):
        del params, extra_args
        t, v, β, squares = state
        trees.require_gradients(updates, v)
        usual = jnp.sqrt((w_t(t) + squares) / (arithmetic.as_scalar(t) + 1))
        before = previous("storm", prev_grad, updates)
        overflows, c = arithmetic.overflow_factor(updates, norm=usual)
        _, c_before = arithmetic.overflow_factor(before, norm=usual)
        v = _correct(β, v, (c, updates), (c_before, before))
        # An infinite sum would make η 0 for ever.
        most = arithmetic.largest_to_square(squares) ** 2
        h = jnp.where(overflows, usual**2, arithmetic.inner_product(updates, updates))
        squares = jnp.minimum(squares + h, most)
        η = k_t(t) / jnp.cbrt(w_t(t) + squares)
        β = arithmetic.as_scalar(1 - jnp.minimum(c_t(t) * η**2, 1))
        d = arithmetic.combine((η, v), like=updates)
        return d, StormState(optax.safe_increment(t), v, β, squares)

    return method(init, update, StormState)
