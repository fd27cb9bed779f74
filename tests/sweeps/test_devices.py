"""Sweeps on one device, on several, and on those of several processes: the same everywhere."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import momentax
from momentax import grid, halve, sweep
from momentax._core.sharding import Devices
from momentax.sweeps._run import _devices
from momentax.sweeps._run._devices import as_devices, free_memory
from tests.sweeps import eight, joined
from tests.sweeps.eight import POINTS, assert_close, content, descend

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def some(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


# The Python loop


@pytest.fixture(scope="module")
def alone():
    """What a loop gives, compiled once."""
    jitted = jax.jit(descend)
    singles = [jitted(**point) for point in POINTS]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(9, 3, *leaves[0].shape), *singles)


@pytest.mark.parametrize("count", [1, 2])
def test_one_point_a_device_gives_a_loops_bits(alone, count):
    result = sweep(descend, POINTS, batch_size=count, mesh=some(count))
    assert result.report.batch_size == result.report.devices == count
    for ours, theirs in zip(jax.tree.leaves(result.values), jax.tree.leaves(alone), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@settings(max_examples=12)
@example(4, 1)
@example(10**9, 2)
@given(st.integers(1, 30), st.integers(1, 2))
def test_any_batch_size_gives_what_a_loop_does(alone, batch_size, count):
    result = sweep(descend, POINTS, batch_size=batch_size, mesh=some(count))
    assert_close(result, type(result)(POINTS, alone, result.diverged))
    assert result.report.batch_size == count * -(-min(batch_size, len(POINTS)) // count)
    assert not result.diverged.any()


def test_a_number_of_points_that_no_batch_divides_is_not_filled_up_in_the_result():
    # 27 points in batches of 4: the last is filled up with one point, which nobody sees.
    def run(learning_rate, beta):
        return {"both": jnp.stack([learning_rate, beta]), "constant": 3, "none": None, "flag": True}

    for batch_size in (1, 2, 4, 8, 26, 27, 28, 54):
        result = sweep(run, POINTS, batch_size=batch_size)
        expected = np.stack([[list(p.values()) for p in POINTS]]).reshape(9, 3, 2)
        np.testing.assert_array_equal(result["both"], expected)
        np.testing.assert_array_equal(result["constant"], np.full((9, 3), 3, np.int32))
        np.testing.assert_array_equal(result["flag"], np.ones((9, 3), bool))


def test_each_point_is_computed_once_and_the_filling_only_at_the_end():
    computed = []

    def run(x):
        jax.debug.callback(lambda x: computed.append(float(x)), x)
        return x

    sweep(run, grid(x=np.arange(11.0)), batch_size=4)
    jax.effects_barrier()
    assert sorted(computed) == [*map(float, range(11)), 10.0]


def test_a_whole_batch_size_of_numpy_is_one(tmp_path):
    result = sweep(descend, POINTS, batch_size=np.int64(4), store=tmp_path)
    assert result.report.batch_size == 4


# Eight devices


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweeps.eight", folder],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("check", eight.CHECKS)
def test_eight_devices(checked, check):
    assert checked.get(check, "") == ""


# What is no mesh


@pytest.mark.parametrize(
    "mesh",
    [
        lambda: 3,
        lambda: "cpu",
        jax.devices,
        lambda: jax.devices()[0],
        lambda: SingleDeviceSharding(jax.devices()[0]),
        lambda: some(2).abstract_mesh,
        lambda: NamedSharding(some(2).abstract_mesh, PartitionSpec("points")),
    ],
)
def test_what_is_no_mesh_is_refused(mesh):
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh, or a NamedSharding"):
        sweep(descend, POINTS, mesh=mesh())


@pytest.mark.parametrize(
    "spec", [(), (None,), ((),), (None, "points"), ("points", None), (PartitionSpec.UNCONSTRAINED,)]
)
def test_a_sharding_that_names_no_axes_is_refused(spec):
    with pytest.raises(ValueError, match="of one entry, the mesh axes to split the points over"):
        sweep(descend, POINTS, mesh=NamedSharding(some(2), PartitionSpec(*spec)))


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


# The memory of a container


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
    (inner / "memory.current").write_text("none of ours")
    assert _devices._group_memory(tmp_path, "/job/step") == 700
    assert _devices._group_memory(tmp_path, "/another") == float("inf")
    assert free_memory(as_devices(None)) > 0


# Two processes


def processes(folder, task):
    """Both processes of a task."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as opened:
        errors = [opened.enter_context(open(folder / f"errors {rank}", "w")) for rank in (0, 1)]
        return [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.sweeps.joined",
                    *map(str, (rank, port, folder, task)),
                ],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdout=errors[rank],
                stderr=errors[rank],
            )
            for rank in (0, 1)
        ]


@contextlib.contextmanager
def ended(both):
    """Whatever happens, no process stays."""
    try:
        yield
    finally:
        for process in both:
            process.kill()
            process.wait()


