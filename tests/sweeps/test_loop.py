"""A small sweep on a CPU runs one point on each core at a time, by the program that a loop runs."""

import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from momentax import grid, sweep
from momentax.sweeps import _sweep
from momentax.sweeps._run import _loop
from momentax.sweeps._run._cost import Cost, estimate, favours_loop
from momentax.sweeps._run._devices import as_devices
from momentax.sweeps._run._program import Compiled
from tests.sweeps.processes import ENVIRONMENT, ROOT

DATA = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
POINTS = grid(learning_rate=np.linspace(0.01, 0.3, 9), beta=[0.0, 0.5, 0.9])


def descend(learning_rate, beta):
    def step(carried, _):
        x, v = carried
        v = beta * v + jnp.tanh(DATA @ x)
        return (x - learning_rate * v, v), (x**2).sum()

    (x, _), losses = jax.lax.scan(step, (jnp.ones(8), jnp.zeros(8)), length=20)
    return {"x": x, "losses": losses}


@pytest.fixture(scope="module")
def looped():
    """The values of a loop over the points, compiled once."""
    jitted = jax.jit(descend)
    singles = [jax.device_get(jitted(**point)) for point in POINTS]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(9, 3, *leaves[0].shape), *singles)


def same_bits(values, others):
    leaves = zip(jax.tree.leaves(values), jax.tree.leaves(others), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in leaves)


# Which points run, and what they give


@pytest.mark.parametrize("many", [0, 32, 10**6])  # With threads after one point, or at once.
@pytest.mark.parametrize("chunk", [1e-9, 10.0])  # Points run one by one, or many together.
def test_a_small_sweep_gives_the_bits_of_a_loop(many, chunk, looped, monkeypatch):
    monkeypatch.setattr(_loop, "_MANY", many)
    monkeypatch.setattr(_loop, "_CHUNK", chunk)
    monkeypatch.setattr(_loop, "_KEEP", 0.0)
    result = sweep(descend, POINTS)
    assert same_bits(result.values, looped)
    assert result.report.batch_size == result.report.devices == jax.device_count()
    assert (result.report.programs, result.report.tried) == (1, ())
    assert not result.diverged.any()


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 130])
def test_no_point_is_lost_doubled_or_swapped(count):
    result = sweep(doubled, grid(x=np.arange(float(count))))
    np.testing.assert_array_equal(result["twice"], 2 * np.arange(count))


def doubled(x):
    return {"twice": 2 * x}


def test_points_that_end_out_of_order_are_returned_in_order():
    def run(x):
        return jax.pure_callback(wait, jax.ShapeDtypeStruct((), x.dtype), x)

    def wait(x):
        time.sleep(0.02 if x % 2 == 0 else 0.0)
        return x

    np.testing.assert_array_equal(sweep(run, grid(x=np.arange(12.0))).values, np.arange(12))


def test_each_core_runs_a_point_at_the_same_time():
    # A point returns when there is one on each core. Otherwise the barrier breaks in the end.
    meeting = threading.Barrier(jax.device_count(), timeout=60)

    def meet(x):
        meeting.wait()
        return x

    def run(x):
        return jax.pure_callback(meet, jax.ShapeDtypeStruct((), x.dtype), x)

    points = grid(x=np.arange(float(jax.device_count())))
    np.testing.assert_array_equal(sweep(run, points).values, points.axes["x"])


def test_a_single_program_is_compiled_and_no_memory_is_analyzed(monkeypatch):
    compiled = []
    monkeypatch.setattr(Compiled, "compile", lambda *_: pytest.fail("compiled for a batch"))
    original = jax.stages.Lowered.compile

    def compile_(self, *args, **kwargs):
        compiled.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)

    def run(x):
        return x + 1

    for _ in range(2):  # The second sweep finds the program.
        sweep(run, grid(x=np.arange(40.0)))
    assert len(compiled) == 1


def test_a_mesh_of_another_device_is_used(monkeypatch):
    placed = []
    get = _loop._to_host
    monkeypatch.setattr(_loop, "_to_host", lambda tree: placed.append(tree) or get(tree))
    last = Mesh(np.array(jax.devices()[-1:]), ("points",))
    result = sweep(lambda x: x * 2, grid(x=np.arange(5.0)), mesh=last)
    assert result.report.devices == 1
    np.testing.assert_array_equal(result.values, 2 * np.arange(5))
    arrays = [leaf for leaf in jax.tree.leaves(placed) if isinstance(leaf, jax.Array)]
    assert {device for array in arrays for device in array.devices()} == {jax.devices()[-1]}


def test_what_contexts_set_holds_in_every_thread(monkeypatch):
    monkeypatch.setattr(_loop, "_CHUNK", 1e-9)
    with jax.enable_x64(True), jax.transfer_guard_host_to_device("disallow"):
        result = sweep(lambda x: x + 1e-9, grid(x=np.arange(9.0)))
    np.testing.assert_allclose(result.values, np.arange(9.0) + 1e-9, rtol=1e-15)


# What does not run in this way


def test_other_work_runs_in_batches():
    def with_effect(x):
        jax.debug.callback(lambda x: None, x)
        return x

    def of_unknown_length(x):
        return jax.lax.while_loop(lambda x: x < 100, lambda x: 2 * x + 1, x)

    points = grid(x=np.arange(40.0))
    for run in (with_effect, of_unknown_length):
        assert sweep(run, points).report.batch_size > jax.device_count()
    assert sweep(doubled, points, batch_size=8).report.batch_size == 8
    mesh = Mesh(np.array(jax.devices()[:2]).reshape(1, 2), ("points", "model"))
    split = NamedSharding(mesh, PartitionSpec("points"))
    assert not _loop.can_loop(as_devices(split))  # The function may use the other axis.


