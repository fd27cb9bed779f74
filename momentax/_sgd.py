"""The complete optimizer: a method between weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.hyperparameters import as_constant, as_schedule, first_count
from momentax._core.keywords import explain_keywords, source_of, suggest_synonym
from momentax._core.transformations import Method, describe_state, transformation
from momentax._core.typing import PyTree, Scalar, ScalarOrSchedule, Schedule
from momentax._methods._heavy_ball import heavy_ball
from momentax._wrappers import _direction


class DecayState(NamedTuple):
    """The state of weight decay.

    schedule_count: updates made so far, a 0-d int32 array. The name differs from that of the
        count of a method, so that `optax.tree_utils.tree_get(state, "count")` finds one count.
    """

    schedule_count: Any


class ScaleState(NamedTuple):
    """The state of the scaling by the learning rate.

    schedule_count: updates made so far, a 0-d int32 array, as in DecayState.

    `scales_by_learning_rate` tells the functions that read a state where the learning rate is
    applied.
    """

    schedule_count: Any

    scales_by_learning_rate = True


class _DefaultMethod(Method):
    """Heavy ball, which the signature of `sgd` prints as it is written."""

    def __repr__(self) -> str:
        return "heavy_ball()"


_HEAVY_BALL = _DefaultMethod(*heavy_ball())


def _with_count(
    step: Callable[[PyTree, Any, PyTree], PyTree], state_type: Any, name: str, schedule: Schedule
) -> optax.GradientTransformationExtraArgs:
    """Return the transformation step(updates, count, params), whose state is its count.

    The first value of the schedule is checked by `init`. Its name is that of a hyperparameter.
    """

    def init(params):
        del params
        return state_type(first_count(schedule))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        updates = step(updates, state.schedule_count, params)
        return updates, state_type(optax.safe_increment(state.schedule_count))

    return transformation(init, update, state_type, reads={name: schedule})


def _stateless(
    step: Callable[[PyTree, PyTree], PyTree],
) -> optax.GradientTransformationExtraArgs:
    """Return the transformation step(updates, params).

    The state of `optax.stateless` is a NamedTuple, which `jax.export` does not serialize.
    """

    def init(params: PyTree) -> Any:
        del params
        return ()

    def update(updates, state, params=None, **extra_args):
        del extra_args
        return step(updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _descend(rate: Schedule) -> optax.GradientTransformationExtraArgs:
    """Scale updates by the learning rate, kept in float32 or wider: u ← -α_t u."""
    return _with_count(
        lambda u, t, _: arithmetic.combine((-rate(t), u), like=u),
        ScaleState,
        "learning_rate",
        rate,
    )


def _decay(
    weight: Schedule,
    mask: PyTree | Callable[[PyTree], PyTree] | None,
    factor: Schedule = lambda _: 1.0,
    along: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Add decay where the mask is True and the gradient is not None: u ← u + c_t λ_t θ.

    If `along` is 1 or -1, entries decay only where `along` times u does not oppose θ.
    """

    def step(u: PyTree, t: Any, params: PyTree) -> PyTree:
        if arithmetic.is_zero(weight(t)) or not jax.tree.leaves(u):
            return u
        if params is None:
            raise ValueError("weight_decay needs the parameters: call update(grads, state, params)")
        trees.require_params(u, params)
        kept = trees.as_mask("mask", mask, params)
        decayed = jax.tree.map(lambda keep, leaf: leaf if keep else None, kept, params)
        if along:
            decayed = _only_where_agreeing(along, u, decayed)
        return arithmetic.combine((1.0, u), (factor(t) * weight(t), decayed), like=u)

    return _with_count(step, DecayState, "weight_decay", weight)


def _only_where_agreeing(along: float, updates: PyTree, params: PyTree) -> PyTree:
    """Return parameters with 0 for each entry that an update, times ±1, makes larger."""

    def select(u: Any, x: Any) -> Any:
        if u is None or x is None:
            return None
        dtype = arithmetic.compute_dtype(u, x)
        # A product of signs does not underflow, as a product of u and x may.
        signs = (jnp.sign(jnp.asarray(each, dtype)) for each in (u, x))
        product = along * jnp.real(jnp.conj(next(signs)) * next(signs))
        return jnp.where(product >= 0, x, 0)

    return jax.tree.map(select, updates, params, is_leaf=trees.is_none)


def _over_peak(λ: Schedule, α: Schedule, peak: Schedule) -> Schedule:
    """Return the decay in proportion to the learning rate, which is λ at its peak."""

    def following(count: Any) -> Any:
        ratio = α(count) / peak(count)
        if not arguments.is_traced(ratio) and ratio > 1 + 1e-5:  # Schedules round their peak.
            raise ValueError(
                "peak_learning_rate must be the largest value of learning_rate, got "
                f"{float(peak(count)):.6g} and a learning rate of {float(α(count)):.6g}"
            )
        return λ(count) * ratio

    return following


