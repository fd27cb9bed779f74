"""Hypergradients against automatic differentiation, and heavy ball as the special case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import hypergradient


def loss(params, t):
    w, b = params["w"], params["b"]
    return jnp.sum(jnp.cosh(w - jnp.cos(t))) + (w[0] * b.sum() + 0.5) ** 2 + jnp.sum(b**4)


def start():
    return {"w": jnp.array([2.0, -1.0]), "b": jnp.array([0.5])}


@pytest.mark.usefixtures("x64")
def test_learning_rate_and_beta_descend_on_the_loss_after_the_last_step():
    """α_t = α_{t-1} - κ ∂f/∂α and β_t = β_{t-1} - κ' ∂f/∂β, by automatic differentiation."""
    κ_α, κ_β = 1e-3, 2e-3
    tx = momentax.sgd(1.0, hypergradient(0.02, 0.6, learning_rate_step=κ_α, beta_step=κ_β))
    params = start()
    state, held = tx.init(params), None
    for t in range(25):
        grads = jax.grad(loss)(params, t)
        if held is not None:
            before, v, g, α, β = held

            def after(α, β, before=before, v=v, g=g, t=t):
                def move(x, v, g):
                    return x - α * (β * v + g)

                return loss(jax.tree.map(move, before, v, g), t)

            slope_α, slope_β = jax.grad(after, argnums=(0, 1))(α, β)
            assert abs(slope_β) > 1e-8 or t == 1
        updates, state = tx.update(grads, state, params)
        new = state[1]
        if held is not None:
            np.testing.assert_allclose(new.learning_rate, α - κ_α * slope_α, rtol=1e-13)
            np.testing.assert_allclose(new.beta, β - κ_β * slope_β, rtol=1e-13)
        v = jax.tree.map(lambda v, g, β=new.beta: (v - g) / β, new.velocity, grads)
        held = params, v, grads, new.learning_rate, new.beta
        params = jax.tree.map(jnp.add, params, updates)
    assert isinstance(new, momentax.states.HypergradientState)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("zero", [0.0, lambda count: 0.0])
def test_without_steps_it_is_heavy_ball(zero):
    grads = np.random.default_rng(0).normal(size=(20, 3))
    tx = momentax.sgd(1.0, hypergradient(0.1, 0.9, learning_rate_step=zero, beta_step=zero))
    other = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    state, expected = tx.init(jnp.zeros(3)), other.init(jnp.zeros(3))
    for g in map(jnp.asarray, grads):
        u, state = tx.update(g, state)
        w, expected = other.update(g, expected)
        np.testing.assert_allclose(u, w, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_without_momentum_it_is_baydins_rule():
    grads = np.random.default_rng(0).normal(size=(20, 3))
    α, before = 0.1, np.zeros(3)
    tx = hypergradient(α, 0.0, learning_rate_step=0.01, beta_step=0.0)
    state = tx.init(jnp.zeros(3))
    for g in grads:
        α, before = max(α + 0.01 * g @ before, 0), g
        d, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(d, α * g, rtol=1e-12)


def test_a_constant_beta_keeps_one_tree_and_an_adapted_one_two():
    sizes = [
        len(jax.tree.leaves(hypergradient(0.1, beta_step=step).init(start())))
        for step in (0.0, 1e-4)
    ]
    assert sizes == [3 + 2, 3 + 4]


def test_learning_rate_and_beta_stay_in_their_intervals():
    tx = hypergradient(0.1, 0.9, learning_rate_step=1e6, beta_step=1e6)
    g = jnp.ones(3)
    state = tx.init(g)
    for each in (g, g, g):
        _, state = tx.update(each, state)
    assert 0.9999 < state.beta < 1
    assert state.learning_rate > 1e3
    _, state = tx.update(-1e6 * g, state)
    d, state = tx.update(-1e6 * g, state)
    assert state.learning_rate >= 0
    for _ in range(2):
        d, state = tx.update(jnp.sign(state.velocity) * -1e6, state)
    assert state.learning_rate == 0
    assert state.beta == 0
    np.testing.assert_array_equal(d, 0)


def test_complex_inner_products_are_real():
    tx = hypergradient(0.1, 0.5, learning_rate_step=0.01)
    g = jnp.array([1 + 2j])
    state = tx.init(g)
    for _ in range(2):
        _, state = tx.update(g, state)
    np.testing.assert_allclose(state.learning_rate, 0.1 + 0.01 * 5, rtol=1e-6)


def test_it_increases_a_learning_rate_that_is_too_small():
    problem = momentax.problems.ravine()

    def end(step):
        tx = momentax.sgd(1.0, hypergradient(1e-4, 0.5, learning_rate_step=step, beta_step=step))
        return momentax.rollout(problem.loss, problem.start, tx, 200).history["loss"][-1]

    assert end(1e-7) < 0.5 * end(0.0)


def test_a_reset_also_clears_the_last_change():
    tx, g = hypergradient(0.1, 0.5, beta_step=0.1), jnp.ones(2)
    state = tx.init(g)
    for _ in range(3):
        _, state = tx.update(g, state)
    _, after = tx.update(g, momentax.reset_velocity(state))
    np.testing.assert_array_equal(after.beta, state.beta)
    np.testing.assert_array_equal(after.velocity, g)
