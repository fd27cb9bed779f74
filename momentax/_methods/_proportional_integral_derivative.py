"""A controller from the gradient, its decaying sum and its smoothed change."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class ProportionalIntegralDerivativeState(NamedTuple):
    """The state of a controller.

    count: updates made so far, a 0-d int32 array.
    velocity: I, shaped like the parameters, in float32 or wider.
    derivative: D, shaped like the parameters, in float32 or wider.
    rest: g - D, the last gradient minus its smoothed change, shaped like the
        parameters, in float32 or wider.
    """

    count: Any
    velocity: PyTree
    derivative: PyTree
    rest: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def proportional_integral_derivative(
    beta: ScalarOrSchedule = 0.9, ki: ScalarOrSchedule = 5.0, kd: ScalarOrSchedule = 10.0
) -> optax.GradientTransformationExtraArgs:
    """Add the smoothed change of the gradient to momentum, which damps the motion.

        I_t = β I_{t-1} + g_t,                        I_0 = 0
        D_t = β D_{t-1} + (1 - β) (g_t - g_{t-1}),    D_1 = 0
        d_t = g_t + kI I_t + kD D_t

    The velocity is I. A constant gradient moves the parameters in the long run
    1 + kI / (1 - β) times as far as in plain descent: 51 times with the defaults.
    With a constant β, D is (1 - β) (g_t - (1 - β) I_{t-1}) minus (1 - β) βᵗ⁻¹ g_1,
    a term that decays. Without this term the method is `linear` with
    a = 1 + kD (1 - β) / β and b = kI - kD (1 - β)² / β. `pid` is another
    controller. For a leaf whose first gradient comes after the first step, the
    gradient before it is 0.

    Args:
        beta: β in [0, 1), the share of I and of D kept each step.
        ki: kI in [0, inf), the integral gain, on the velocity.
        kd: kD in [0, inf), the gain of the smoothed change.

    Example:
        >>> tx = momentax.sgd(0.01, momentax.proportional_integral_derivative())
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        An, Wang, Sun, Xu, Dai and Zhang, A PID controller approach for
        stochastic optimization of deep networks, CVPR 2018.
    """
    β = as_schedule("beta", beta)
    kI = as_schedule("ki", ki, "[0, inf)")
    kD = as_schedule("kd", kd, "[0, inf)")

    def init(params):
        # Three separate trees, since a buffer can be donated only once.
        trees = (arithmetic.zeros_like(params) for _ in range(3))
        return ProportionalIntegralDerivativeState(first_count(β, kI, kD), *trees)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, change, rest = state
        trees.require_gradients(updates, v)
        γ = jnp.where(t == 0, 0.0, 1 - β(t))
        v = arithmetic.combine((β(t), v), (1.0, updates), like=v)
        # The last gradient is rest + change. If the state kept it, a donated step would copy it.
        change = arithmetic.combine((β(t) - γ, change), (γ, updates), (-γ, rest), like=change)
        rest = arithmetic.combine((1.0, updates), (-1.0, change), like=rest)
        d = arithmetic.combine((1.0, updates), (kI(t), v), (kD(t), change), like=updates)
        count = optax.safe_increment(t)
        return d, ProportionalIntegralDerivativeState(count, v, change, rest)

    return method(init, update, ProportionalIntegralDerivativeState, beta=β)
