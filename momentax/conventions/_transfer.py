"""A velocity is filled from the buffers of PyTorch and Keras, and read out for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.sharding import place_like
from momentax._core.typing import PyTree
from momentax._state import _velocity
from momentax.conventions._mapping import (
    Counterpart,
    describe_path,
    leaf_path,
    leaves_by_path,
    masked_paths,
    read_array,
    read_mapping,
    write_array,
)


class Units(NamedTuple):
    """The relation v = scale × b of a velocity to the buffer of another framework.

    scale: any number other than 0.
    conjugate: whether complex buffers are the conjugates of the velocity; None
        where the caller has not decided.
    """

    scale: float
    conjugate: bool | None

    @classmethod
    def check(cls, scale: Any, conjugate: bool | None) -> Units:
        """Return the units that a caller asks for."""
        scale = arguments.as_real("scale", scale, arguments.ANY_REAL)
        if scale == 0:
            raise ValueError("scale must not be 0, or the velocity could not be converted back")
        return cls(scale, None if conjugate is None else arguments.as_flag("conjugate", conjugate))

    def to_velocity(self, buffer: np.ndarray, where: str) -> np.ndarray:
        return self.scale * self._conjugated(buffer, where)

    def to_buffer(self, velocity: np.ndarray, where: str) -> np.ndarray:
        return self._conjugated(velocity, where) / self.scale

    def _conjugated(self, array: np.ndarray, where: str) -> np.ndarray:
        if not np.iscomplexobj(array):
            return array
        if self.conjugate is None:
            raise ValueError(
                f"{where} is complex, and the gradients of JAX are the conjugates of PyTorch's: "
                "pass conjugate=False if the gradients are conjugated before they reach the "
                "velocity, or conjugate=True if it accumulates the gradients of jax.grad unchanged"
            )
        return array.conj() if self.conjugate else array


def _velocities(state: PyTree, path: str | None) -> dict[str, PyTree]:
    """Return the velocities to convert by their paths, checked to be sums of gradients.

    The branches of a partition share the parameters between them, so their
    velocities are converted together.
    """
    found = {place: v for place, v in _velocity.velocities(state).items() if jax.tree.leaves(v)}
    names = [name for velocity in found.values() for name in leaves_by_path(velocity)]
    if path is not None or not found or len(names) > len(set(names)):
        found = dict([_velocity.find_velocity(state, path)])
    for place in found:
        if not _velocity.sums_gradients(node := _velocity.velocity_node(state, place)):
            raise ValueError(
                f"the velocity at {place} is in a {type(node).__name__}, which is not the sum of "
                "gradients that SGD keeps; convert it yourself and set it with "
                "momentax.replace_velocity"
            )
    return found


def describe_velocity(counterpart: Counterpart, path: str) -> str:
    """Name a velocity in a message, by its name there and its path here."""
    return f"the velocity of {counterpart.name!r} for the parameter at {describe_path(path)}"


@dataclass(frozen=True)
class _Buffers:
    """The buffers of another framework, by the path of the leaf that each belongs to.

    counterparts: one for each leaf of the velocity.
    arrays: a leaf without a buffer is absent.
    units: what converts a buffer to a velocity.
    """

    counterparts: dict[str, Counterpart]
    arrays: dict[str, Any]
    units: Units

    def velocity_like(self, at: Any, old: Any) -> jax.Array:
        """Return the velocity of one leaf, which is 0 where there is no buffer."""
        path = leaf_path(at)
        if path not in self.arrays:
            return jnp.zeros_like(old)
        entry = self.counterparts[path]
        where = describe_velocity(entry, path)
        array = read_array(self.arrays[path], entry, old, where)
        velocity = self.units.to_velocity(array, where)
        return place_like(jnp.array(velocity, old.dtype), old)

    def started_like(self, at: Any, old: Any) -> jax.Array:
        """Return whether there is a buffer for one leaf."""
        return jnp.asarray(leaf_path(at) in self.arrays, old.dtype)

    def fill(self, node: Any, field: str) -> Any:
        """Put the velocity into the state that holds it."""
        velocity = jax.tree_util.tree_map_with_path(self.velocity_like, getattr(node, field))
        node = node._replace(**{field: velocity})
        if "started" in node._fields:  # The state of from_torch with dampening.
            started = jax.tree_util.tree_map_with_path(self.started_like, node.started)
            node = node._replace(started=started)
        return node


def fill_velocity(
    state: PyTree,
    params: PyTree,
    mapping: PyTree,
    find_key: Callable[[Counterpart, str], Any],
    buffers: Mapping[Any, Any],
    *,
    units: Units,
    count: int | None,
    path: str | None,
) -> PyTree:
    """Set each velocity to its buffer, or to 0 where there is none.

    `find_key` returns the key among the buffers that belongs to a counterpart;
    its second argument describes the velocity in a message.
    """
    found = _velocities(state, path)
    given = read_mapping(mapping, leaves_by_path(params))
    names = [name for velocity in found.values() for name in leaves_by_path(velocity)]
    if extra := sorted(set(names) - given.keys()):
        raise ValueError(
            f"the velocity at {describe_path(extra[0])} belongs to none of the params; pass the "
            "params that the state was made for"
        )
    keys = {name: find_key(given[name], describe_velocity(given[name], name)) for name in names}
    require_distinct_keys(_resolvable_keys(given, find_key) | keys)
    unused = [key for key in buffers if key not in keys.values()]
    if unused and path is None:
        raise ValueError(
            f"the velocity of {unused[0]!r} belongs to no leaf: the mapping omits it, or the state "
            "has no velocity for it; to fill one velocity of several, pass its path"
        )
    arrays = {name: buffers[key] for name, key in keys.items() if key in buffers}
    source = _Buffers(given, arrays, units)
    for place in found:
        state = _velocity.map_node(state, place, source.fill)
    return (
        state if count is None else set_counts(state, arguments.as_count("count", count, least=0))
    )


def _resolvable_keys(
    given: Mapping[str, Counterpart], find_key: Callable[[Counterpart, str], Any]
) -> dict[str, Any]:
    """Return the key of each counterpart that the other framework has, by the path of its leaf."""
    keys = {}
    for path, entry in given.items():
        with contextlib.suppress(ValueError):  # Such as that of a frozen parameter.
            keys[path] = find_key(entry, path)
    return keys


def require_distinct_keys(keys: Mapping[str, Any]) -> None:
    """Refuse two leaves with the same parameter, such as one by its name and one by its number."""
    owners: dict[Any, str] = {}
    for leaf, key in keys.items():
        if key is not None and (other := owners.setdefault(key, leaf)) != leaf:
            raise ValueError(
                f"in mapping, {describe_path(other)} and {describe_path(leaf)} both map to the "
                f"parameter {key!r} of the other framework, by a name and by its number"
            )


def read_velocity(
    state: PyTree, mapping: PyTree, *, units: Units, path: str | None
) -> dict[str | int, np.ndarray | None]:
    """Return the buffer of each velocity by its counterpart's name.

    None means that PyTorch would not have this buffer yet.
    """
    found = _velocities(state, path)
    names = {n: leaf for velocity in found.values() for n, leaf in leaves_by_path(velocity).items()}
    elsewhere = tuple(name for velocity in found.values() for name in masked_paths(velocity))
    given = read_mapping(mapping, names, elsewhere=elsewhere)
    buffers: dict[str | int, np.ndarray | None] = {}
    for place, velocity in found.items():
        started = leaves_by_path(getattr(_velocity.velocity_node(state, place), "started", None))
        for name, leaf in leaves_by_path(velocity).items():
            entry, where = given[name], describe_velocity(given[name], name)
            buffer = units.to_buffer(write_array(leaf, entry, where), where)
            buffers[entry.name] = buffer if started.get(name, True) else None
    return buffers


def _is_count(path: Any, leaf: Any) -> bool:
    """Whether a leaf is a count of updates in a state, or the value of such a Flax variable."""
    key = path[:-1] if path and getattr(path[-1], "name", None) == "value" else path
    last = key[-1] if key else None
    name = getattr(last, "name", getattr(last, "key", None))  # NNX may keep a state as a dict.
    named = name in ("count", "schedule_count", "wrapper_count")
    return named and leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)


def set_counts(state: PyTree, count: int) -> PyTree:
    """Set every count in a state, so that its schedules continue from there."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(count, leaf.dtype) if _is_count(path, leaf) else leaf, state
    )


def counts_of(state: PyTree) -> list[int]:
    """Return the different counts in a state, in increasing order."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return sorted({int(leaf) for path, leaf in found if _is_count(path, leaf)})
