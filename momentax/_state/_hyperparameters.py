"""Read the hyperparameters that are in force in any Optax pipeline."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core import arguments, trees
from momentax._core.transformations import describe_state
from momentax._core.typing import PyTree
from momentax._state import _flax
from momentax._state._closures import UNKNOWN, Part, parts_of, reads_of, require_own_state
from momentax._state._velocity import has_velocity

_LAST_COUNT = np.iinfo(np.int32).max

# The hyperparameters of `optax.inject_hyperparams` by the names that functions give them.
_INJECTED = {
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    **dict.fromkeys(("beta", "beta1", "b1", "momentum", "decay"), "beta"),
}


class _Entry(NamedTuple):
    """A hyperparameter that some part of a pipeline reads.

    name: "learning_rate", which multiplies the updates and may be negative, "beta" or
        "weight_decay"; or "count".
    value: its value at the last update, or UNKNOWN.
    label: the labels of the partitions around the part.
    mask: the masks around the part, each as a number.
    rank: of counts, the least is taken.
    stage: the names of the optimizers, such as "outer", that the part belongs to.
    """

    name: str
    value: Any
    label: tuple[str, ...]
    mask: tuple[int, ...]
    rank: int = 0
    stage: tuple[str, ...] = ()


def hyperparameters(
    state: PyTree, tx: optax.GradientTransformation | None = None
) -> dict[str, Any]:
    """Read the hyperparameters in force: those that the last update used.

    The dict has these keys, as far as they are known:

        learning_rate    α, by which directions are multiplied before they are subtracted
        beta             β, the share of the velocity kept each step: `b1` of Adam, but `b2` of
                         Lion, whose velocity it keeps
        weight_decay     λ, by which parameters are multiplied before they are added
        count            the count of the update, from 0, with which its schedules were called

    Before the first update they are the values that it will use. Steps that a guard has skipped
    count as not made, and so do the updates of `optax.MultiSteps` that only accumulate.

    A state holds counts, the values of `optax.inject_hyperparams`, and the learning rate and β
    of `hypergradient` and `yellowfin`. Schedules and constants are in `tx`, so that these need
    it. They are found in `momentax.sgd` and all methods and wrappers of momentax, in Optax's
    `scale`, `scale_by_schedule`, `scale_by_learning_rate`, `add_decayed_weights`, `trace`, `ema`,
    `scale_by_adam` and its relatives, and thus in `optax.sgd`, `optax.adam`, `optax.lion` and
    others; and inside of `chain`, `named_chain`, `partition`, `masked`, `MultiSteps`,
    `inject_hyperparams`, `flatten` and wrappers.

    What is not known is absent. That is β where there are several, as in `aggregated`, or where
    it is not a function of the count; a learning rate that a line search or Polyak's step size
    chooses; and whatever an unknown transformation does. Several scalings one after the other
    multiply: the learning rate is the magnitude of the product of all. Several weight decays add
    up to one. Either is absent if masks make it differ between parameters.

    Args:
        state: The optimizer's state. Without `tx`, also a pytree that contains one.
        tx: The transformation that the state belongs to. None reads the state alone.

    Returns:
        A dict from names to Python numbers, or to 0-d arrays under `jax.jit`; to arrays for the
        states of a `jax.vmap`. A number is the shortest decimal that has the value in its own
        dtype, such as 0.1 for a float32. In a partition the label comes first, as in
        "decoder/beta". A scaling outside of a partition multiplies the learning rates in it, and
        a weight decay outside is added to those in it. For `outer` the names are those of its
        inner optimizer, and "outer/learning_rate" and the like are those of its outer one.

    Raises:
        ValueError: Another transformation than tx has made state: it has another structure, or
            states of other classes. Other hyperparameters of the same transformations are not
            recognized.
        TypeError: state is not the state of an optimizer or that of another method of momentax,
            or tx is not a gradient transformation.

    Example:
        >>> tx = momentax.sgd(optax.linear_schedule(0.1, 0.0, 10), momentax.nesterov(0.9))
        >>> momentax.hyperparameters(tx.init(params), tx)
        {'learning_rate': 0.1, 'beta': 0.9, 'weight_decay': 0.0, 'count': 0}
    """
    if tx is not None:
        arguments.require_transformation("tx", tx)
    plain, _ = _flax.with_named_nodes(state, has_velocity)
    plain = _flax.unwrap(plain)
    _require_state(plain)
    if tx is None:
        entries = _read_state(plain, (), ())
    else:
        entries = _read_part(Part(tx.update, plain), (), ())
    return _resolve(entries)


def _require_state(state: Any) -> None:
    """Refuse what holds no state of a transformation, such as parameters."""
    is_container = isinstance(state, tuple) or any(map(_is_record, _nodes(state)))
    if isinstance(state, optax.GradientTransformation) or not (
        is_container and all(map(trees.is_array, jax.tree.leaves(state)))
    ):
        raise TypeError(f"state must be that of an optimizer, got {describe_state(state)}")


def _is_record(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _nodes(state: Any) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=_is_record)


# With tx: each part of the pipeline is read together with its part of the state.


def _read_part(part: Part, label: tuple[str, ...], mask: tuple[int, ...]) -> list[_Entry]:
    """Return what a part of a pipeline and the parts in it read."""
    update, state = part
    if (inner := parts_of(update, state)) is not None:
        entries = []
        for name, each in inner.parts.items():
            inside = (*label, name) if inner.is_partition else label
            found = _read_part(each, inside, (*mask, id(update)) if inner.is_masked else mask)
            entries += _in_stage(name, found) if name and inner.has_stages else found
        return entries + (_count(state, [], label, mask) if _injected(state) else [])
    require_own_state(update, state)
    reads = reads_of(update)
    if reads is None:
        return _read_state(state, label, mask)
    entries = _values_in(state, label, mask)
    known = {entry.name for entry in entries}
    count = _count_of(state)
    entries += [
        _Entry(name, _value_at(value, count), label, mask)
        for name, value in reads
        if name not in known
    ]
    return entries + _unread_beta(state, entries, label, mask) + _count(state, entries, label, mask)


def _in_stage(name: str, entries: list[_Entry]) -> list[_Entry]:
    return [entry._replace(stage=(name, *entry.stage)) for entry in entries]


def _value_at(value: Any, count: Any) -> Any:
    """Return a constant, or the value of a schedule at the last update."""
    if not callable(value):
        return value
    if count is None:
        return UNKNOWN
    if shape := jnp.shape(count):  # The states of a vmap.
        return jnp.reshape(jnp.asarray(jax.vmap(value)(jnp.ravel(_before(count)))), shape)
    return value(_before(count))


# Without tx: the state alone.


def _read_state(node: Any, label: tuple[str, ...], mask: tuple[int, ...]) -> list[_Entry]:
    """Return what the nodes of a state hold."""
    if _is_named(node, "PartitionState"):
        return [
            entry
            for name, each in node.inner_states.items()
            for entry in _read_state(each, (*label, str(name)), mask)
        ]
    if _is_named(node, "OuterState"):
        slow = _in_stage("outer", _read_state(node.outer_state, label, mask))
        return _read_state(node.inner_state, label, mask) + slow
    if _is_named(node, "MuonState"):
        return [
            entry
            for name in node._fields
            for entry in _read_state(getattr(node, name), (*label, name), mask)
        ]
    if _is_named(node, "MaskedState"):
        return _read_state(node.inner_state, label, (*mask, id(node)))
    if _injected(node):
        return _read_injected(node, label, mask)
    if has_velocity(node) or _count_of(node) is not None:
        entries = _values_in(node, label, mask)
        entries += _unread_beta(node, entries, label, mask)
        if name := _unknown_of(node):
            entries.append(_Entry(name, UNKNOWN, label, mask))
        return entries + _count(node, entries, label, mask)
    if isinstance(node, tuple | list):
        parts = list(node)
    else:
        parts = list(node.values()) if isinstance(node, Mapping) else []
    entries = [entry for each in parts for entry in _read_state(each, label, mask)]
    if not _is_record(node) and len(parts) > 1:
        # The other parts of a chain may be scalings by constants.
        names = [entry.name for entry in entries]
        if "learning_rate" in names and not any(map(_injected, parts)):
            entries.append(_Entry("learning_rate", UNKNOWN, label, mask))
    return entries


def _unknown_of(node: Any) -> str | None:
    """Return which hyperparameter a node belongs to whose value is not in the state."""
    kind = type(node).__name__
    names = {
        "ScaleState": "learning_rate",
        "ScaleByScheduleState": "learning_rate",
        "DecayState": "weight_decay",
        "WeightDecaySchedule": "weight_decay",
    }
    return names.get(kind)


def _injected(node: Any) -> bool:
    """Return whether a node is the state of `optax.inject_hyperparams`."""
    return _is_record(node) and hasattr(node, "hyperparams")


def _read_injected(node: Any, label: tuple[str, ...], mask: tuple[int, ...]) -> list[_Entry]:
    inner = _read_state(node.inner_state, label, mask)
    keeps_by_second = any(map(_keeps_by_second_beta, _nodes(node.inner_state)))
    found = []
    for name, value in node.hyperparams.items():
        if keeps_by_second and name in ("b1", "b2", "beta1", "beta2"):
            name = {"b2": "beta", "beta2": "beta"}.get(name, "")
        else:
            name = _INJECTED.get(name, "")
        if name:
            found.append(_Entry(name, value, label, mask))
    names = {entry.name for entry in found}
    inner = [entry for entry in inner if entry.name not in names]
    return found + inner + _count(node, [], label, mask)


def _keeps_by_second_beta(node: Any) -> bool:
    return _is_named(node, "ScaleByLionState") or _is_named(node, "LionState")


# Nodes of states.


def _is_named(node: Any, name: str) -> bool:
    return _is_record(node) and type(node).__name__ == name


def _values_in(state: Any, label: tuple[str, ...], mask: tuple[int, ...]) -> list[_Entry]:
    """Return the hyperparameters of the last step that a node keeps."""
    kind = type(state).__name__
    if kind in ("HypergradientState", "YellowFinState"):
        values = {"learning_rate": state.learning_rate, "beta": state.beta}
    elif kind == "LazyState":
        values = {"beta": state.kept}
    else:
        values = {}
    return [_Entry(name, value, label, mask) for name, value in values.items()]


def _unread_beta(
    node: Any, entries: list[_Entry], label: tuple[str, ...], mask: tuple[int, ...]
) -> list[_Entry]:
    """Return the β of a node that keeps a velocity, if its value has not been read."""
    if has_velocity(node) and not any(entry.name == "beta" for entry in entries):
        return [_Entry("beta", UNKNOWN, label, mask)]
    return []


def _count_of(node: Any) -> Any:
    """Return how many updates a node has counted, or None."""
    if not _is_record(node):
        return None
    found = (getattr(node, name, None) for name in ("schedule_count", "count"))
    return next((each for each in found if trees.is_array(each)), None)


def _count(
    node: Any, entries: list[_Entry], label: tuple[str, ...], mask: tuple[int, ...]
) -> list[_Entry]:
    """Return the count of the last update that a node has counted, with its rank."""
    count = _count_of(node)
    if count is None:
        return []
    scales = any(entry.name == "learning_rate" for entry in entries)
    rank = 0 if scales else 1 if has_velocity(node) else 3 if _injected(node) else 2
    return [_Entry("count", _before(count), label, mask, rank)]


def _before(count: Any) -> Any:
    """Return the count of the last update, which a counter of all updates has left behind.

    Counters stop at the largest int32, where the last count is unknown and no schedule changes.
    """
    numpy: Any = jnp if isinstance(count, jax.Array) else np
    last = numpy.where(count == _LAST_COUNT, count, numpy.maximum(count - 1, 0))
    return last.astype(np.int32)


# Results.


def _resolve(entries: list[_Entry]) -> dict[str, Any]:
    """Return one value for each name, label and stage for which there is one."""
    return {
        "/".join((*stage, name)): value
        for stage in dict.fromkeys(entry.stage for entry in entries)
        for name, value in _resolve_stage([e for e in entries if e.stage == stage]).items()
    }


def _resolve_stage(entries: list[_Entry]) -> dict[str, Any]:
    """Return one value for each name and label of one optimizer."""
    results = {}
    for label in dict.fromkeys([(), *(entry.label for entry in entries)]):
        own = [entry for entry in entries if entry.label == label]
        values = {
            "learning_rate": _combined("learning_rate", operator.mul, entries, label),
            "beta": _only([entry for entry in own if entry.name == "beta"]),
            "weight_decay": _combined("weight_decay", operator.add, entries, label),
            "count": _first_count([entry for entry in own if entry.name == "count"]),
        }
        results |= {
            "/".join((*label, name)): _as_number(value)
            for name, value in values.items()
            if value is not UNKNOWN
        }
    return results


def _combined(
    name: str, operation: Callable[[Any, Any], Any], entries: list[_Entry], label: tuple[str, ...]
) -> Any:
    """Return the product or the sum of all values of one name around and in a label.

    It is unknown where the branches of a partition in the label have values of their own, where
    not all values are known, and where they are for different parameters. It is not repeated where
    the value around a branch is that of all branches.
    """
    entries = [entry for entry in entries if entry.name == name]

    def has_branches(label: tuple[str, ...]) -> bool:
        return any(e.label != label and e.label[: len(label)] == label for e in entries)

    if has_branches(label) or (label and not has_branches(label[:-1])):
        return UNKNOWN
    found = [entry for entry in entries if label[: len(entry.label)] == entry.label]
    if any(entry.value is UNKNOWN for entry in found) or len({entry.mask for entry in found}) != 1:
        return UNKNOWN
    value = functools.reduce(operation, [_as_number(entry.value) for entry in found])
    return abs(value) if name == "learning_rate" else value


def _only(entries: list[_Entry]) -> Any:
    return entries[0].value if len(entries) == 1 else UNKNOWN


def _first_count(entries: list[_Entry]) -> Any:
    return min(entries, key=lambda entry: entry.rank).value if entries else UNKNOWN


def _as_number(value: Any) -> Any:
    """Return a Python number where the value is known and one number."""
    if arguments.is_traced(value):
        return jnp.asarray(value)
    array = np.asarray(value)
    if array.ndim:
        return array
    return int(array) if array.dtype.kind in "iu" else float(str(array[()]))
