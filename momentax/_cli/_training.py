"""The training of a Flax network at one learning rate and β, as functions that JAX can trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from momentax._core.typing import PyTree
from momentax._sgd import sgd

BATCH_SIZE = 32
# The metrics of a trained network, and whether the largest or the smallest value of each is best.
METRICS = {"test_accuracy": "max", "test_loss": "min", "train_loss": "min"}
REGRESSION_METRICS = {name: METRICS[name] for name in ("test_loss", "train_loss")}


class TrainingState(NamedTuple):
    """A network after some epochs of training.

    params: the parameters.
    carried: the variables of the network besides parameters, such as running statistics.
    optimizer: the state of the optimizer.
    epoch: the number of finished epochs.
    first_loss: the loss of the first batch.
    worst_loss: the greatest loss of a batch so far; NaN once a loss was NaN.
    mean_loss: the mean loss of the batches of the last epoch.
    """

    params: PyTree
    carried: PyTree
    optimizer: PyTree
    epoch: jax.Array
    first_loss: jax.Array
    worst_loss: jax.Array
    mean_loss: jax.Array


def is_regression(labels: Any) -> bool:
    """Return whether labels are real numbers and not classes."""
    return jnp.issubdtype(labels.dtype, jnp.floating)


def _mean_loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    if is_regression(labels):  # Outputs of shape (n, 1) fit labels of shape (n,).
        return jnp.square(outputs.reshape(labels.shape) - labels).mean()
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


@dataclass(frozen=True, eq=False)
class Training:
    """Train a network with `momentax.sgd`, all at once with `run` or epoch by epoch.

    method: from β to a momentum method.
    epochs: passes over the training data.
    seed: of the network's start and of the order of the batches, at points without a seed.
    network: from random keys to a module from inputs to logits, or for real labels to outputs
        of as many numbers as the labels have. Whatever it carries besides parameters changes with
        the training; tests run it in evaluation mode.
    data: the training data and the test data, each inputs and labels. Whole labels are classes,
        and the loss is their cross-entropy. Real labels are regression, with the squared error.
    metric: which of the metrics `score` returns.

    Each method can be traced, its seed as well.
    """

    method: Callable[..., optax.GradientTransformation]
    epochs: int
    seed: int
    network: Callable[[nnx.Rngs], nnx.Module]
    data: tuple[Any, Any]
    metric: str = "test_loss"

    @cached_property
    def _definition(self) -> Any:
        return nnx.graphdef(nnx.eval_shape(lambda: self.network(nnx.Rngs(0))))

    def run(self, learning_rate: Any, beta: Any, seed: Any = None) -> dict[str, jax.Array]:
        """Train for all epochs and return what `measure` returns."""
        state = self.init(learning_rate, beta, seed)

        def advance(_: Any, state: TrainingState) -> TrainingState:
            return self.advance(state, learning_rate, beta, seed)

        return self.measure(jax.lax.fori_loop(0, self.epochs, advance, state))

    def init(self, learning_rate: Any, beta: Any, seed: Any = None) -> TrainingState:
        """Return the state before the first epoch."""
        key = jax.random.key(self.seed if seed is None else seed)
        _, params, carried = nnx.split(self.network(nnx.Rngs(key)), nnx.Param, ...)
        optimizer = sgd(learning_rate, self.method(beta)).init(params)
        zero = jnp.zeros((), jnp.float32)
        epoch = jnp.zeros((), jnp.int32)
        return TrainingState(params, carried, optimizer, epoch, zero, zero, zero)

    def advance(
        self, state: TrainingState, learning_rate: Any, beta: Any, seed: Any = None
    ) -> TrainingState:
        """Return the state one epoch later."""
        tx = sgd(learning_rate, self.method(beta))

        def step(carry: Any, rows: jax.Array) -> Any:
            params, carried, optimizer = carry
            inputs, labels = jax.tree.map(lambda leaf: leaf[rows], tuple(self.data[0]))
            loss_and_grad = jax.value_and_grad(self._loss, has_aux=True)
            (loss, carried), grads = loss_and_grad(params, carried, inputs, labels)
            updates, optimizer = tx.update(grads, optimizer, params)
            return (optax.apply_updates(params, updates), carried, optimizer), loss

        carry = state.params, state.carried, state.optimizer
        batches = self._batches(state.epoch, self.seed if seed is None else seed)
        (params, carried, optimizer), losses = jax.lax.scan(step, carry, batches)
        losses = losses.astype(jnp.float32)
        return TrainingState(
            params,
            carried,
            optimizer,
            epoch=state.epoch + 1,
            first_loss=jnp.where(state.epoch == 0, losses[0], state.first_loss),
            worst_loss=jnp.maximum(state.worst_loss, losses.max()),
            mean_loss=losses.mean(),
        )

    def measure(self, state: TrainingState) -> dict[str, jax.Array]:
        """Measure a state on the test data.

        Besides the metrics, of which regression has no accuracy, the result has diverged: whether
        a loss was not finite, or a loss rose above the first one and the network now gives every
        input the same answer.
        """
        inputs, labels = self.data[1]
        module = nnx.merge(self._definition, state.params, state.carried, copy=True)
        module.eval()
        outputs = module(inputs)
        answers = outputs if is_regression(labels) else outputs.argmax(-1)
        test_loss = _mean_loss(outputs, labels)
        measured = {"train_loss": state.mean_loss, "test_loss": test_loss}
        if not is_regression(labels):
            measured["test_accuracy"] = (answers == labels).mean()
        is_finite = jnp.isfinite(state.worst_loss) & jnp.isfinite(test_loss)
        is_constant = (answers == answers[:1]).all()
        rose = state.worst_loss > 1.2 * state.first_loss
        return {**measured, "diverged": ~is_finite | (is_constant & rose)}

    def score(self, state: TrainingState) -> jax.Array:
        """Return the metric of a state, NaN if it diverged."""
        measured = self.measure(state)
        return jnp.where(measured["diverged"], jnp.nan, measured[self.metric])

    def _loss(self, params: PyTree, carried: PyTree, inputs: PyTree, labels: jax.Array) -> Any:
        # A copy, since the module may change its other variables.
        module = nnx.merge(self._definition, params, carried, copy=True)
        module.train()
        return _mean_loss(module(inputs), labels), nnx.state(module, nnx.Not(nnx.Param))

    def _batches(self, epoch: jax.Array, seed: Any) -> jax.Array:
        """Return the rows of each batch of an epoch, in an order drawn from the seed and epoch."""
        count = len(self.data[0][1])
        size = min(BATCH_SIZE, count)
        key = jax.random.fold_in(jax.random.key(seed), epoch)
        order = jax.random.permutation(key, count)[: count // size * size]
        return order.reshape(-1, size)
