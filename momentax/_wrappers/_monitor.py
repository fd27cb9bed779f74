"""A monitor: readings of gradient, velocity and update, kept in the state of any transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic
from momentax._core.hyperparameters import float_dtype
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._state import _measures
from momentax._state._measures import Groups, Measure, Parts, parts_like
from momentax._state._names import leaf_names
from momentax._state._units import node_and_units
from momentax._state._velocity import velocities
from momentax._wrappers._parts import gradient_at_method
from momentax._wrappers._readings import COLUMNS, as_row


class MonitorState(NamedTuple):
    """The state of a monitored transformation; `momentax.measurements` reads it.

    monitor_count: the number of updates so far, a 0-d int32 array. The name differs from that of
        the count of a method, so that `optax.tree_utils.tree_get(state, "count")` finds one count.
    every: the number of updates from one reading to the next, a 0-d int32 array.
    latest: the latest readings, a row for each group of leaves and a column for each reading. The
        bits of the last column say which of them are known.
    latest_count: the count of the update of the latest readings, -1 before the first, a 0-d int32
        array.
    history: the last readings, of the shape (history, groups, columns). Reading number r, from 0,
        is in the place r modulo history.
    history_counts: the count of each of them, -1 in places not yet filled, int32.
    names: the names of the groups in UTF-8, a row of bytes for each, uint8. A byte of 0 separates
        parts of a name, and bytes of 255 fill the row.
    rows: the number of the group of each leaf of the parameters, int32.
    previous: what the next readings need of this update: for each leaf in "known" whether it had
        a gradient, and in "gradient" a sample of it. With curvature=True also "step", the update,
        and of each group "slope", the inner product of gradient and step, and "length", the norm
        of the step.
    inner_state: the state of tx.
    """

    monitor_count: Any
    every: jax.Array
    latest: jax.Array
    latest_count: jax.Array
    history: jax.Array
    history_counts: jax.Array
    names: jax.Array
    rows: jax.Array
    previous: dict[str, PyTree]
    inner_state: Any


class _Options(NamedTuple):
    every: int
    per: Any
    history: int
    curvature: bool

    def groups(self, state: MonitorState) -> Groups:
        """Return which leaves are measured together."""
        leaves, count = len(state.rows), len(state.latest)
        if self.per == "model":
            return Groups(np.zeros(leaves, np.int32), count)
        if self.per == "leaf":
            return Groups(np.arange(leaves), count)
        return Groups(state.rows, count)


class _Moment(NamedTuple):
    """What is measured at one update: of each leaf an array, or None where there is none.

    sums: whether each velocity is in gradient units, so that it is compared with the gradient.
    """

    gradient: Parts
    clipped: Parts
    velocity: Parts
    update: Parts
    parameter: Parts
    sums: list[bool]
    loss: Any


def monitor(
    tx: optax.GradientTransformation,
    *,
    every: int = 1,
    per: Any = "model",
    history: int = 0,
    curvature: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Measure what the velocity of any transformation does, without a change to its updates."""
    arguments.require_transformation("tx", tx)
    options = _Options(
        arguments.as_count("every", every),
        _as_per(per),
        arguments.as_count("history", history, least=0),
        arguments.as_flag("curvature", curvature),
    )
    tx = optax.with_extra_args_support(tx)

    def init(params):
        return _first_state(tx.init(params), params, options)

    def update(updates, state, params=None, **extra_args):
        u, inner = tx.update(updates, state.inner_state, params, **extra_args)
        moment = _moment(tx, updates, state, params, extra_args, u, inner)
        readings = _observe(moment, state, options)
        after = state._replace(
            monitor_count=optax.safe_increment(state.monitor_count),
            previous=_remember(moment, state, options),
            inner_state=inner,
            **readings,
        )
        return u, after

    return transformation(init, update, MonitorState)


def _as_per(per: Any) -> Any:
    """Return what is measured together: "model", "leaf", or labels of the parameters."""
    if isinstance(per, str):
        return arguments.as_option("per", per, ("model", "leaf"))
    if callable(per):
        arguments.require_function("per", per, "from params to a tree of labels", "params")
        return per
    leaves = jax.tree.leaves(per)
    if not leaves or not all(isinstance(label, str) for label in leaves):
        raise TypeError(
            'per must be "model", "leaf", a tree of strings that labels the parameters, or a '
            f"function from params to one, got {arguments.describe(per)}"
        )
    return per


# At init.