def outcome(folder, task):
    both = processes(folder, task)
    with ended(both):
        for rank, process in enumerate(both):
            code = process.wait(timeout=120)
            assert code == 0, (folder / f"errors {rank}").read_text()
    return [json.loads((folder / f"{task} {rank}").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    return folder, outcome(folder, "together")


def test_two_processes_get_what_one_gets(together):
    _, told = together
    one = joined.content(sweep(joined.run, joined.POINTS, batch_size=2 * joined.EACH))
    for each in told:
        for name in ("sweep", "stored", "again"):
            assert each[name] == one
        assert each["of again"] == {"resumed": len(joined.POINTS), "devices": 2}
        assert each["auto"] == {"resumed": 0, "devices": 2}


def test_two_processes_halve_as_one_does(together):
    _, told = together
    one = joined.content(joined.race())
    for each in told:
        for name in ("halved", "halved and stored", "halved again"):
            assert each[name] == one
        assert each["of halved again"]["resumed"] > len(joined.RACERS)


def test_the_store_of_two_processes_is_that_of_one(together, tmp_path):
    folder, _ = together
    sweep(joined.run, joined.POINTS, batch_size=2 * joined.EACH, store=tmp_path / "sweep")
    joined.race(tmp_path / "race")
    for name in ("sweep", "race"):
        ours, theirs = (
            {path.name: path.read_bytes() for path in (where / name).iterdir()}
            for where in (folder, tmp_path)
        )
        assert ours == theirs


def test_a_failure_in_one_process_is_one_in_both(together):
    _, (first, second) = together
    texts = {
        "file": "FileExistsError: .* there is a file where a folder must be",
        "another": "ValueError: .* belongs to another sweep: its function differs",
        "race": "ValueError: .* started by sweep and is given to halve",
    }
    full = "OSError: .* could not be written: No space left on device"
    texts |= dict.fromkeys(("beginning", "choosing", "batch", "race choosing", "race batch"), full)
    other = "RuntimeError: the first process failed; its error says why"
    assert set(first["refused"]) == {*texts, "run"}
    for name, text in texts.items():
        assert re.match(text, first["refused"][name]), name
        assert second["refused"][name] == other, name
    assert first["refused"]["run"].startswith("RuntimeError: run failed in another process")
    assert "ValueError: only here" in second["refused"]["run"]


def test_two_killed_processes_go_on_from_their_store(tmp_path):
    store, both = tmp_path / "killed", processes(tmp_path, "killed")
    with ended(both):
        until = time.monotonic() + 100
        while len(list(store.glob("batch-*.npz"))) < 3 and time.monotonic() < until:
            time.sleep(0.005)
        for process in both:
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed 0").exists()  # It was not done.
    told = outcome(tmp_path, "killed")
    one = sweep(joined.slow, joined.POINTS, batch_size=2 * joined.EACH)
    for each in told:
        assert each["sweep"] == joined.content(one)
        assert 12 <= each["of sweep"]["resumed"] < len(joined.POINTS)


def test_what_one_process_tells_is_told_bit_for_bit(monkeypatch):
    # -0.0, NaNs and narrow numbers do not survive the sum by which JAX tells them.
    from jax.experimental import multihost_utils

    told = []

    def summed(content):
        assert content.dtype == np.uint8
        told.append(content)
        return content + np.zeros_like(content)

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", summed)
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
    again = as_devices(None).broadcast(tree)
    assert len(told) == 1
    for name, value in tree.items():
        assert again[name].dtype == np.asarray(value).dtype
        assert again[name].shape == np.shape(value)
        assert again[name].tobytes() == np.asarray(value).tobytes()


def test_content_tells_results_apart():
    points = grid(learning_rate=[0.1, 0.2], beta=[0.5])
    assert content(sweep(descend, points)) != content(
        sweep(descend, grid(learning_rate=[0.1, 0.3], beta=[0.5]))
    )


CORES = """
import os, sys, momentax, jax
asked = {asked}
print(momentax.use_all_cores(asked), jax.device_count())
print(momentax.use_all_cores(asked))
try:
    momentax.use_all_cores(9)
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(("asked", "flags"), [(None, ""), (3, ""), (3, "3"), (None, "5")])
def test_each_core_becomes_a_device_before_jax_starts(asked, flags):
    force = f"--xla_force_host_platform_device_count={flags}" if flags else ""
    environment = os.environ | {"XLA_FLAGS": force, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", CORES.format(asked=asked)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = asked or len(os.sched_getaffinity(0))
    if flags and wanted != int(flags):  # The flag has decided, and says so.
        assert f"JAX has started with {flags} CPU devices, and {wanted} were" in done.stderr
        return
    first, again, refused = done.stdout.splitlines()
    assert (first, again) == (f"{wanted} {wanted}", f"{wanted}")
    assert re.match(
        f"JAX has started with {wanted} CPU devices?, and 9 were requested; call", refused
    )


def test_cores_are_a_whole_number():
    with pytest.raises(ValueError, match="count must be a whole number, at least 1, got 0"):
        momentax.use_all_cores(0)
    assert momentax.use_all_cores(jax.device_count()) == jax.device_count()
