"""ZeRO: the state of any transformation split over the devices that share the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from momentax._core import arguments, trees
from momentax._core.sharding import (
    Devices,
    axis_types,
    depending_on,
    detached,
    place_like,
    placed_as_before,
    sharing,
    split_dimension,
)
from momentax._core.typing import PyTree
from momentax._state import _flax
from momentax._state._names import join_names, leaf_names
from momentax._wrappers._shares import (
    Share,
    Shares,
    Split,
    as_devices,
    guides_of,
    shares_of,
    splits_of,
)


class ShardedTransformation(optax.GradientTransformationExtraArgs):
    """A transformation whose state is split over devices.

    shares: from the parameters to a table of what each device holds.
    """

    shares: Callable[[PyTree], Shares]


def shard_velocity(
    tx: optax.GradientTransformation, mesh: Mesh, axis: str | tuple[str, ...]
) -> optax.GradientTransformationExtraArgs:
    """Split the state of any transformation over the devices that share its gradients.

    Data parallel training keeps the velocity whole on each of n devices. Here each device keeps
    and updates 1/n of it, which is stage 1 of ZeRO:

        gradient, whole on each device  ->  the device's part of it
        v_t = β v_{t-1} + g_t, and all else that tx computes, on this part
        updates, a part on each device  ->  whole on each device: one all-gather for each parameter

    The updates are those of tx. Parameters are whole on all devices along `axis`. Other axes of
    the mesh may split them, and these splits stay as they are.

    Which dimension is split. In each parameter it is the first dimension that no axis of the mesh
    splits yet and whose length is a multiple of the number of devices. In a stack of matrices the
    first dimension counts the matrices. If there is no such dimension, one that another axis splits
    is divided further. With `storage.int8` each device must hold whole blocks. A parameter without
    a fitting dimension keeps its velocity whole. If the parameter itself is split along `axis`, its
    velocity is placed like the parameter. Arrays of the state that belong to no parameter, such as
    counts, are not split. `tx.shares(params)`, where tx is the result, is a table of all parameters
    with the reasons. Its attribute `whole` lists the parameters whose velocity is whole.

    Where the placement comes from. `init` reads how the parameters are placed, and places the
    state. `update` leaves the state where it is. So place a state that was restored or made
    elsewhere like that of `init` first. Inside `jax.jit`, `init` knows the placement on explicit
    mesh axes and the metadata of `flax.nnx`, and nothing else. If automatic axes other than `axis`
    split parameters, call `init` outside of `jit`.

    Matrices. In `momentax.muon` and `momentax.orthogonalize` each device orthogonalizes 1/n of the
    matrices of one shape. Two all-to-alls for each shape send the parts of a matrix to its device
    and the parts of the result back. Nothing is sent for a stack whose number of matrices is a
    multiple of the number of devices.

    Args:
        tx: Any transformation: of momentax, of Optax or your own.
        mesh: The mesh of the parameters, with automatic or with explicit axes.
        axis: The name of a mesh axis, or a tuple of several, along which all devices have the
            same parameters; usually that of the batch.

    Returns:
        A transformation whose updates are placed like the parameters. Its state has the structure
        and the values of the state of tx, so that each can be used in place of the other. The
        attribute `shares` is a function from the parameters to a mapping, from the name of each
        parameter to what a device holds of its velocity. The mapping prints as a table.

    Raises:
        TypeError: tx is not a gradient transformation, mesh is not a mesh, or axis is not a name.
        ValueError: axis names no axis of the mesh, or one twice; at init, a parameter lies on
            other devices than those of the mesh, or is a part of one inside of `jax.shard_map`
            along `axis`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",))  # As many devices as there are.
        >>> tx = momentax.shard_velocity(momentax.sgd(0.1), mesh, "data")
        >>> updates, state = tx.update(grads, tx.init(params), params)

    Source:
        Rajbhandari, Rasley, Ruwase and He, ZeRO: memory optimizations toward training trillion
        parameter models, 2020, arXiv:1910.02054.
    """
    arguments.require_transformation("tx", tx)
    devices = as_devices(mesh, axis)
    inner = optax.with_extra_args_support(tx)

    def init(params):
        if devices.count == 1:
            return inner.init(params)
        shares = _shares(inner, params, devices)
        parts = _split_params(params, shares, devices)
        return _split_state(inner.init(parts), _arrays(parts), shares, devices)

    def update(updates, state, params=None, **extra_args):
        if devices.count == 1:
            return inner.update(updates, state, params, **extra_args)
        return _update(inner, devices, updates, state, params, extra_args)

    found = ShardedTransformation(init, update)
    found.shares = lambda params: _table(params, _shares(inner, params, devices))
    return found


def _shares(tx: optax.GradientTransformation, params: PyTree, devices: Devices) -> dict[Any, Share]:
    arrays = trees.only_arrays(params)
    shapes = jax.eval_shape(lambda arrays: tx.init(trees.with_others(arrays, params)), arrays)
    return shares_of(params, shapes, devices)


def _table(params: PyTree, shares: Mapping[Any, Share]) -> Shares:
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    names = join_names(leaf_names(params), "/")
    named = zip(names, paths, strict=True)
    return Shares({name: shares[path] for name, path in named if path in shares})


# At init.


def _split_params(params: PyTree, shares: Mapping[Any, Share], devices: Devices) -> PyTree:
    """Split the parameters as their velocity, so that the state is never whole on one device."""

    def split(path: Any, leaf: Any) -> Any:
        share = shares.get(path)
        if share is None:
            return leaf
        return _placed(leaf, Split(path, share.mesh, share.spec, share.dimension), devices)

    return jax.tree_util.tree_map_with_path(split, params)


def _split_state(
    state: PyTree, params: Mapping[Any, Any], shares: Mapping[Any, Share], devices: Devices
) -> PyTree:
    splits = splits_of(state, shares)

    def split(path: Any, leaf: Any) -> Any:
        found = splits.get(path)
        if found is None:
            return leaf
        return _placed(depending_on(params[found.owner], leaf), found, devices)

    state = jax.tree_util.tree_map_with_path(split, state)
    specs = {path: tuple(each.sharding(devices).spec) for path, each in splits.items()}
    return _flax.annotate_state(state, specs)


def _placed(leaf: Any, split: Split, devices: Devices) -> Any:
    if not arguments.is_traced(leaf):
        return jax.device_put(leaf, split.sharding(devices))
    if split.dimension is None:
        return leaf
    return split_dimension(detached(leaf, devices.mesh), devices, split.dimension)


# At update.


def _update(
    tx: optax.GradientTransformationExtraArgs,
    devices: Devices,
    updates: PyTree,
    state: PyTree,
    params: PyTree,
    extra_args: dict[str, Any],
) -> tuple[PyTree, PyTree]:
    """Return the updates of tx, placed as the parameters, and its state, placed as before."""
    guides = guides_of(state, _arrays(updates))

    def split(tree: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: _split_as(leaf, guides.get(path), devices), tree
        )

    inner = _flax.without_annotations(state)
    with sharing(devices):
        u, after = tx.update(split(updates), inner, split(params), **extra_args)
    if jax.tree.structure(inner) == jax.tree.structure(after):
        after = _flax.wrap_like(after, state)
    like = _arrays(updates if params is None else params)
    u = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _whole_as(leaf, like.get(path), devices), u
    )
    return u, placed_as_before(state, after)


def _arrays(tree: PyTree) -> dict[Any, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path: leaf for path, leaf in leaves if trees.is_array(leaf)}


def _split_as(leaf: Any, guide: Any, devices: Devices) -> Any:
    """Place a gradient or a parameter as the velocity that belongs to it."""
    if guide is None or np.shape(leaf) != guide.shape:
        return leaf
    if not (arguments.is_traced(leaf) or arguments.is_traced(guide)):
        return place_like(leaf, guide)
    return place_like(detached(leaf, devices.mesh), guide)


def _whole_as(u: Any, like: Any, devices: Devices) -> Any:
    """Place an update as the parameter that it belongs to, which is not split over the devices."""
    if like is None or not isinstance(u, jax.Array):
        return u
    if arguments.is_traced(u) or arguments.is_traced(like):
        mesh = jax.typeof(like).sharding.mesh
        if not mesh.empty and AxisType.Explicit in axis_types(mesh, devices.axes):
            return place_like(u, like)
        return split_dimension(u, devices, None)
    if isinstance(like, jax.Array) and like.committed:
        return place_like(u, like)
    return jax.device_put(u, NamedSharding(devices.mesh, PartitionSpec())) if u.committed else u
