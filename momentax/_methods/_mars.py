"""MARS: a running average of gradients whose variance is reduced, scaled and clipped."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._previous import previous


class MarsState(NamedTuple):
    """The state of MARS in its approximate form.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    gradient: the last gradient, shaped like the parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree
    gradient: PyTree

    restarts_with_velocity = ("gradient",)
    sums_gradients = False
    shift = 0.0


class ExactMarsState(NamedTuple):
    """The state of MARS in its exact form.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def mars(
    beta: ScalarOrSchedule = 0.95, gamma: ScalarOrSchedule = 0.025, *, approximate: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Average gradients that are corrected by their change.

        c_t = g_t + γ β / (1 - β) (g_t - g'_t)
        v_t = β v_{t-1} + (1 - β) c_t / max(1, ‖c_t‖),    v_0 = 0
        d_t = v_t

    Each leaf has its own norm. An entry of g or g' whose square overflows counts as
    the largest one that is squared, 2⁶¹ in float32. In the exact form, g'_t is the
    gradient at the previous parameters on the batch of step t: pass it to update as
    `prev_grad`. At the first step g'_1 = g_1, whatever `prev_grad` is. In the
    approximate form g'_t is the gradient of the last step, g_{t-1}, and g'_1 = 0 as
    in the authors' code.

    The paper preconditions v: `mars` followed by `optax.scale_by_sign` is
    MARS-Lion, and orthogonalized it is MARS-Shampoo. γ = 0 averages clipped
    gradients. Without clipping, γ = 1 in the exact form is `recursive_momentum`,
    except that the first velocity is (1 - β) g_1.

    Args:
        beta: β in [0, 1), the share of the average kept each step.
        gamma: γ in [0, inf), the scale of the correction.
        approximate: Whether the last gradient replaces `prev_grad`. The state
            then keeps the last gradient.

    Raises:
        ValueError: A concrete beta or gamma lies outside its interval; at
            update, `prev_grad` is needed and missing, or does not fit the
            gradients.
        TypeError: approximate is not a bool.

    Example:
        >>> tx = optax.chain(momentax.mars(), optax.scale_by_sign(), optax.scale(-1e-4))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Yuan, Liu, Wu, Zhou and Gu, MARS: unleashing the power of variance
        reduction for training large models, 2024, arXiv:2411.10438.
    """
    β = as_schedule("beta", beta)
    γ = as_schedule("gamma", gamma, "[0, inf)")
    as_flag("approximate", approximate)

    def init(params):
        state = ExactMarsState(first_count(β, γ), arithmetic.zeros_like(params))
        return MarsState(*state, arithmetic.zeros_like(params)) if approximate else state

    def update(updates, state, params=None, *, prev_grad=None, **extra_args):
        del params, extra_args
        t, v = state.count, state.velocity
        trees.require_gradients(updates, v)
        scale = γ(t) * β(t) / (1 - β(t))
        if approximate:
            before = state.gradient
        else:
            before = previous("mars", prev_grad, updates)
            scale = jnp.where(t == 0, 0, scale)
        g, before = map(arithmetic.limit_entries, (updates, before))
        c = arithmetic.combine((1 + scale, g), (-scale, before), like=g)
        clip = partial(arithmetic.limit_norm, limit=1.0)
        v = xla.decay_and_add(t, β(t), v, (1 - β(t), jax.tree.map(clip, c)))
        d = arithmetic.combine((1.0, v), like=updates)
        state = state._replace(count=optax.safe_increment(t), velocity=v)
        if approximate:
            kept = xla.computed_after(t, arithmetic.combine((1.0, updates), like=state.gradient), v)
            state = state._replace(gradient=kept)
        return d, state

    return method(init, update, MarsState if approximate else ExactMarsState, beta=β)
