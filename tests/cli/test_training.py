"""The training that `momentax sweep` runs at each point."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax._cli import _digits
from momentax._cli._training import METRICS, Training

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


# The network for digits.


@pytest.fixture(scope="module")
def train_on_digits():
    """Train four points at once for some epochs, with one program for every call."""
    training = Training(momentax.heavy_ball, 12, 0, _digits.Network, _digits.load())

    def run(epochs, *point):
        def advance(_, state):
            return training.advance(state, *point)

        return training.measure(jax.lax.fori_loop(0, epochs, advance, training.init(*point)))

    run = jax.jit(jax.vmap(run, in_axes=(None, 0, 0, None)))

    def train(learning_rates, betas, seed, epochs):
        return run(epochs, jnp.array(learning_rates), jnp.array(betas), seed)

    return train


def test_a_training_equals_a_plain_loop_over_batches(train_on_digits):
    """The loop calls optax.sgd for one batch after another."""
    found = train_on_digits([0.05, 0.1, 0.1, 0.1], [0.5] * 4, seed=3, epochs=2)
    train, test = _digits.load()
    network = nnx.eval_shape(lambda: _digits.Network(nnx.Rngs(3)))
    params = jax.jit(lambda key: nnx.state(_digits.Network(nnx.Rngs(key)), nnx.Param))(
        jax.random.key(3)
    )
    tx = optax.sgd(0.1, momentum=0.5)

    def logits(params, images):
        return nnx.merge(nnx.graphdef(network), params)(images)

    def loss(params, images, labels):
        return cross_entropy(logits(params, images), labels).mean()

    @jax.jit
    def step(params, state, rows):
        value, grads = jax.value_and_grad(loss)(params, train.images[rows], train.labels[rows])
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    @jax.jit
    def measure(params):
        accuracy = (logits(params, test.images).argmax(-1) == test.labels).mean()
        return loss(params, *test), accuracy

    state = tx.init(params)
    for epoch in range(2):
        key = jax.random.fold_in(jax.random.key(3), epoch)
        order = jax.random.permutation(key, 1437)[: 44 * 32].reshape(44, 32)
        losses = []
        for rows in np.asarray(order):
            params, state, value = step(params, state, rows)
            losses.append(value)
    np.testing.assert_allclose(found["train_loss"][1], np.mean(losses), rtol=2e-2)
    test_loss, accuracy = measure(params)
    np.testing.assert_allclose(found["test_loss"][1], test_loss, rtol=5e-2)
    np.testing.assert_allclose(found["test_accuracy"][1], accuracy, atol=0.03)


def test_a_network_that_hardly_trained_has_not_diverged(train_on_digits):
    found = train_on_digits([1e-9, 1e-4, 1e-3, 30.0], [0.0] * 4, seed=1, epochs=1)
    np.testing.assert_array_equal(found["diverged"], [False, False, False, True])


def test_the_best_point_classifies_at_least_97_percent_correctly(train_on_digits):
    found = train_on_digits([0.08, 0.08, 0.19, 0.19], [0.8, 0.9] * 2, seed=0, epochs=12)
    assert found["test_accuracy"].max() >= 0.97


# A network of two inputs that has more variables than its parameters.


class Carrying(nnx.Module):
    """A network with running statistics and random keys."""

    def __init__(self, rngs):
        self.first = nnx.Linear(2, 8, rngs=rngs)
        self.scale = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.drop(self.scale(self.first(x)))))


def spots(count, seed):
    """Points of the plane around three places, and which place each belongs to."""
    labels = jnp.arange(count) % 3
    around = jax.random.normal(jax.random.key(seed), (count, 2)) / 4
    return jnp.array([[0.0, 9.0], [5.0, 0.0], [-5.0, 0.0]])[labels] + around, labels


SPOTS = spots(96, 0), spots(30, 1)
POINT = {"learning_rate": jnp.float32(0.05), "beta": jnp.float32(0.8)}
EPOCHS = 6


class Compiled:
    """A training of `Carrying`, whose seed is 5, with functions that are compiled once."""

    def __init__(self):
        training = Training(momentax.nesterov, EPOCHS, 5, Carrying, SPOTS, "test_accuracy")
        for name in ("run", "init", "advance", "measure", "score"):
            setattr(self, name, jax.jit(getattr(training, name)))


@pytest.fixture(scope="module")
def compiled():
    return Compiled()


def test_separate_epochs_equal_all_epochs_in_one_program_with_a_traced_seed(compiled):
    whole = compiled.run(**POINT, seed=jnp.int32(5))
    state = compiled.init(**POINT)
    losses = []
    for _ in range(EPOCHS):
        state = compiled.advance(state, **POINT)
        losses.append((float(state.first_loss), float(state.worst_loss)))
    assert len({first for first, _ in losses}) == 1  # The loss of the very first batch.
    assert losses[0][1] > losses[0][0] * 0.99
    assert sorted(worst for _, worst in losses) == [worst for _, worst in losses]
    assert compiled.advance._cache_size() == 1  # The state keeps its structure.
    chex.assert_trees_all_close(compiled.measure(state), whole, rtol=1e-4)
    assert set(whole) == {*METRICS, "diverged"}
    assert float(compiled.score(state)) == float(whole["test_accuracy"])
    assert int(state.epoch) == EPOCHS


def test_a_traced_seed_chooses_the_network_and_the_batches(compiled):
    losses = [compiled.run(**POINT, seed=jnp.int32(seed))["test_loss"] for seed in (0, 5)]
    assert abs(losses[0] - losses[1]) > 1e-3 * losses[0]
    params = compiled.init(**POINT, seed=jnp.int32(0)).params
    chex.assert_trees_all_close(params, nnx.state(Carrying(nnx.Rngs(0)), nnx.Param), rtol=1e-6)


def test_batch_statistics_change_in_training_and_tests_use_evaluation_mode(compiled):
    state = compiled.init(**POINT)
    for _ in range(EPOCHS):
        state = compiled.advance(state, **POINT)
    _, _, begun = nnx.split(Carrying(nnx.Rngs(0)), nnx.Param, ...)
    assert int(state.carried["drop"]["rngs"]["count"][...]) == EPOCHS * 3  # A key for each batch.
    assert int(begun["drop"]["rngs"]["count"][...]) == 0
    first = {name: np.asarray(leaf[...]) for name, leaf in state.params["first"].items()}
    hidden = (np.asarray(SPOTS[0][0]) @ first["kernel"] + first["bias"]).mean(0)
    mean = np.asarray(state.carried["scale"]["mean"][...])  # Of the latest parameters.
    assert np.linalg.norm(mean - hidden) < 0.5 * np.linalg.norm(hidden)
    module = Carrying(nnx.Rngs(0))
    nnx.update(module, state.params, state.carried)
    module.eval()
    inputs, labels = SPOTS[1]
    measured = compiled.measure(state)
    np.testing.assert_allclose(
        measured["test_loss"], cross_entropy(module(inputs), labels).mean(), rtol=1e-5
    )
    module.train()
    loss = cross_entropy(module(inputs), labels).mean()
    assert abs(float(loss / measured["test_loss"]) - 1) > 0.01


def test_fewer_examples_than_a_batch_are_one_batch():
    few = spots(6, 0), spots(3, 1)

    def network(rngs):
        return nnx.Linear(2, 3, rngs=rngs)

    run = jax.jit(Training(momentax.heavy_ball, 40, 0, network, few).run)
    assert run(0.1, 0.5)["train_loss"] < 0.1


def test_the_score_of_a_state_that_diverged_is_nan(compiled):
    state = compiled.advance(compiled.init(**POINT), **POINT)
    assert np.isfinite(compiled.score(state))
    for loss in (jnp.inf, jnp.nan):
        assert np.isnan(compiled.score(state._replace(worst_loss=jnp.float32(loss))))
