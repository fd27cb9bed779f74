"""The network and the training that the command line sweeps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import momentax
from momentax import _digits


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
    epochs = []
    run = _digits.training(momentax.heavy_ball, 2, 3, on_epoch=lambda: epochs.append(None))
    points = momentax.grid(learning_rate=[0.05, 0.1], beta=[0.5])
    swept = momentax.sweep(run, points)
    jax.effects_barrier()
    assert len(epochs) == 2  # Once an epoch, not once a point.

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
    for key in jax.random.split(jax.random.key(3), 2):
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
    run = _digits.training(momentax.heavy_ball, 1, 1, on_epoch=lambda: None)
    points = momentax.grid(learning_rate=[1e-9, 1e-4, 1e-3, 30.0], beta=[0.0])
    lost = momentax.sweep(run, points)["diverged"][:, 0]
    np.testing.assert_array_equal(lost, [False, False, False, True])


def test_the_best_point_reads_at_least_97_percent():
    run = _digits.training(momentax.heavy_ball, 12, 0, on_epoch=lambda: None)
    points = momentax.grid(learning_rate=[0.08, 0.19], beta=[0.8, 0.9])
    assert momentax.sweep(run, points)["test_accuracy"].max() >= 0.97
