"""The batch size: measured, limited by the memory, and reduced if the memory runs out."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh

from momentax import grid, sweep
from momentax._core.sharding import Devices
from momentax.sweeps import _sweep
from momentax.sweeps._run import _batches
from momentax.sweeps._run._program import Compiled


class SimulatedProgram:
    """A program that takes a known time and memory, on one device."""

    def __init__(
        self, monkeypatch, seconds, memory=lambda batch: batch, free=np.inf, compile_seconds=0
    ):
        self.now, self.ran = 0.0, []
        self._seconds, self._memory, self._compile_seconds = seconds, memory, compile_seconds
        self.traced = SimpleNamespace(program=SimpleNamespace(batch_choices={}), jaxpr=None)
        self.devices = Devices(Mesh(np.array(jax.devices()[:1]), ("points",)), ("points",))
        monkeypatch.setattr(_batches, "free_memory", lambda devices: free)
        monkeypatch.setattr(_batches.time, "perf_counter", lambda: self.now)

    def compile(self, batch):
        return self._memory(batch)

    def compile_seconds(self, batch):
        return self._compile_seconds

    def __call__(self, points):
        self.ran.append(len(points))
        self.now += self._seconds(len(points))
        return points

    def choose(self, count):
        work = _batches.Work(self, lambda index: index, grid(a=np.arange(count)))
        return _batches.choose_batch(work, np.arange(count))


@pytest.mark.parametrize(
    ("seconds", "batch"),
    [
        (lambda n: n, 8),  # A larger batch gains nothing, so the first size stays.
        (
            lambda n: 1 + 0.01 * n,
            4000,
        ),  # A fixed cost favours a larger batch, while enough remains.
        (lambda n: n + 0.2 * n * n, 1),  # Caches favour a smaller batch.
        (lambda n: n * (0.97 if n > 8 else 1), 8),  # A gain of three percent is noise.
    ],
)
def test_the_fastest_of_a_few_batch_sizes_is_chosen(seconds, batch, monkeypatch):
    program = SimulatedProgram(monkeypatch, seconds)
    choice = program.choose(100_000)
    assert choice.size in (batch, batch - 1)  # So that all batches are equally full.
    assert dict(choice.tried)[choice.size] == min(dict(choice.tried).values()) or batch == 8
    assert program.choose(100_000).tried == choice.tried  # It is measured once.
    np.testing.assert_array_equal(choice.first, np.arange(choice.size))  # It is not run again.


def test_measuring_takes_a_small_share_of_the_remaining_time(monkeypatch):
    program = SimulatedProgram(monkeypatch, lambda n: n, compile_seconds=50.0)
    assert program.choose(100).tried == ((8, 1.0),)
    program = SimulatedProgram(monkeypatch, lambda n: n, compile_seconds=50.0)
    assert len(program.choose(2000).tried) > 1
    program = SimulatedProgram(monkeypatch, lambda n: n)
    assert (program.choose(8).tried, program.ran) == ((), [])  # One batch holds all points.


@given(base=st.integers(0, 100), slope=st.floats(0.1, 50), free=st.integers(1, 2000))
def test_a_batch_that_does_not_fit_the_memory_is_not_run(base, slope, free):
    with pytest.MonkeyPatch.context() as monkeypatch:
        program = SimulatedProgram(monkeypatch, lambda n: 1 + n, lambda n: base + slope * n, free)
        choice = program.choose(10_000)
        assert all(base + slope * n <= free for n in program.ran) or set(program.ran) == {1}
        if len(program.ran) == 1:
            most = int((free - base) // slope) if free > base else 1
            assert choice.size >= min(8, max(1, most)) - 1


POINTS = grid(x=np.arange(12.0))


def fill(x):
    return jnp.full(100, x)


def test_a_small_memory_makes_small_batches(monkeypatch):
    monkeypatch.setattr(_batches, "free_memory", lambda devices: 1500.0)
    monkeypatch.setattr(_sweep, "favours_loop", lambda *_: False)
    result = sweep(fill, POINTS)
    assert result.report.batch_size < len(POINTS)
    np.testing.assert_array_equal(result.values[:, 7], POINTS.axes["x"])


def test_a_batch_that_runs_out_of_memory_is_halved(monkeypatch):
    call = Compiled.__call__

    def fail_if_large(self, points):
        if len(jax.tree.leaves(points)[0]) > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return call(self, points)

    monkeypatch.setattr(Compiled, "__call__", fail_if_large)
    monkeypatch.setattr(_sweep, "favours_loop", lambda *_: False)
    result = sweep(lambda x: fill(x), POINTS)
    assert result.report.batch_size <= 4
    np.testing.assert_array_equal(result.values[:, 11], POINTS.axes["x"])
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        sweep(fill, POINTS, batch_size=12)


def test_memory_grows_with_the_batch_and_not_with_the_points():
    def wide(x):
        return jnp.sum(jnp.outer(jnp.arange(200.0) + x, jnp.arange(200.0)) @ jnp.ones((200, 200)))

    taken = {}
    compile_ = Compiled.compile
    with pytest.MonkeyPatch.context() as monkeypatch:

        def recorded(self, batch):
            taken[len(points), batch] = compile_(self, batch)
            return taken[len(points), batch]

        monkeypatch.setattr(Compiled, "compile", recorded)
        monkeypatch.setattr(_sweep, "favours_loop", lambda *_: False)
        for count in (16, 160):
            points = grid(x=np.arange(float(count)))
            sweep(wide, points)
    (small,) = (bytes_ for (count, batch), bytes_ in taken.items() if count == 16)
    large = [bytes_ for (count, batch), bytes_ in taken.items() if count == 160 and batch == 16]
    assert large == [small]
