"""Which dimension of each parameter's velocity is split over devices, and why some are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from momentax._core import arguments, codecs, trees
from momentax._core.sharding import Devices, axis_types, names_in, with_axes
from momentax._core.typing import PyTree
from momentax._state import _flax

_COLUMNS = ("parameter", "shape", "split along", "entries a device", "why")


class Share(NamedTuple):
    """Where a parameter lies, and which dimension of its velocity is split.

    shape: the shape of the parameter.
    mesh: the mesh on which the parameter lies.
    spec: how mesh axes split the parameter, one entry for each dimension, as far as is known.
    dimension: the dimension that is split over the devices, or None.
    count: the number of devices.
    why: why no dimension is split, or why this one.
    """

    shape: tuple[int, ...]
    mesh: Any
    spec: tuple[Any, ...]
    dimension: int | None
    count: int
    why: str

    @property
    def entries(self) -> int:
        """The entries of the velocity that a device holds, as far as is known."""
        axes = [name for entry in self.spec for name in names_in(entry)]
        parts = math.prod(self.mesh.shape[name] for name in axes)
        return math.prod(self.shape) // parts // (1 if self.dimension is None else self.count)


class Shares(Mapping[str, Share]):
    """The share that each device has of each parameter's velocity, printed as a table.

    The names are those of `momentax.velocity_norms`, such as "decoder/kernel". `whole` lists the
    parameters whose velocity is not split.
    """

    def __init__(self, shares: Mapping[str, Share]) -> None:
        self._shares = dict(shares)

    def __getitem__(self, name: str) -> Share:
        return self._shares[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def whole(self) -> tuple[str, ...]:
        """The names of the parameters whose velocity is not split."""
        return tuple(name for name, share in self._shares.items() if share.dimension is None)

    def __repr__(self) -> str:
        rows = [_COLUMNS, *(_row(name, share) for name, share in self._shares.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def _row(name: str, share: Share) -> tuple[str, ...]:
    shape = " × ".join(map(str, share.shape)) or "scalar"
    along = "" if share.dimension is None else f"dimension {share.dimension}"
    return name or "(root)", shape, along, str(share.entries), share.why


def as_devices(mesh: Any, axis: Any) -> Devices:
    """Return the devices along one axis of a mesh or several."""
    if not isinstance(mesh, Mesh):
        raise TypeError(
            'mesh must be a jax.sharding.Mesh, such as jax.make_mesh((8,), ("data",)), got '
            f"{arguments.describe(mesh)}"
        )
    names = (axis,) if isinstance(axis, str) else arguments.as_items("axis", axis, "mesh axes")
    listed = ", ".join(map(repr, mesh.axis_names))
    if not names:
        raise ValueError(f"axis must name at least one axis of mesh, which has {listed}, got none")
    for name in names:
        if not isinstance(name, str) or name not in mesh.axis_names:
            raise (ValueError if isinstance(name, str) else TypeError)(
                "axis must be the name of an axis of mesh, or several names; mesh has "
                f"{listed}, got {arguments.describe(name)}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"axis must name each axis of mesh once, got {arguments.describe(axis)}")
    devices = Devices(mesh, names)
    if len(set(axis_types(mesh, names))) > 1:
        raise ValueError(
            f"axis must name mesh axes of one type, got {arguments.describe(axis)}, of the types "
            f"{', '.join(kind.name for kind in axis_types(mesh, names))}"
        )
    return devices


def shares_of(params: PyTree, state: PyTree, devices: Devices) -> dict[Any, Share]:
    """Return the share of each array among the parameters, by its path.

    `state` holds the shapes of the state of the transformation.
    """
    leaves = {
        path: leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if trees.is_array(leaf)
    }
    annotated = _flax.annotations(params)
    owned = _state_leaves(state, leaves)
    shares = {}
    for path, leaf in leaves.items():
        mesh, spec = _placement(path, leaf, devices, annotated.get(path, ()))
        blocks = [each.shape for _, each, is_block in owned.get(path, ()) if is_block]
        shares[path] = _share(np.shape(leaf), mesh, spec, blocks, devices)
    return shares


def _share(
    shape: tuple[int, ...], mesh: Any, spec: Sequence[Any], blocks: Sequence[Any], devices: Devices
) -> Share:
    """Choose the first dimension that divides; leave those alone that are split already."""
    listed = ", ".join(devices.axes)
    n = devices.count

    def share(dimension: int | None, why: str) -> Share:
        return Share(shape, mesh, tuple(spec), dimension, n, why)

    if any(name in devices.axes for entry in spec for name in names_in(entry)):
        return share(None, f"the parameter itself is split along {listed}")
    # The first dimension holds separate matrices in a stack, and whole blocks of a storage.
    order = sorted(range(len(shape)), key=lambda d: spec[d] is not None)
    found_blocks = False
    for d in order:
        parts = n * math.prod(mesh.shape[name] for name in names_in(spec[d]))
        if shape[d] and shape[d] % parts == 0:
            if all(_holds_whole_blocks(shape, d, parts, each) for each in blocks):
                return share(d, f"{shape[d]} = {parts} × {shape[d] // parts}")
            found_blocks = True
    if found_blocks:
        return share(None, "no part of it would hold whole blocks of the storage")
    return share(None, f"no dimension is divisible by {n}" if shape else "a scalar")


def _holds_whole_blocks(shape: Any, dimension: int, parts: int, blocks: Any) -> bool:
    """Return whether parts of an array hold whole blocks, whose numbers have a shape."""
    first = len(blocks) - 1  # The first dimension that blocks run over.
    if dimension < first:
        return True
    entries = math.prod(shape[first:])
    return dimension == first and blocks[-1] % parts == 0 and entries % blocks[-1] == 0


# Where a parameter lies.


def _placement(
    path: Any, leaf: Any, devices: Devices, annotation: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Return the mesh of a parameter, and how its axes split each dimension.

    In a trace on automatic axes that is not known, unless Flax says it.
    """
    dimensions = len(np.shape(leaf))
    if arguments.is_traced(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
        sharding = jax.typeof(leaf).sharding
    elif isinstance(leaf, jax.Array) and leaf.committed:
        sharding = leaf.sharding
    else:
        return devices.mesh, [None] * dimensions
    if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
        _require_mesh(path, sharding.mesh, devices)
        spec = _padded(sharding.spec, dimensions)
        if arguments.is_traced(leaf) and not any(spec):
            spec = _annotated(annotation, dimensions, devices)
        return sharding.mesh, spec
    if arguments.is_traced(leaf):
        return devices.mesh, _annotated(annotation, dimensions, devices)
    if sharding.device_set == set(devices.all) and sharding.is_fully_replicated:
        return devices.mesh, [None] * dimensions
    raise ValueError(
        f"the parameter at {trees.path_name(path)} must lie on the mesh of shard_velocity, whose "
        f"axes are {_sizes(devices.mesh)}, got one on {_devices_in_words(sharding)}: place it with "
        "jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))"
    )


def _require_mesh(path: Any, mesh: Any, devices: Devices) -> None:
    """Refuse the mesh of a parameter if it is not that of `shard_velocity`."""
    if AxisType.Manual in mesh.axis_types and AxisType.Manual in axis_types(mesh, devices.axes):
        raise ValueError(
            f"the parameter at {trees.path_name(path)} is a part of one inside of jax.shard_map, "
            f"which splits work along {', '.join(devices.axes)} already: update the parameters "
            "outside of it, or leave shard_velocity out"
        )
    same = dict(mesh.shape) == dict(devices.mesh.shape)
    if isinstance(mesh, Mesh):
        same = same and mesh.devices.tolist() == devices.mesh.devices.tolist()
    if not same:
        raise ValueError(
            f"the parameter at {trees.path_name(path)} lies on a mesh with the axes "
            f"{_sizes(mesh)}, and shard_velocity has one with {_sizes(devices.mesh)}"
            f"{' of other devices' if dict(mesh.shape) == dict(devices.mesh.shape) else ''}: give "
            "both the same mesh"
        )


def _padded(spec: Sequence[Any], dimensions: int) -> list[Any]:
    entries = [None if entry is PartitionSpec.UNCONSTRAINED else entry for entry in spec]
    return entries + [None] * (dimensions - len(entries))


def _annotated(annotation: Sequence[Any], dimensions: int, devices: Devices) -> list[Any]:
    """Return the axes of the mesh in an annotation, which may hold other names as well."""
    on_mesh = [
        tuple(name for name in names_in(entry) if name in devices.mesh.shape)
        for entry in _padded(annotation, dimensions)
    ]
    return [names or None for names in on_mesh]


def _sizes(mesh: Any) -> str:
    return ", ".join(f"{name!r} of {size}" for name, size in mesh.shape.items())


def _devices_in_words(sharding: Any) -> str:
    devices = sorted(map(str, sharding.device_set))
    return devices[0] if len(devices) == 1 else f"{len(devices)} devices"


# Where the state lies.


def _state_leaves(
    state: PyTree, params: Mapping[Any, Any]
) -> dict[Any, list[tuple[Any, Any, bool]]]:
    """Return for each path of a parameter the leaves of the state that lie at such a path.

    Of each the path, the leaf and whether it has one entry for each block of an encoded array.
    """
    found: dict[Any, list[tuple[Any, Any, bool]]] = {}

    def visit(tree: PyTree, at: Any, is_block: bool) -> None:
        for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=codecs.is_packed):
            if codecs.is_packed(node):
                first = node._fields[0]
                for field in node._fields:
                    key = jax.tree_util.GetAttrKey(field)
                    visit(getattr(node, field), (*at, *path, key), field != first)
            elif trees.is_array(node):
                whole = (*at, *path)
                starts = range(len(whole) + 1)
                owner = next((whole[i:] for i in starts if whole[i:] in params), None)
                if owner is not None:
                    found.setdefault(owner, []).append((whole, node, is_block))

    visit(state, (), False)
    return found


