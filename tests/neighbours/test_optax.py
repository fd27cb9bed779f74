"""Optax's wrappers and helpers around momentax, each beside the recurrence that it must be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd
from tests.neighbours.regression import (
    BATCH,
    BETA,
    BIAS,
    KERNEL,
    LEARNING_RATE,
    NESTEROV,
    STEPS,
    assert_trained,
    gradient,
    mean_squared_error,
    start,
)

HEAVY_BALL = sgd(LEARNING_RATE, momentax.heavy_ball(BETA))


@pytest.fixture(autouse=True)
def promotion():
    """Optax's own arithmetic promotes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss(params, x, y):
    return mean_squared_error(x @ params[0] + params[1][None], y)


def run(tx, steps, **extra_args):
    """Return the parameters after each step on the regression, and the last state."""
    params, state, path = start(), tx.init(start()), []

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params, *BATCH), state, params, **extra_args)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        path.append(params)
    return path, state


def test_inject_hyperparams_with_values_that_are_changed_between_steps():
    def make(learning_rate, beta):
        return sgd(learning_rate, momentax.heavy_ball(beta))

    tx = optax.inject_hyperparams(make)(learning_rate=0.05, beta=0.9)
    params, state = start(), tx.init(start())
    θ, v = [KERNEL, BIAS], [0.0, 0.0]
    update = jax.jit(tx.update)
    for α, β in [(0.05, 0.9), (0.1, 0.5), (0.02, 0.99)]:
        state.hyperparams.update(learning_rate=jnp.float32(α), beta=jnp.float32(β))
        updates, state = update(jax.grad(loss)(params, *BATCH), state, params)
        params = optax.apply_updates(params, updates)
        v = [β * each + g for each, g in zip(v, gradient(*θ), strict=True)]
        θ = [each - α * velocity for each, velocity in zip(θ, v, strict=True)]
    chex.assert_trees_all_close(list(params), θ, rtol=1e-5)
    found = momentax.hyperparameters(state, tx)
    np.testing.assert_allclose([found["learning_rate"], found["beta"]], [0.02, 0.99], rtol=1e-6)


def test_sharpness_aware_minimization_takes_its_gradients_at_the_worst_point_nearby():
    ρ = 0.05
    away = optax.chain(optax.contrib.normalize(), optax.sgd(ρ))
    path, _ = run(optax.contrib.sam(HEAVY_BALL, away, sync_period=2), 2 * STEPS)
    θ, v = [KERNEL, BIAS], [0.0, 0.0]
    for _ in range(STEPS):
        g = gradient(*θ)
        norm = np.sqrt(sum(np.sum(each**2) for each in g))
        worst = [each + ρ * slope / norm for each, slope in zip(θ, g, strict=True)]
        v = [BETA * each + slope for each, slope in zip(v, gradient(*worst), strict=True)]
        θ = [each - LEARNING_RATE * velocity for each, velocity in zip(θ, v, strict=True)]
    chex.assert_trees_all_close(list(path[-1]), θ, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("β", [0.0, 0.5])
def test_schedule_free_wraps_momentum_as_it_wraps_that_of_optax(β):
    own = optax.contrib.schedule_free(sgd(0.1, momentax.heavy_ball(β)), 0.1)
    theirs = optax.contrib.schedule_free(optax.sgd(0.1, momentum=β), 0.1)
    (found, state), (expected, _) = run(own, STEPS), run(theirs, STEPS)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
    average = momentax.eval_params(found[-1], state)
    own_average = optax.contrib.schedule_free_eval_params(state, found[-1])
    chex.assert_trees_all_close(average, own_average, rtol=1e-6)


def test_reduce_on_plateau_scales_the_step_and_not_the_velocity():
    tx = optax.chain(HEAVY_BALL, optax.contrib.reduce_on_plateau(factor=0.5, patience=1))
    path, state = run(tx, STEPS, value=jnp.float32(1.0))  # A loss that never improves.
    θ, v = [KERNEL, BIAS], [0.0, 0.0]
    scales = scales_of_plateau(STEPS)
    for scale in scales:
        v = [BETA * each + g for each, g in zip(v, gradient(*θ), strict=True)]
        θ = [each - scale * LEARNING_RATE * velocity for each, velocity in zip(θ, v, strict=True)]
    chex.assert_trees_all_close(list(path[-1]), θ, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(list(momentax.velocity(state)), v, rtol=1e-5, atol=1e-6)
    assert scales[-1] <= 0.25


def scales_of_plateau(steps):
    """Return the factor of each step where the value is constant, from the wrapper alone."""
    tx, found = optax.contrib.reduce_on_plateau(factor=0.5, patience=1), []
    state = tx.init(jnp.ones(1))
    for _ in range(steps):
        updates, state = tx.update(jnp.ones(1), state, value=jnp.float32(1.0))
        found.append(float(updates[0]))
    return found


def test_microbatches_of_optax_and_accumulation_make_the_steps_of_the_whole_batch():
    mean = optax.microbatching.AccumulationType.MEAN
    grad = optax.microbatch(jax.grad(loss), argnums=(1, 2), microbatch_size=4, accumulator=mean)
    params, state = start(), NESTEROV.init(start())
    other, other_state = start(), NESTEROV.init(start())
    step = momentax.train_step(loss, NESTEROV, accumulation=4)
    parts = [each.reshape((4, -1, *each.shape[1:])) for each in BATCH]

    @jax.jit
    def by_microbatches(params, state):
        updates, state = NESTEROV.update(grad(params, *BATCH), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = by_microbatches(params, state)
        other, other_state, _ = step(other, other_state, *parts)
    assert_trained(*params, momentax.velocity(state))
    assert_trained(*other, momentax.velocity(other_state))