def _first_state(inner: Any, params: PyTree, options: _Options) -> MonitorState:
    arrays = _measurable(_fast(params))
    names, rows = _name_groups(arrays, options.per)
    groups, dtype = len(names), float_dtype()
    zeros = arithmetic.zeros_like(arrays)
    previous: dict[str, PyTree] = {
        "known": jnp.zeros(len(rows), jnp.bool_),
        "gradient": jax.tree.map(lambda leaf: _measures.sample(leaf), zeros),
    }
    if options.curvature:
        previous["step"] = zeros
        previous["slope"] = previous["length"] = jnp.zeros(groups, dtype)
    return MonitorState(
        jnp.zeros((), jnp.int32),
        jnp.asarray(options.every, jnp.int32),
        jnp.zeros((groups, COLUMNS), dtype),
        jnp.full((), -1, jnp.int32),
        jnp.zeros((options.history, groups, COLUMNS), dtype),
        jnp.full(options.history, -1, jnp.int32),
        _encode_names(names),
        jnp.asarray(rows, jnp.int32),
        previous,
        inner,
    )


def _fast(tree: PyTree) -> PyTree:
    """Return the parameters or updates that the gradient belongs to."""
    return tree.fast if isinstance(tree, optax.LookaheadParams) else tree


def _measurable(params: PyTree) -> PyTree:
    """Return parameters with None in place of each leaf that has no gradient."""
    return jax.tree.map(lambda leaf: leaf if arguments.is_a(jnp.inexact, leaf) else None, params)


