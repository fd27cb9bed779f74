"""JAX's own transformations around a run: derivatives, recomputation and exported programs."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd
from tests.neighbours.regression import BATCH, NESTEROV, STEPS, assert_trained, start

METHODS = {
    "heavy_ball": momentax.heavy_ball,
    "nesterov": momentax.nesterov,
    "quasi_hyperbolic": lambda β: momentax.quasi_hyperbolic(β, 0.7),
}


def end(make, α, β, remember):
    """Return the loss after an unrolled run, whose hyperparameters are α and β."""
    θ = jnp.array([[1.0, -2.0], [0.5, 1.5]])
    scale = jnp.array([[1.0, 3.0], [0.3, 2.0]])

    def value(θ):
        return jnp.sum(scale * jnp.square(θ) + 0.1 * θ**4)

    tx = sgd(α, make(β))

    def step(carry, _):
        θ, state = carry
        updates, state = tx.update(jax.grad(value)(θ), state, θ)
        return (optax.apply_updates(θ, updates), state), None

    body = step if remember else jax.checkpoint(step)
    (θ, _), _ = jax.lax.scan(body, (θ, tx.init(θ)), length=8)
    return value(θ)


@pytest.mark.parametrize("name", METHODS)
def test_derivatives_with_respect_to_learning_rate_and_beta_are_differences(name, x64):
    """They are the same where jax.checkpoint computes each step anew."""

    def run(at, remember):
        return end(METHODS[name], at[0], at[1], remember)

    with jax.numpy_dtype_promotion("standard"):
        derive = jax.jit(jax.value_and_grad(run), static_argnums=1)
        at, width = jnp.array([0.03, 0.8]), 1e-5
        points = at[None] + width * jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        values = [float(derive(point, True)[0]) for point in points]
        slopes = [derive(at, remember)[1] for remember in (True, False)]
    differences = np.array([values[0] - values[1], values[2] - values[3]]) / (2 * width)
    assert np.abs(differences).min() > 1e-3
    np.testing.assert_allclose(slopes[0], differences, rtol=2e-5)
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-12)


def test_an_exported_train_step_continues_the_run_in_another_program():
    def loss(params, x, y):
        return jnp.mean(jnp.square(x @ params[0] + params[1][None] - y))

    momentax.states.register_serialization()
    step = momentax.train_step(loss, NESTEROV, donate=False)
    carried = start(), NESTEROV.init(start())
    stored = jax.export.export(jax.jit(step))(*carried, *BATCH).serialize()
    loaded, others = jax.export.deserialize(stored), carried
    for _ in range(STEPS):
        *others, value = loaded.call(*others, *BATCH)
        *carried, expected = step(*carried, *BATCH)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    params, state = others
    assert_trained(*params, momentax.velocity(state))
