"""The states of Optax's optimizers with momentum, in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.typing import PyTree
from momentax._state import _flax, _velocity
from momentax.conventions._optax._places import Place, Side, pairs_of, places_of
from momentax.conventions._transfer import counts_of, set_counts

# Measuring a transformation on parameters of one entry each.

_PROBE = 2.0**-20  # A gradient that no clipping changes.


def _tiny(params: PyTree) -> PyTree:
    """Return zeros with the structure, axes and dtypes of parameters, one entry for each leaf."""

    def zero(leaf: Any) -> Any:
        if not trees.is_array(leaf):
            return leaf
        return jnp.zeros((1,) * np.ndim(leaf), jnp.result_type(leaf))

    return jax.tree.map(zero, params)


def _run_without_gradients(tx: optax.GradientTransformation, params: PyTree, count: int) -> PyTree:
    """Return the state of a transformation after some updates with gradients of 0.

    The sums of weights in it, which do not depend on gradients, are those of any run.
    """
    update, tiny = optax.with_extra_args_support(tx).update, _tiny(params)

    def step(_: Any, state: PyTree) -> PyTree:
        return update(tiny, state, tiny)[1]

    return jax.lax.fori_loop(0, count, step, tx.init(tiny))


def _gains(
    tx: optax.GradientTransformation, params: PyTree, count: int, optax_places: Sequence[Place]
) -> list[float]:
    """Return for each velocity of a transformation the factor to the velocity of Optax's.

    `optax.trace` adds gradients as they are, and each gradient enters the averages of Optax with
    the weight 1 - β. The factor is 0 where an update does not use its gradient.
    """
    update, tiny = optax.with_extra_args_support(tx).update, _tiny(params)
    probe = jax.tree.map(lambda leaf: jnp.full_like(leaf, _PROBE), trees.only_arrays(tiny))
    before = set_counts(tx.init(tiny), count)
    first = set_counts(update(probe, before, tiny)[1], count)
    second = update(jax.tree.map(jnp.zeros_like, probe), first, tiny)[1]
    gains = []
    for theirs, *own in zip(optax_places, places_of(first), places_of(second), strict=True):
        v, kept = map(_first_entry, own)
        is_sum = theirs.kind.recurrence == "sum"
        gains.append(v / _PROBE / (1.0 if is_sum or v == 0 else 1.0 - kept / v))
    return gains


def _first_entry(place: Place) -> float:
    velocity = getattr(place.node, place.kind.velocity)
    return float(np.real(np.asarray(jax.tree.leaves(velocity)[0]).ravel()[0]))


def _require_units(
    tx: optax.GradientTransformation, params: PyTree, count: int, optax_places: Sequence[Place]
) -> None:
    """Refuse a transformation whose velocity is not in the units of Optax's."""
    for gain in _gains(tx, params, count, optax_places):
        if gain == 0:
            raise ValueError(
                "tx must use the gradient of each update, got one that does not, such as "
                "optax.MultiSteps: give scale=1 if its velocity is in the units of Optax's"
            )
        if not abs(gain - 1) < 0.02:  # Storages round.
            raise ValueError(
                "the velocity of tx must be in the units of Optax's, got one that is "
                f"{gain:.4g} times as large, as when the learning rate multiplies the gradients "
                f"first or the method has another gain: give scale={gain:.6g}"
            )


# Moving velocities.


def _put(new: PyTree, old: PyTree, argument: str, scale: float) -> PyTree:
    """Return a tree, times a scale, in the containers and dtypes of another one."""
    plain, own = _flax.unwrap(new), _flax.unwrap(old)
    remedy = "give the params that both states belong to, and masks that leave out the same ones"
    trees.require_fit(argument, plain, "params", own, remedy, none_fits=False)
    if scale != 1:
        plain = arithmetic.combine((scale, plain), like=plain)
    return _flax.wrap_like(jax.tree.map(arithmetic.cast_like, plain, own), old)