def _fill_with_zeros(updates: PyTree, params: PyTree) -> PyTree:
    """Return zeros for parameters without a gradient, since `optax.apply_updates` needs them.

    A parameter that is no array, such as a function in a module of Equinox, has none.
    """
    if params is None:
        return updates
    trees.require_params(updates, params)
    return jax.tree.map(
        lambda u, leaf: arithmetic.zero_update(leaf) if u is None and leaf is not None else u,
        updates,
        params,
        is_leaf=trees.is_none,
    )


def _require_method(method: Any) -> None:
    """Refuse what is not a gradient transformation, and say what to write instead."""
    if isinstance(method, str):
        remedy = "one such as momentax.nesterov(0.9)"
        if name := _METHODS_BY_NAME.get(method):
            remedy = f"momentax.sgd(0.1, momentax.{name}(0.9))"
    elif isinstance(method, int | float) and not isinstance(method, bool):
        remedy = f"momentax.sgd(0.1, momentax.heavy_ball({method if 0 <= method < 1 else 0.9}))"
    elif method is sgd or getattr(method, "__module__", None) == "optax._src.alias":
        remedy = "momentax.heavy_ball(0.9) or another method, or use that optimizer without sgd"
    else:
        arguments.require_transformation("method", method, example="momentax.heavy_ball(0.9)")
        return
    raise TypeError(
        f"method must be a gradient transformation, got {arguments.describe(method)}; "
        f"write {remedy}"
    )


def _require_directions(
    method: optax.GradientTransformation, params: PyTree, *, start_devices: bool = True
) -> None:
    """Refuse a complete optimizer in the place of a method, if this can be found out."""
    if isinstance(method, Method):
        return
    opposed = _direction.opposed_parameter(method, params, start_devices=start_devices)
    if opposed is None and not _direction.scales_by_learning_rate(method, params):
        return
    at = "" if opposed in (None, "the root") else f" of the parameter at {opposed}"
    raise ValueError(
        f"method must return directions, which follow the gradient, got one whose updates{at} "
        "already descend: it is a complete optimizer, and sgd would change the sign of its "
        "updates once more. Use the optimizer without sgd, or give its method alone, such as "
        "momentax.heavy_ball(0.9) in place of momentax.sgd(0.1), optax.trace(0.9) in place of "
        "optax.sgd(0.1, 0.9), or optax.scale_by_adam() in place of optax.adam(0.1); to ascend, "
        "give maximize=True"
    )


# What other libraries call the two methods of classical momentum.
_METHODS_BY_NAME = {
    "heavy_ball": "heavy_ball",
    "momentum": "heavy_ball",
    "nesterov": "nesterov",
    "nag": "nesterov",
}


def _suggest(sgd: Callable[..., Any], keyword: str, given: Mapping[str, Any]) -> str | None:
    """Say what to write in place of a keyword of other libraries."""
    rate = source_of(given.get("learning_rate", given.get("lr", 0.1)), "learning_rate")
    if keyword in ("momentum", "beta", "nesterov"):
        name = "nesterov" if given.get("nesterov", False) is not False else "heavy_ball"
        beta = source_of(given.get("momentum", given.get("beta", 0.9)), "beta")
        return f"momentum is a method: write momentax.sgd({rate}, momentax.{name}({beta}))"
    if keyword == "dampening":
        return f"write momentax.sgd({rate}, momentax.heavy_ball(0.9, dampening=...))"
    return suggest_synonym(sgd, keyword, given)


