"""The kernel: one velocity and four coefficients. Most methods are a choice of coefficients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.hyperparameters import as_schedule, first_count, is_always_zero
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class LinearState(NamedTuple):
    """The state of a linear method.

    All linear methods without a shift share this class, since they are one recurrence with
    other coefficients. The velocity is in units of the gain: to continue with a method
    of another gain, multiply the velocity by new gain / old gain.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree

    restarts_with_velocity = ()
    sums_gradients = True
    shift = 0.0


class ShiftedState(NamedTuple):
    """The state of a linear method whose parameters are a shifted point.

    All linear methods with a shift share this class, as the others share LinearState.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    shift: s, a 0-d array in float32 or wider; `eval_params` reads it.
    """

    count: Any
    velocity: PyTree
    shift: jax.Array

    restarts_with_velocity = ()
    sums_gradients = True


@explain_keywords
def linear(
    gradient_weight: ScalarOrSchedule,
    velocity_weight: ScalarOrSchedule,
    beta: ScalarOrSchedule,
    gain: ScalarOrSchedule = 1.0,
    *,
    shift: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Accumulate gradients g in a velocity v and combine the two.

        v_t = β_t v_{t-1} + γ_t g_t,    v_0 = 0
        d_t = a_t g_t + b_t v_t

    (a, b, γ) = (0, 1, 1) is heavy ball and (1, β, 1) is Nesterov's momentum. The
    compiled program leaves out a term whose coefficient is the number 0.

    Rounding does not add up over many steps. In float32 an entry of the velocity differs from
    exact arithmetic by at most 7 · 2⁻²⁴ max|v| / (1 - β) after any number of steps, for a
    constant β and the largest magnitude that the entry has had: each step adds at most
    (3 + 4β) 2⁻²⁴ max|v|, and keeps the share β of the difference so far.

    The parameters are the point where gradients are taken. The base iterate of
    the method, which `eval_params` returns, is the parameters plus α_t s_t v_t.

    Args:
        gradient_weight: a, the weight of the gradient in the direction; any real number.
        velocity_weight: b, the weight of the velocity in the direction; any real number.
        beta: β in [0, 1), the share of the velocity kept each step.
        gain: γ, the weight of the gradient in the velocity; any real number.
        shift: s, how far the base iterate lies from the parameters along the
            velocity; any real number.

    Returns:
        A transformation with the state LinearState, or with the state
        ShiftedState unless the shift is the number 0.

    Example:
        >>> beta = 0.9
        >>> nesterov = momentax.linear(gradient_weight=1.0, velocity_weight=beta, beta=beta)
        >>> updates, state = nesterov.update(grads, nesterov.init(params))

    Source:
        The common form of Polyak, Some methods of speeding up the convergence
        of iteration methods, 1964; Nesterov, 1983; and Ma and Yarats, 2019,
        arXiv:1810.06801.
    """
    a = as_schedule("gradient_weight", gradient_weight)
    b = as_schedule("velocity_weight", velocity_weight)
    β = as_schedule("beta", beta)
    γ = as_schedule("gain", gain)
    s = as_schedule("shift", shift)
    shifted = not is_always_zero(shift)

    def init(params):
        count, v = first_count(a, b, β, γ, s), arithmetic.zeros_like(params)
        # The shift must be right before the first update, for a velocity that was put in.
        return (
            ShiftedState(count, v, arithmetic.as_scalar(s(count)))
            if shifted
            else LinearState(count, v)
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v = state.count, state.velocity
        trees.require_gradients(updates, v)
        v = xla.decay_and_add(t, β(t), v, (γ(t), updates))
        d = arithmetic.combine((a(t), updates), (b(t), v), like=updates)
        state = state._replace(count=optax.safe_increment(t), velocity=v)
        return d, state._replace(shift=arithmetic.as_scalar(s(t))) if shifted else state

    return method(init, update, ShiftedState if shifted else LinearState, beta=β)
