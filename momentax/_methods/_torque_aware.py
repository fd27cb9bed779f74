"""Torque-aware momentum: gradients that turn the velocity get less weight."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees, xla
from momentax._core.hyperparameters import as_schedule, first_count
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._keywords import explain_keywords


class TorqueAwareState(NamedTuple):
    """The state of torque-aware momentum.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    alignment: s, a 0-d array for each parameter, in float32 or wider.
    """

    count: Any
    velocity: PyTree
    alignment: PyTree

    restarts_with_velocity = ()
    sums_gradients = False
    shift = 0.0


@explain_keywords
def torque_aware(
    beta: ScalarOrSchedule = 0.9, gamma: ScalarOrSchedule = 0.9, eps: ScalarOrSchedule = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Weight each gradient by its agreement with the velocity.

        c_t = cos(v_{t-1}, g_t)
        s_t = γ s_{t-1} + (1 - γ) c_t,                s_0 = 0
        v_t = β v_{t-1} + (ε + (1 + s_t) / 2) g_t,    v_0 = 0
        d_t = v_t

    Each leaf of the tree has its own cosine. It is 0 where the velocity or the
    gradient is 0, and the real part for complex leaves. Gradients at random
    angles, for which s = 0, give heavy ball at half the learning rate.

    Args:
        beta: β in [0, 1), the share of the velocity kept each step.
        gamma: γ in [0, 1), the share of the smoothed cosine kept each step.
        eps: ε in [0, inf), the least weight of a gradient.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.torque_aware(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Malviya, Mordido, Baratin, Babanezhad Harikandeh, Dziugaite, Pascanu and
        Chandar, Torque-aware momentum, 2024, arXiv:2412.18790.
    """
    β = as_schedule("beta", beta)
    γ = as_schedule("gamma", gamma, "[0, 1)")
    ε = as_schedule("eps", eps, "[0, inf)")

    def init(params):
        v = arithmetic.zeros_like(params)
        s = jax.tree.map(lambda leaf: jnp.zeros((), jnp.finfo(leaf.dtype).dtype), v)
        return TorqueAwareState(first_count(β, γ, ε), v, s)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, s = state
        trees.require_gradients(updates, v)
        s = arithmetic.combine((γ(t), s), (1 - γ(t), arithmetic.cosines(updates, v)), like=s)
        aligned = arithmetic.scale_leaves(s, updates)
        v = xla.decay_and_add(t, β(t), v, (ε(t) + 0.5, updates), (0.5, aligned))
        d = arithmetic.combine((1.0, v), like=updates)
        return d, TorqueAwareState(optax.safe_increment(t), v, s)

    return method(init, update, TorqueAwareState, beta=β)
