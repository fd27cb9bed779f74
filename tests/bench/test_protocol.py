"""The protocol: trials, the choice in two stages, the evaluation, the store."""

import jax
import numpy as np
import optax
import pytest

import momentax
from momentax import bench
from momentax.bench import Entry, Horizon, Protocol, entries
from momentax.bench._protocol import measure
from momentax.sweeps import log_uniform
from tests.bench import tiny

SMALL = Protocol(trials=8, seeds=4)


@pytest.fixture(scope="module")
def cell():
    return measure(entries["nesterov"], tiny.make(), SMALL)


def score(trial, seed, protocol=SMALL):
    """Run one trial by itself."""
    entry, task = entries["nesterov"], tiny.make()
    values = {key: column[trial] for key, column in entry.trials(protocol.trials).items()}
    tx = entry.make(Horizon(40, protocol.shape), **values)
    return float(task.train(tx, jax.random.key(seed))["y"])


def test_the_choice_is_the_best_mean_of_the_best_four(cell):
    best = np.argsort(cell.tuning, kind="stable")[:4]
    means = [np.mean([score(trial, seed) for seed in (0, 1, 2)]) for trial in best]
    assert cell.chosen == best[np.argmin(means)]
    np.testing.assert_allclose(cell.finals[best], means, rtol=1e-5)
    assert np.isnan(cell.finals).sum() == 4
    values = entries["nesterov"].trials(8)
    assert cell.hyperparameters == {key: column[cell.chosen] for key, column in values.items()}


def test_every_run_is_that_of_its_trial_and_seed(cell):
    assert cell.tuning[3] == pytest.approx(score(3, 0), rel=1e-5)
    assert cell.again[3] == pytest.approx(score(3, 1), rel=1e-5)
    expected = [score(cell.chosen, seed) for seed in range(1000, 1004)]
    np.testing.assert_allclose(cell.evaluation, expected, rtol=1e-5)
    assert cell.checkpoints.shape == (41,)
    assert cell.checkpoints[-1] == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_diverged_trial_counts_with_the_score_of_its_start():
    space = {"learning_rate": log_uniform(1e3, 1e6)}
    entry = Entry.of(lambda learning_rate: optax.sgd(learning_rate), name="fast", space=space)
    task = tiny.make()
    found = measure(entry, task, SMALL)
    assert found.diverged == (8, 4)
    data = task.load()
    starts = [
        float(task.measure(task.score(task.init(data, jax.random.split(key)[0]), data)))
        for key in map(jax.random.key, range(1000, 1004))
    ]
    np.testing.assert_allclose(found.evaluation, starts, rtol=1e-5)


def test_a_constant_shape_and_a_longer_run_reach_the_entry():
    seen = []

    def make(horizon, learning_rate):
        seen.append(horizon)
        return optax.sgd(learning_rate)

    entry = Entry("spy", make, {"learning_rate": log_uniform(0.01, 1)}, {"learning_rate": 0.1})
    measure(entry, tiny.make(), Protocol(trials=2, seeds=2, shape="constant", length=0.5))
    assert set(seen) == {Horizon(20, "constant")}


def test_the_same_call_with_a_store_continues(tmp_path):
    calls = []

    def make(horizon, learning_rate):
        calls.append(1)
        return momentax.sgd(horizon.learning_rate(learning_rate))

    entry = Entry("kept", make, {"learning_rate": log_uniform(0.01, 1)}, {"learning_rate": 0.1})
    protocol = Protocol(trials=4, seeds=2)
    first = measure(entry, tiny.make(), protocol, folder=tmp_path)
    files = sorted(path.name for path in tmp_path.rglob("batch-*.npz"))
    again = measure(entry, tiny.make(), protocol, folder=tmp_path)
    np.testing.assert_array_equal(first.evaluation, again.evaluation)
    assert files == sorted(path.name for path in tmp_path.rglob("batch-*.npz"))


def test_run_takes_names_functions_and_tasks_of_ones_own():
    def mine(learning_rate, beta=0.9):
        return momentax.sgd(learning_rate, momentax.heavy_ball(beta))

    reported = []
    result = bench.run(
        ["heavy_ball", mine],
        tiny.make(),
        trials=4,
        seeds=3,
        progress=False,
        report=lambda *each: reported.append(each),
    )
    assert list(result.cells) == [("tiny", "heavy_ball"), ("tiny", "mine")]
    assert reported == [("tiny", "heavy_ball", 0, 2), ("tiny", "mine", 1, 2)]
    assert result.protocol == Protocol(trials=4, seeds=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": "nestrov"}, ValueError, "nesterov"),
        ({"methods": []}, ValueError, "methods must have at least one name"),
        ({"methods": ["sgd", "sgd"]}, ValueError, "got 'sgd' twice"),
        ({"tasks": 3}, TypeError, "tasks must be a name"),
        ({"tasks": ["ridge", 3]}, TypeError, "tasks must be names"),
        ({"trials": 1}, ValueError, "trials must be"),
        ({"seeds": 1}, ValueError, "seeds must be"),
        ({"first_seed": 2}, ValueError, "first_seed must be"),
        ({"shape": "linear"}, ValueError, "shape must be"),
    ],
)
def test_mistakes_are_found_before_anything_runs(arguments, error, message):
    with pytest.raises(error, match=message):
        bench.run(**{"methods": "sgd", "tasks": "ridge", **arguments})
