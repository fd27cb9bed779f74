"""A monitor: readings of gradient, velocity and update, kept in the state of any transformation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
from momentax._state._measures import Groups, Kinds, Measure, Parts, parts_like
from momentax._state._names import leaf_names
from momentax._wrappers._parts import gradient_at_method, velocity_parts
from momentax._wrappers._readings import COLUMNS, as_row
from momentax._wrappers._response import Responses, age, find_responses, stability_edge


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
    """What is measured at one update: trees of arrays, some of which may be None.

    gradient: the gradient as it arrives.
    clipped: the gradient as it reaches the method.
    update: the update of tx.
    params: the parameters before the update.
    before: the state of tx before the update.
    after: the state of tx after the update.
    extra_args: the extra arguments that are arrays.
    """

    gradient: PyTree
    clipped: PyTree
    update: PyTree
    params: PyTree
    before: PyTree
    after: PyTree
    extra_args: dict[str, PyTree]


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
    observe = partial(_observe, tx, options)
    observe_concrete = jax.jit(observe)

    def init(params):
        return _first_state(tx.init(params), params, options)

    def update(updates, state, params=None, **extra_args):
        u, inner = tx.update(updates, state.inner_state, params, **extra_args)
        moment = _moment(tx, updates, state, params, extra_args, u, inner)
        own = state._replace(inner_state=None)
        is_traced = any(map(arguments.is_traced, jax.tree.leaves((moment, own))))
        # Without a trace each operation would be compiled and called separately.
        after = (observe if is_traced else observe_concrete)(moment, own)
        return u, after._replace(inner_state=inner)

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
    arrays = {
        name: value
        for name, value in extra_args.items()
        if all(map(trees.is_array, jax.tree.leaves(value)))
    }
    return _Moment(
        _measurable(g),
        _measurable(gradient_at_method(tx.update, g, state.inner_state, params, extra_args)),
        _measurable(_fast(u)),
        _measurable(_fast(params)),
        state.inner_state,
        inner,
        arrays,
    )


def _observe(
    tx: optax.GradientTransformationExtraArgs,
    options: _Options,
    now: _Moment,
    state: MonitorState,
) -> MonitorState:
    """Return the state after an update, without the state of tx."""
    count = state.monitor_count
    fields = ("latest", "latest_count", "history", "history_counts")
    before = {field: getattr(state, field) for field in fields}
    readings = _every(count, options, partial(_read, tx, options, now, state), before)
    remembered = partial(_remember, options, now, state)
    previous = _every(count + 1, options, remembered, state.previous)
    return state._replace(monitor_count=optax.safe_increment(count), previous=previous, **readings)


def _every(count: Any, options: _Options, function: Callable[[], Any], otherwise: Any) -> Any:
    """Return function() at every so many counts, and else what there was."""
    if options.every == 1:
        return function()
    return jax.lax.cond(count % options.every == 0, function, lambda: otherwise)


def _read(
    tx: optax.GradientTransformationExtraArgs,
    options: _Options,
    now: _Moment,
    state: MonitorState,
) -> dict[str, jax.Array]:
    """Return the fields of the state that hold the readings, with a new reading."""
    measured = _measure(tx, options, now, state)
    row = as_row(measured, len(state.latest)).astype(state.latest.dtype)
    history, counts = state.history, state.history_counts
    if options.history:
        place = state.monitor_count // options.every % options.history
        history, counts = history.at[place].set(row), counts.at[place].set(state.monitor_count)
    return {
        "latest": row,
        "latest_count": state.monitor_count,
        "history": history,
        "history_counts": counts,
    }


def _measure(
    tx: optax.GradientTransformationExtraArgs,
    options: _Options,
    now: _Moment,
    state: MonitorState,
) -> dict[str, Measure]:
    """Return all measures of one update."""
    groups, previous = options.groups(state), state.previous
    like = previous["gradient"]
    found = find_responses(tx, now.before, like, now.extra_args)
    leaves, signs, in_gradients = _leaves_of(now, like, found)
    steps = jax.tree.leaves(previous["step"]) if options.curvature else [None] * len(leaves)
    totals, largest = _measures.measure(groups, leaves, signs, steps)
    g = [parts.gradient for parts in leaves]
    both = groups.any(_measures.has(leaves, "velocity", "gradient"))
    measured = {
        kind: Measure(norm, groups.any(_measures.has(leaves, kind)))
        for kind, norm in totals.norms.items()
    }
    v_norm, g_norm = measured["velocity"], measured["gradient"]
    has_angle = both & (v_norm.value != 0) & (g_norm.value != 0)
    entries = groups.total(jnp.asarray([_size_of_both(parts) for parts in leaves], float_dtype()))
    measured |= {
        "summed": v_norm._replace(known=v_norm.known & ~groups.any(~np.asarray(in_gradients))),
        "cosine": Measure(totals.cosine, has_angle),
        "angle": Measure(totals.angle, has_angle),
        "opposing": Measure(totals.opposing / jnp.maximum(entries, 1), entries > 0),
        "nonfinite": Measure(totals.nonfinite, g_norm.known),
        "headroom": _headroom(leaves, largest, groups),
        "signal_to_noise": _signal_to_noise(g, previous, groups, g_norm.value),
    }
    if found is not None:
        measured["age"] = age(found, groups)
    if "value" in now.extra_args:
        loss = jnp.asarray(now.extra_args["value"], float_dtype())
        measured["loss"] = Measure(loss, jnp.ones(groups.count, jnp.bool_))
    if options.curvature:
        known = groups.any(previous["known"])
        measured["slope"] = Measure(totals.slope, known)
        measured["slope_before"] = Measure(previous["slope"], known)
        measured["length"] = Measure(previous["length"], known)
        if found is not None:
            measured["edge"] = stability_edge(found, groups)
    return measured


def _leaves_of(
    now: _Moment, like: PyTree, found: Responses | None
) -> tuple[list[Kinds], list[Any], list[bool]]:
    """Return the arrays of each leaf, the sign of its velocity, and whether it sums gradients.

    The sign is the one with which gradients enter the velocity. Stacked velocities are averaged.
    """
    kinds = (now.gradient, now.clipped, None, now.update, now.params)
    g, clipped, _, u, θ = (parts_like(tree, like) for tree in kinds)
    v, in_gradients = velocity_parts(now.after, like)
    v = [
        None if part is None else jnp.mean(part, tuple(range(jnp.ndim(part) - leaf.ndim)))
        for part, leaf in zip(v, jax.tree.leaves(like), strict=True)
    ]
    signs = [1.0 if each else -1.0 for each in in_gradients]
    if found is not None and found.velocity is not None:
        to_gradient = jnp.sum(found.velocity[0], axis=-1)
        signs = list(jnp.where(to_gradient == 0, jnp.asarray(signs), jnp.sign(to_gradient)))
    leaves = [_of_one_shape(Kinds(*each)) for each in zip(g, clipped, v, u, θ, strict=True)]
    return leaves, signs, in_gradients


def _of_one_shape(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf without those that are not shaped like it."""
    shape = next((np.shape(x) for x in (parts.parameter, parts.gradient) if x is not None), None)
    return Kinds(*(x if shape is None or np.shape(x) == shape else None for x in parts))


