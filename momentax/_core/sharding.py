"""Where arrays lie: placing one array like another, the devices of a mesh, and collectives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from momentax._core.typing import PyTree

_P = ParamSpec("_P")
_R = TypeVar("_R")


def place_like(array: Any, like: Any) -> jax.Array:
    """Place an array as another one is placed: on the same devices, split in the same way.

    In a trace the placement of `like` is part of its type as far as its mesh axes are
    explicit, and `array` is resharded. Where they are automatic, the compiler is
    told to choose one placement for both, which needs equal shapes. Outside of a
    trace `array` moves only if `like` is committed to its devices.
    """
    if isinstance(array, Tracer) or isinstance(like, Tracer):
        sharding = jax.typeof(like).sharding
        types = sharding.mesh.axis_types
        if AxisType.Explicit in types:
            array = jax.sharding.reshard(array, NamedSharding(sharding.mesh, sharding.spec))
        if (types and AxisType.Auto not in types) or np.shape(array) != np.shape(like):
            return array
        return _shard_alike()(like, array)[1]
    is_committed = isinstance(like, jax.Array) and like.committed
    return jax.device_put(array, like.sharding) if is_committed else array


def placed_as_before(before: PyTree, after: PyTree) -> PyTree:
    """Place the leaves of a new state as those of the old one, if both have one structure.

    Leaves of another shape, and those of a trace that lie on no mesh, are left to the compiler.
    """
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after

    def place(old: Any, new: Any) -> Any:
        is_known = not isinstance(old, Tracer) or is_on_mesh(old)
        return place_like(new, old) if is_known and np.shape(new) == np.shape(old) else new

    return jax.tree.map(place, before, after)


@functools.cache
def _shard_alike() -> Callable[..., Any]:
    """Return JAX's function, imported here since few programs need it."""
    from jax._src.interpreters import mlir
    from jax.experimental.shard_alike import shard_alike

    # JAX translates a primitive once for equal types. For this one the translation holds the
    # number of a group of arrays, so that all pairs of one shape would be placed alike.
    closed = jax.make_jaxpr(shard_alike)(np.zeros(1), np.zeros(1))
    # Without this set, which is private, only the placement of some arrays differs.
    getattr(mlir, "_uncacheable_primitives", set()).add(closed.eqns[0].primitive)
    return shard_alike


def constant_like(constant: jax.Array, like: jax.Array) -> jax.Array:
    """Place a constant of a trace as an array is placed."""
    return place_like(depending_on(like, constant), like) if is_on_mesh(like) else constant


def depending_on(earlier: jax.Array, constant: jax.Array) -> jax.Array:
    """Return a constant of a trace, but make it depend on an array that lies on a mesh.

    The compiler makes one array of equal constants, which can only have one placement, and a
    program without an argument on the mesh runs on a single device.
    """
    if not isinstance(earlier, Tracer):
        return constant
    return jax.lax.optimization_barrier((earlier, constant))[1]


def detached(array: jax.Array, mesh: Mesh) -> jax.Array:
    """Return an array of the trace whose placement on automatic mesh axes is its own.

    What is said of the placement of the result then does not say anything of `array`. The mesh is
    that of arrays whose type names none.
    """
    on = mesh if not is_on_mesh(array) else jax.typeof(array).sharding.mesh
    if AxisType.Auto not in on.axis_types:
        return array
    anything = PartitionSpec(*[PartitionSpec.UNCONSTRAINED] * array.ndim)
    return jax.lax.with_sharding_constraint(array, NamedSharding(on, anything))


def split_dimension(array: jax.Array, devices: Devices, dimension: int | None) -> jax.Array:
    """Split one dimension of an array, or none, over devices.

    How other mesh axes split the array stays as it is. In a trace where these are automatic, the
    compiler knows, so that only the axes of `devices` may be named.
    """
    if not is_on_mesh(array) and AxisType.Explicit not in devices.mesh.axis_types:
        whole = PartitionSpec(*with_axes([None] * array.ndim, dimension, devices.axes))
        return jax.lax.with_sharding_constraint(array, NamedSharding(devices.mesh, whole))
    sharding = jax.typeof(array).sharding
    mesh = devices.mesh.abstract_mesh if sharding.mesh.empty else sharding.mesh
    kept = [_without(entry, devices.axes) for entry in sharding.spec]
    after = PartitionSpec(*with_axes(kept, dimension, devices.axes))
    if all(kind == AxisType.Explicit for kind in axis_types(mesh, devices.axes)):
        return jax.sharding.reshard(array, NamedSharding(mesh, after))
    # A function of explicit axes places what it is given, and says nothing of other axes.
    place: Any = jax.sharding.explicit_axes(lambda x: x, axes=devices.axes, in_sharding=after)
    with jax.sharding.use_abstract_mesh(mesh):
        return place(array)


def with_axes(spec: Sequence[Any], dimension: int | None, axes: tuple[str, ...]) -> list[Any]:
    """Return a spec in which a dimension is split along some more mesh axes."""
    entries = list(spec)
    if dimension is not None:
        both = (*names_in(entries[dimension]), *axes)
        entries[dimension] = both[0] if len(both) == 1 else both
    return entries


