"""EMA-Nesterov: one array in place of the paper's two, its limits, and the point to evaluate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import ema_nesterov, nesterov, sgd

H = np.array([0.3, 1.0, 2.5])
START = np.array([1.0, -2.0, 0.5])
COUNTS = np.arange(64)
BETA, GAMMA = 0.8 - 0.5 / (1 + COUNTS), 0.9 + 0.05 / (1 + COUNTS)


def gradient(y):
    return H * y + np.sin(y)


def descend(tx, steps, evaluate=momentax.eval_params):
    """Return y and the point to evaluate after each step, and the last state."""

    def step(carry, _):
        y, state = carry
        u, state = tx.update(H * y + jnp.sin(y), state, y)
        y = optax.apply_updates(y, u)
        return (y, state), (y, evaluate(y, state))

    start = jnp.asarray(START)
    (_, state), path = jax.lax.scan(step, (start, tx.init(start)), length=steps)
    return *path, state


def scheduled(values):
    return lambda t: jnp.asarray(values)[t]


@pytest.mark.usefixtures("x64")
@jax.numpy_dtype_promotion("standard")
def test_equals_the_two_sequences_of_the_paper_around_adam():
    y, base, _ = descend(ema_nesterov(optax.adam(0.1), scheduled(BETA), scheduled(GAMMA)), 40)
    adam, θ, m = optax.adam(0.1), START, 0 * START
    state = adam.init(jnp.asarray(START))
    for t in range(40):
        ahead = θ + BETA[t] * m
        u, state = adam.update(jnp.asarray(gradient(ahead)), state)
        after = ahead + np.asarray(u)
        m = GAMMA[t] * m + (1 - GAMMA[t]) * (after - θ)
        θ = after
        np.testing.assert_allclose(base[t], θ, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(y[t], θ + BETA[t + 1] * m, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_without_averaging_and_with_plain_descent_it_is_nesterovs_momentum():
    y, base, state = descend(ema_nesterov(optax.sgd(0.1), 0.9, 0.0), 60)
    tx = sgd(0.1, nesterov(0.9))
    plain, expected, _ = descend(
        tx, 60, lambda y, state: momentax.eval_params(y, state, learning_rate=0.1)
    )
    np.testing.assert_allclose(y, plain, rtol=0, atol=1e-15)
    np.testing.assert_allclose(base, expected, rtol=0, atol=1e-15)
    peer, *_ = descend(optax.sgd(0.1, 0.9, nesterov=True), 60, lambda y, state: y)
    np.testing.assert_allclose(y, peer, rtol=0, atol=1e-15)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 3 + 2  # m, a count and a shift.


@pytest.mark.usefixtures("x64")
def test_without_looking_ahead_it_is_the_optimizer_itself():
    y, base, _ = descend(ema_nesterov(sgd(0.1, nesterov(0.9)), 0.0), 20)
    plain, *_ = descend(sgd(0.1, nesterov(0.9)), 20, lambda y, state: y)
    np.testing.assert_allclose(y, plain, rtol=1e-14)
    np.testing.assert_array_equal(base, y)


@pytest.mark.usefixtures("x64")
def test_a_constant_step_is_amplified_and_the_theory_reads_it():
    β, γ = 0.9, 0.8
    tx = ema_nesterov(optax.sgd(1.0), β, γ)
    state = tx.init(jnp.zeros(()))
    for _ in range(1500):
        u, state = tx.update(jnp.ones(()), state)
    np.testing.assert_allclose(u, -1 / (1 - β), rtol=1e-9)
    read = momentax.theory.analyze(ema_nesterov(optax.sgd(0.1), β, γ), 0.5, 1.0)
    np.testing.assert_allclose(read.effective_learning_rate, 0.1 / (1 - β), rtol=1e-6)


def test_both_velocities_and_the_hyperparameters_are_found():
    tx = ema_nesterov(sgd(0.1, nesterov(0.9)), 0.5, 0.8)
    params = {"a": jnp.ones(2)}
    _, state = tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match=r"2 velocities, at .average.velocity, .inner_state\[1\]"):
        momentax.velocity(state)
    m = momentax.velocity(state, path=".average.velocity")
    np.testing.assert_allclose(m["a"], -0.2 * 0.19, rtol=1e-6)
    found = momentax.hyperparameters(state, tx)  # β is not one number.
    assert found == {"learning_rate": 0.1, "weight_decay": 0.0, "count": 0}
    tx = ema_nesterov(optax.sgd(0.1), 0.5, 0.8)
    found = momentax.hyperparameters(tx.init(params), tx)
    np.testing.assert_allclose(found["beta"], 0.8 + 0.2 * 0.5)
    # The point to evaluate is that of the outermost wrapper, wherever it is.
    chained = optax.chain(optax.clip(1.0), ema_nesterov(sgd(0.1, nesterov(0.9)), 0.5, 0.0))
    u, state = chained.update(params, chained.init(params), params)
    base = momentax.eval_params(optax.apply_updates(params, u), state)
    np.testing.assert_allclose(base["a"], 1 - 0.19, rtol=1e-6)


def test_a_leaf_without_a_gradient_keeps_its_average():
    tx = ema_nesterov(sgd(0.1), 0.5)
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    _, state = tx.update(params, tx.init(params), params)
    u, after = tx.update({"a": params["a"], "b": None}, state, params)
    chex.assert_trees_all_equal(u["b"], jnp.zeros(3))
    chex.assert_trees_all_equal(after.average.velocity["b"], state.average.velocity["b"])


def test_errors_say_what_to_write():
    with pytest.raises(ValueError, match=r"^tx must be a complete optimizer, .* got a method"):
        ema_nesterov(nesterov(0.9), 0.5)
    with pytest.raises(ValueError, match=r"^beta must be in \[0, 1\), got 1"):
        ema_nesterov(optax.sgd(0.1), 1.0)
    with pytest.raises(ValueError, match=r"^gamma must be in \[0, 1\), got 1"):
        ema_nesterov(optax.sgd(0.1), 0.5, 1.0)
    params = jnp.ones(2)
    tx = ema_nesterov(optax.sgd(0.1), 0.5)
    with pytest.raises(ValueError, match=r"in parameter units, which contain the learning rate"):
        momentax.eval_params(params, tx.init(params), learning_rate=0.1)
