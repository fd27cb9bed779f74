"""Successive halving on a task: the functions that `momentax.halve` needs, from a Task."""

import jax
import jax.numpy as jnp
import numpy as np

import momentax
from momentax.bench import Horizon, tasks

STEPS = 40
KEY = jax.random.key(0)


def make(learning_rate, beta):
    rate = Horizon(STEPS).learning_rate(learning_rate)
    return momentax.sgd(rate, momentax.heavy_ball(beta))


def test_halving_on_a_task_ends_where_training_ends():
    task = tasks["ridge"]
    data = {name: jnp.asarray(array) for name, array in task.load().items()}
    init_key, batch_key = jax.random.split(KEY)
    batches = task.draw(data, batch_key, STEPS)

    def init(**point):
        params = task.init(data, init_key)
        return params, make(**point).init(params), jnp.int32(0)

    def advance(state, **point):
        params, tx_state, step = state
        batch = jax.tree.map(lambda rows: rows[step], batches)
        grads = jax.grad(task.loss)(params, batch, data)
        updates, tx_state = make(**point).update(grads, tx_state, params)
        return jax.tree.map(jnp.add, params, updates), tx_state, step + 1

    def score(state):
        return task.score(state[0], data)

    points = momentax.grid(learning_rate=[0.01, 0.1, 0.5, 1e6], beta=[0.5, 0.8])
    result = momentax.halve(
        init, advance, score, points, rungs=[10, STEPS], keep=0.25, progress=False
    )
    advanced = result["advanced"]
    np.testing.assert_array_equal(np.sort(advanced.ravel()), [10] * 6 + [STEPS] * 2)
    assert np.all(result.diverged[3])
    train = jax.jit(lambda **point: task.train(make(**point), KEY, steps=STEPS)["checkpoints"])
    for index, point in zip(np.ndindex(4, 2), points, strict=True):
        # The checkpoints are every step.
        expected = train(**point)[advanced[index]]
        if np.isfinite(expected):
            np.testing.assert_allclose(result["score"][index], expected, rtol=1e-3)
    best = result.best("score")
    assert advanced[best.index] == STEPS
