"""The network and the training that the command line sweeps."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import momentax
from momentax._cli import _digits


def test_the_split_is_fixed_balanced_and_complete():
    train, test = _digits.load()
    again, _ = _digits.load()
    chex.assert_trees_all_equal(train, again)
    assert train.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert float(train.images.min()) == 0
    assert float(train.images.max()) == 1
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    assert counts.sum() == 1797
    shares = np.bincount(np.asarray(test.labels)) / counts
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    both = np.concatenate([train.images, test.images]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797  # No image is in both parts.


def test_the_matrix_product_is_the_convolution():
    key = jax.random.key(0)
    for features, channels in ((16, 1), (32, 16)):
        images = jax.random.normal(key, (5, 8, 8, channels))
        plain = nnx.Conv(channels, features, (3, 3), rngs=nnx.Rngs(0))
        ours = nnx.Conv(
            channels, features, (3, 3), conv_general_dilated=_digits._as_matmul, rngs=nnx.Rngs(0)
        )
        chex.assert_trees_all_close(ours(images), plain(images), atol=1e-5)


def test_the_network_has_as_many_parameters_as_it_says():
    _, params = nnx.split(_digits.Network(nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in _digits.Network.__doc__


def test_a_point_of_the_sweep_is_a_plain_training_loop():
    """With optax.sgd, batch by batch, and Flax's own convolution."""
    points = momentax.grid(learning_rate=[0.05, 0.1], beta=[0.5])
    swept = momentax.sweep(_digits.training(momentax.heavy_ball, 2, 3).run, points)

    train, test = _digits.load()
    definition, params = nnx.split(_digits.Network(nnx.Rngs(3)))
    tx = optax.sgd(0.1, momentum=0.5)

    def loss(params, images, labels):
        logits = nnx.merge(definition, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, images, labels):
        value, grads = jax.value_and_grad(loss)(params, images, labels)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state = tx.init(params)
    for epoch in range(2):
        key = jax.random.fold_in(jax.random.key(3), epoch)
        order = jax.random.permutation(key, 1437)[: 44 * 32].reshape(44, 32)
        losses = []
        for rows in order:
            params, state, value = step(params, state, train.images[rows], train.labels[rows])
            losses.append(value)
    np.testing.assert_allclose(swept["train_loss"][1, 0], np.mean(losses), rtol=2e-2)
    np.testing.assert_allclose(swept["test_loss"][1, 0], loss(params, *test), rtol=5e-2)
    answers = nnx.merge(definition, params)(test.images).argmax(-1)
    accuracy = jnp.mean((answers == test.labels).astype(float))
    np.testing.assert_allclose(swept["test_accuracy"][1, 0], accuracy, atol=0.03)


def test_hardly_trained_is_not_diverged():
    run = _digits.training(momentax.heavy_ball, 1, 1).run
    points = momentax.grid(learning_rate=[1e-9, 1e-4, 1e-3, 30.0], beta=[0.0])
    lost = momentax.sweep(run, points)["diverged"][:, 0]
    np.testing.assert_array_equal(lost, [False, False, False, True])


class Carrying(nnx.Module):
    """A network that carries more than parameters: running statistics and random keys."""

    def __init__(self, rngs):
        self.first = nnx.Linear(2, 8, rngs=rngs)
        self.scale = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.drop(self.scale(self.first(x)))))


def spots(count, seed):
    """Points of the plane about one of three places, and which."""
    labels = jnp.arange(count) % 3
    around = jax.random.normal(jax.random.key(seed), (count, 2)) / 4
    return jnp.array([[0.0, 9.0], [5.0, 0.0], [-5.0, 0.0]])[labels] + around, labels


SPOTS = spots(96, 0), spots(30, 1)


