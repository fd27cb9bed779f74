"""The optimizer of Keras: SGD, step for step."""

from __future__ import annotations

from typing import Any

import jax
import optax

from momentax._core import arguments, arithmetic
from momentax._core.arguments import as_flag
from momentax._core.hyperparameters import as_schedule
from momentax._core.typing import ScalarOrSchedule
from momentax._methods._linear import linear
from momentax._sgd import sgd
from momentax.conventions._arrays import as_number

# Options that from_keras refuses, each with what has the same effect in Optax.
_ALTERNATIVES = {
    "use_ema": "average the parameters with optax.incremental_update after each update",
    "loss_scale_factor": "divide the gradients by it before the update",
    "gradient_accumulation_steps": "wrap the optimizer in optax.MultiSteps",
}
# Options without effect: a name, and two that Keras reads only with use_ema.
_WITHOUT_EFFECT = {"name", "ema_momentum", "ema_overwrite_frequency"}


def _clip_by_leaf_norm(limit: float) -> optax.GradientTransformation:
    """Scale each leaf to a norm of at most the limit."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: arithmetic.limit_norm(g, limit), updates)
    )


def _clip_by_tree_norm(limit: float) -> optax.GradientTransformation:
    """Scale the whole tree to a norm of at most the limit."""
    return optax.stateless(lambda updates, _: arithmetic.limit_norm(updates, limit))


# Keras's limits on the gradient, each with the transformation that imposes it.
_CLIPS = {
    "clipnorm": _clip_by_leaf_norm,
    "clipvalue": optax.clip,
    "global_clipnorm": _clip_by_tree_norm,
}


def _clip(**limits: float | None) -> list[optax.GradientTransformation]:
    """Return the transformation that imposes the limit, or none where there is no limit."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if len(given) > 1:
        raise ValueError(f"only one limit on the gradient can be set, got {' and '.join(given)}")
    checked = {name: arguments.as_real(name, limit, "[0, inf)") for name, limit in given.items()}
    return [_CLIPS[name](limit) for name, limit in checked.items() if limit]


def _require_reproducible(config: dict[str, Any]) -> None:
    """Refuse options that Keras does not have, and those that from_keras does not reproduce."""
    for name, value in config.items():
        is_off = value is None or (isinstance(value, bool | int | float) and not value)
        if name in _ALTERNATIVES and not is_off:
            raise ValueError(
                f"{name}={arguments.describe(value)} is not reproduced; {_ALTERNATIVES[name]}"
            )
        if name not in _ALTERNATIVES and name not in _WITHOUT_EFFECT:
            raise TypeError(
                f"from_keras has no argument {name!r}, and neither has keras.optimizers.SGD"
            )


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
    """Build the optimizer that makes the steps of `keras.optimizers.SGD`.

        v_t = m v_{t-1} - α_t g_t,    v_0 = 0
        θ_t = (1 - α_t λ) θ_{t-1} + v_t, or + m v_t - α_t g_t with nesterov

    The velocity is in units of the parameters: each gradient keeps the learning
    rate of its own step. Decay is decoupled. `from_keras(**optimizer.get_config())`
    works if the learning rate is a number.

    Args:
        learning_rate: α in [0, inf), or a schedule of Keras's iteration.
        momentum: m in [0, 1); Nesterov uses a scheduled m_t twice.
        nesterov: Whether to look ahead.
        weight_decay: λ in [0, inf), or None; if it is not 0, `update` needs `params`.
        clipnorm: The largest norm of each parameter's gradient. There is no
            limit if it is None, or 0, as in Keras.
        clipvalue: The largest absolute value of a gradient's entries.
        global_clipnorm: The largest norm of all gradients together.
        **config: The other entries of Keras's config. They must have their
            default values, except the name.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, as
        `momentax.sgd` returns it with `velocity_units="parameter"`.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval, more
            than one limit is given, or an option is not reproduced.
        TypeError: keras.optimizers.SGD has no such argument, or nesterov is not
            a bool.

    Example:
        >>> tx = momentax.conventions.from_keras(0.1, momentum=0.9, clipnorm=1.0)
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        keras.optimizers.SGD of Keras 3.15.
    """
    _require_reproducible(config)
    α = as_schedule("learning_rate", as_number(learning_rate), "[0, inf)")
    m = as_schedule("momentum", momentum)
    clips = _clip(clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
    if as_flag("nesterov", nesterov):
        method = linear(gradient_weight=1.0, velocity_weight=m, beta=m, shift=m)
    else:
        method = linear(gradient_weight=0.0, velocity_weight=1.0, beta=m)
    λ = 0.0 if weight_decay is None else weight_decay
    tx = sgd(α, method, velocity_units="parameter", weight_decay=λ, decoupled=True)
    return optax.chain(*clips, tx) if clips else tx
