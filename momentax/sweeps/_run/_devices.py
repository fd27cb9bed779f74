"""The devices over which a sweep splits its points, and the memory that they have."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from momentax._core import arguments
from momentax._core.sharding import Devices, automatic_mesh
from momentax._core.without_jax import count_cores

_AXIS = "points"
_SHARE = 0.8  # Of the free memory; the rest is for other programs.


def use_all_cores(count: int | None = None) -> int:
    """Make each CPU core a JAX device, so that a sweep runs a point on each.

    Call it before anything that starts JAX: an array, a key, jax.devices(). On
    other platforms it has no effect.

    Args:
        count: The number of devices, at least 1; None takes all cores that this
            process may use.

    Returns:
        The number of CPU devices that JAX has from now on.

    Raises:
        RuntimeError: JAX has started with another number of CPU devices.
        ValueError: count is below 1.
        TypeError: count is not an integer.

    Example:
        >>> momentax.use_all_cores(jax.device_count()) == jax.device_count()
        True
    """
    wanted = count_cores() if count is None else arguments.as_count("count", count)
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        existing = jax.local_device_count("cpu")  # JAX fails if the option is set beside the flag.
    else:
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:  # JAX has started.
            pass
        else:
            return wanted
        existing = jax.local_device_count("cpu")
    if existing != wanted:
        raise RuntimeError(
            f"JAX has started with {existing} CPU device{'s' * (existing > 1)}, and {wanted} were "
            "requested; call momentax.use_all_cores() before anything that makes an array"
        )
    return existing


def as_devices(mesh: Any) -> Devices:
    """Return the devices of the argument `mesh` of `sweep` and `halve`."""
    if mesh is None:
        default: Any = getattr(jax.config, "jax_default_device", None)  # A context can set it.
        every = jax.devices(default) if default is None or isinstance(default, str) else [default]
        mesh = Mesh(np.array(every), (_AXIS,))
    if isinstance(mesh, Mesh):
        return Devices(_require_devices(mesh), mesh.axis_names)
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
    return Devices(_require_devices(mesh.mesh), (axes,) if isinstance(axes, str) else tuple(axes))


def free_memory(devices: Devices) -> float:
    """Return the bytes that a program may take on each device; infinite where unknown."""
    free = []
    for device in devices.local:
        statistics = device.memory_stats() or {}
        if "bytes_limit" in statistics:
            free.append(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
        elif device.platform == "cpu":
            free.append(_host_memory() / len(devices.local))
    return devices.reduce_over_processes(_SHARE * min(free, default=math.inf), np.min)


def _require_devices(mesh: Mesh) -> Mesh:
    if not mesh.devices.size:
        raise ValueError("mesh has no devices; give one that has some, or None for all devices")
    return automatic_mesh(mesh)


def _host_memory() -> float:
    """Return the bytes that this process may still take, of the machine and its control group."""
    free = [math.inf]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(1024 * float(line.split()[1]))
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        free.append(_group_memory(Path("/sys/fs/cgroup"), group))
    except (OSError, ValueError):  # Only Linux has these files.
        pass
    return max(0.0, min(free))


def _group_memory(root: Path, name: str) -> float:
    """Return the bytes that a control group and the groups around it still allow."""
    free, group = [math.inf], root / name.lstrip("/")
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError, KeyError):  # Other versions differ.
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                taken = float((folder / "memory.current").read_text())
                free.append(float(limit) - taken)
                # The cache of files that are not in use counts as taken but can be reclaimed.
                lines = (folder / "memory.stat").read_text().splitlines()
                free[-1] += float(dict(line.split() for line in lines)["inactive_file"])
        if folder == root:
            break
    return min(free)
