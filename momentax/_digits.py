"""The handwritten digits and a small convolutional network: what the command line trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from momentax._sgd import sgd
from momentax._typing import PyTree

BATCH = 32


class Digits(NamedTuple):
    """Images in [0, 1] of shape (n, 8, 8, 1) and their labels 0..9."""

    images: jax.Array
    labels: jax.Array


def load() -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits, always split into the same 1,437 and 360."""
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels, np.float32) / 16).reshape(-1, 8, 8, 1)
    labels = np.asarray(labels, np.int32)
    parts = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels, shuffle=True
    )
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def _as_matmul(images: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """A stride-1 "SAME" convolution as one matrix product over shifted images.

    Under vmap over settings every setting has its own kernel. XLA:CPU runs that
    as a grouped convolution, several times slower than the batched product.
    """
    del args, kwargs
    height, width, _, features = kernel.shape
    rows, columns = images.shape[1:3]
    padded = jnp.pad(images, [(0, 0), *((n // 2, n // 2) for n in (height, width)), (0, 0)])
    shifts = [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(-1, features)


class Network(nnx.Module):
    """Two convolutions with max-pooling and a linear layer: 6,090 parameters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, (3, 3), conv_general_dilated=_as_matmul, rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), conv_general_dilated=_as_matmul, rngs=rngs)
        self.last = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images of shape (n, 8, 8, 1) to logits of shape (n, 10)."""
        x = images
        for convolution in (self.first, self.second):
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), (2, 2))
        return self.last(x.reshape(len(x), -1))


def training(
    method: Callable[..., optax.GradientTransformation],
    epochs: int,
    seed: int,
    on_epoch: Callable[[], Any],
) -> Callable[..., dict[str, jax.Array]]:
    """Make the function that a sweep runs: train and test at one learning rate and β.

    Args:
        method: From beta to a momentax method.
        epochs: Passes over the training images.
        seed: Of the network's start and the order of the batches, which all
            points share.
        on_epoch: Called on the host after each epoch, once for all points.

    Returns:
        A traceable function (learning_rate, beta) -> dict of scalars:
        train_loss (the last epoch's mean), test_loss, test_accuracy, and
        diverged: a batch's loss was not finite, or rose above the first one
        and left a network that gives every image the same answer.
    """
    train, test = load()
    definition, start = nnx.split(Network(nnx.Rngs(seed)))
    batches = len(train.labels) // BATCH

    def logits(params: PyTree, images: jax.Array) -> jax.Array:
        return nnx.merge(definition, params)(images)

    def loss(params: PyTree, data: Digits) -> jax.Array:
        predicted = logits(params, data.images)
        return optax.softmax_cross_entropy_with_integer_labels(predicted, data.labels).mean()

    def report() -> None:
        on_epoch()

    def run(learning_rate: jax.Array, beta: jax.Array) -> dict[str, jax.Array]:
        tx = sgd(learning_rate, method(beta))

        def step(carry: Any, rows: jax.Array) -> Any:
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, jax.tree.map(lambda x: x[rows], train))
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        def epoch(carry: Any, key: jax.Array) -> Any:
            order = jax.random.permutation(key, len(train.labels))[: batches * BATCH]
            carry, losses = jax.lax.scan(step, carry, order.reshape(batches, BATCH))
            jax.debug.callback(report)
            return carry, losses

        keys = jax.random.split(jax.random.key(seed), epochs)
        (params, _), losses = jax.lax.scan(epoch, (start, tx.init(start)), keys)
        answers = logits(params, test.images).argmax(-1)
        return {
            "train_loss": losses[-1].mean(),
            "test_loss": loss(params, test),
            "test_accuracy": (answers == test.labels).mean(),
            "diverged": ~jnp.isfinite(losses).all()
            | ((answers == answers[0]).all() & (losses.max() > 1.2 * losses[0, 0])),
        }

    return run
