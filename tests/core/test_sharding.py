"""Placing one array like another, and the collectives of a mesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from momentax._core.sharding import (
    Devices,
    automatic_mesh,
    constant_like,
    devices_that_share,
    place_like,
    replicate_like,
    sharing,
    split_dimension,
    without_ambient_mesh,
)


def two_devices(kind=AxisType.Auto):
    return jax.make_mesh((2,), ("x",), (kind,))


def split_array(mesh):
    return jax.device_put(jnp.arange(4.0), NamedSharding(mesh, PartitionSpec("x")))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_an_array_is_placed_like_a_committed_one(kind):
    like = split_array(two_devices(kind))
    placed = place_like(np.arange(4.0, dtype=np.float32) + 1, like)
    assert placed.sharding == like.sharding
    np.testing.assert_array_equal(placed, [1, 2, 3, 4])


@pytest.mark.parametrize("like", [np.zeros(4), 3.0])
def test_an_array_stays_where_nothing_is_committed(like):
    array = split_array(two_devices())
    assert place_like(array, like) is array
    assert place_like(array, jnp.zeros(4)) is array


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_an_array_is_placed_like_another_in_a_trace(kind):
    like = split_array(two_devices(kind))
    placed = jax.jit(lambda like: place_like(jnp.zeros(4) + like.sum(), like))(like)
    assert placed.sharding == like.sharding


def test_arrays_of_one_shape_are_placed_each_like_its_own():
    """JAX would place all pairs of one shape alike, and share one constant among them."""
    mesh = two_devices()
    split = split_array(mesh)
    whole = jax.device_put(split, NamedSharding(mesh, PartitionSpec()))

    def place(*likes):
        zeros = [constant_like(jnp.zeros(4), like) for like in likes]
        return zeros, [place_like(jnp.sin(like), like) for like in likes]

    for placed in jax.jit(place)(split, whole):
        assert [array.sharding.is_fully_replicated for array in placed] == [False, True]


def test_one_dimension_is_split_and_other_axes_stay():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((1, 2), ("x", "y"), (kind,) * 2)
        array = jax.device_put(jnp.ones((2, 4)), NamedSharding(mesh, PartitionSpec(None, "y")))
        split = partial(split_dimension, devices=Devices(mesh, ("x",)))
        for dimension, spec in ((0, ("x", "y")), (1, (None, ("y", "x"))), (None, (None, "y"))):
            placed = jax.jit(partial(split, dimension=dimension))(array)
            expected = NamedSharding(mesh, PartitionSpec(*spec))
            assert placed.sharding.is_equivalent_to(expected, 2), (kind, dimension)


def test_a_context_names_the_devices_that_share_an_update():
    devices = Devices(two_devices(), ("x",))
    assert devices_that_share() is None
    with sharing(devices):
        assert devices_that_share() is devices
    assert devices_that_share() is None


def test_a_traced_array_of_another_shape_stays_on_automatic_axes():
    def place(like):
        array = jnp.zeros(3)
        assert place_like(array, like) is array
        return array

    jax.jit(place)(split_array(two_devices()))


def test_an_array_is_replicated_like_an_explicit_one():
    like = split_array(two_devices(AxisType.Explicit))
    whole = jax.jit(lambda like: replicate_like(2 * like, like))(like)
    assert whole.sharding.is_fully_replicated
    np.testing.assert_array_equal(whole, [0, 2, 4, 6])
    single = jnp.zeros(3)
    assert replicate_like(single, single) is single


def test_a_batch_is_split_and_a_shared_array_is_whole():
    devices = Devices(two_devices(), ("x",))
    batch, shared = np.arange(6.0).reshape(2, 3), np.arange(3)
    sharded, replicated = devices.shard(batch), devices.replicate(shared)
    assert sharded.sharding == devices.sharding
    assert [part.data.shape for part in sharded.addressable_shards] == [(1, 3), (1, 3)]
    assert replicated.sharding.is_fully_replicated
    np.testing.assert_array_equal(devices.to_host(sharded), batch)
    np.testing.assert_array_equal(devices.to_host(replicated), shared)
    assert devices.all == devices.local == jax.devices()[:2]
    assert not devices.span_processes


def test_only_some_axes_of_a_mesh_may_split_a_batch():
    mesh = jax.make_mesh((1, 2), ("x", "y"), (AxisType.Explicit,) * 2)
    devices = Devices(automatic_mesh(mesh), ("x",))
    assert devices.mesh.axis_types == (AxisType.Auto,) * 2
    assert devices.count == 1
    assert len(devices.all) == 2


@pytest.mark.parametrize(("batch", "most", "rounded"), [(3, 9, 4), (4, 9, 4), (8, 5, 6), (0, 5, 0)])
def test_a_batch_size_is_rounded_up_to_a_multiple_of_the_devices(batch, most, rounded):
    assert Devices(two_devices(), ("x",)).round_up(batch, most) == rounded


def test_one_process_needs_no_collectives():
    devices, tree = Devices(two_devices(), ("x",)), {"a": np.zeros(2)}
    assert devices.broadcast(tree) is tree
    assert devices.reduce_over_processes(3.5) == 3.5
    assert devices.run_in_first_process(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        devices.run_in_first_process(lambda: 1 / 0)


def test_broadcast_is_bit_for_bit(monkeypatch):
    # JAX broadcasts by a sum, which changes -0.0, the payloads of NaNs and narrow numbers.
    from jax.experimental import multihost_utils

    sent = []

    def sum_over_processes(content):
        assert content.dtype == np.uint8
        sent.append(content)
        return content + np.zeros_like(content)

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", sum_over_processes)
    monkeypatch.setattr(Devices, "span_processes", True)
    tree = {
        "zero": np.float32(-0.0),
        "nan": np.array([0x7FA00001], np.uint32).view(np.float32),
        "narrow": np.arange(6).reshape(2, 3).astype(jnp.float8_e5m2).T,
        "empty": np.zeros((3, 0), jnp.bfloat16),
        "flags": np.array([True, False]),
        "number": 7,
        "last": np.zeros(0),
    }
    received = Devices(two_devices(), ("x",)).broadcast(tree)
    assert len(sent) == 1
    for name, value in tree.items():
        assert received[name].dtype == np.asarray(value).dtype
        assert received[name].shape == np.shape(value)
        assert received[name].tobytes() == np.asarray(value).tobytes()


def test_an_ambient_mesh_is_hidden_and_restored():
    mesh = two_devices(AxisType.Explicit)
    with jax.set_mesh(mesh):
        assert without_ambient_mesh(jax.sharding.get_abstract_mesh)().empty
        assert jax.sharding.get_abstract_mesh() == mesh.abstract_mesh


def test_the_devices_of_a_mesh_have_a_platform_and_a_kind():
    devices = Devices(Mesh(np.array(jax.devices()[:1]), ("x",)), ("x",))
    assert (devices.platform, devices.kind) == ("cpu", jax.devices()[0].device_kind)