def _name_groups(params: PyTree, per: Any) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Return the name of each group in parts, and the number of the group of each leaf."""
    leaves = leaf_names(params)
    if per == "model":
        return [()], np.zeros(len(leaves), np.int32)
    if per == "leaf":
        return leaves, np.arange(len(leaves), dtype=np.int32)
    labels = _labels_of(params, per)
    names = sorted(set(labels))
    return [(name,) for name in names], np.asarray([names.index(x) for x in labels], np.int32)


def _labels_of(params: PyTree, per: Any) -> list[str]:
    """Return the label of each leaf; a label of a subtree holds for all of its leaves."""
    prefix = per(params) if callable(per) else per

    def broadcast(label: Any, part: PyTree) -> PyTree:
        if not isinstance(label, str):
            raise TypeError(f"each label of per must be a string, got {arguments.describe(label)}")
        return jax.tree.map(lambda _: label, part)

    try:
        return jax.tree.leaves(jax.tree.map(broadcast, prefix, params))
    except ValueError as error:
        raise ValueError(
            f"per must be a tree of labels with the structure of params, or a prefix of it: {error}"
        ) from None


def _encode_names(names: list[tuple[str, ...]]) -> jax.Array:
    rows = [np.frombuffer("\0".join(parts).encode(), np.uint8) for parts in names]
    width = max(map(len, rows), default=0)
    padded = [np.pad(row, (0, width - len(row)), constant_values=255) for row in rows]
    return jnp.asarray(np.stack(padded) if padded else np.zeros((0, 0), np.uint8))


# At update.


def _moment(
    tx: optax.GradientTransformationExtraArgs,
    g: PyTree,
    state: MonitorState,
    params: PyTree,
    extra_args: dict[str, Any],
    u: PyTree,
    inner: Any,
) -> _Moment:
    like = state.previous["gradient"]
    clipped = gradient_at_method(tx.update, g, state.inner_state, params, extra_args)
    v, sums = _velocity_like(inner, like)
    none = [None] * len(v)
    return _Moment(
        parts_like(g, like),
        none if clipped is None else parts_like(clipped, like),
        v,
        parts_like(_fast(u), like),
        none if params is None else parts_like(_fast(params), like),
        sums,
        extra_args.get("value"),
    )


def _velocity_like(state: Any, like: PyTree) -> tuple[list[Any], list[bool]]:
    """Return the velocity of each leaf with the sign of the gradient, and whether it sums those.

    Where there are several, it is the first. Velocities that are stacked on leading axes are
    averaged. One in parameter units sums steps, so that its sign is changed.
    """
    leaves = jax.tree.leaves(like)
    found: list[Any] = [None] * len(leaves)
    sums = [True] * len(leaves)
    for path, v in velocities(state).items():
        in_gradients = node_and_units(state, path)[1] != "parameter"
        for i, (part, leaf) in enumerate(zip(parts_like(v, like), leaves, strict=True)):
            if found[i] is not None or part is None or jnp.ndim(part) < leaf.ndim:
                continue
            part = jnp.mean(part, tuple(range(jnp.ndim(part) - leaf.ndim)))
            found[i] = part if in_gradients else -part
            sums[i] = in_gradients
    return found, sums


def _observe(now: _Moment, state: MonitorState, options: _Options) -> dict[str, jax.Array]:
    """Return the fields of the state that hold the readings, after an update."""

    def take() -> dict[str, jax.Array]:
        groups = options.groups(state)
        row = as_row(_measure(now, state.previous, groups), groups.count)
        row = row.astype(state.latest.dtype)
        kept, counts = state.history, state.history_counts
        if options.history:
            place = state.monitor_count // options.every % options.history
            kept, counts = kept.at[place].set(row), counts.at[place].set(state.monitor_count)
        return {
            "latest": row,
            "latest_count": state.monitor_count,
            "history": kept,
            "history_counts": counts,
        }

    fields = ("latest", "latest_count", "history", "history_counts")
    before = {field: getattr(state, field) for field in fields}
    return _at(state.monitor_count, options.every, take, before)


def _at(count: Any, every: int, function: Callable[[], Any], otherwise: Any) -> Any:
    """Return function() at every so many counts, and else what there was."""
    if every == 1:
        return function()
    if not arguments.is_traced(count):
        return function() if int(count) % every == 0 else otherwise
    return jax.lax.cond(count % every == 0, function, lambda: otherwise)


def _measure(now: _Moment, previous: dict[str, Any], groups: Groups) -> dict[str, Measure]:
    """Return all measures of one update."""
    cosine, angle = _measures.cosine_and_angle(groups, now.velocity, now.gradient)
    summed = [v if is_sum else None for v, is_sum in zip(now.velocity, now.sums, strict=True)]
    found = {
        "gradient": _measures.norm(groups, now.gradient),
        "clipped": _measures.norm(groups, now.clipped),
        "velocity": _measures.norm(groups, now.velocity),
        "summed": _measures.norm(groups, summed),
        "update": _measures.norm(groups, now.update),
        "parameter": _measures.norm(groups, now.parameter),
        "cosine": cosine,
        "angle": angle,
        "opposing": _measures.opposing_share(groups, now.velocity, now.gradient),
        "nonfinite": _measures.nonfinite(groups, now.gradient),
        "headroom": _measures.headroom(groups, now.velocity),
        "signal_to_noise": _signal_to_noise(now, previous, groups),
    }
    if now.loss is not None:
        loss = jnp.asarray(now.loss, float_dtype())
        found["loss"] = Measure(loss, jnp.ones(groups.count, jnp.bool_))
    if "step" in previous:
        step = jax.tree.leaves(previous["step"])
        known = groups.any_of(previous["known"])
        found["slope"] = Measure(_measures.inner_product(groups, now.gradient, step), known)
        found["slope_before"] = Measure(previous["slope"], known)
        found["length"] = Measure(previous["length"], known)
    return found


def _samples(parts: Parts) -> list[Any]:
    return [None if part is None else _measures.sample(part) for part in parts]


def _signal_to_noise(now: _Moment, previous: dict[str, Any], groups: Groups) -> Measure:
    samples = _samples(now.gradient)
    weights = [
        1 if part is None else np.size(part) / max(np.size(sampled), 1)
        for part, sampled in zip(now.gradient, samples, strict=True)
    ]
    before = jax.tree.leaves(previous["gradient"])
    found = _measures.signal_to_noise(groups, samples, before, weights)
    return found._replace(known=found.known & groups.any_of(previous["known"]))


def _remember(now: _Moment, state: MonitorState, options: _Options) -> dict[str, Any]:
    """Return what the readings of the next update need of this one."""
    structure = jax.tree.structure(state.previous["gradient"])

    def filled(parts: Parts, like: PyTree) -> PyTree:
        leaves = [
            jnp.zeros_like(leaf) if part is None else jnp.asarray(part, leaf.dtype)
            for part, leaf in zip(parts, jax.tree.leaves(like), strict=True)
        ]
        return structure.unflatten(leaves)

    def take() -> dict[str, Any]:
        kept: dict[str, Any] = {
            "known": jnp.asarray(_measures.present(now.gradient), jnp.bool_),
            "gradient": filled(_samples(now.gradient), state.previous["gradient"]),
        }
        if options.curvature:
            groups = options.groups(state)
            kept["step"] = filled(now.update, state.previous["step"])
            slope = _measures.inner_product(groups, now.gradient, now.update)
            kept["slope"] = slope.astype(state.previous["slope"].dtype)
            kept["length"] = _measures.norm(groups, now.update).value
        return kept

    return _at(state.monitor_count + 1, options.every, take, state.previous)
