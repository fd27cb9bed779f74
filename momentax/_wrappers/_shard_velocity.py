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
    detached,
    place_like,
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
    """TODO"""
    arguments.require_transformation("tx", tx)
    devices = as_devices(mesh, axis)
    inner = optax.with_extra_args_support(tx)

    def init(params):
        shares = _shares(inner, params, devices)
        state = inner.init(_split_params(params, shares, devices))
        return _split_state(state, shares, devices)

    def update(updates, state, params=None, **extra_args):
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
    return Shares({name: shares[path] for path, name in zip(paths, names) if path in shares})


# At init.


def _split_params(params: PyTree, shares: Mapping[Any, Share], devices: Devices) -> PyTree:
    """Split the parameters as their velocity, so that the state is never whole on one device."""

    def split(path: Any, leaf: Any) -> Any:
        share = shares.get(path)
        if share is None:
            return leaf
        return _placed(leaf, Split(share.mesh, share.spec, share.dimension), devices)

    return jax.tree_util.tree_map_with_path(split, params)


def _split_state(state: PyTree, shares: Mapping[Any, Share], devices: Devices) -> PyTree:
    splits = splits_of(state, shares)

    def split(path: Any, leaf: Any) -> Any:
        return _placed(leaf, splits[path], devices) if path in splits else leaf

    return jax.tree_util.tree_map_with_path(split, state)


def _placed(leaf: Any, split: Split, devices: Devices) -> Any:
    if not arguments.is_traced(leaf):
        return jax.device_put(leaf, split.sharding(devices))
    if split.dimension is None:
        return leaf
    return split_dimension(detached(leaf), devices, split.dimension)


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
            lambda path, leaf: _split_as(leaf, guides.get(path)), tree
        )

    with sharing(devices):
        u, after = tx.update(split(updates), state, split(params), **extra_args)
    like = _arrays(updates if params is None else params)
    u = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _whole_as(leaf, like.get(path), devices), u
    )
    return u, _placed_as_before(state, after)


def _arrays(tree: PyTree) -> dict[Any, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path: leaf for path, leaf in leaves if trees.is_array(leaf)}


def _split_as(leaf: Any, guide: Any) -> Any:
    """Place a gradient or a parameter as the velocity that belongs to it."""
    if guide is None or np.shape(leaf) != guide.shape:
        return leaf
    if not (arguments.is_traced(leaf) or arguments.is_traced(guide)):
        return place_like(leaf, guide)
    return place_like(detached(leaf), guide)


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


def _placed_as_before(before: PyTree, after: PyTree) -> PyTree:
    if jax.tree.structure(before) != jax.tree.structure(after):
        return after
    return jax.tree.map(
        lambda old, new: place_like(new, old) if np.shape(new) == np.shape(old) else new,
        before,
        after,
    )