@explain_keywords(_suggest)
def sgd(
    learning_rate: ScalarOrSchedule,
    method: optax.GradientTransformation = _HEAVY_BALL,
    *,
    velocity_units: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    decoupled: bool = False,
    decay: str = "uniform",
    peak_learning_rate: Scalar | None = None,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Descend along the directions of a method: the complete optimizer.

        velocity_units="gradient":     d_t = method(g_t),         θ_t = θ_{t-1} - α_t d_t
        velocity_units="parameter":    u_t = method(-α_t g_t),    θ_t = θ_{t-1} + u_t

    Coupled weight decay replaces g_t by g_t + λ θ_{t-1}, so that the decay enters
    the velocity (L2 regularization). Decoupled weight decay subtracts α_t λ θ_{t-1}
    from θ_t. With decay="cautious" entries decay only where the direction does not
    make them larger, and with peak_learning_rate=α_max the decay follows the
    learning rate (AdamC's rule):

        decay="cautious":         θ_t ← θ_t - α_t λ θ_{t-1} 1[d_t θ_{t-1} ≥ 0]
        peak_learning_rate:       λ ← λ α_t / α_max

    The two units agree for a constant learning rate and differ under a
    schedule. In gradient units (PyTorch, optax.sgd) the current learning rate
    multiplies all past gradients; in parameter units (Sutskever, Keras) the
    learning rate of each gradient's own step multiplies it.

    Args:
        learning_rate: α in [0, inf), in parameters per direction.
        method: The transformation of gradients into directions, which follow the
            gradient: a method of momentax, or one such as `optax.trace` or
            `optax.scale_by_adam`. A complete optimizer, such as `optax.adam`,
            already descends and is refused. One that is made with a traced
            hyperparameter, as `optax.adam(a)` under `jax.jit` of a, is not
            recognized.
        velocity_units: "gradient" or "parameter", what the velocity accumulates.
        weight_decay: λ in [0, inf), per step. Unless it is 0, update needs `params`.
        decoupled: Whether the decay bypasses the velocity.
        decay: "uniform", or "cautious", which needs decoupled=True. In parameter units
            the direction is -u_t. For complex parameters d θ is the real part of
            conj(d) θ. An entry whose product is 0 decays.
        peak_learning_rate: α_max in (0, inf), the largest value of the learning rate;
            None keeps λ. On weights that are followed by a normalization, decay in
            proportion to α makes the gradients grow while α falls; decay in
            proportion to α² does not.
        mask: The parameters that decay: a tree of bools, a prefix of one, or a
            function from the parameters to one. None means all parameters.
        maximize: Whether to ascend. Only the gradient changes its sign: decay
            still makes the parameters smaller.

    Returns:
        A transformation of gradients into updates for `optax.apply_updates`, of
        the shapes and dtypes of the gradients. Its state is a tuple, as that of
        `optax.chain`. If `params` are given, a parameter whose gradient is None
        gets a zero update and does not change, not even by decay.

    Raises:
        ValueError: A concrete hyperparameter lies outside its interval,
            velocity_units or decay is another word, decay is "cautious" without
            decoupled=True, the learning rate is found to be larger than its peak,
            or, here or at init, method is found to be a complete optimizer; at
            update, decay is used without `params`, or trees do not fit each other.
        TypeError: learning_rate is None, method is not a gradient
            transformation, or a flag is not a bool.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.nesterov(0.9))
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> params = optax.apply_updates(params, updates)

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013; decoupled decay: Loshchilov
        and Hutter, 2019, arXiv:1711.05101; cautious decay: 2025, arXiv:2510.12402;
        decay that follows the learning rate: Defazio, 2025, arXiv:2506.02285.
    """
    if isinstance(learning_rate, optax.GradientTransformation):
        raise TypeError(
            "learning_rate comes first and the method second: "
            "momentax.sgd(0.1, momentax.heavy_ball(0.9))"
        )
    α = as_schedule("learning_rate", learning_rate)
    λ = as_schedule("weight_decay", weight_decay)
    _require_method(method)
    arguments.as_option("velocity_units", velocity_units, ("gradient", "parameter"))
    arguments.as_flag("decoupled", decoupled)
    is_cautious = arguments.as_option("decay", decay, ("uniform", "cautious")) == "cautious"
    if is_cautious and not decoupled:
        raise ValueError(
            'decay="cautious" needs decoupled=True, got decoupled=False: coupled decay is a part '
            "of the gradient, so that there is no direction without it to compare with"
        )
    if peak_learning_rate is not None:
        peak = as_constant("peak_learning_rate", peak_learning_rate, "(0, inf)")
        λ = _over_peak(λ, α, peak)
        if not callable(learning_rate):
            λ(0)  # Raises if the learning rate is too large.
    trees.require_mask("mask", mask)
    negation = _stateless(lambda u, _: arithmetic.combine((-1.0, u), like=u))
    ascent = [negation] if arguments.as_flag("maximize", maximize) else []
    descent = _descend(α)
    if velocity_units == "gradient":
        shrink = _decay(λ, mask, along=float(is_cautious))
        parts = [method, shrink, descent] if decoupled else [shrink, method, descent]
    elif decoupled:
        shrink = _decay(λ, mask, factor=lambda t: -α(t), along=-float(is_cautious))
        parts = [descent, method, shrink]
    else:
        parts = [_decay(λ, mask), descent, method]
    _require_directions(method, np.ones((2, 2), np.float32), start_devices=False)
    return _chain(method, *ascent, *parts, _stateless(_fill_with_zeros))


def _chain(
    method: optax.GradientTransformation, *parts: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Chain the parts of an optimizer, and refuse the state of another one."""
    chained = optax.chain(*parts)

    def init(params):
        _require_directions(method, params)
        return chained.init(params)

    def update(updates, state, params=None, **extra_args):
        if type(state) is not tuple or len(state) != len(parts):
            raise TypeError(
                f"state must be the tuple of {len(parts)} states that init of this optimizer "
                f"returns, got {describe_state(state)}"
            )
        return chained.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)