def test_epoch_by_epoch_is_all_at_once():
    training = _digits.training(momentax.nesterov, 3, 5, Carrying, SPOTS, "test_accuracy")
    point = {"learning_rate": jnp.float32(0.05), "beta": jnp.float32(0.8)}
    whole = jax.jit(training.run)(**point)
    state = jax.jit(training.init)(**point)
    advance, course = jax.jit(training.advance), []
    for _ in range(3):
        state = advance(state, **point)
        course.append((float(state.first), float(state.worst)))
    assert len({first for first, _ in course}) == 1  # The first batch's loss of all.
    assert course[0][1] > course[0][0] * 0.99
    assert sorted(worst for _, worst in course) == [worst for _, worst in course]
    assert advance._cache_size() == 1  # The state keeps its structure.
    chex.assert_trees_all_close(training.measure(state), whole, rtol=1e-4)
    assert float(training.score(state)) == float(whole["test_accuracy"])
    assert int(state.epoch) == 3


def test_a_seed_that_is_traced_is_the_seed_that_is_given():
    at = partial(momentax.grid, learning_rate=[0.05], beta=[0.8])
    run = _digits.training(momentax.heavy_ball, 2, 0, Carrying, SPOTS).run
    losses = momentax.sweep(run, momentax.sweeps.repeat(at(), [0, 7]))["test_loss"][0, 0]
    assert abs(losses[0] - losses[1]) > 1e-3 * losses[0]
    for seed, loss in zip((0, 7), losses, strict=True):
        alone = _digits.training(momentax.heavy_ball, 2, seed, Carrying, SPOTS).run
        np.testing.assert_allclose(momentax.sweep(alone, at())["test_loss"][0, 0], loss, rtol=1e-4)


def test_what_a_network_carries_is_trained_on_and_tests_run_in_its_evaluation_mode():
    training = _digits.training(momentax.heavy_ball, 6, 0, Carrying, SPOTS)
    point = {"learning_rate": 0.05, "beta": 0.8}
    state = training.init(**point)
    advance = jax.jit(training.advance)
    for _ in range(6):
        state = advance(state, **point)
    _, _, begun = nnx.split(Carrying(nnx.Rngs(0)), nnx.Param, ...)
    assert int(state.rest["drop"]["rngs"]["count"][...]) == 6 * 3  # A key a batch.
    assert int(begun["drop"]["rngs"]["count"][...]) == 0
    first = {name: np.asarray(leaf[...]) for name, leaf in state.params["first"].items()}
    hidden = (np.asarray(SPOTS[0][0]) @ first["kernel"] + first["bias"]).mean(0)
    mean = np.asarray(state.rest["scale"]["mean"][...])  # Of the parameters of lately.
    assert np.linalg.norm(mean - hidden) < 0.5 * np.linalg.norm(hidden)
    module = Carrying(nnx.Rngs(0))
    nnx.update(module, state.params, state.rest)
    module.eval()
    (inputs, labels), loss = SPOTS[1], optax.softmax_cross_entropy_with_integer_labels
    measured = training.measure(state)
    np.testing.assert_allclose(
        measured["test_loss"], loss(module(inputs), labels).mean(), rtol=1e-5
    )
    module.train()
    assert abs(float(loss(module(inputs), labels).mean() / measured["test_loss"]) - 1) > 0.01


def test_fewer_examples_than_a_batch_are_one_batch():
    few = spots(6, 0), spots(3, 1)
    run = _digits.training(momentax.heavy_ball, 40, 0, Carrying, few).run
    found = momentax.sweep(run, momentax.grid(learning_rate=[0.1], beta=[0.5]))
    assert found["train_loss"][0, 0] < 0.1


def test_the_score_of_what_diverged_is_nan():
    training = _digits.training(momentax.heavy_ball, 1, 0, Carrying, SPOTS)
    state = training.init(0.1, 0.0)
    after = training.advance(state, 0.1, 0.0)
    assert np.isfinite(training.score(after))
    assert np.isnan(training.score(after._replace(worst=jnp.float32(jnp.inf))))
    assert np.isnan(training.score(after._replace(worst=jnp.float32(jnp.nan))))


def test_the_best_point_reads_at_least_97_percent():
    run = _digits.training(momentax.heavy_ball, 12, 0).run
    points = momentax.grid(learning_rate=[0.08, 0.19], beta=[0.8, 0.9])
    assert momentax.sweep(run, points)["test_accuracy"].max() >= 0.97
