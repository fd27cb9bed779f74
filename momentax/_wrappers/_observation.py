"""What a monitor does at an update: it measures, and remembers what the next readings need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, trees
from momentax._core.hyperparameters import float_dtype
from momentax._core.recompute import recompute
from momentax._core.typing import PyTree
from momentax._state import _measures
from momentax._state._groups import Groups
from momentax._state._measures import Measure, Parts
from momentax._state._sums import Kinds
from momentax._wrappers._monitor_state import (
    LastGradient,
    LastStep,
    MonitorState,
    Options,
    fast,
    measurable,
)
from momentax._wrappers._parts import gradient_at_method, parts_like, velocity_parts
from momentax._wrappers._readings import as_row
from momentax._wrappers._response import (
    Responses,
    age,
    constant_edge,
    find_responses,
    stability_edge,
)


class Moment(NamedTuple):
    """What is measured at one update: trees of arrays, some of which may be None.

    gradient: the gradient as it arrives.
    clipped: the gradient as it reaches the method, or a function that computes it.
    update: the update of tx, or a function that computes it.
    params: the parameters before the update.
    before: the state of tx before the update.
    after: the state of tx after the update.
    extra_args: the extra arguments that are arrays.
    """

    gradient: PyTree
    clipped: Any
    update: Any
    params: PyTree
    before: PyTree
    after: PyTree
    extra_args: dict[str, PyTree]

    @property
    def computed_update(self) -> PyTree:
        return constant(self.update()) if callable(self.update) else self.update

    @property
    def computed_clipped(self) -> PyTree:
        return self.clipped() if callable(self.clipped) else self.clipped


def constant(tree: PyTree) -> PyTree:
    """Return a tree that counts as a constant in a derivative, since readings have none."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if arguments.is_traced(x) else x, tree)


