"""The state of a monitor: its fields, its first values, and the names of what is measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, arithmetic
from momentax._core.hyperparameters import float_dtype
from momentax._core.typing import PyTree
from momentax._state._groups import Groups
from momentax._state._measures import sample
from momentax._state._names import leaf_names
from momentax._wrappers._readings import COLUMNS


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
        is in the place r modulo history. None without a history: Orbax writes no empty array.
    history_counts: the count of each of them, -1 in places not yet filled, int32; or None.
    names: the names of the groups in UTF-8, a row of bytes for each, uint8. A byte of 0 separates
        parts of a name, and bytes of 255 fill the row.
    rows: the number of the group of each leaf of the parameters, int32.
    previous: what the next readings need of this update, a NamedTuple of arrays.
    inner_state: the state of tx.
    """

    monitor_count: Any
    every: jax.Array
    latest: jax.Array
    latest_count: jax.Array
    history: jax.Array | None
    history_counts: jax.Array | None
    names: jax.Array
    rows: jax.Array
    previous: LastGradient | LastStep
    inner_state: Any


class Options(NamedTuple):
    """What `momentax.monitor` was given.

    tx: the transformation to measure.
    every: the number of updates from one reading to the next.
    per: "model", "leaf", or labels of the parameters.
    history: the number of readings to keep.
    curvature: whether to measure the curvature along the steps.
    """

    tx: optax.GradientTransformationExtraArgs
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


# The first state.


def first_state(inner: Any, params: PyTree, options: Options) -> MonitorState:
    """Return the state before the first update; `inner` is that of tx."""
    arrays = measurable(fast(params))
    names, rows = _name_groups(arrays, options.per)
    groups, dtype = len(names), float_dtype()
    zeros = arithmetic.zeros_like(arrays)
    known = jnp.zeros(len(rows), jnp.bool_)
    previous: LastGradient | LastStep = LastGradient(known, jax.tree.map(sample, zeros))
    if options.curvature:
        slope, length = jnp.zeros(groups, dtype), jnp.zeros(groups, dtype)
        previous = LastStep(*previous, zeros, slope, length)
    return MonitorState(
        jnp.zeros((), jnp.int32),
        jnp.asarray(options.every, jnp.int32),
        jnp.zeros((groups, COLUMNS), dtype),
        jnp.full((), -1, jnp.int32),
        jnp.zeros((options.history, groups, COLUMNS), dtype) if options.history else None,
        jnp.full(options.history, -1, jnp.int32) if options.history else None,
        encode_names(names),
        jnp.asarray(rows, jnp.int32),
        previous,
        inner,
    )


def fast(tree: PyTree) -> PyTree:
    """Return the parameters or updates that the gradient belongs to."""
    return tree.fast if isinstance(tree, optax.LookaheadParams) else tree


def measurable(params: PyTree) -> PyTree:
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


def encode_names(names: list[tuple[str, ...]]) -> jax.Array:
    """Return names in UTF-8, as in a MonitorState."""
    rows = [np.frombuffer("\0".join(parts).encode(), np.uint8) for parts in names]
    width = max(map(len, rows), default=0) or 1  # Orbax writes no empty array.
    padded = [np.pad(row, (0, width - len(row)), constant_values=255) for row in rows]
    return jnp.asarray(np.stack(padded) if padded else np.zeros((0, 1), np.uint8))


def decode_names(names: np.ndarray) -> list[tuple[str, ...]]:
    """Return the names that `encode_names` encoded."""
    rows = (bytes(row[row != 255]).decode() for row in names)
    return [tuple(row.split("\0")) if row else () for row in rows]
