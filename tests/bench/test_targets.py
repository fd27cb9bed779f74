"""The recorded targets: each is reached again by the method and the setting that it comes from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax import bench
from momentax.bench import _files, entries, tasks
from momentax.bench._horizon import Horizon
from tests.benchmarks.bakeoff import PROTOCOLS

LINES = _files.recorded("reference")["tasks"]
SEEDS = PROTOCOLS["targets"].first_seed + np.arange(2)


def test_every_task_has_a_target():
    assert list(LINES) == list(tasks)
    for name, line in LINES.items():
        found = bench.target(name)
        assert found == (line["target"], line["sigma"], line["target method"])


@pytest.mark.optimized
@pytest.mark.parametrize("name", list(tasks))
def test_a_target_is_reached_by_its_method(name):
    task, line = tasks[name], LINES[name]
    entry, horizon = entries[line["target method"]], Horizon(task.steps, "cosine")
    setting = {key: jnp.float32(value) for key, value in line["target setting"].items()}
    tx = entry.make(horizon, **setting)
    train = jax.jit(lambda seeds: jax.lax.map(lambda s: task.train(tx, jax.random.key(s)), seeds))
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam has powers of integers.
        y = train(SEEDS)["y"]
    assert np.mean(y) == pytest.approx(line["target"], abs=4 * line["sigma"])
