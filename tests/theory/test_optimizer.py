"""The optimizer that each tuning offers: it has the rate of the tuning and takes its steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory

TUNINGS = {
    "plain descent": theory.optimal_gradient_descent,
    "heavy ball": theory.optimal_heavy_ball,
    "Nesterov": theory.optimal_nesterov,
    "Nesterov on quadratics": lambda mu, L: theory.optimal_nesterov(mu, L, quadratic=True),
    "triple momentum": theory.triple_momentum,
    "robust momentum": lambda mu, L: theory.robust_momentum(mu, L, rate=0.93),
}
METHODS = {
    "plain descent": lambda tuning: momentax.heavy_ball(0.0),
    "heavy ball": lambda tuning: momentax.heavy_ball(tuning.beta),
    "Nesterov": lambda tuning: momentax.nesterov(tuning.beta),
    "Nesterov on quadratics": lambda tuning: momentax.nesterov(tuning.beta),
    "triple momentum": lambda tuning: momentax.synthesized_nesterov(tuning.beta1, tuning.beta2),
    "robust momentum": lambda tuning: momentax.synthesized_nesterov(tuning.beta1, tuning.beta2),
}


@pytest.mark.parametrize("name", TUNINGS)
def test_the_optimizer_has_the_rate_of_the_tuning(name):
    tuning = TUNINGS[name](1.0, 50.0)
    np.testing.assert_allclose(theory.rate(tuning.tx, 1.0, 50.0), tuning.rate, rtol=1e-9)


@pytest.mark.parametrize("name", TUNINGS)
def test_the_optimizer_takes_the_steps_of_the_method(name):
    tuning = TUNINGS[name](1.0, 50.0)
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    paths = []
    for tx in (tuning.tx, sgd(tuning.learning_rate, METHODS[name](tuning))):
        params = {"w": jnp.ones(3)}
        state, path = tx.init(params), []
        for g in gradients:
            updates, state = tx.update({"w": g}, state, params)
            params = optax.apply_updates(params, updates)
            path.append(params)
        paths.append(path)
    chex.assert_trees_all_close(*paths, rtol=1e-5)


def test_the_velocity_is_wide_and_a_missing_gradient_changes_nothing():
    tx = theory.optimal_heavy_ball(1.0, 50.0).tx
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3)}
    state = tx.init(params)
    assert [leaf.dtype for leaf in jax.tree.leaves(momentax.velocity(state))] == 2 * [jnp.float32]
    updates, state = tx.update({"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3)}, state, params)
    assert updates["a"].dtype == jnp.bfloat16
    before = momentax.velocity(state)
    updates, state = tx.update({"a": None, "b": jnp.ones(3)}, state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(updates["a"], jnp.zeros(2))
    np.testing.assert_array_equal(momentax.velocity(state)["a"], before["a"])
    with pytest.raises(ValueError, match="the gradient at"):
        tx.update({"b": jnp.ones(3)}, state, params)


@pytest.mark.parametrize("name", ["heavy ball", "Nesterov", "triple momentum"])
def test_several_tunings_at_once_have_no_optimizer(name):
    with pytest.raises(ValueError, match=r"tx needs one tuning, got learning_rate of shape \(2,\)"):
        TUNINGS[name]([1.0, 2.0], 50.0).tx  # noqa: B018 - The access is the test.