# Errors, divergence and stores


def test_an_error_names_the_point_and_no_other_point_starts():
    started = []

    def fail(x):
        started.append(float(x))
        if x == 1:
            raise ValueError("at one")
        return x

    def run(x):
        return jax.pure_callback(fail, jax.ShapeDtypeStruct((), x.dtype), x)

    with pytest.raises(RuntimeError, match=r"(?s)run failed at the point x=1\.0: .*at one"):
        sweep(run, grid(x=np.arange(40.0)))
    assert len(started) <= 3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_divergence_is_found_whether_the_program_or_the_host_looks_for_it(dtype, monkeypatch):
    def run(x):
        return {"a": (jnp.ones((2, 3)) / (x - 1)).astype(dtype), "count": jnp.int32(3)}

    for few in (_sweep._FEW_ENTRIES, 0):
        monkeypatch.setattr(_sweep, "_FEW_ENTRIES", few)
        result = sweep(lambda x: run(x), grid(x=[0.0, 1.0, 2.0]))
        np.testing.assert_array_equal(result.diverged, [False, True, False])


def test_an_interrupted_sweep_continues_with_the_same_bits(tmp_path, looped, monkeypatch):
    monkeypatch.setattr(_loop, "_KEEP", 0.0)
    monkeypatch.setattr(_loop, "_CHUNK", 1e-9)
    sweep(descend, POINTS, store=tmp_path)
    files = sorted(tmp_path.glob("batch-*.npz"))
    assert len(files) > 3
    for file in files[1::2]:
        file.unlink()
    again = sweep(descend, POINTS, store=tmp_path)
    assert 0 < again.report.resumed < len(POINTS)
    assert again.report.batch_size == jax.device_count()
    assert same_bits(again.values, looped)
    # The batch size of the first run counts, whatever would be chosen now.
    monkeypatch.setattr(_sweep, "favours_loop", lambda *_: False)
    sorted(tmp_path.glob("batch-*.npz"))[0].unlink()
    last = sweep(descend, POINTS, store=tmp_path)
    assert last.report.batch_size == jax.device_count()
    assert same_bits(last.values, looped)


CACHED = """
import jax, numpy as np
from jax import monitoring
import momentax
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name))
run = lambda x: jax.numpy.sin(x) * 2
for _ in range(2):
    momentax.sweep(lambda x: run(x), momentax.grid(x=np.arange(40.0)))
    jax.clear_caches()
    print(sum(name.endswith("cache_hits") for name in hits))
"""


def test_the_compilation_cache_of_the_user_is_used(tmp_path):
    environment = ENVIRONMENT | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", CACHED], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert os.listdir(tmp_path)
    assert second > first


# The estimate


def cost_of(function, *arguments):
    return estimate(jax.make_jaxpr(function)(*arguments))


def test_the_estimate_counts_what_runs_in_loops_and_branches():
    x = jnp.ones((64, 64))

    def scanned(x, length):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, length=length)[0]

    one, many = cost_of(lambda x: scanned(x, 1), x), cost_of(lambda x: scanned(x, 1000), x)
    assert many.run == pytest.approx(1000 * one.run, rel=1e-3)
    assert many.vectorize == one.vectorize  # It is compiled once.
    product = cost_of(lambda x: x @ x, x)
    assert product.run - product.start == pytest.approx(2 * 64**3 * 1e-11 + 64**2 * 2e-10)
    branches = [lambda x: x, lambda x: x @ x @ x]
    either = cost_of(lambda x: jax.lax.cond(x[0, 0] > 0, *branches, x), x)
    assert product.run < either.run < 3 * product.run
    kernel = jnp.ones((3, 3, 4, 8))
    image = jnp.ones((1, 10, 10, 4))
    convolved = cost_of(
        lambda x: jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        image,
    )
    assert convolved.run - convolved.start == pytest.approx(
        2 * 10 * 10 * 8 * 3 * 3 * 4 * 1e-11 + 800 * 2e-10, rel=0.01
    )


def test_the_estimate_is_none_where_it_is_not_known():
    assert cost_of(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: x + 1, x), 0.0) is None

    def shows(x):
        jax.debug.print("{}", x)
        return x

    assert cost_of(shows, 0.0) is None
    assert cost_of(lambda: 3) is not None
    assert cost_of(lambda seed: jax.random.normal(jax.random.key(seed)), 0) is not None


@pytest.mark.parametrize(
    ("points", "start", "run", "loops"),
    [
        (64, 1e-4, 1e-4, True),  # Compiling for vmap takes longer than all points.
        (10**6, 1e-4, 1e-4, False),  # Many points that are nothing but the start of operations.
        (10**6, 1e-4, 1e-1, True),  # They compute for so long that vmap saves nothing.
    ],
)
def test_vmap_is_compiled_where_it_saves_time(points, start, run, loops):
    assert favours_loop(2, [(Cost(run, start, vectorize=0.1), points)]) is loops
    assert favours_loop(2, [(None, points)]) is False


def test_the_work_of_all_static_values_counts():
    small = Cost(run=1e-4, start=1e-4, vectorize=0.1), 64
    large = Cost(run=1e-4, start=1e-4, vectorize=0.1), 10**6
    assert favours_loop(2, [small, small])
    assert not favours_loop(2, [small, large])