def names_in(entry: Any) -> tuple[str, ...]:
    """Return the mesh axes in one entry of a spec."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _without(entry: Any, axes: tuple[str, ...]) -> Any:
    kept = tuple(name for name in names_in(entry) if name not in axes)
    return None if not kept else kept[0] if len(kept) == 1 else kept


def replicate_like(array: jax.Array, like: jax.Array) -> jax.Array:
    """Place an array whole on each device of another whose mesh axes are in its type."""
    mesh = jax.typeof(like).sharding.mesh
    if mesh.empty:
        return array
    return jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec()))


def is_on_mesh(array: jax.Array) -> bool:
    """Return whether the type of an array names a mesh, whatever the kind of its axes."""
    return not jax.typeof(array).sharding.mesh.empty


def may_lie_on_several_devices(array: jax.Array) -> bool:
    """Return whether an array may be split over devices, as far as its type and JAX say."""
    return jax.device_count() > 1 or is_on_mesh(array)


def sharding_in_type(array: jax.Array, *, whole_rows: bool = False) -> NamedSharding | None:
    """Return the sharding that is part of the type of an array, or None on automatic mesh axes.

    With `whole_rows` the first axis is not split.
    """
    sharding = jax.typeof(array).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    spec = (None, *sharding.spec[1:]) if whole_rows else sharding.spec
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


@dataclass(frozen=True)
class Devices:
    """The devices of a mesh, and the mesh axes along which a batch's leading axis is split.

    The mesh may span several processes. Each process then calls every method
    alike; the collective methods (`to_host`, `broadcast`, `reduce_over_processes`,
    `run_in_first_process`) wait for the other processes.
    """

    mesh: Mesh
    axes: tuple[str, ...]

    @property
    def sharding(self) -> NamedSharding:
        """The sharding of a batch: its leading axis is split along the mesh axes."""
        return NamedSharding(self.mesh, PartitionSpec(self.axes))

    @property
    def count(self) -> int:
        """The number of parts into which a batch is split."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def all(self) -> list[Any]:
        """All devices of the mesh, in order."""
        return self.mesh.devices.ravel().tolist()

    @property
    def local(self) -> list[Any]:
        """The devices that belong to this process."""
        return [device for device in self.all if device.process_index == jax.process_index()]

    @property
    def platform(self) -> str:
        """The platform of the devices, such as "cpu"."""
        return self.all[0].platform

    @property
    def kind(self) -> str:
        """The kind of the devices, as their maker calls it."""
        return self.all[0].device_kind

    @property
    def span_processes(self) -> bool:
        """Whether some of the devices belong to another process."""
        return len(self.local) < len(self.all)

    def shard(self, array: np.ndarray) -> jax.Array:
        """Split an array along its leading axis over the devices."""
        return jax.make_array_from_callback(array.shape, self.sharding, lambda part: array[part])

    def replicate(self, array: Any) -> jax.Array:
        """Put a whole array on every device."""
        array = np.asarray(array)
        replicated = NamedSharding(self.mesh, PartitionSpec())
        return jax.make_array_from_callback(array.shape, replicated, lambda part: array[part])

    def to_host(self, tree: PyTree) -> PyTree:
        """Return whole NumPy arrays of sharded ones, in every process."""
        if self.span_processes:
            return _multihost_utils().process_allgather(tree, tiled=True)
        return jax.device_get(tree)

    def reduce_over_processes(self, value: float, reduce: Callable[[Any], Any] = np.max) -> Any:
        """Reduce one number of each process to one number, the same in all of them."""
        if not self.span_processes:
            return value
        return reduce(np.asarray(_multihost_utils().process_allgather(np.asarray(value)))).item()

    def broadcast(self, tree: PyTree) -> PyTree:
        """Return the first process' arrays in every process, bit for bit."""
        if not self.span_processes:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.ascontiguousarray(leaf) for leaf in leaves]
        # Bytes are sent, because JAX broadcasts numbers by adding zeros, which changes -0.0 and
        # the payloads of NaNs.
        content = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
        received = np.asarray(_multihost_utils().broadcast_one_to_all(content)).tobytes()
        parts, start = [], 0
        for leaf, array in zip(leaves, arrays, strict=True):
            part = np.frombuffer(received, array.dtype, array.size, start)
            parts.append(part.reshape(np.shape(leaf)).copy())
            start += array.nbytes
        return jax.tree.unflatten(structure, parts)

    def run_in_first_process(self, function: Callable[[], Any]) -> Any:
        """Call a function in the first process alone; if it raises, every process raises."""
        failure, result = None, None
        if not (self.span_processes and jax.process_index()):
            try:
                result = function()
            except Exception as error:  # Any error, since the other processes wait for the outcome.
                failure = error
        if self.reduce_over_processes(failure is not None):
            raise failure or RuntimeError("the first process failed; its error says why")
        return result

    def round_up(self, batch: int, most: int) -> int:
        """Round min(batch, most) up to a multiple of the number of devices."""
        return self.count * -(-min(batch, most) // self.count)


# Which devices the heavy parts of an update are divided over. JAX compiles a program anew for
# another value of this context.
_sharing = jax.make_user_context(None)


def sharing(devices: Devices | None) -> AbstractContextManager[None]:
    """Return a context in which the heavy parts of an update may be divided over devices."""
    return _sharing(devices)


def devices_that_share() -> Devices | None:
    """Return the devices of the context `sharing`, or None."""
    return _sharing.value


def axis_types(mesh: Any, axes: Sequence[str]) -> list[AxisType]:
    """Return the types of some axes of a mesh."""
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return [types[axis] for axis in axes]


def automatic_mesh(mesh: Mesh) -> Mesh:
    """Return the mesh with axes over which JAX propagates shardings by itself."""
    return Mesh(mesh.devices, mesh.axis_names)


def without_ambient_mesh(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a function so that it does not see a mesh that `jax.set_mesh` has set."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
            return function(*args, **kwargs)

    return call


def _multihost_utils() -> Any:
    """Import the module when several processes take part, since it loads slowly."""
    from jax.experimental import multihost_utils

    return multihost_utils
