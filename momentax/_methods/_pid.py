"""Momentum as a controller: proportional, integral and derivative."""

from __future__ import annotations

from typing import Any

import jax
import optax

from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import Scalar, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords
from momentax._methods._linear import linear


@explain_keywords
def pid(
    kp: ScalarOrSchedule, ki: ScalarOrSchedule, kd: ScalarOrSchedule
) -> optax.GradientTransformationExtraArgs:
    """Control the gradient to zero by its value, its sum and its smoothed change.

        e_t = β e_{t-1} + (1 - β) (g_t - g_{t-1}),    β = kD / (kD - kP),    g_0 = e_0 = 0
        θ_t = θ_0 - α (kP g_t + kI Σ_{s≤t} g_s + kD e_t)

    With constant gains the parameters move by

        v_t = β v_{t-1} + (1 - β) g_t,    v_0 = 0
        d_t = (kI - kP² / kD) g_t + (kP² / kD) v_t

    This is `quasi_hyperbolic` with ν = kP² / (kI kD) and the learning rate α kI.
    Under schedules of the gains, the second form defines the method.
    `proportional_integral_derivative` is another controller.

    Args:
        kp: kP in (-inf, 0), the proportional gain. A positive gain would give a
            β outside of [0, 1].
        ki: kI in (0, inf), the integral gain, on the sum of the gradients.
        kd: kD in (0, inf), the gain of the smoothed derivative.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.pid(kp=-0.5, ki=1.0, kd=2.0))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Recht, The best things in life are model free, 2018, argmin.net; the
        equivalence: Ma and Yarats, 2019, arXiv:1810.06801.
    """
    kP = as_schedule("kp", kp, "(-inf, 0)")
    kI = as_schedule("ki", ki, "(0, inf)")
    kD = as_schedule("kd", kd, "(0, inf)")

    def β(t: jax.Array) -> Any:
        return kD(t) / (kD(t) - kP(t))

    def weight(t: jax.Array) -> Scalar:
        return kP(t) ** 2 / kD(t)

    return linear(
        gradient_weight=lambda t: kI(t) - weight(t),
        velocity_weight=weight,
        beta=β,
        gain=lambda t: 1 - β(t),
    )
