"""The one complete optimizer: a method between decay and learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._methods._heavy_ball import heavy_ball

_Mask = PyTree | Callable[[PyTree], PyTree] | None


class DecayState(NamedTuple):
    """The state of weight decay."""

    count: Any  # Updates made so far, a 0-d int32 array.


def _counted(
    step: Callable[[PyTree, Any, PyTree], PyTree], state_of: Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
    """A transformation of updates by step(updates, count, params) that keeps its count alone."""

    def init(params):
        del params
        return state_of(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        updates = step(updates, state.count, params)
        return updates, state_of(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _scale(factor: Schedule) -> optax.GradientTransformationExtraArgs:
    """Scale updates by c_t, kept in float32 or wider: u ← c_t u."""
    return _counted(
        lambda u, t, _: arithmetic.combine((factor(t), u), like=u), optax.ScaleByScheduleState
    )


def _decay(
    weight: Schedule, mask: _Mask, factor: Schedule = lambda _: 1.0
) -> optax.GradientTransformationExtraArgs:
    """Add decay where the mask is True and the gradient is not None: u ← u + c_t λ_t θ."""

    def step(u: PyTree, t: Any, params: PyTree) -> PyTree:
        if arithmetic.is_zero(weight(t)) or not jax.tree.leaves(u):
            return u
        if params is None:
            raise ValueError("weight_decay needs the parameters: call update(grads, state, params)")
        trees.require_params(u, params)
        kept = trees.as_mask("mask", mask, params)
        decayed = jax.tree.map(lambda keep, leaf: leaf if keep else None, kept, params)
        return arithmetic.combine((1.0, u), (factor(t) * weight(t), decayed), like=u)

    return _counted(step, DecayState)


def _settle(updates: PyTree, params: PyTree) -> PyTree:
    """Zeros for the parameters that have no gradient this step, as apply_updates wants them."""
    if params is None:
        return updates
    trees.require_params(updates, params)
    return jax.tree.map(
        lambda u, leaf: jnp.zeros_like(leaf) if u is None and leaf is not None else u,
        updates,
        params,
        is_leaf=trees.is_none,
    )


def sgd(
    learning_rate: ScalarOrSchedule,
    method: optax.GradientTransformation = heavy_ball(),
    *,
    velocity_units: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    decoupled: bool = False,
    mask: _Mask = None,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Descend along a method's directions: the one complete optimizer.

        velocity_units="gradient":     d_t = method(g_t),         θ_t = θ_{t-1} - α_t d_t
        velocity_units="parameter":    u_t = method(-α_t g_t),    θ_t = θ_{t-1} + u_t

    Coupled decay puts g_t + λ θ_{t-1} in place of g_t, so the decay enters the
    velocity (L2); decoupled decay subtracts α_t λ θ_{t-1} from θ_t. The two
    units agree for a constant learning rate. Under a schedule they do not: in
    gradient units (PyTorch, optax.sgd) old gradients are repriced at today's
    learning rate, in parameter units (Sutskever, Keras) each keeps its own.

    Args:
        learning_rate: α in (0, inf), in parameters per direction; a schedule
            may return 0, and a 0-d JAX array be 0, as the value of one.
        method: The transformation of gradients into directions.
        velocity_units: "gradient" or "parameter", what the velocity accumulates.
        weight_decay: λ in [0, inf), per step; other than 0 it needs `params`.
        decoupled: Whether the decay passes the velocity by.
        mask: Which parameters decay: a tree of bools, a prefix of one, or a
            function from the parameters to one. None is all of them.
        maximize: Whether to ascend. Only the gradient is negated: decay still
            shrinks the parameters.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, of
        the gradients' shapes and dtypes; its state is a tuple, as of
        `optax.chain`. Given `params`, a parameter whose gradient is None gets a
        zero update and stays exactly as it is, decay included.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval,
            velocity_units is neither word; at update, decay without `params`,
            or trees that do not fit each other.
        TypeError: learning_rate is None, method is no gradient transformation,
            a flag is no bool.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013; decoupled decay: Loshchilov
        and Hutter, 2019, arXiv:1711.05101.
    """
    α = as_schedule("learning_rate", learning_rate)
    λ = as_schedule("weight_decay", weight_decay)
    arguments.require_transformation("method", method)
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))
    as_flag("decoupled", decoupled)
    negation = optax.stateless(lambda u, _: arithmetic.combine((-1.0, u), like=u))
    ascent = [negation] if as_flag("maximize", maximize) else []
    descent = _scale(lambda t: -α(t))
    if velocity_units == "gradient":
        decay = _decay(λ, mask)
        path = [method, decay, descent] if decoupled else [decay, method, descent]
    elif decoupled:
        path = [descent, method, _decay(λ, mask, factor=lambda t: -α(t))]
    else:
        path = [_decay(λ, mask), descent, method]
    return optax.chain(*ascent, *path, optax.stateless(_settle))
