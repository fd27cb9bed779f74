"""The protocol tells methods that were made worse on purpose from a copy of their original."""

import jax
import jax.numpy as jnp
import numpy as np

from momentax import bench
from momentax.bench._horizon import Horizon
from tests.benchmarks.made_worse import (
    ORIGINALS,
    adam_without_debiasing,
    made_worse,
    multiplied_by_noise,
)


def test_a_copy_is_undecided_and_a_wrong_sign_is_found_worse():
    """On the real task of the regression, where momentum matters."""
    entries = {name: bench.entries[name] for name in ("heavy_ball", "adam")}
    worse = made_worse(entries)
    assert ORIGINALS.keys() == worse.keys()
    methods = [entries["heavy_ball"], worse["copy_of_heavy_ball"], worse["negative_beta"]]
    result = bench.run(methods, [bench.tasks["ridge"]], trials=4, seeds=8, progress=False)
    verdicts = {name: each.verdict for name, each in result.compare("heavy_ball")["ridge"].items()}
    assert verdicts == {"copy_of_heavy_ball": "not distinguishable", "negative_beta": "worse"}


def test_adam_without_debiasing_starts_with_large_steps():
    """Adam's own step for a constant gradient is the learning rate."""
    beta1, beta2, horizon, g = 0.9, 0.999, Horizon(10, "constant"), jnp.array([1.0, -2.0])
    tx = adam_without_debiasing(horizon, *map(jnp.float32, (0.1, beta1, beta2, 1e-8)))
    state, steps = tx.init(g), []
    for _ in range(3):
        step, state = tx.update(g, state, g)
        steps.append(step)
    t = np.arange(1, 4)
    rates = np.array([horizon.learning_rate(0.1)(each - 1) for each in t])
    lengths = rates * (1 - beta1**t) / np.sqrt(1 - beta2**t)
    np.testing.assert_allclose(steps, np.outer(lengths, [-1, 1]), rtol=1e-4)
    assert (lengths > 3 * rates).all()


def test_the_noise_has_mean_zero_and_the_variance_of_the_squared_gradient():
    tx, g = multiplied_by_noise(), {"w": jnp.full(20_000, 2.0), "b": jnp.full(20_000, -0.5)}
    noisy, count = tx.update(g, tx.init(g))
    for name, value in (("w", 2.0), ("b", -0.5)):
        np.testing.assert_allclose(noisy[name].mean(), value, atol=0.03 * abs(value))
        np.testing.assert_allclose(noisy[name].std(), abs(value), rtol=0.03)
    again, _ = tx.update(g, count)
    other, _ = tx.update(jax.tree.map(lambda x: 1.001 * x, g), tx.init(g))
    for each in (again, other):
        assert abs(np.corrcoef(noisy["w"], each["w"])[0, 1]) < 0.05


def test_the_recorded_copy_is_undecided_and_the_recorded_faults_are_found():
    made, originals = bench.Result.recorded("made_worse"), bench.Result.recorded()
    assert set(made.methods) == set(ORIGINALS)
    found = {}
    for name, original in ORIGINALS.items():
        both = made.select([name]).join(originals.select([original]))
        found[name] = [row[name].verdict for row in both.compare(original).values()]
        assert len(found[name]) == len(bench.tasks)
    assert set(found["copy_of_heavy_ball"]) == {"not distinguishable"}
    for name in ("negative_beta", "noisy_heavy_ball"):
        assert found[name].count("worse") > len(bench.tasks) / 2
        assert "better" not in found[name]
