"""Keras's SGD, step for step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax._core import arguments, arithmetic, hyperparameters
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import PyTree, ScalarOrSchedule
from momentax._methods._linear import linear
from momentax._sgd import sgd
from momentax.conventions._mapping import number

# What from_keras refuses, and what does the same in Optax.
_REFUSED = {
    "use_ema": "keep optax.params_ema's average beside the optimizer",
    "loss_scale_factor": "divide the gradients by it before the update",
    "gradient_accumulation_steps": "wrap the optimizer in optax.MultiSteps",
}
_IDLE = {"name", "ema_momentum", "ema_overwrite_frequency"}  # Without use_ema the last two rest.


def _clip_each(limit: Any) -> optax.GradientTransformation:
    """Shrink each leaf to a norm of at most the limit: g ← c g / max(‖g‖, c)."""

    def clip(g: Any) -> Any:
        factor = limit / jnp.maximum(arithmetic.norm(g), limit)
        return arithmetic.combine((factor, g), like=g)

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates))


def _scaled_to(limit: Any) -> optax.GradientTransformation:
    """Shrink the whole tree to a norm of at most the limit."""

    def clip(updates: PyTree, _: Any) -> PyTree:
        factor = limit / jnp.maximum(arithmetic.norm(updates), limit)
        return arithmetic.combine((factor, updates), like=updates)

    return optax.stateless(clip)


def from_keras(
    learning_rate: ScalarOrSchedule = 0.01,
    momentum: ScalarOrSchedule = 0.0,
    nesterov: bool = False,
    weight_decay: ScalarOrSchedule | None = None,
    *,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
    **config: Any,
) -> optax.GradientTransformationExtraArgs:
    """Build the optimizer that steps as `keras.optimizers.SGD` does.

        v_t = m v_{t-1} - α_t g_t,    v_0 = 0
        θ_t = (1 - α_t λ) θ_{t-1} + v_t, or + m v_t - α_t g_t with nesterov

    The velocity is in units of the parameters: each gradient keeps the learning
    rate of its own step. Decay is decoupled. `from_keras(**optimizer.get_config())`
    works where the learning rate is a number.

    Args:
        learning_rate: α in [0, inf), or a schedule of Keras's iteration.
        momentum: m in [0, 1); of a schedule, m_t twice.
        nesterov: Whether to look ahead.
        weight_decay: λ in [0, inf), or None; other than 0 it needs `params`.
        clipnorm: The largest norm of each parameter's gradient; None, and in
            Keras 0, is no limit.
        clipvalue: The largest absolute value of a gradient's entries.
        global_clipnorm: The largest norm of all gradients together.
        **config: The other entries of Keras's config. They must stand at their
            defaults, but for the name.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, as
        of `momentax.sgd` with `velocity_units="parameter"`.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, more
            than one limit is given, or an option that is not reproduced.
        TypeError: An argument is none of keras.optimizers.SGD's, or nesterov no
            bool.

    Source:
        keras.optimizers.SGD of Keras 3.15.
    """
    for name, value in config.items():
        if name not in _REFUSED | dict.fromkeys(_IDLE):
            raise TypeError(f"from_keras has no argument {name!r}, nor has keras.optimizers.SGD")
        if name in _REFUSED and value not in (None, False):
            raise ValueError(f"{name}={value!r} is not reproduced; {_REFUSED[name]}")
    α = as_schedule("learning_rate", number(learning_rate), "[0, inf)")
    m = as_schedule("momentum", momentum, hyperparameters.interval_of("beta"))
    limits = {
        "clipnorm": (clipnorm, _clip_each),
        "clipvalue": (clipvalue, optax.clip),
        "global_clipnorm": (global_clipnorm, _scaled_to),
    }
    given = {name: limit for name, (limit, _) in limits.items() if limit is not None}
    if len(given) > 1:
        raise ValueError(f"only one limit on the gradient can be set, got {given}")
    clips = []
    for name, limit in given.items():
        limit = arguments.as_real(name, limit, "[0, inf)")
        clips += [limits[name][1](limit)] if limit else []
    if as_flag("nesterov", nesterov):
        method = linear(gradient_weight=1.0, velocity_weight=m, beta=m, shift=m)
    else:
        method = linear(gradient_weight=0.0, velocity_weight=1.0, beta=m)
    λ = 0.0 if weight_decay is None else weight_decay
    tx = sgd(α, method, velocity_units="parameter", weight_decay=λ, decoupled=True)
    return optax.chain(*clips, tx) if clips else tx
