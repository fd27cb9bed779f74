"""PyTorch's SGD, step for step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, hyperparameters, trees
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._methods._linear import linear
from momentax._sgd import sgd
from momentax.conventions._mapping import number

# What else stands in a param group: bookkeeping of torch's, which changes no step.
_BOOKKEEPING = {
    *("params", "param_names", "foreach", "differentiable", "fused"),
    *("initial_lr", "swa_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"),
}


class DampedState(NamedTuple):
    """The state of PyTorch's dampened velocity.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    started: whether PyTorch would hold a buffer, a 0-d bool for each parameter.
    """

    count: Any
    velocity: PyTree
    started: PyTree

    restarts_with_velocity = ("started",)
    sums_gradients = True
    shift = 0.0


def _select(condition: Any, yes: Any, no: Any) -> Any:
    """One of two coefficients, chosen now unless the condition is JAX's."""
    if isinstance(condition, jax.Array):
        return jnp.where(condition, yes, no)
    return yes if condition else no


def _damped(
    a: Schedule, b: Schedule, beta: Schedule, gain: Schedule, first_gain: Schedule
) -> optax.GradientTransformationExtraArgs:
    """The kernel with a gain of its own for each parameter's first gradient."""

    def init(params):
        zeros = arithmetic.zeros_like(params)
        started = jax.tree.map(lambda _: jnp.zeros((), bool), zeros)
        return DampedState(jnp.zeros((), jnp.int32), zeros, started)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, started = state
        trees.require_gradients(updates, v)
        first = arithmetic.combine((first_gain(t), updates), like=v)
        later = arithmetic.combine((beta(t), v), (gain(t), updates), like=v)
        v = jax.tree.map(jnp.where, started, later, first)
        d = arithmetic.combine((a(t), updates), (b(t), v), like=updates)
        starts = jnp.asarray(first_gain(t) != 0)
        started = jax.tree.map(
            lambda begun, g: begun if g is None else begun | starts,
            *(started, updates),
            is_leaf=trees.is_none,
        )
        return d, DampedState(optax.safe_increment(t), v, started)

    return optax.GradientTransformationExtraArgs(init, update)


def from_torch(
    lr: ScalarOrSchedule = 1e-3,
    momentum: ScalarOrSchedule = 0.0,
    dampening: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    **bookkeeping: Any,
) -> optax.GradientTransformationExtraArgs:
    """Build the optimizer that steps as `torch.optim.SGD` does.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        v_t = μ_t v_{t-1} + (1 - τ_t) g_t,    the first v = the first g
        d_t = v_t, or g_t + μ_t v_t with nesterov
        θ_t = θ_{t-1} - α_t d_t

    PyTorch's rules, all of them: a parameter's first gradient is not dampened,
    whenever it comes; while μ_t is 0 the velocity rests and the gradient is the
    direction; nesterov takes μ_t twice, where `momentax.nesterov` takes the next
    step's β on the velocity; decay is coupled, and maximize negates the gradient
    alone. A param group of `optimizer.state_dict()` can be passed as it is:
    `from_torch(**group)`, or `from_torch(**group | {"lr": schedule})` where a
    scheduler changed its lr. Give each of several groups its own in an
    `optax.partition`.

    Args:
        lr: α in [0, inf), as PyTorch's scheduler sets it for each step.
        momentum: μ in [0, 1).
        dampening: τ, any real number; other than 0 it keeps a bool beside each
            parameter's velocity.
        weight_decay: λ in [0, inf); other than 0 it needs `params`.
        nesterov: Whether to look ahead; it needs momentum above 0 and no dampening.
        maximize: Whether to ascend.
        **bookkeeping: The other entries of a param group (`params`, `foreach`,
            `initial_lr`, ...), which change no step.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, as
        of `momentax.sgd`. Complex gradients are PyTorch's: the conjugates of
        those that `jax.grad` returns.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, or
            nesterov without momentum or with dampening.
        TypeError: An argument is none of torch.optim.SGD's, or a flag no bool.

    Source:
        torch.optim.SGD of PyTorch 2.13.
    """
    if unknown := sorted(set(bookkeeping) - _BOOKKEEPING):
        raise TypeError(
            f"from_torch has no argument {unknown[0]!r}, nor has torch.optim.SGD: drop from a "
            "param group the entries that are your own"
        )
    lr, momentum, dampening, weight_decay = map(number, (lr, momentum, dampening, weight_decay))
    α = as_schedule("lr", lr, "[0, inf)")
    μ = as_schedule("momentum", momentum, hyperparameters.interval_of("beta"))
    τ = as_schedule("dampening", dampening, "(-inf, inf)")
    λ = as_schedule("weight_decay", weight_decay)
    undamped = not callable(dampening) and arithmetic.is_zero(τ(0))
    still = not callable(momentum) and arithmetic.is_zero(μ(0))
    if as_flag("nesterov", nesterov) and (still or not undamped):
        raise ValueError(
            f"nesterov needs momentum above 0 and dampening 0, got momentum={momentum} and "
            f"dampening={dampening}"
        )

    # While μ is 0, PyTorch neither reads nor writes its buffer.
    def gradient_weight(t):
        return 1.0 if nesterov else _select(μ(t) == 0, 1.0, 0.0)

    def velocity_weight(t):
        return μ(t) if nesterov else _select(μ(t) == 0, 0.0, 1.0)

    def beta(t):
        return _select(μ(t) == 0, 1.0, μ(t))

    def gain(t):
        return _select(μ(t) == 0, 0.0, 1 - τ(t))

    def first_gain(t):
        return _select(μ(t) == 0, 0.0, 1.0)

    coefficients = (gradient_weight, velocity_weight, beta, gain)
    if undamped:
        method = linear(*coefficients, shift=velocity_weight if nesterov else 0.0)
    else:
        method = _damped(*coefficients, first_gain)
    return sgd(α, method, weight_decay=λ, maximize=maximize)
