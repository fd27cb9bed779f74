"""Tasks whose batches are examples: rows of arrays, drawn without replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from momentax.bench._data import Data
from momentax.bench._layers import epochs
from momentax.bench._task import Task


def divide(validation: int, **arrays: np.ndarray) -> Data:
    """Divide examples into those for training, the first, and those for validation, the last.

    Args:
        validation: The number of examples for validation.
        arrays: Arrays with one row for each example, whose rows for validation get a name that
            begins with "validation_".
    """
    train = {name: array[:-validation] for name, array in arrays.items()}
    return train | {f"validation_{name}": array[-validation:] for name, array in arrays.items()}


def task_on_examples(
    *,
    cost: Callable[..., jax.Array],
    arrays: tuple[str, ...],
    batch_size: int,
    scored: int | None = None,
    **fields: Any,
) -> Task:
    """Make a task whose training loss, score and validation are one function of some examples.

    Args:
        cost: (params, *arrays) -> scalar, the mean loss of examples.
        arrays: The names of the arrays in the data, in the order of the arguments of cost.
        batch_size: The number of examples in a batch.
        scored: The number of training examples that are scored, the first; None scores them all.
        fields: The other fields of the task.
    """

    def draw(data: Any, key: jax.Array, steps: int) -> jax.Array:
        return epochs(key, len(data[arrays[0]]), batch_size, steps)

    def loss(params: Any, batch: jax.Array, data: Any) -> jax.Array:
        return cost(params, *(data[name][batch] for name in arrays))

    def score(params: Any, data: Any) -> jax.Array:
        return cost(params, *(data[name][:scored] for name in arrays))

    def validate(params: Any, data: Any) -> jax.Array:
        return cost(params, *(data[f"validation_{name}"] for name in arrays))

    functions = {"draw": draw, "loss": loss, "score": score, "validate": validate}
    return Task(batch_size=batch_size, infimum=0.0, **functions, **fields)