def _weights(node: Any) -> dict[str, Any]:
    """Return the 0-d arrays of a state besides its count: sums of weights, a shift."""
    fields = (name for name in node._fields if name != "count")
    return {
        name: x for name in fields if isinstance(x := getattr(node, name), jax.Array) and not x.ndim
    }


def _fill(
    state: PyTree, pair: tuple[Place, Place], weights: dict[str, Any], argument: str, scale: float
) -> PyTree:
    """Return the state with one velocity, and what belongs to it, from another state."""
    source, target = pair
    kinds = source.kind, target.kind

    def fill(node: Any, field: str) -> Any:
        del field
        fields = dict(weights)
        for role, power in (("velocity", 1), ("squares", 2)):
            theirs, own = (getattr(kind, role) for kind in kinds)
            if own is not None:
                where = f"the {role} of {argument}"
                old, new = getattr(node, own), getattr(source.node, theirs)
                fields[own] = _put(new, old, where, scale**power)
        return node._replace(**fields)

    return _velocity.map_node(state, target.path, fill)


def _steps_made(argument: str, state: PyTree, count: int | None) -> int:
    """Return the number of steps that a state has made."""
    if count is not None:
        return arguments.as_count("count", count, least=0)
    found = counts_of(state)
    if len(found) > 1:
        raise ValueError(
            f"{argument} must have one count of steps, got the counts "
            f"{', '.join(map(str, found))}: give the number of steps made as count"
        )
    return found[0] if found else 0


def _as_scale(scale: float | None) -> float:
    value = 1.0 if scale is None else arguments.as_real("scale", scale, arguments.ANY_REAL)
    if value == 0:
        raise ValueError("scale must not be 0, or the velocity could not be converted back")
    return value


def _init(name: str, tx: optax.GradientTransformation, params: PyTree) -> PyTree:
    arguments.require_transformation(name, tx)
    if _velocity.velocities(params):
        raise TypeError("params must be the parameters, got a state")
    leaves = jax.tree.leaves(_flax.unwrap(params))
    if not any(arguments.is_a(jnp.inexact, leaf) for leaf in leaves):
        raise TypeError(
            "params must hold floating or complex arrays, the parameters of both states, got "
            f"{arguments.describe(params)}"
        )
    return tx.init(params)


