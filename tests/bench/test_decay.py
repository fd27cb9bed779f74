"""The weight decay that every entry can search: its space, its steps, and its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import bench
from momentax.bench import Entry, Horizon, Protocol, entries, tasks
from momentax.bench._tasks import ridge
from momentax.sweeps import log_uniform
from tests.bench import tiny

pytestmark = pytest.mark.usefixtures("promotion_of_optax")
START = {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.linspace(1, 2, 4)}
GRADIENT = {"kernel": jnp.linspace(1, 2, 12).reshape(3, 4), "bias": jnp.linspace(-2, -1, 4)}
# The hyperparameter that an entry with four of them does not search with weight decay.
DROPPED = {"adam": "eps", "nadam": "eps", "adan": "beta3", "annealed": "share"}


@pytest.fixture
def promotion_of_optax():
    """Optax's Adam multiplies numbers of different dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("name", entries)
def test_every_entry_searches_at_most_four_with_the_decay(name):
    entry, decaying = entries[name], entries[name].with_weight_decay()
    kept = [each for each in entry.space if each != DROPPED.get(name)]
    assert list(decaying.space) == [*kept, "weight_decay"]
    assert len(decaying.space) <= 4
    assert decaying.space["weight_decay"] == log_uniform(1e-5, 1)
    assert decaying.default == {
        **{each: entry.default[each] for each in kept},
        "weight_decay": 1e-4,
    }
    assert decaying.with_weight_decay() is decaying
    assert decaying.name == name
    for each in kept:  # The same points as without decay.
        np.testing.assert_array_equal(decaying.trials(8)[each], entry.trials(8)[each])


def first_step(entry, **hyperparameters):
    tx = optax.with_extra_args_support(entry.make(Horizon(100, entry.shape), **hyperparameters))
    return tx.update(GRADIENT, tx.init(START), START, value=jnp.float32(1))[0]


@pytest.mark.parametrize("name", entries)
def test_the_decay_shrinks_parameters_by_the_learning_rate_times_its_weight(name):
    entry = entries[name]
    hyperparameters = {each: jnp.float32(value) for each, value in entry.default.items()}
    plain = first_step(entry, **hyperparameters)
    decayed = first_step(entry, **hyperparameters, weight_decay=jnp.float32(0.1))
    β = entry.default.get("beta", 0.0)
    rate = {
        "heavy_ball": 0.5 * (1 - β),
        "nesterov": 0.5 * (1 - β),
        "restart": 0.5 * (1 - β),
        # The four β have the ages 0, ∛100 - 1 and so on; three of them are used.
        "aggregated": 0.5 / np.mean([1, 10, 100]),
    }.get(name, entry.default.get("learning_rate", entry.default.get("effective_rate")))
    peak = rate * 0.2  # The first of five steps of warm-up.
    for leaf in START:
        ratio = entry.default["adam_ratio"] if name == "muon" and leaf == "bias" else 1
        shrink = np.asarray(decayed[leaf]) - np.asarray(plain[leaf])
        np.testing.assert_allclose(
            shrink,
            -0.1 * peak * ratio * np.asarray(START[leaf]),
            rtol=2e-3,
            atol=1e-7 * peak + 1e-8,
        )


def test_gradient_descent_with_decay_on_ridge_has_its_closed_form():
    """w ← w - α_t (H w - b) - α_t λ w is linear, so that each eigenvector decays by itself."""
    steps, rate, weight = 200, 0.5, 0.3
    entry, task, key = entries["sgd"].with_weight_decay(), tasks["ridge"], jax.random.key(3)

    def run(learning_rate, weight_decay):
        tx = entry.make(
            Horizon(steps, "constant"), learning_rate=learning_rate, weight_decay=weight_decay
        )
        result = task.train(tx, key, steps=steps)
        return result["loss"], result["checkpoints"][0]

    found = jax.jit(jax.vmap(run))(np.float32([rate, rate]), np.float32([weight, 1e-6]))
    data = task.load()
    H = ridge._hessian(data)
    h, Q = np.linalg.eigh(H)
    start = Q.T @ np.float64(ridge.init(None, jax.random.split(key)[0])["weights"])
    best = Q.T @ ridge.solution()
    for i, λ in enumerate((weight, 1e-6)):
        limit = h * best / (h + λ)  # Of (H + λ) w = H w*.
        α = rate * np.minimum(1, (np.arange(steps) + 1) / (0.05 * steps))
        w = limit + np.prod(1 - α[:, None] * (h + λ)[None], axis=0) * (start - limit)
        np.testing.assert_allclose(found[0][i], (h * (w - best) ** 2).sum() / 2, rtol=1e-3)
    assert found[0][0] > 10 * found[0][1]  # The score is the loss without the decay.
    np.testing.assert_allclose(found[1][0], found[1][1])