def guides_of(state: PyTree, params: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return for each path of a parameter a leaf of the state of its shape, if there is one."""
    guides = {}
    for owner, leaves in _state_leaves(state, params).items():
        shape = np.shape(params[owner])
        fitting = [leaf for _, leaf, is_block in leaves if not is_block and leaf.shape == shape]
        if fitting and shape:
            guides[owner] = fitting[0]
    return guides


class Split(NamedTuple):
    """How a leaf of the state is split: the mesh, the known spec and the dimension.

    owner: the path of its parameter.
    """

    owner: Any
    mesh: Any
    spec: tuple[Any, ...]
    dimension: int | None

    def sharding(self, devices: Devices) -> NamedSharding:
        spec = with_axes(self.spec, self.dimension, devices.axes)
        return NamedSharding(self.mesh, PartitionSpec(*spec))


def splits_of(state: PyTree, shares: Mapping[Any, Share]) -> dict[Any, Split]:
    """Return how each leaf of the state is split that belongs to a parameter, by its path."""
    splits = {}
    for owner, leaves in _state_leaves(state, shares).items():
        for path, leaf, is_block in leaves:
            split = _split_like(owner, shares[owner], leaf.shape, is_block)
            if split is not None:
                splits[path] = split
    return splits


def _split_like(owner: Any, share: Share, shape: tuple[int, ...], is_block: bool) -> Split | None:
    """Return how a leaf of the state is split, given its parameter's share."""
    d, leading = share.dimension, len(shape) - len(share.shape)
    if leading >= 0 and shape[leading:] == share.shape:  # Such as several stacked velocities.
        spec = (None,) * leading + share.spec
        return Split(owner, share.mesh, spec, None if d is None else d + leading)
    if d is None or d >= len(shape):
        return None
    if is_block or shape[: d + 1] == share.shape[: d + 1]:
        spec = share.spec[: d + 1] + (None,) * (len(shape) - d - 1)
        return Split(owner, share.mesh, spec, d)
    return None