class Call(NamedTuple):
    """One call of an update.

    tx: the transformation whose update is called.
    gradient: its argument updates.
    state: its argument state.
    params: its argument params.
    extra_args: its further arguments.
    """

    tx: optax.GradientTransformationExtraArgs
    gradient: PyTree
    state: PyTree
    params: PyTree
    extra_args: dict[str, Any]

    def run(self) -> tuple[PyTree, PyTree]:
        """Return the update and the new state."""
        return self.tx.update(self.gradient, self.state, self.params, **self.extra_args)

    def clipped(self) -> PyTree:
        """Return the gradient as it reaches the method, or None."""
        return measurable(gradient_at_method(self.tx.update, *self[1:]))

    def moment(self, u: PyTree, inner: PyTree) -> Moment:
        """Return what is measured at the call, which returned an update and a state.

        The gradient as it reaches the method is left out, since it may have to be computed.
        """
        g, u, params = (measurable(fast(tree)) for tree in (self.gradient, u, self.params))
        arrays = {
            name: value
            for name, value in self.extra_args.items()
            if all(map(trees.is_array, jax.tree.leaves(value)))
        }
        return Moment(g, None, u, params, self.state, inner, arrays)

    def update_again(self, u: PyTree, inner: PyTree) -> Callable[[], PyTree]:
        """Return a function that returns the update that the call returned, with a new state.

        It computes the update again from the new state, where this is cheap.
        """
        args = self.gradient, self.state, self.params
        arrays = tuple(map(trees.only_arrays, args))

        def run(g: PyTree, before: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
            params = trees.with_others(params, self.params)
            return self._replace(gradient=g, state=before, params=params).run()

        leaves, structure = jax.tree.flatten(u)
        first = len(jax.tree.leaves(self.gradient))
        hidden = set(range(first, first + len(jax.tree.leaves(self.state))))
        known = dict(enumerate(jax.tree.leaves(inner), len(leaves)))
        closed = jax.make_jaxpr(run)(*arrays)
        inputs = jax.tree.leaves(arrays)

        def compute() -> PyTree:
            again = recompute(closed, inputs, known, range(len(leaves)), hidden)
            return measurable(fast(u if again is None else structure.unflatten(again)))

        return compute


def after_number(number: jax.Array, count: Any, tree: PyTree) -> PyTree:
    """Return a tree whose arrays XLA computes only when a number is known.

    The count is never negative, so that the number enters nowhere; XLA does not know that.
    """

    def wait(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        return jnp.where(count < 0, number.astype(leaf.dtype), leaf)

    return jax.tree.map(wait, tree)


def observe(options: Options, now: Moment, state: MonitorState) -> tuple[MonitorState, jax.Array]:
    """Measure an update, and keep what the next readings need.

    Returns:
        The state after the update, without the state of tx, and the sum of all norms. The latter
        is known when the sums over all arrays are, which is before the readings.
    """
    count = state.monitor_count
    fields = ("every", "latest", "latest_count", "history", "history_counts")
    before = {field: getattr(state, field) for field in fields}
    read = partial(_read, options, now, state)
    readings, norm_sum = _every(count, options, read, (before, jnp.zeros((), float_dtype())))
    state = state._replace(**readings)
    next_count = optax.safe_increment(count)
    remembered = partial(_remember, options, now, state)
    # The readings need `previous`. Without this order XLA would copy it before it is overwritten.
    known = after_number(jnp.sum(state.latest), count, next_count)
    previous = _every(known, options, remembered, state.previous)
    return state._replace(monitor_count=next_count, previous=previous), norm_sum


def _every(count: Any, options: Options, function: Callable[[], Any], otherwise: Any) -> Any:
    """Return function() at every so many counts, and else what there was."""
    if options.every == 1:
        return function()
    return jax.lax.cond(
        jax.lax.rem(count, jnp.int32(options.every)) == 0, function, lambda: otherwise
    )


def _read(
    options: Options, now: Moment, state: MonitorState
) -> tuple[dict[str, jax.Array | None], jax.Array]:
    """Return the fields of the state that hold the readings, with a new reading.

    Also return the sum of all norms, which is known before the readings.
    """
    measured = _measure(options, now, state)
    row = as_row(measured, len(state.latest)).astype(state.latest.dtype)
    history, counts = state.history, state.history_counts
    if history is not None and counts is not None:
        reading = jax.lax.div(state.monitor_count, jnp.int32(options.every))
        place = jax.lax.rem(reading, jnp.int32(len(history)))
        history, counts = history.at[place].set(row), counts.at[place].set(state.monitor_count)
    fields = {
        "every": jnp.asarray(options.every, jnp.int32),
        "latest": row,
        "latest_count": state.monitor_count,
        "history": history,
        "history_counts": counts,
    }
    norms = [jnp.sum(measured[kind].value) for kind in Kinds._fields]
    return fields, jnp.asarray(sum(norms), float_dtype())


def _measure(options: Options, now: Moment, state: MonitorState) -> dict[str, Measure]:
    """Return all measures of one update."""
    groups, previous = options.groups(state), state.previous
    like = previous.gradient
    found = constant(find_responses(options.tx, now.before, like, now.extra_args))
    in_gradients = velocity_parts(now.after, like)[1]
    signs = _signs(found, in_gradients)

    def read() -> tuple[list[Kinds], Parts]:
        return _leaves_of(now, like, signs), _steps_before(previous)

    totals, headroom = _measures.measure(groups, read)
    leaves, _ = read()
    both = groups.any(_measures.has(leaves, "velocity", "gradient"))
    has_each = groups.any(_measures.has_each(leaves))
    measured = {
        kind: Measure(totals.norms[:, i], has_each[:, i]) for i, kind in enumerate(Kinds._fields)
    }
    v_norm, g_norm = measured["velocity"], measured["gradient"]
    has_angle = both & (v_norm.value != 0) & (g_norm.value != 0)
    g = [parts.gradient for parts in leaves]
    entries = groups.total(np.asarray([_size_of_both(parts) for parts in leaves], float_dtype()))
    measured |= {
        "summed": v_norm._replace(
            known=v_norm.known & ~groups.any(~np.asarray(in_gradients, np.bool_))
        ),
        "cosine": Measure(totals.cosine, has_angle),
        "angle": Measure(totals.angle, has_angle),
        "opposing": Measure(totals.opposing / jnp.maximum(entries, 1), entries > 0),
        "nonfinite": Measure(totals.nonfinite, g_norm.known),
        "headroom": Measure(headroom, groups.any(_measures.has(leaves, "velocity"))),
        "signal_to_noise": _signal_to_noise(g, previous, groups, g_norm.value),
    }
    if found is not None:
        measured["age"] = age(found, groups)
    if "value" in now.extra_args:
        loss = jnp.asarray(now.extra_args["value"], float_dtype())
        measured["loss"] = Measure(loss, np.ones(groups.number, np.bool_))
    if isinstance(previous, LastStep):
        known = groups.any(previous.known)
        measured["slope"] = Measure(totals.slope, known)
        measured["slope_before"] = Measure(previous.slope, known)
        measured["length"] = Measure(previous.length, known)
        if leaves:
            measured["edge"] = _edge(options.tx, found, groups)
    return measured


def _edge(
    tx: optax.GradientTransformationExtraArgs, found: Responses | None, groups: Groups
) -> Measure:
    edge = None if found is None else stability_edge(found, groups)
    if edge is not None:
        return edge
    limit = constant_edge(tx)
    known = np.full(groups.number, limit is not None)
    return Measure(jnp.full(groups.number, limit or 0.0, float_dtype()), known)


def _leaves_of(now: Moment, like: PyTree, signs: Sequence[Any]) -> list[Kinds]:
    """Return the arrays of each leaf.

    Stacked velocities are averaged, and multiplied by a sign: 1 or -1 for each leaf.
    """
    kinds = (now.gradient, now.computed_clipped, now.computed_update, now.params)
    g, clipped, u, θ = (parts_like(tree, like) for tree in kinds)
    # A gradient that was not clipped stays the same array, which is measured once.
    clipped = [x if x is y else constant(x) for x, y in zip(clipped, g, strict=True)]
    stacked = zip(velocity_parts(now.after, like)[0], jax.tree.leaves(like), signs, strict=True)
    v = [
        None if part is None else _signed(_averaged(part, leaf.ndim), sign)
        for part, leaf, sign in stacked
    ]
    return [_of_one_shape(Kinds(*each)) for each in zip(g, clipped, v, u, θ, strict=True)]


def _averaged(stacked: Any, ndim: int) -> Any:
    """Return the mean over the leading axes, so that as many axes as given are left."""
    axes = range(jnp.ndim(stacked) - ndim)
    return jnp.mean(stacked, tuple(axes)) if axes else stacked


def _signed(v: Any, sign: Any) -> Any:
    if isinstance(sign, float) and sign == 1:
        return v
    return jnp.asarray(sign, v.dtype) * v


def _signs(found: Responses | None, in_gradients: list[bool]) -> list[Any]:
    """Return the sign of each leaf's velocity with which gradients enter it."""
    signs = [1.0 if each else -1.0 for each in in_gradients]
    if found is None or found.velocity is None:
        return signs
    to_gradient = jnp.sum(found.velocity[0], axis=-1)
    return list(jnp.where(to_gradient == 0, jnp.asarray(signs), jnp.sign(to_gradient)))


def _of_one_shape(parts: Kinds) -> Kinds:
    """Return the arrays of a leaf without those that are not shaped like it."""
    shape = next((np.shape(x) for x in (parts.parameter, parts.gradient) if x is not None), None)
    return Kinds(*(x if shape is None or np.shape(x) == shape else None for x in parts))


def _size_of_both(parts: Kinds) -> int:
    return 0 if parts.gradient is None or parts.velocity is None else np.size(parts.gradient)


def _steps_before(previous: LastGradient | LastStep) -> Parts:
    """Return the last step of each leaf, zeros without a gradient; None without curvature."""
    if not isinstance(previous, LastStep):
        return [None] * len(jax.tree.leaves(previous.gradient))
    steps = zip(jax.tree.leaves(previous.step), list(previous.known), strict=True)
    return [jnp.where(was_made, step, jnp.zeros_like(step)) for step, was_made in steps]


def _samples(parts: Parts) -> list[Any]:
    return [None if part is None else _measures.sample(part) for part in parts]


def _signal_to_noise(
    g: Parts, previous: LastGradient | LastStep, groups: Groups, norms: jax.Array
) -> Measure:
    samples = _samples(g)
    weights = [
        1.0 if part is None else np.size(part) / max(np.size(sampled), 1)
        for part, sampled in zip(g, samples, strict=True)
    ]
    before = jax.tree.leaves(previous.gradient)
    found = _measures.signal_to_noise(groups, samples, before, weights, norms)
    return found._replace(known=found.known & groups.any(previous.known))


def _remember(options: Options, now: Moment, state: MonitorState) -> LastGradient | LastStep:
    """Return what the readings of the next update need of this one."""
    previous = state.previous
    like = previous.gradient
    g = parts_like(now.gradient, like)

    def replaced(old: PyTree, parts: Parts) -> PyTree:
        leaves, structure = jax.tree.flatten(old)
        pairs = zip(leaves, parts, strict=True)
        return structure.unflatten(
            leaf if part is None else jnp.asarray(part, leaf.dtype) for leaf, part in pairs
        )

    known = jnp.asarray([part is not None for part in g], jnp.bool_)
    reading_sum, count = jnp.sum(state.latest), state.monitor_count
    kept = LastGradient(known, replaced(like, after_number(reading_sum, count, _samples(g))))
    if not isinstance(previous, LastStep):
        return kept
    groups = options.groups(state)
    u = parts_like(after_number(reading_sum, count, now.computed_update), like)
    leaves = [Kinds(part, None, None, each, None) for part, each in zip(g, u, strict=True)]
    totals, _ = _measures.measure(groups, lambda: (leaves, u))
    length = totals.norms[:, Kinds._fields.index("update")]
    return LastStep(*kept, replaced(previous.step, u), totals.slope, length)
