"""A task of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from momentax._core import arguments, arithmetic
from momentax._core.typing import PyTree
from momentax.bench import _training
from momentax.bench._data import Data


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A training problem: data, a model, batches, and the loss by which runs are compared.

    The mapping `momentax.bench.tasks` has the eight tasks of the comparison by their names:
    "digits_cnn", "unicode_bn", "ridge", "names_char", "names_embed", "curves_ae", "spiral_deep" and
    "poisson_pinn". Importing it loads no data; a task loads or generates them when it first
    needs them, without a network. "digits_cnn" and "ridge" need scikit-learn, which
    `pip install 'momentax[flax]'` installs.

    Arrays of data come as a dictionary: NumPy's from `load`, JAX's for the other functions.

    name: the name of the task, such as "digits_cnn". A task that changes gets a new name.
    description: the model and the problem.
    source: where the data come from, and their licence.
    load: () -> data, the same arrays at each call. It raises if they differ from the checksum.
    checksum: the SHA-256 of the data, of reals after rounding to 3 decimals.
    init: (data, key) -> params, dictionaries of float32 arrays.
    draw: (data, key, steps) -> batches, all that is random in the batches of a run: a tree of
        arrays with one row for each step.
    loss: (params, batch, data) -> scalar, the training loss of one row of the batches.
    score: (params, data) -> scalar, the loss on a fixed set of training examples.
    validate: (params, data) -> scalar, the loss on examples that are not used for training, or
        another error that matters; None if there is neither.
    batch_size: the number of examples in a batch, at least 1; None means all of them.
    steps: the number of steps of a run, at least 1.
    infimum: the value that no score is below, any real number.
    floor: the difference from the infimum, in (0, inf), below which scores are not told apart.
    """

    name: str
    description: str
    source: str
    load: Callable[[], Data]
    checksum: str
    init: Callable[[Any, jax.Array], PyTree]
    draw: Callable[[Any, jax.Array, int], PyTree]
    loss: Callable[[PyTree, PyTree, Any], jax.Array]
    score: Callable[[PyTree, Any], jax.Array]
    validate: Callable[[PyTree, Any], jax.Array] | None
    batch_size: int | None
    steps: int
    infimum: float
    floor: float

    def __post_init__(self) -> None:
        for field, example in _TEXTS.items():
            arguments.as_text(field, getattr(self, field), repr(example))
        for field, (signature, count) in _FUNCTIONS.items():
            if field != "validate" or self.validate is not None:
                placeholders = (None,) * count
                arguments.require_function(field, getattr(self, field), signature, *placeholders)
        if self.batch_size is not None:
            arguments.as_count("batch_size", self.batch_size)
        arguments.as_count("steps", self.steps)
        arguments.as_real("infimum", self.infimum, arguments.ANY_REAL)
        arguments.as_real("floor", self.floor, "(0, inf)")

    def __repr__(self) -> str:
        batch = "all examples" if self.batch_size is None else f"batches of {self.batch_size}"
        return f"<Task {self.name}: {self.steps} steps, {batch}>"

    def measure(self, loss: ArrayLike) -> jax.Array:
        """Return the logarithm of losses by which runs are compared.

            y = log₁₀(max(loss - infimum, 0) + floor)

        Args:
            loss: The score of one run or of several, any real numbers.

        Returns:
            An array of the shape of loss; a NaN stays one.

        Raises:
            TypeError: loss is not an array of real numbers.

        Example:
            >>> momentax.bench.tasks["digits_cnn"].measure([1.0, 0.1]).round(2)
            Array([ 0., -1.], dtype=float32)
        """
        try:
            losses = loss if isinstance(loss, jax.Array) else np.asarray(loss)
        except (TypeError, ValueError):  # Rows of different lengths, or no array at all.
            losses = None
        if losses is None or not arguments.is_real(losses):
            raise TypeError(f"loss must be real numbers, got {arguments.describe(loss)}")
        losses = jnp.asarray(losses, arithmetic.compute_dtype(losses))
        return jnp.log10(jnp.maximum(losses - self.infimum, 0) + self.floor)

    def train(
        self, tx: optax.GradientTransformation, key: jax.Array, *, steps: int | None = None
    ) -> dict[str, jax.Array]:
        """Train the model from a random start and measure the result.

        JAX can trace the function, so that `momentax.sweep`, `jax.vmap` and `jax.lax.map` run it
        for many keys and many hyperparameters of `tx`. Two runs with one key have the same start
        and the same batches, whatever `tx` is. A step takes one gradient. `tx.update` also
        receives value, grad and value_fn, the loss of the batch as a function of the parameters.

        Scores are taken at the iterate that `momentax.eval_params` returns, so that methods that
        average iterates are judged by their average. The learning rate that it needs is that of
        `momentax.hyperparameters`. Methods that have no such iterate, or several, are judged by
        the parameters.

        A run has diverged if the score is not finite at one of the checkpoints, or if the last
        one is above the first.

        Args:
            tx: Any Optax transformation from gradients to updates, such as `momentax.sgd`.
            key: A random key, such as jax.random.key(0).
            steps: The number of steps, at least 1; None means those of the task. Schedules of
                `tx` have to be made for the same number.

        Returns:
            A dictionary with

                "loss"         the score after the last step
                "y"            `measure` of it; of the score at the start, if the run diverged
                "checkpoints"  41 scores: at the start and after each 40th part of the steps
                "validation"   `validate` after the last step; NaN if the task has none
                "diverged"     whether the run diverged

        Raises:
            ValueError: steps is below 1, or the iterate to evaluate depends on a learning rate that
                `momentax.hyperparameters` does not find in `tx`.
            TypeError: tx is not a transformation, key is not a random key, or steps is not a
                whole number.
            ImportError: A package that has the data is not installed.
            RuntimeError: The data differ from those of the recorded results.

        Example:
            >>> task = momentax.bench.tasks["ridge"]
            >>> run = jax.jit(lambda key: task.train(momentax.sgd(0.1), key, steps=5))
            >>> bool(run(jax.random.key(0))["diverged"])
            False
        """
        arguments.require_transformation("tx", tx)
        arguments.require_key("key", key)
        count = self.steps if steps is None else arguments.as_count("steps", steps)
        return _training.train(self, tx, key, count)


# The fields of a task, with what is right for them.
_TEXTS = {
    "name": "digits_cnn",
    "description": "A network that recognizes digits.",
    "source": "Generated.",
    "checksum": "2c26b46b68ffc68f",
}
_FUNCTIONS = {
    "load": ("that returns the data", 0),
    "init": ("from data and a key to params", 2),
    "draw": ("from data, a key and the number of steps to batches", 3),
    "loss": ("from params, a batch and data to a scalar", 3),
    "score": ("from params and data to a scalar", 2),
    "validate": ("from params and data to a scalar", 2),
}
