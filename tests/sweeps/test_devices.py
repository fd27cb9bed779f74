"""Sweeps on one device, on several and over several processes give the same results."""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import momentax
from momentax import grid, halve, sweep
from momentax.sweeps._run import _devices
from momentax.sweeps._run._devices import as_devices, free_memory
from tests.sweeps import eight_devices
from tests.sweeps.eight_devices import POINTS, assert_close, content, descend
from tests.sweeps.processes import start_module


def first_devices(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


@pytest.fixture(scope="module")
def looped():
    """The values of a loop over the points, compiled once."""
    jitted = jax.jit(descend)
    singles = [jitted(**point) for point in POINTS]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(9, 3, *leaves[0].shape), *singles)


@pytest.mark.parametrize("count", [1, 2])
def test_one_point_per_device_gives_the_bits_of_a_loop(looped, count):
    result = sweep(descend, POINTS, batch_size=count, mesh=first_devices(count))
    assert result.report.batch_size == result.report.devices == count
    for ours, theirs in zip(jax.tree.leaves(result.values), jax.tree.leaves(looped), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@settings(max_examples=12)
@example(4, 1)
@example(10**9, 2)
@given(st.sampled_from([1, 2, 5, 27, 28]), st.integers(1, 2))
def test_any_batch_size_gives_the_values_of_a_loop(looped, batch_size, count):
    result = sweep(descend, POINTS, batch_size=batch_size, mesh=first_devices(count))
    assert_close(result, type(result)(POINTS, looped, result.diverged))
    assert result.report.batch_size == count * -(-min(batch_size, len(POINTS)) // count)
    assert not result.diverged.any()


def test_padding_does_not_appear_in_the_result():
    # The last of the batches of 4 holds 3 of the 27 points and one point of padding.
    def run(learning_rate, beta):
        return {"both": jnp.stack([learning_rate, beta]), "constant": 3, "none": None, "flag": True}

    for batch_size in (1, 2, 4, 8, 26, 27, 28, 54):
        result = sweep(run, POINTS, batch_size=batch_size)
        expected = np.stack([[list(p.values()) for p in POINTS]]).reshape(9, 3, 2)
        np.testing.assert_array_equal(result["both"], expected)
        np.testing.assert_array_equal(result["constant"], np.full((9, 3), 3, np.int32))
        np.testing.assert_array_equal(result["flag"], np.ones((9, 3), bool))


def test_each_point_is_computed_once_and_only_the_last_batch_is_padded():
    computed = []

    def run(x):
        jax.debug.callback(lambda x: computed.append(float(x)), x)
        return x

    sweep(run, grid(x=np.arange(11.0)), batch_size=4)
    jax.effects_barrier()
    assert sorted(computed) == [*map(float, range(11)), 10.0]


def test_the_batch_size_may_be_an_integer_of_numpy(tmp_path):
    result = sweep(descend, POINTS, batch_size=np.int64(4), store=tmp_path)
    assert result.report.batch_size == 4


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """The errors of the checks that failed on eight devices."""
    process = start_module(
        "eight_devices", tmp_path_factory.mktemp("eight"), stdout=subprocess.PIPE, text=True
    )
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return json.loads(printed)


@pytest.mark.parametrize("check", eight_devices.CHECKS)
def test_eight_devices(failures, check):
    assert failures.get(check, "") == ""


# Arguments that are refused


@pytest.mark.parametrize(
    "mesh",
    [
        lambda: 3,
        lambda: "cpu",
        jax.devices,
        lambda: jax.devices()[0],
        lambda: SingleDeviceSharding(jax.devices()[0]),
        lambda: first_devices(2).abstract_mesh,
        lambda: NamedSharding(first_devices(2).abstract_mesh, PartitionSpec("points")),
    ],
)
def test_anything_but_a_mesh_is_refused(mesh):
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh, or a NamedSharding"):
        sweep(descend, POINTS, mesh=mesh())


@pytest.mark.parametrize(
    "spec", [(), (None,), ((),), (None, "points"), ("points", None), (PartitionSpec.UNCONSTRAINED,)]
)
def test_a_sharding_that_names_no_axes_is_refused(spec):
    with pytest.raises(ValueError, match="of one entry, the mesh axes to split the points over"):
        sweep(descend, POINTS, mesh=NamedSharding(first_devices(2), PartitionSpec(*spec)))


def test_a_mesh_without_devices_is_refused():
    with pytest.raises(ValueError, match="mesh has no devices"):
        sweep(descend, POINTS, mesh=Mesh(np.array([]), ("points",)))
    points = grid(beta=[0.0])
    with pytest.raises(ValueError, match="mesh has no devices"):
        halve(
            lambda beta: beta,
            lambda s, beta: s,
            lambda s: s,
            points,
            rungs=1,
            mesh=Mesh(np.array([]), ("points",)),
        )


# Memory and cores


def test_the_memory_of_control_groups(tmp_path, monkeypatch):
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    (tmp_path / "job" / "memory.max").write_text("1000\n")
    (tmp_path / "job" / "memory.current").write_text("700\n")
    (tmp_path / "job" / "memory.stat").write_text("anon 200\nfile 500\ninactive_file 400\n")
    (inner / "memory.max").write_text("max\n")
    assert _devices._group_memory(tmp_path, "/job/step") == 1000 - 700 + 400
    (inner / "memory.max").write_text("50\n")
    (inner / "memory.current").write_text("20\n")
    assert _devices._group_memory(tmp_path, "/job/step") == 30
    (inner / "memory.current").write_text("not a number")
    assert _devices._group_memory(tmp_path, "/job/step") == 700
    assert _devices._group_memory(tmp_path, "/another") == float("inf")
    assert free_memory(as_devices(None)) > 0


def test_content_differs_between_different_results():
    points = grid(learning_rate=[0.1, 0.2], beta=[0.5])
    assert content(sweep(descend, points)) != content(
        sweep(descend, grid(learning_rate=[0.1, 0.3], beta=[0.5]))
    )


def test_the_number_of_cores_is_a_positive_integer():
    with pytest.raises(ValueError, match="count must be a whole number, at least 1, got 0"):
        momentax.use_all_cores(0)
    assert momentax.use_all_cores(jax.device_count()) == jax.device_count()