def _size_of_both(parts: Kinds) -> int:
    return 0 if parts.gradient is None or parts.velocity is None else np.size(parts.gradient)


def _headroom(leaves: list[Kinds], largest: jax.Array, groups: Groups) -> Measure:
    """Return the powers of ten from the largest entry of the velocity to the overflow."""
    has_velocity = _measures.has(leaves, "velocity")
    limits = [
        float(jnp.finfo(arithmetic.compute_dtype(parts.velocity)).max) if there else 1.0
        for parts, there in zip(leaves, has_velocity, strict=True)
    ]
    decades = jnp.log10(largest) - jnp.asarray(np.log10(limits), float_dtype())
    nearest = groups.largest(jnp.where(has_velocity, decades, -jnp.inf))
    return Measure(-nearest, groups.any(has_velocity))


def _samples(parts: Parts) -> list[Any]:
    return [None if part is None else _measures.sample(part) for part in parts]


def _signal_to_noise(
    g: Parts, previous: dict[str, Any], groups: Groups, norms: jax.Array
) -> Measure:
    samples = _samples(g)
    weights = [
        1.0 if part is None else np.size(part) / max(np.size(sampled), 1)
        for part, sampled in zip(g, samples, strict=True)
    ]
    before = jax.tree.leaves(previous["gradient"])
    found = _measures.signal_to_noise(groups, samples, before, weights, norms)
    return found._replace(known=found.known & groups.any(previous["known"]))


def _remember(options: _Options, now: _Moment, state: MonitorState) -> dict[str, Any]:
    """Return what the readings of the next update need of this one."""
    like = state.previous["gradient"]
    g, u = parts_like(now.gradient, like), parts_like(now.update, like)
    structure = jax.tree.structure(like)

    def filled(parts: Parts, like: PyTree) -> PyTree:
        leaves = [
            jnp.zeros_like(leaf) if part is None else jnp.asarray(part, leaf.dtype)
            for part, leaf in zip(parts, jax.tree.leaves(like), strict=True)
        ]
        return structure.unflatten(leaves)

    kept: dict[str, Any] = {
        "known": jnp.asarray([part is not None for part in g], jnp.bool_),
        "gradient": filled(_samples(g), like),
    }
    if options.curvature:
        groups = options.groups(state)
        leaves = [Kinds(part, None, None, each, None) for part, each in zip(g, u, strict=True)]
        totals, _ = _measures.measure(groups, leaves, [1.0] * len(leaves), u)
        kept["step"] = filled(u, state.previous["step"])
        kept["slope"], kept["length"] = totals.slope, totals.norms["update"]
    return kept
