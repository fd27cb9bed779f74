"""A monitor: readings of gradient, velocity and update, kept in the state of any transformation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic, trees
from momentax._core.hyperparameters import float_dtype
from momentax._core.recompute import recompute
from momentax._core.transformations import Observed, transformation
from momentax._core.typing import PyTree
from momentax._state import _measures
from momentax._state._measures import Groups, Kinds, Measure, Parts, parts_like
from momentax._state._names import leaf_names
from momentax._wrappers._parts import gradient_at_method, velocity_parts
from momentax._wrappers._readings import COLUMNS, as_row
from momentax._wrappers._response import (
    Responses,
    age,
    constant_edge,
    find_responses,
    stability_edge,
)


class LastGradient(NamedTuple):
    """What the next readings need of an update.

    known: for each leaf whether it had a gradient.
    gradient: a sample of the gradient, shaped like the parameters but smaller.
    """

    known: jax.Array
    gradient: PyTree


class LastStep(NamedTuple):
    """What the next readings need of an update where curvature=True.

    known: for each leaf whether it had a gradient.
    gradient: a sample of the gradient, shaped like the parameters but smaller.
    step: the update, shaped like the parameters.
    slope: the inner product of gradient and step, of each group of leaves.
    length: the norm of the step, of each group.
    """

    known: jax.Array
    gradient: PyTree
    step: PyTree
    slope: jax.Array
    length: jax.Array


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
    previous: what the next readings need of this update, a LastGradient or a LastStep.
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
    previous: LastGradient | LastStep
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
        return self.update() if callable(self.update) else self.update

    @property
    def computed_clipped(self) -> PyTree:
        return self.clipped() if callable(self.clipped) else self.clipped


def monitor(
    tx: optax.GradientTransformation,
    *,
    every: int = 1,
    per: Any = "model",
    history: int = 0,
    curvature: bool = False,
) -> Observed:
    """Measure what a velocity does while any transformation makes its updates.

    `momentax.measurements(state)` returns the readings. With the gradient g_t as it
    arrives, the velocity v_t after the update, the update Δθ_t and the parameters
    θ_{t-1} before it, they are

        loss                     value, where update is given value=f(θ_{t-1})
        gradient_norm            ‖g_t‖, in [0, inf)
        clipped_gradient_norm    the norm of g_t as it reaches the method, the first part
                                 of an optax.chain or momentax.sgd that has a velocity
        velocity_norm            ‖v_t‖, in [0, inf)
        update_norm              ‖Δθ_t‖, in [0, inf)
        parameter_norm           ‖θ_{t-1}‖, in [0, inf)
        cos                      ⟨v_t, g_t⟩ / (‖v_t‖ ‖g_t‖), in [-1, 1]
        angle                    the angle of v_t and g_t in degrees, in [0, 180]
        gain                     ‖v_t‖ / ‖g_t‖; at constant gradients it tends to 1/(1-β)
                                 for a velocity that sums them, and to 1 for an average
        effective_learning_rate  ‖Δθ_t‖ / ‖g_t‖, in [0, inf)
        update_ratio             ‖Δθ_t‖ / ‖θ_{t-1}‖, in [0, inf)
        opposing_share           the share of entries with v_t g_t < 0, in [0, 1]
        gradient_snr             ⟨g_t, g_{t-1}⟩ / (½ ‖g_t - g_{t-1}‖²), in [-1/2, inf]:
                                 about the squared norm of the mean gradient over the
                                 variance of one gradient
        nonfinite                the number of entries of g_t that are infinite or NaN
        headroom                 log10(m / max |v_t|), the powers of ten from the largest
                                 entry of v_t to the largest number m of its dtype
        age                      Σ k w_k / Σ w_k, the mean lag in steps of the weights w_k
                                 of past gradients in v_t, at the β in force

    and with curvature=True also

        curvature                ⟨g_t - g_{t-1}, Δθ_{t-1}⟩ / ‖Δθ_{t-1}‖², the secant along
                                 the last step
        edge                     the curvature up to which tx is stable, such as
                                 2(1+β)/α, at the values in force; see
                                 `momentax.theory.sharpness_limit`
        alpha                    -⟨g_t, Δθ_{t-1}⟩ / ⟨g_{t-1}, Δθ_{t-1}⟩, where the last step
                                 landed on the parabola with these two slopes: -1 where
                                 it started, 0 at the minimum, 1 on the other side

    A reading that cannot be known is absent: those of a velocity where tx has none,
    ratios by 0, and those of two successive gradients at the first update.

    The sign of a velocity is the one with which gradients enter it, so that the
    angle is 0 where velocity and gradient agree, also for a velocity in parameter
    units, which sums negative steps; its norm contains the learning rate, and its
    gain is absent. Of several velocities of one parameter the first counts, as
    Adam's first moment. Those of `aggregated` are averaged, whatever their
    weights in the direction are. An age or edge of several leaves is the largest
    age and the smallest edge. `curvature` and `alpha` are right if each update of
    tx was applied as it is. `gradient_snr` uses at most 4096 evenly spaced entries
    of a leaf.

    The updates are those of tx to the bit; in a compiled loop around them, XLA may
    round both otherwise. A step without a reading accesses no more memory than one
    of tx. A reading costs about as much as
    one or two updates of `sgd`. The state is larger by one sample of each leaf, and
    with curvature=True by one array like the parameters.

    Args:
        tx: The transformation to measure, a complete optimizer or a method.
        every: The readings are taken at the counts 0, every, 2 every, ..., at least 1.
        per: What is measured together. "model": all parameters. "leaf": each leaf,
            with keys such as "layer/kernel/cos". Or a tree of strings that label the
            parameters, a prefix of one, or a function from the parameters to one:
            those with the same label, with keys such as "encoder/cos".
        history: The number of readings that the state keeps, at least 0.
        curvature: Whether to measure the curvature along the steps too.

    Returns:
        A transformation with the updates of tx. Its state, a MonitorState, has a
        fixed structure.

    Raises:
        ValueError: every or history is too small, per is another word; at init, the
            labels do not fit the parameters.
        TypeError: An argument has another type.

    Example:
        >>> tx = momentax.monitor(momentax.sgd(0.1), history=100)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> momentax.measurements(state)["gain"]
        1.0

    Source:
        Schneider, Dangel and Hennig, Cockpit: a practical debugging tool for the
        training of deep neural networks, 2021, arXiv:2102.06604, for alpha.
    """
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
        _require_memory(state, options)
        args = updates, state.inner_state, params
        u, inner = tx.update(*args, **extra_args)
        own = state._replace(inner_state=None)
        moment = _moment(tx, args, extra_args, u, inner)
        if not any(map(arguments.is_traced, jax.tree.leaves((moment, own)))):
            # Without a trace each operation would be compiled and called separately.
            return u, observe_concrete(moment, own)._replace(inner_state=inner)
        moment = moment._replace(
            clipped=partial(_clipped, tx, args, extra_args),
            update=_update_again(tx, args, extra_args, u, inner),
        )
        after = observe(moment, own)
        # The parameters are read before the update overwrites them.
        return _after(after, u), after._replace(inner_state=inner)

    monitored = Observed(*transformation(init, update, MonitorState))
    monitored.observed = tx
    monitored.adopt = lambda params, inner: _first_state(inner, params, options)
    return monitored


def _require_memory(state: MonitorState, options: _Options) -> None:
    """Refuse the state of a monitor with another option `curvature`."""
    if isinstance(state.previous, LastStep) != options.curvature:
        raise TypeError(
            f"state must be one of a monitor with curvature={options.curvature}, got one with "
            f"curvature={not options.curvature}; start with tx.init(params)"
        )


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
    known = jnp.zeros(len(rows), jnp.bool_)
    previous: LastGradient | LastStep = LastGradient(known, jax.tree.map(_measures.sample, zeros))
    if options.curvature:
        slope, length = jnp.zeros(groups, dtype), jnp.zeros(groups, dtype)
        previous = LastStep(*previous, zeros, slope, length)
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
    args: tuple[PyTree, Any, PyTree],
    extra_args: dict[str, Any],
    u: PyTree,
    inner: Any,
) -> _Moment:
    g, before, params = args
    g, u, params = (_measurable(_fast(tree)) for tree in (g, u, params))
    arrays = {
        name: value
        for name, value in extra_args.items()
        if all(map(trees.is_array, jax.tree.leaves(value)))
    }
    return _Moment(g, _clipped(tx, args, extra_args), u, params, before, inner, arrays)


def _clipped(
    tx: optax.GradientTransformationExtraArgs,
    args: tuple[PyTree, Any, PyTree],
    extra_args: dict[str, Any],
) -> PyTree:
    return _measurable(gradient_at_method(tx.update, *args, extra_args))


def _update_again(
    tx: optax.GradientTransformationExtraArgs,
    args: tuple[PyTree, Any, PyTree],
    extra_args: dict[str, Any],
    u: PyTree,
    inner: Any,
) -> Callable[[], PyTree]:
    """Return a function that computes the update again from the new state, where this is cheap."""
    arrays = tuple(map(trees.only_arrays, args))

    def run(g: PyTree, before: Any, params: PyTree) -> tuple[PyTree, Any]:
        return tx.update(g, before, trees.with_others(params, args[2]), **extra_args)

    leaves, structure = jax.tree.flatten(u)
    first = len(jax.tree.leaves(args[0]))
    hidden = set(range(first, first + len(jax.tree.leaves(args[1]))))
    known = dict(enumerate(jax.tree.leaves(inner), len(leaves)))
    closed = jax.make_jaxpr(run)(*arrays)
    inputs = jax.tree.leaves(arrays)

    def compute() -> PyTree:
        again = recompute(closed, inputs, known, range(len(leaves)), hidden)
        return _measurable(_fast(u if again is None else structure.unflatten(again)))

    return compute


def _after(state: MonitorState, u: PyTree) -> PyTree:
    """Return an update that XLA computes only when the readings are known, otherwise unchanged."""
    is_negative = state.monitor_count < 0  # It never is; XLA does not know that.
    reading = jnp.sum(state.latest)

    def wait(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        return jnp.where(is_negative, reading.astype(leaf.dtype), leaf)

    return jax.tree.map(wait, u)


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
    state = state._replace(**readings)
    # The readings are computed before this update overwrites the last step.
    now = now._replace(update=lambda now=now: _after(state, now.computed_update))
    remembered = partial(_remember, options, now, state)
    previous = _every(count + 1, options, remembered, state.previous)
    return state._replace(monitor_count=optax.safe_increment(count), previous=previous)


def _every(count: Any, options: _Options, function: Callable[[], Any], otherwise: Any) -> Any:
    """Return function() at every so many counts, and else what there was."""
    if options.every == 1:
        return function()
    return jax.lax.cond(
        jax.lax.rem(count, jnp.int32(options.every)) == 0, function, lambda: otherwise
    )


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
        reading = jax.lax.div(state.monitor_count, jnp.int32(options.every))
        place = jax.lax.rem(reading, jnp.int32(options.history))
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
    like = previous.gradient
    found = find_responses(tx, now.before, like, now.extra_args)
    leaves = _leaves_of(now, like)
    in_gradients = velocity_parts(now.after, like)[1]
    signs = _signs(found, in_gradients)
    steps: list[Any] = [None] * len(leaves)
    if isinstance(previous, LastStep):
        steps = list(zip(jax.tree.leaves(previous.step), list(previous.known), strict=True))
    totals, largest = _measures.measure(groups, partial(_leaves_of, now, like), signs, steps)
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
        "summed": v_norm._replace(
            known=v_norm.known & ~groups.any(~np.asarray(in_gradients, np.bool_))
        ),
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
        measured["loss"] = Measure(loss, jnp.ones(groups.number, jnp.bool_))
    if isinstance(previous, LastStep):
        known = groups.any(previous.known)
        measured["slope"] = Measure(totals.slope, known)
        measured["slope_before"] = Measure(previous.slope, known)
        measured["length"] = Measure(previous.length, known)
        if leaves:
            measured["edge"] = _edge(tx, found, groups)
    return measured


def _edge(
    tx: optax.GradientTransformationExtraArgs, found: Responses | None, groups: Groups
) -> Measure:
    edge = None if found is None else stability_edge(found, groups)
    if edge is not None:
        return edge
    limit = constant_edge(tx)
    known = jnp.full(groups.number, limit is not None)
    return Measure(jnp.full(groups.number, limit or 0.0, float_dtype()), known)


def _leaves_of(now: _Moment, like: PyTree) -> list[Kinds]:
    """Return the arrays of each leaf; stacked velocities are averaged."""
    kinds = (now.gradient, now.computed_clipped, now.computed_update, now.params)
    g, clipped, u, θ = (parts_like(tree, like) for tree in kinds)
    v = [
        None if part is None else jnp.mean(part, tuple(range(jnp.ndim(part) - leaf.ndim)))
        for part, leaf in zip(
            velocity_parts(now.after, like)[0], jax.tree.leaves(like), strict=True
        )
    ]
    return [_of_one_shape(Kinds(*each)) for each in zip(g, clipped, v, u, θ, strict=True)]


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


def _remember(options: _Options, now: _Moment, state: MonitorState) -> LastGradient | LastStep:
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
    kept = LastGradient(known, replaced(like, _samples(g)))
    if not isinstance(previous, LastStep):
        return kept
    groups, u = options.groups(state), parts_like(now.computed_update, like)
    leaves = [Kinds(part, None, None, each, None) for part, each in zip(g, u, strict=True)]
    steps = [None if each is None else (each, True) for each in u]
    totals, _ = _measures.measure(groups, lambda: leaves, [1.0] * len(leaves), steps)
    return LastStep(*kept, replaced(previous.step, u), totals.slope, totals.norms["update"])
