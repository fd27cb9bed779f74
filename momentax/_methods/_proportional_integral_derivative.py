"""A controller with the gradient, its decaying sum and its smoothed change."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule


class ProportionalIntegralDerivativeState(NamedTuple):
    """The state of a controller.

    count: updates made so far, a 0-d int32 array.
    velocity: I, shaped like the parameters, in float32 or wider.
    derivative: D, likewise.
    rest: g - D, the newest gradient without its smoothed change, likewise.
    """

    count: Any
    velocity: PyTree
    derivative: PyTree
    rest: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


def proportional_integral_derivative(
    beta: ScalarOrSchedule = 0.9, ki: ScalarOrSchedule = 5.0, kd: ScalarOrSchedule = 10.0
) -> optax.GradientTransformationExtraArgs:
    """Add the smoothed change of the gradient to momentum, to brake where it grows.

        I_t = β I_{t-1} + g_t,                        I_0 = 0
        D_t = β D_{t-1} + (1 - β) (g_t - g_{t-1}),    D_1 = 0
        d_t = g_t + kI I_t + kD D_t

    The velocity is I. A gradient that stays the same comes to move the
    parameters 1 + kI / (1 - β) times as far as in plain descent: 51 times at
    the defaults. With a constant β, D is (1 - β) (g_t - (1 - β) I_{t-1}) but for
    the term (1 - β) βᵗ⁻¹ g_1, which fades; the method becomes `linear` at
    a = 1 + kD (1 - β) / β and b = kI - kD (1 - β)² / β. `pid` is another
    controller.

    Args:
        beta: β in [0, 1), the share of I and of D kept each step.
        ki: kI in [0, inf), the integral gain, on the velocity.
        kd: kD in [0, inf), the gain of the smoothed change.

    Returns:
        A transformation of gradients into directions of the same shapes and
        dtypes; its state holds the velocity and two more trees of that size, in
        float32 or wider. A None gradient leaves all three as they are; a leaf
        whose first gradient comes late finds 0 for the one before.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval.

    Source:
        An, Wang, Sun, Xu, Dai and Zhang, A PID controller approach for
        stochastic optimization of deep networks, CVPR 2018.
    """
    β = as_schedule("beta", beta)
    kI = as_schedule("ki", ki, "[0, inf)")
    kD = as_schedule("kd", kd, "[0, inf)")

    def init(params):
        # Three trees, not one thrice: a buffer can be donated only once.
        trees = (arithmetic.zeros_like(params) for _ in range(3))
        return ProportionalIntegralDerivativeState(jnp.zeros((), jnp.int32), *trees)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, change, rest = state
        trees.require_gradients(updates, v)
        γ = jnp.where(t == 0, 0.0, 1 - β(t))
        v = arithmetic.combine((β(t), v), (1.0, updates), like=v)
        # The gradient before is rest + change. Kept as it is, it would have to be copied, since
        # the derivative reads the old one.
        change = arithmetic.combine((β(t) - γ, change), (γ, updates), (-γ, rest), like=change)
        rest = arithmetic.combine((1.0, updates), (-1.0, change), like=rest)
        d = arithmetic.combine((1.0, updates), (kI(t), v), (kD(t), change), like=updates)
        count = optax.safe_increment(t)
        return d, ProportionalIntegralDerivativeState(count, v, change, rest)

    return optax.GradientTransformationExtraArgs(init, update)