@pytest.mark.parametrize("name", ["nesterov", "adam", "muon"])
def test_a_small_decay_at_a_small_rate_changes_nothing(name):
    entry, steps = entries[name], 30
    hyperparameters = {key: np.float32(value) for key, value in entry.default.items()}
    rate = next(iter(entry.space))
    hyperparameters[rate] = np.float32(0.1 * entry.default[rate])

    def run(hyperparameters):
        tx = entry.make(Horizon(steps), **hyperparameters)
        return tiny.make().train(tx, jax.random.key(0), steps=steps)["y"]

    run = jax.jit(run)
    plain = run(hyperparameters)
    np.testing.assert_allclose(
        run({**hyperparameters, "weight_decay": np.float32(1e-5)}), plain, atol=1e-5
    )
    assert abs(run({**hyperparameters, "weight_decay": np.float32(1.0)}) - plain) > 1e-4


def test_the_decay_of_a_function_is_that_of_sgd():
    def plain(learning_rate, beta=0.9):
        return momentax.sgd(learning_rate, momentax.heavy_ball(beta))

    def own(learning_rate, beta=0.9, weight_decay=0.5):
        return momentax.sgd(
            learning_rate, momentax.heavy_ball(beta), weight_decay=weight_decay, decoupled=True
        )

    given = {"effective_rate": 0.5, "beta": 0.9, "weight_decay": 0.1}
    expected = first_step(entries["heavy_ball"].with_weight_decay(), **given)
    for function in (plain, own):
        entry = Entry.of(function).with_weight_decay()
        assert list(entry.space) == ["effective_rate", "beta", "weight_decay"]
        found = first_step(entry, **given)
        for leaf in START:
            np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-4)
    rates = Entry.of(plain, space={"learning_rate": log_uniform(0.01, 1)}).with_weight_decay()
    found = first_step(rates, learning_rate=0.05, beta=0.9, weight_decay=0.1)
    np.testing.assert_allclose(found["bias"], expected["bias"], rtol=1e-4)


def test_the_last_hyperparameter_that_is_no_rate_is_dropped():
    def mine(beta1=0.9, beta2=0.99, eps=1e-8, learning_rate=1e-3):
        return optax.adam(learning_rate, beta1, beta2, eps)

    space = {"eps": log_uniform(1e-10, 1e-3), "learning_rate": log_uniform(1e-4, 0.1)}
    entry = Entry.of(mine, space=space, default={"learning_rate": 1e-3}).with_weight_decay()
    assert list(entry.space) == ["beta1", "beta2", "learning_rate", "weight_decay"]
    first_step(entry, beta1=0.9, beta2=0.99, learning_rate=0.1, weight_decay=0.1)


def test_an_entry_without_decay_is_refused_before_anything_runs():
    def make(horizon, learning_rate):
        raise AssertionError("it must not run")

    entry = Entry("mine", make, {"learning_rate": log_uniform(0.1, 1)}, {"learning_rate": 0.5})
    with pytest.raises(TypeError, match="the entry mine has no weight decay: make must have an"):
        bench.run([entry], tiny.make(), weight_decay=True)


def test_a_run_with_weight_decay_says_so_and_is_not_joined_with_one_without(tmp_path):
    options = {"trials": 4, "seeds": 2, "progress": False, "store": tmp_path}
    found = bench.run("heavy_ball", tiny.make(), weight_decay=True, **options)
    assert found.protocol == Protocol(trials=4, seeds=2, weight_decay=True)
    assert list(found.cells["tiny", "heavy_ball"].hyperparameters) == [
        "effective_rate",
        "beta",
        "weight_decay",
    ]
    assert (tmp_path / "cosine-decay" / "tiny" / "heavy_ball").is_dir()
    found.save(tmp_path / "bench.json")
    assert bench.Result.load(tmp_path / "bench.json").protocol == found.protocol
    plain = bench.run("nesterov", tiny.make(), **options)
    with pytest.raises(ValueError, match="weight_decay: False here, True in the other result"):
        plain.join(found, anyway=True)
