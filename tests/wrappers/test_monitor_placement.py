"""The monitor of sharded parameters, and an exported program that contains one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import momentax
from momentax import measurements, monitor, sgd


def settle(tx, params, update, steps=3):
    """Return the updates and states of some steps along the gradient sin(i θ)."""
    state, found = tx.init(params), []
    for i in range(1, steps + 1):
        g = jax.tree.map(lambda leaf, i=i: jnp.sin(i * leaf), params)
        u, state = update(g, state, params)
        found.append((u, state))
        params = optax.apply_updates(params, u)
    return found


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_sharded_parameters_have_the_readings_of_one_device(kind):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    shapes = {"vector": (8192,), "matrix": (4, 6), "columns": (3, 4), "whole": (3,)}
    specs = {"vector": ("x",), "matrix": ("x",), "columns": (None, "x"), "whole": ()}
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}
    placed = {
        name: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*specs[name])))
        for name, leaf in params.items()
    }
    tx = monitor(sgd(0.1), every=2, history=2, curvature=True)
    update = jax.jit(tx.update)
    one, two = settle(tx, params, update), settle(tx, placed, update)
    for u, state in two:
        for tree in (u, momentax.velocity(state), state.previous.step):
            for name, leaf in tree.items():
                assert leaf.sharding.is_equivalent_to(placed[name].sharding, leaf.ndim), name
    assert [x.sharding for x in jax.tree.leaves(two[1])] == [
        x.sharding for x in jax.tree.leaves(two[2])
    ]
    expected, found = (measurements(run[-1][1]) for run in (one, two))
    assert set(found) == set(expected) >= {"curvature", "alpha", "gradient_snr"}
    for key, value in expected.history.items():
        np.testing.assert_allclose(found.history[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_a_mesh_of_one_device_changes_no_reading(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32)
        for name, shape in {"large": (64, 300), "small": (5,), "scalar": ()}.items()
    }
    specs = {"large": PartitionSpec("x", None), "small": PartitionSpec(), "scalar": PartitionSpec()}
    placed = {
        name: jax.device_put(leaf, NamedSharding(mesh, specs[name]))
        for name, leaf in params.items()
    }
    tx = monitor(sgd(0.1), curvature=True)
    update = jax.jit(tx.update)
    expected, found = (measurements(settle(tx, tree, update)[-1][1]) for tree in (params, placed))
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_the_sample_of_an_axis_that_a_mesh_splits_is_split_evenly():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    leaf = jax.device_put(jnp.arange(8196.0), NamedSharding(mesh, PartitionSpec("x")))
    (sampled,) = jax.tree.leaves(monitor(sgd(0.1)).init(leaf).previous.gradient)
    assert sampled.shape == (2050,)


@pytest.mark.parametrize("curvature", [False, True])
def test_an_exported_update_takes_the_steps_of_the_original(curvature):
    from jax import export

    momentax.states.register_serialization()
    tx, params = (
        monitor(sgd(0.1), every=2, history=2, curvature=curvature),
        {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(())},
    )
    update = jax.jit(tx.update)
    exported = export.export(update)(params, tx.init(params), params).serialize()
    again = export.deserialize(exported).call
    (_, expected), (_, found) = (settle(tx, params, each)[-1] for each in (update, again))
    assert isinstance(found, momentax.states.MonitorState)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)
    assert measurements(found).keys() == measurements(expected).keys()
