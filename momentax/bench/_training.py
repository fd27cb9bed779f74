"""The loop that trains on a task. Its code is part of the hash of every task.

So a result is comparable with those that are recorded as long as this file stays as it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core.typing import PyTree
from momentax._state._eval_params import eval_params
from momentax._state._hyperparameters import hyperparameters
from momentax._state._velocity import velocities, velocity_node

CHECKPOINTS = 40


def train(
    task: Any, tx: optax.GradientTransformation, key: jax.Array, steps: int
) -> dict[str, jax.Array]:
    """Train a model from a random start and measure the result, as `Task.train` says.

    task: a Task.
    """
    arrays = {name: jnp.asarray(array) for name, array in task.load().items()}
    # Without the barrier XLA computes at compile time what depends on the data alone.
    data = jax.lax.optimization_barrier(arrays)
    init_key, batch_key = jax.random.split(key)
    params = task.init(data, init_key)
    batches = task.draw(data, batch_key, steps)
    iterate, scores = _steps(task, tx, data, params, batches, steps)
    first, last = scores[0], scores[-1]
    diverged = ~jnp.isfinite(scores).all() | (last > first)
    no_loss = jnp.float32(jnp.nan)
    return {
        "loss": last,
        "y": task.measure(jnp.where(diverged, first, last)),
        "checkpoints": scores,
        "validation": no_loss if task.validate is None else task.validate(iterate, data),
        "diverged": diverged,
    }


def _steps(
    task: Any,
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
