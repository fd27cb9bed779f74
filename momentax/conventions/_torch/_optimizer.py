"""The optimizer of PyTorch: SGD, step for step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from momentax._core import arithmetic, trees
from momentax._core.arguments import ANY_REAL, as_flag
from momentax._core.hyperparameters import (
    as_schedule,
    concrete_value,
    first_count,
    is_always_zero,
    with_interval,
)
from momentax._core.transformations import method
from momentax._core.typing import PyTree, ScalarOrSchedule, Schedule
from momentax._methods._linear import linear
from momentax._sgd import sgd
from momentax.conventions._arrays import as_number

# The entries of a param group that do not change any step.
BOOKKEEPING = {
    *("params", "param_names", "foreach", "differentiable", "fused"),
    *("initial_lr", "swa_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"),
}


class DampedState(NamedTuple):
    """The state of PyTorch's dampened velocity.

    count: updates made so far, a 0-d int32 array.
    velocity: v, shaped like the parameters, in float32 or wider.
    started: whether PyTorch would have a buffer by now, a 0-d bool for each parameter.
    """

    count: Any
    velocity: PyTree
    started: PyTree

    restarts_with_velocity = ("started",)
    sums_gradients = True
    shift = 0.0


class _Coefficients(NamedTuple):
    """The coefficients of the kernel that make PyTorch's step, each a schedule.

    While μ is 0, PyTorch neither reads nor writes its buffer: the velocity keeps
    its value and the direction is the gradient.
    """

    μ: Schedule
    τ: Schedule
    nesterov: bool

    def gradient_weight(self, t: Any) -> Any:
        return 1.0 if self.nesterov else _select(self.μ(t) == 0, 1.0, 0.0)

    def velocity_weight(self, t: Any) -> Any:
        return self.μ(t) if self.nesterov else _select(self.μ(t) == 0, 0.0, 1.0)

    def beta(self, t: Any) -> Any:
        μ = self.μ(t)
        return _select(μ == 0, 1.0, μ)

    def gain(self, t: Any) -> Any:
        return _select(self.μ(t) == 0, 0.0, 1 - self.τ(t))

    def first_gain(self, t: Any) -> Any:
        return _select(self.μ(t) == 0, 0.0, 1.0)


def _select(condition: Any, yes: Any, no: Any) -> Any:
    """Return one of two coefficients, in Python if the condition is known while tracing."""
    if isinstance(condition, jax.Array):
        return jnp.where(condition, yes, no)
    return yes if condition else no


def _dampened_kernel(c: _Coefficients) -> optax.GradientTransformationExtraArgs:
    """Build the kernel in which the first gradient of each parameter is not dampened."""

    def init(params):
        zeros = arithmetic.zeros_like(params)
        started = jax.tree.map(lambda _: jnp.zeros((), bool), zeros)
        return DampedState(first_count(c.μ, c.τ), zeros, started)

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        t, v, started = state
        trees.require_gradients(updates, v)
        first = arithmetic.combine((c.first_gain(t), updates), like=v)
        later = arithmetic.combine((c.beta(t), v), (c.gain(t), updates), like=v)
        v = jax.tree.map(jnp.where, started, later, first)
        d = arithmetic.combine(
            (c.gradient_weight(t), updates), (c.velocity_weight(t), v), like=updates
        )
        writes = jnp.asarray(c.first_gain(t) != 0)
        started = jax.tree.map(
            lambda before, g: before if g is None else before | writes,
            *(started, updates),
            is_leaf=trees.is_none,
        )
        return d, DampedState(optax.safe_increment(t), v, started)

    return method(init, update, DampedState)


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
    """Build the optimizer that makes the steps of `torch.optim.SGD`.

        g_t = ±∇f(θ_{t-1}) + λ θ_{t-1}
        v_t = μ_t v_{t-1} + (1 - τ_t) g_t,    the first v = the first g
        d_t = v_t, or g_t + μ_t v_t with nesterov
        θ_t = θ_{t-1} - α_t d_t

    All rules of PyTorch hold. The first gradient of a parameter is not dampened,
    at whichever step it arrives. While μ_t is 0, the velocity keeps its value
    and the direction is the gradient. Nesterov uses μ_t twice, whereas
    `momentax.nesterov` uses the next step's β for the velocity. Decay is
    coupled, and maximize negates only the gradient.

    A param group of `optimizer.state_dict()` is accepted as it is, as
    `from_torch(**group)`, or as `from_torch(**group | {"lr": schedule})` if a
    scheduler changed its lr. For several groups, combine one optimizer for each
    with `optax.partition`.

    Args:
        lr: α in [0, inf), as PyTorch's scheduler sets it for each step.
        momentum: μ in [0, 1).
        dampening: τ, any real number; if it is not 0, the state has one bool for
            each parameter beside its velocity.
        weight_decay: λ in [0, inf); if it is not 0, `update` needs `params`.
        nesterov: Whether to look ahead; it needs momentum above 0 and no dampening.
        maximize: Whether to ascend.
        **bookkeeping: The other entries of a param group (`params`, `foreach`,
            `initial_lr`, ...), which do not change any step.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, as
        `momentax.sgd` returns it. Complex gradients are to be PyTorch's, which
        are the conjugates of those that `jax.grad` returns.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, or
            nesterov is set without momentum or with dampening.
        TypeError: torch.optim.SGD has no such argument, or a flag is not a bool.

    Example:
        >>> tx = momentax.conventions.from_torch(lr=0.1, momentum=0.9, nesterov=True)
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        torch.optim.SGD of PyTorch 2.13.
    """
    if unknown := sorted(set(bookkeeping) - BOOKKEEPING):
        raise TypeError(
            f"from_torch has no argument {unknown[0]!r}, and neither has torch.optim.SGD; remove "
            "entries of your own from a param group before you pass it"
        )
    lr, momentum, dampening, weight_decay = map(as_number, (lr, momentum, dampening, weight_decay))
    α = as_schedule("lr", lr, "[0, inf)")
    μ = as_schedule("momentum", momentum)
    τ = as_schedule("dampening", dampening, ANY_REAL)
    λ = as_schedule("weight_decay", weight_decay)
    nesterov = as_flag("nesterov", nesterov)
    # The number is unknown where JAX traces it, as under optax.inject_hyperparams.
    damped = callable(dampening) or concrete_value(dampening) not in (0, None)
    if nesterov and (damped or (not callable(momentum) and concrete_value(momentum) == 0)):
        raise ValueError(
            f"nesterov needs momentum above 0 and dampening 0, got momentum={momentum} and "
            f"dampening={dampening}"
        )
    c = _Coefficients(μ, τ, nesterov)
    if nesterov or is_always_zero(dampening):
        shift = c.velocity_weight if nesterov else 0.0
        β = with_interval("[0, inf)", c.beta)  # It is 1 while μ is 0.
        kernel = linear(c.gradient_weight, c.velocity_weight, β, c.gain, shift=shift)
    else:
        kernel = _dampened_kernel(c)
    return sgd(α, kernel, weight_decay=λ, maximize=maximize)
