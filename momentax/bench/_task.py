"""A task of the comparison, and the loop that trains on it."""

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
from momentax._state._eval_params import eval_params
from momentax._state._hyperparameters import hyperparameters
from momentax._state._velocity import velocities, velocity_node
from momentax.bench._data import Data

CHECKPOINTS = 40


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
        arrays = {name: jnp.asarray(array) for name, array in self.load().items()}
        # Without the barrier XLA computes at compile time what depends on the data alone.
        data = jax.lax.optimization_barrier(arrays)
        init_key, batch_key = jax.random.split(key)
        params = self.init(data, init_key)
        batches = self.draw(data, batch_key, count)
        iterate, scores = _train(self, tx, data, params, batches, count)
        first, last = scores[0], scores[-1]
        diverged = ~jnp.isfinite(scores).all() | (last > first)
        no_loss = jnp.float32(jnp.nan)
        return {
            "loss": last,
            "y": self.measure(jnp.where(diverged, first, last)),
            "checkpoints": scores,
            "validation": no_loss if self.validate is None else self.validate(iterate, data),
            "diverged": diverged,
        }


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


def _train(
    task: Task,
    tx: optax.GradientTransformation,
    data: Any,
    params: PyTree,
    batches: PyTree,
    steps: int,
) -> tuple[PyTree, jax.Array]:
    """Return the iterate to evaluate after all steps, and the scores at all checkpoints."""
    update = optax.with_extra_args_support(tx).update

    def step(i: jax.Array, carry: Any) -> Any:
        params, state = carry
        batch = jax.tree.map(
            lambda rows: jax.lax.dynamic_index_in_dim(rows, i, keepdims=False), batches
        )

        def value_fn(params: PyTree) -> jax.Array:
            return task.loss(params, batch, data)

        value, grads = jax.value_and_grad(value_fn)(params)
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    def run_to_checkpoint(carry: Any, bounds: Any) -> Any:
        # The loop's bounds are arrays, so that the checkpoints need not divide the steps.
        start, stop = bounds
        params, state = jax.lax.fori_loop(start, stop, step, carry)
        return (params, state), task.score(_iterate_to_evaluate(params, state, tx), data)

    every = np.rint(np.linspace(0, steps, CHECKPOINTS + 1)).astype(np.int32)
    ends, row = np.unique(every, return_inverse=True)  # They repeat if there are few steps.
    starts = np.concatenate([ends[:1], ends[:-1]])  # The first row is the start: no step.
    (params, state), scores = jax.lax.scan(
        run_to_checkpoint, (params, tx.init(params)), (jnp.asarray(starts), jnp.asarray(ends))
    )
    return _iterate_to_evaluate(params, state, tx), scores[row]


def _iterate_to_evaluate(params: PyTree, state: PyTree, tx: optax.GradientTransformation) -> PyTree:
    """Return the iterate by which `eval_params` judges a method, or the parameters."""
    try:
        return eval_params(params, state)
    except ValueError:  # It needs the learning rate, or there is no other iterate.
        paths = [each for each in velocities(state) if _is_shifted(velocity_node(state, each))]
    if len(paths) != 1:
        return params
    rates = [
        value
        for name, value in hyperparameters(state, tx).items()
        if _is_learning_rate(name, paths[0])
    ]
    if len(rates) != 1:
        raise ValueError(
            "tx has a method whose iterate to evaluate depends on the learning rate, and "
            "momentax.hyperparameters does not find the learning rate in tx: make tx with "
            "momentax.sgd, or put optax.scale_by_learning_rate after the method"
        )
    return eval_params(params, state, learning_rate=rates[0], path=paths[0])


def _is_shifted(node: Any) -> bool:
    """Return whether the node of a velocity says how far the iterate to evaluate is away."""
    return "shift" in getattr(node, "_fields", ())


def _is_learning_rate(name: str, path: str) -> bool:
    """Return whether a hyperparameter is the learning rate of the velocity at a path.

    In a partition its name begins with the label, which is a key in the path.
    """
    *labels, own = name.split("/")
    return own == "learning_rate" and all(f"[{label!r}]" in path for label in labels)
