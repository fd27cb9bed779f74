"""The devices that share the points of a sweep, and how much one of them holds."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from momentax._core import arguments
from momentax._core.typing import PyTree

_P = ParamSpec("_P")
_R = TypeVar("_R")
_AXIS = "points"
_SHARE = 0.8  # Of the free memory; the rest is for what runs beside.


def use_all_cores(count: int | None = None) -> int:
    """Make each CPU core a JAX device, so that a sweep runs a point on each.

    It must come before anything that starts JAX: an array, a key, jax.devices().
    On other platforms it does no harm.

    Args:
        count: How many devices, at least 1; None takes all cores that this
            process may use.

    Returns:
        The number of CPU devices that JAX has from now on.

    Raises:
        RuntimeError: JAX has started with another number of CPU devices.
        ValueError: count is below 1.
        TypeError: count is no whole number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = (cores or 1) if count is None else arguments.as_count("count", count)
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        there = jax.local_device_count("cpu")  # The flag has decided; both at once fail in JAX.
    else:
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # JAX has started.
            pass
        else:
            return wanted
        there = jax.local_device_count("cpu")
    if there != wanted:
        raise RuntimeError(
            f"JAX has started with {there} CPU device{'s' * (there > 1)}, and {wanted} were asked "
            "for; call momentax.use_all_cores() before anything that makes an array"
        )
    return there


@dataclass(frozen=True)
class Devices:
    """The mesh axes along which the leading axis of a batch is split."""

    mesh: Mesh
    axes: tuple[str, ...]

    @property
    def sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(self.axes))

    @property
    def count(self) -> int:
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def every(self) -> list[Any]:
        return self.mesh.devices.ravel().tolist()

    @property
    def platform(self) -> str:
        return self.every[0].platform

    @property
    def kind(self) -> str:
        return self.every[0].device_kind

    @property
    def spread(self) -> bool:
        """Whether other processes have some of them."""
        return any(device.process_index != jax.process_index() for device in self.every)

    def place(self, array: np.ndarray) -> jax.Array:
        """A batch on the devices, each with its part."""
        return jax.make_array_from_callback(array.shape, self.sharding, lambda part: array[part])

    def copied(self, array: Any) -> jax.Array:
        """An array whole on every device."""
        array = np.asarray(array)
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        return jax.make_array_from_callback(array.shape, everywhere, lambda part: array[part])

    def fetch(self, tree: PyTree) -> PyTree:
        """Every process' copy of a batch, in NumPy."""
        if self.spread:
            return multihost_utils.process_allgather(tree, tiled=True)
        return jax.device_get(tree)

    def agreed(self, value: float, choose: Callable[[Any], Any] = np.max) -> Any:
        """One number for all processes, of those that each has."""
        if not self.spread:
            return value
        return choose(np.asarray(multihost_utils.process_allgather(np.asarray(value)))).item()

    def told(self, tree: PyTree) -> PyTree:
        """What the first process has, in all of them, bit for bit."""
        if not self.spread:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.ascontiguousarray(leaf) for leaf in leaves]
        # As bytes, since numbers are told by adding zeros, which -0.0 and NaNs do not survive.
        content = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
        whole = np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes()
        parts, start = [], 0
        for leaf, array in zip(leaves, arrays, strict=True):
            own = np.frombuffer(whole, array.dtype, array.size, start)
            parts.append(own.reshape(np.shape(leaf)).copy())
            start += array.nbytes
        return jax.tree.unflatten(structure, parts)

    def in_first_process(self, act: Callable[[], Any]) -> Any:
        """Do something once; where it fails, it fails in every process."""
        failure, done = None, None
        if not (self.spread and jax.process_index()):
            try:
                done = act()
            except Exception as error:  # Whatever it is, the others must hear of it.
                failure = error
        if self.agreed(failure is not None):
            raise failure or RuntimeError("the sweep's first process failed; its error says why")
        return done

    def filled(self, batch: int, count: int) -> int:
        """A batch size that fills every device, and is no larger than so many points need."""
        return self.count * -(-min(batch, count) // self.count)

    def free_memory(self) -> float:
        """Bytes that a program may take on each device; infinite where nobody tells."""
        local = [d for d in self.every if d.process_index == jax.process_index()]
        free = []
        for device in local:
            statistics = device.memory_stats() or {}
            if "bytes_limit" in statistics:
                free.append(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
            elif device.platform == "cpu":
                free.append(_host_memory() / len(local))
        return self.agreed(_SHARE * min(free, default=math.inf), np.min)


def apart(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let no mesh that `jax.set_mesh` has set reach a function; its programs are for one device."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
            return function(*args, **kwargs)

    return call


def devices(mesh: Any) -> Devices:
    """The devices that a sweep's argument mesh means."""
    if mesh is None:
        chosen: Any = getattr(jax.config, "jax_default_device", None)  # Of a context too.
        every = jax.devices(chosen) if chosen is None or isinstance(chosen, str) else [chosen]
        mesh = Mesh(np.array(every), (_AXIS,))
    if isinstance(mesh, Mesh):
        return Devices(_automatic(mesh), mesh.axis_names)
    if not isinstance(mesh, NamedSharding) or not isinstance(mesh.mesh, Mesh):
        raise TypeError(
            "mesh must be a jax.sharding.Mesh, or a NamedSharding whose first entry names the mesh "
            f"axes to split the points over, got {arguments.describe(mesh)}"
        )
    axes = mesh.spec[0] if len(mesh.spec) == 1 else None
    if not axes or not isinstance(axes, str | tuple):
        raise ValueError(
            "mesh must be a NamedSharding of one entry, the mesh axes to split the points over, as "
            f'PartitionSpec("points"), got {mesh.spec}'
        )
    return Devices(_automatic(mesh.mesh), (axes,) if isinstance(axes, str) else tuple(axes))


def _automatic(mesh: Mesh) -> Mesh:
    """A mesh whose shardings JAX propagates by itself, whatever kind it came as."""
    if not mesh.devices.size:
        raise ValueError("mesh has no devices; give one that has some, or None for all")
    return Mesh(mesh.devices, mesh.axis_names)


def _host_memory() -> float:
    """Bytes that this process may still take, of the machine's and of its control group's."""
    free = [math.inf]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(1024 * float(line.split()[1]))
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        free.append(_group_memory(Path("/sys/fs/cgroup"), own))
    except (OSError, ValueError):  # Another system.
        pass
    return max(0.0, min(free))


def _group_memory(root: Path, own: str) -> float:
    """Bytes that a control group and those around it still allow."""
    free, group = [math.inf], root / own.lstrip("/")
    for each in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError, KeyError):  # Another version.
            limit = (each / "memory.max").read_text().strip()
            if limit != "max":
                taken = float((each / "memory.current").read_text())
                free.append(float(limit) - taken)
                # Old copies of files count as taken, but give way.
                lines = (each / "memory.stat").read_text().splitlines()
                free[-1] += float(dict(line.split() for line in lines)["inactive_file"])
        if each == root:
            break
    return min(free)
