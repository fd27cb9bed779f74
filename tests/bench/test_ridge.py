"""The task with a closed form: its solution, its curvatures, and the rate of the theory."""

import jax
import jax.numpy as jnp
import numpy as np

import momentax
from momentax import theory
from momentax.bench import tasks
from momentax.bench._tasks import (
    ridge,
)

KEY = jax.random.key(0)


def arrays_of(task):
    return {name: jnp.asarray(array) for name, array in task.load().items()}


def test_the_solution_of_the_regression_is_that_of_least_squares():
    data = ridge.load()
    inputs, targets = np.float64(data["inputs"]), np.float64(data["targets"])
    n, penalty = len(inputs), float(data["penalty"])
    stacked = np.concatenate([inputs / np.sqrt(n), np.sqrt(penalty) * np.eye(64)])
    padded = np.concatenate([targets / np.sqrt(n), np.zeros(64)])
    w, residual, _, values = np.linalg.lstsq(stacked, padded)
    np.testing.assert_allclose(ridge.solution(), w, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(ridge.minimum(), residual[0] / 2, rtol=1e-12)
    np.testing.assert_allclose(ridge.eigenvalues(), values[::-1] ** 2, rtol=1e-9)
    mu, L = ridge.curvatures()
    np.testing.assert_allclose(L / mu, 10_001, rtol=1e-6)
    np.testing.assert_allclose(inputs.mean(0), np.zeros(64), atol=1e-6)


def test_the_score_of_the_regression_is_the_loss_less_its_minimum():
    data, params = arrays_of(tasks["ridge"]), ridge.init(None, KEY)
    excess = float(ridge.loss(params, jnp.zeros(0), data)) - ridge.minimum()
    np.testing.assert_allclose(ridge.score(params, data), excess, rtol=1e-5)
    assert ridge.score({"weights": jnp.float32(ridge.solution())}, data) < 1e-13


def test_heavy_ball_on_the_regression_has_the_rate_of_the_theory():
    mu, L = ridge.curvatures()
    tuning = theory.optimal_heavy_ball(mu, L)
    tx = momentax.sgd(float(tuning.learning_rate), momentax.heavy_ball(float(tuning.beta)))
    np.testing.assert_allclose(theory.analyze(tx, mu, L).rate, tuning.rate, rtol=1e-4)
    np.testing.assert_allclose(tuning.rate**2, 0.9608, atol=1e-4)
    result = jax.jit(lambda key: tasks["ridge"].train(tx, key))(KEY)
    scores = np.float64(result["checkpoints"])
    # The roots at both ends of the spectrum are double, so that errors fall as t ρᵗ.
    t = np.arange(200, 501, 25)
    factors = scores[t // 25] / t**2.0
    rate = np.exp(np.polyfit(t, np.log(factors), 1)[0] / 2)
    np.testing.assert_allclose(1 - rate, 1 - tuning.rate, rtol=0.03)
    assert result["loss"] < 1e-10
    np.testing.assert_allclose(result["y"], -10, atol=0.3)
