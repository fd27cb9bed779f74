"""What `shard_velocity` refuses, and what it tells; two devices are enough."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import momentax
from momentax import shard_velocity, storage

TX = momentax.sgd(0.1)


def two(kind=AxisType.Auto, name="data"):
    return jax.make_mesh((2,), (name,), (kind,))


@pytest.mark.parametrize(
    ("mesh", "axis", "error", "message"),
    [
        (lambda: "data", "data", TypeError, r"mesh must be a jax\.sharding\.Mesh, such as"),
        (lambda: two().abstract_mesh, "data", TypeError, "mesh must be"),
        (two, "model", ValueError, "mesh has 'data', got 'model'"),
        (two, ("data", "model"), ValueError, "mesh has 'data', got 'model'"),
        (two, (), ValueError, "at least one axis of mesh"),
        (two, 0, TypeError, "axis must be a sequence of mesh axes, got 0"),
        (two, (0,), TypeError, "axis must be the name of an axis of mesh"),
        (two, ("data", "data"), ValueError, "each axis of mesh once"),
    ],
)
def test_wrong_meshes_and_axes_are_refused(mesh, axis, error, message):
    with pytest.raises(error, match=message):
        shard_velocity(TX, mesh(), axis)


def test_axes_of_two_types_are_refused():
    mesh = jax.make_mesh((2, 1), ("data", "model"), (AxisType.Auto, AxisType.Explicit))
    with pytest.raises(ValueError, match=r"of one type, got .* Auto, Explicit"):
        shard_velocity(TX, mesh, ("data", "model"))


def test_a_parameter_elsewhere_is_refused_and_named():
    tx = shard_velocity(TX, two(), "data")
    one = jax.device_put(jnp.ones(4), jax.devices()[0])
    with pytest.raises(ValueError, match=r"at \['w'\] must lie on the mesh .* of 2, got one on"):
        tx.init({"w": one})
    other = jax.device_put(jnp.ones(4), NamedSharding(two(name="batch"), P()))
    with pytest.raises(ValueError, match=r"at \['w'\] lies on a mesh with the axes 'batch' of 2"):
        tx.init({"w": other})
    turned = Mesh(np.array(jax.devices()[1::-1]), ("data",))
    with pytest.raises(ValueError, match="of other devices"):
        tx.init({"w": jax.device_put(jnp.ones(4), NamedSharding(turned, P()))})


def test_inside_of_a_shard_map_the_error_says_what_to_do():
    mesh = two()
    tx = shard_velocity(TX, mesh, "data")
    run = jax.shard_map(lambda p: tx.init(p), mesh=mesh, in_specs=P(), out_specs=P())
    with pytest.raises(ValueError, match=r"inside of jax\.shard_map"):
        jax.eval_shape(run, jnp.ones(4))


def test_the_table_names_what_stays_whole_and_why():
    tx = shard_velocity(momentax.stored(TX, storage.int8(), min_size=1), two(), "data")
    params = {
        "dense": {"kernel": jnp.ones((256, 3)), "bias": jnp.ones(3)},
        "short": jnp.ones(256),
        "scale": jnp.ones(()),
        "split": jax.device_put(jnp.ones(512), NamedSharding(two(), P("data"))),
    }
    table = tx.shares(params)
    assert {name: share.dimension for name, share in table.items()} == {
        "dense/bias": None, "dense/kernel": None, "scale": None, "short": None, "split": None,
    }  # fmt: skip
    assert table.whole == ("dense/bias", "dense/kernel", "scale", "short", "split")
    assert table["dense/bias"].why == "no dimension is divisible by 2"
    assert table["short"].why == "no part of it would hold whole blocks of the storage"
    assert table["scale"].why == "a scalar"
    assert table["split"].why == "the parameter itself is split along data"
    plain = shard_velocity(TX, two(), "data").shares(params)
    assert (plain["dense/kernel"].dimension, plain["dense/kernel"].entries) == (0, 384)
    assert "dense/kernel  256 × 3  dimension 0  384" in repr(plain)


def test_a_whole_module_and_a_gradient_of_none_pass():
    tx = shard_velocity(TX, two(), "data")
    params = {"w": jnp.ones(4), "none": None, "name": "linear", "b": jnp.ones(2)}
    state = tx.init(params)
    updates, state = tx.update(params | {"b": None}, state, params)
    assert updates["none"] is None
    np.testing.assert_array_equal(updates["b"], np.zeros(2))
    assert updates["w"].sharding.is_fully_replicated
    assert not momentax.velocity(state)["w"].sharding.is_fully_replicated


def test_without_parameters_and_without_a_velocity_updates_are_whole():
    mesh = two()
    g = jax.device_put(jnp.arange(4.0), NamedSharding(mesh, P()))
    for tx in (momentax.nesterov(0.9), optax.scale(-0.1)):
        sharded = shard_velocity(tx, mesh, "data")
        updates, _ = jax.jit(sharded.update)(g, sharded.init(g))
        np.testing.assert_allclose(updates, tx.update(g, tx.init(g))[0], rtol=1e-6)
        assert updates.sharding.is_fully_replicated


def test_the_state_is_that_of_the_transformation():
    tx = shard_velocity(TX, two(), "data")
    params = {"w": jnp.ones(4)}
    assert jax.tree.structure(tx.init(params)) == jax.tree.structure(TX.init(params))
    with pytest.raises(TypeError, match="state must be"):
        shard_velocity(momentax.lion(), two(), "data").update(
            params, momentax.nesterov().init(params), params
        )