def import_optax_state(
    optax_state: PyTree,
    params: PyTree,
    tx: optax.GradientTransformation,
    *,
    count: int | None = None,
    scale: float | None = None,
) -> PyTree:
    """Make the state with which an optimizer of momentax continues a run of Optax.

    The velocity v, the second moment s and the count of tx come from Optax's velocity m, second
    moment n and count, with a factor c that is 1 unless `scale` says otherwise:

        of Optax               v        s         continues in
        trace, sgd             c m                heavy_ball, nesterov
        ema                    c m                average, with the same debias
        adam, adamw            c m      c² n      quasi_hyperbolic_adam with ν1 = ν2 = 1
        nadam, nadamw          c m      c² n      nadam
        lion                   c m                lion

    The sums of weights that debias a velocity are those of tx after as many steps. Everything else
    starts anew: accumulated gradients, averages of parameters and the hyperparameters of
    `optax.inject_hyperparams`. A velocity of any other transformation is refused.

    Neither state holds its hyperparameters, so give tx the same ones. `optax.adam` continues
    exactly with the same β1, β2 and ε. The weight of the velocity in `optax.nadam` is constant: it
    continues in `nadam` with a large ψ such as 1e6. The state of `optax.ema` does not say whether
    the average is debiased either: with debias=False it continues in `average(debias=False)`. In
    `average()` its first directions would be larger, by 1 / (1 - βᵗ) at step t.

    Args:
        optax_state: The state of Optax, at any depth: in `chain`, `masked`, `inject_hyperparams`,
            `partition`, `nnx.Optimizer` and so on. Several velocities move in their order.
        params: The parameters that both states belong to.
        tx: The optimizer of momentax that continues, with the same hyperparameters.
        count: The number of steps made so far, at least 0, from which schedules continue. None is
            the count in optax_state, and 0 where it has none, as in `optax.sgd` with a constant
            learning rate.
        scale: c, other than 0. None is 1, and then a velocity of tx in other units is refused.
            With `velocity_units="parameter"` c = -α, and in `quasi_hyperbolic` c = 1 - β.

    Returns:
        The state of tx. Numbers are rounded to the dtypes that tx keeps them in.

    Raises:
        ValueError: optax_state has no velocity or one without a counterpart, tx keeps the state of
            another recurrence or velocity in other units, params fit neither, or there are several
            counts.
        TypeError: optax_state is not a state, or tx is not a gradient transformation.

    Example:
        >>> theirs = optax.sgd(0.1, momentum=0.9).init(params)
        >>> tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
        >>> state = momentax.conventions.import_optax_state(theirs, params, tx)
    """
    source = Side.of("optax_state", optax_state, of_optax=True)
    state = _init("tx", tx, params)
    pairs = pairs_of(source, Side.of("tx", state, of_optax=False))
    steps, factor = _steps_made("optax_state", optax_state, count), _as_scale(scale)
    if scale is None:
        _require_units(tx, params, steps, source.places)
    state, run = set_counts(state, steps), None
    for pair in pairs:
        path, weights = pair[1].path, {}
        if _weights(pair[1].node):
            run = _run_without_gradients(tx, params, steps) if run is None else run
            node = _velocity.velocity_node(run, path)
            if int(node.count) != steps:
                raise ValueError(
                    f"tx must make a step with each update, got one that makes {int(node.count)} "
                    f"in {steps} updates, such as optax.MultiSteps: import the state of the "
                    "optimizer in it, and put that into the state of tx"
                )
            weights = _weights(node)
        state = _fill(state, pair, weights, "optax_state", factor)
    return state


def export_optax_state(
    params: PyTree,
    state: PyTree,
    tx: optax.GradientTransformation,
    optax_tx: optax.GradientTransformation,
    *,
    count: int | None = None,
    scale: float | None = None,
) -> PyTree:
    """Make the state with which an optimizer of Optax continues a run of momentax.

        m = v / c,    n = s / c²

    m and n are the velocity and the second moment of Optax, v and s those of momentax.

    Args:
        params: The parameters that both states belong to.
        state: The state of tx. The classes that can move are those of `import_optax_state`.
        tx: The optimizer of momentax that has made the state.
        optax_tx: The optimizer of Optax that continues, with the same hyperparameters.
        count: The number of steps made so far, at least 0. None is the count in state.
        scale: c, as in `import_optax_state`.

    Returns:
        The state of optax_tx. Numbers are rounded to the dtypes that it keeps them in, which for
        `optax.sgd` are those of the parameters.

    Raises:
        ValueError: As `import_optax_state`.
        TypeError: As `import_optax_state`.

    Example:
        >>> tx = momentax.sgd(0.1, momentax.nesterov(0.9))
        >>> theirs = optax.sgd(0.1, momentum=0.9, nesterov=True)
        >>> moved = momentax.conventions.export_optax_state(params, tx.init(params), tx, theirs)
    """
    source = Side.of("state", state, of_optax=False)
    arguments.require_transformation("tx", tx)
    new = _init("optax_tx", optax_tx, params)
    target = Side.of("optax_tx", new, of_optax=True)
    pairs = pairs_of(source, target)
    steps, factor = _steps_made("state", state, count), _as_scale(scale)
    if scale is None:
        _require_units(tx, params, steps, target.places)
    new = set_counts(new, steps)
    for pair in pairs:
        new = _fill(new, pair, {}, "state", 1 / factor)
    return new
