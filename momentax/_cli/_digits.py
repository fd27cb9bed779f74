"""What the command line trains: any network on any data, by default a small one on digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from momentax._core.typing import PyTree
from momentax._sgd import sgd

BATCH = 32
# What a training is measured by, and which end of each is best.
METRICS = {"test_accuracy": "max", "test_loss": "min", "train_loss": "min"}


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


class State(NamedTuple):
    """A training after some of its epochs.

    params: the network's parameters.
    rest: what else it carries, as running statistics or random keys.
    optimizer: the optimizer's state.
    epoch: how many epochs are done.
    first: the first batch's loss.
    worst: the greatest loss of a batch, NaN once one was.
    last: the mean loss of the last epoch's batches.
    """

    params: PyTree
    rest: PyTree
    optimizer: PyTree
    epoch: jax.Array
    first: jax.Array
    worst: jax.Array
    last: jax.Array


class Training(NamedTuple):
    """Traceable functions that train and test at one point: all at once, or epoch by epoch.

    run: (learning_rate, beta[, seed]) -> what `measure` returns after all epochs.
    init: (learning_rate, beta[, seed]) -> the state before the first epoch.
    advance: (state, learning_rate, beta[, seed]) -> the state an epoch later.
    measure: state -> dict of scalars: train_loss (the last epoch's mean),
        test_loss, test_accuracy, and diverged: a loss was not finite, or rose
        above the first one and left a network that gives every input the same
        answer.
    score: state -> one of these numbers, NaN where diverged.
    """

    run: Callable[..., dict[str, jax.Array]]
    init: Callable[..., State]
    advance: Callable[..., State]
    measure: Callable[[State], dict[str, jax.Array]]
    score: Callable[[State], jax.Array]


def training(
    method: Callable[..., optax.GradientTransformation],
    epochs: int,
    seed: int,
    network: Callable[[nnx.Rngs], nnx.Module] = Network,
    data: tuple[Any, Any] | None = None,
    metric: str = "test_loss",
) -> Training:
    """Make the functions that a sweep runs.

    Args:
        method: From beta to a momentax method.
        epochs: Passes over the training data.
        seed: Of the network's start and the order of the batches, where a point
            brings none of its own.
        network: From random keys to a module that maps inputs to logits. What it
            carries besides parameters is trained on with them; tests run it in
            its evaluation mode.
        data: The training and the test data, each inputs and integer labels;
            None takes the digits.
        metric: Which of METRICS is the score.

    Returns:
        The functions; a seed given to them may be traced.
    """
    train, test = load() if data is None else data
    batch = min(BATCH, len(train[1]))
    batches = len(train[1]) // batch
    definition = nnx.graphdef(nnx.eval_shape(lambda: network(nnx.Rngs(0))))

    def loss(params: PyTree, rest: PyTree, inputs: PyTree, labels: jax.Array) -> Any:
        module = nnx.merge(definition, params, rest, copy=True)  # It may change what it carries.
        module.train()
        losses = optax.softmax_cross_entropy_with_integer_labels(module(inputs), labels)
        return losses.mean(), nnx.state(module, nnx.Not(nnx.Param))

    def init(learning_rate: Any, beta: Any, seed: Any = seed) -> State:
        _, params, rest = nnx.split(network(nnx.Rngs(jax.random.key(seed))), nnx.Param, ...)
        optimizer = sgd(learning_rate, method(beta)).init(params)
        zero = jnp.zeros((), jnp.float32)
        return State(params, rest, optimizer, jnp.zeros((), jnp.int32), zero, zero, zero)

    def advance(state: State, learning_rate: Any, beta: Any, seed: Any = seed) -> State:
        tx = sgd(learning_rate, method(beta))

        def step(carry: Any, rows: jax.Array) -> Any:
            params, rest, optimizer = carry
            part = jax.tree.map(lambda leaf: leaf[rows], tuple(train))
            (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, *part)
            updates, optimizer = tx.update(grads, optimizer, params)
            return (optax.apply_updates(params, updates), rest, optimizer), value

        key = jax.random.fold_in(jax.random.key(seed), state.epoch)
        order = jax.random.permutation(key, len(train[1]))[: batches * batch]
        carry = state.params, state.rest, state.optimizer
        (params, rest, optimizer), losses = jax.lax.scan(step, carry, order.reshape(batches, batch))
        losses = losses.astype(jnp.float32)
        first = jnp.where(state.epoch == 0, losses[0], state.first)
        worst = jnp.maximum(state.worst, losses.max())
        return State(params, rest, optimizer, state.epoch + 1, first, worst, losses.mean())

    def measure(state: State) -> dict[str, jax.Array]:
        inputs, labels = test
        module = nnx.merge(definition, state.params, state.rest, copy=True)
        module.eval()
        logits = module(inputs)
        answers = logits.argmax(-1)
        test_loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return {
            "train_loss": state.last,
            "test_loss": test_loss,
            "test_accuracy": (answers == labels).mean(),
            "diverged": ~jnp.isfinite(state.worst)
            | ~jnp.isfinite(test_loss)
            | ((answers == answers[0]).all() & (state.worst > 1.2 * state.first)),
        }

    def score(state: State) -> jax.Array:
        found = measure(state)
        return jnp.where(found["diverged"], jnp.nan, found[metric])

    def run(learning_rate: Any, beta: Any, seed: Any = seed) -> dict[str, jax.Array]:
        point = {"learning_rate": learning_rate, "beta": beta, "seed": seed}
        later = partial(advance, **point)
        return measure(jax.lax.fori_loop(0, epochs, lambda _, state: later(state), init(**point)))

    return Training(run, init, advance, measure, score)
