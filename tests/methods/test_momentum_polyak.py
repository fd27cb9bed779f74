"""MomSPS: the form of its paper, numbers of the authors' code, and Polyak's step alone."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax

PARAMS = {"w": jnp.array([2.0, -1.0]), "b": jnp.array([0.5])}


def loss(params):
    w, b = params["w"], params["b"]
    return jnp.sum(jnp.log(jnp.cosh(w - 1))) + (w[0] * b.sum() + 0.5) ** 2 + jnp.sum(b**4)


def run(tx, params, steps, loss=loss):
    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, tx.init(params)), length=steps)[1]


@pytest.mark.usefixtures("x64")
def test_equals_the_authors_code():
    params = {"w": jnp.array([2.0, -1.0]), "b": jnp.array([0.5])}
    method = momentax.momentum_polyak(0.8, c=0.7, gamma_max=0.8)
    path = run(momentax.sgd(1.0, method), params, 12)
    ours = np.concatenate([path["w"], path["b"]], axis=1)[[0, 3, 11]]
    recorded = [  # From momsps 1.0.0 with torch 2.13.0, after 1, 4 and 12 steps.
        [1.945526737090311, -0.9767802159890758, 0.34343954551680256],
        [1.4808174431224181, -0.5510950972745775, -0.6037318629192648],
        [0.9105890959760204, 1.4608549379382478, -0.35182604437853615],
    ]
    np.testing.assert_allclose(ours, recorded, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_is_heavy_ball_in_terms_of_the_positions():
    """x_{t+1} = x_t - α_t g_t + β (x_t - x_{t-1}), the norm being over all leaves."""
    β, c, γ, low = 0.7, 0.5, 2.0, -0.3
    params = {"w": jnp.array([2.0, -1.0]), "b": jnp.array([0.5])}
    method = momentax.momentum_polyak(β, c=c, gamma_max=γ, lower_bound=low)
    path = run(momentax.sgd(1.0, method), params, 20)
    x = before = np.array([2.0, -1.0, 0.5])
    for t in range(20):
        w0, w1, b = x
        f = np.log(np.cosh(w0 - 1)) + np.log(np.cosh(w1 - 1)) + (w0 * b + 0.5) ** 2 + b**4
        q = 2 * (w0 * b + 0.5)
        g = np.array([np.tanh(w0 - 1) + q * b, np.tanh(w1 - 1), q * w0 + 4 * b**3])
        α = (1 - β) * min((f - low) / (c * g @ g), γ)
        x, before = x - α * g + β * (x - before), x
        ours = np.concatenate([path["w"][t], path["b"][t]])
        np.testing.assert_allclose(ours, x, rtol=1e-11)


def test_without_momentum_it_lands_on_the_minimum_of_a_quadratic_in_one_step():
    tx = momentax.sgd(1.0, momentax.momentum_polyak(0.0, c=0.5, lower_bound=3.0))
    path = run(tx, jnp.float32(7.0), 1, loss=lambda x: 3 + 2 * (x - 1) ** 2)
    np.testing.assert_allclose(path, [1.0], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_zero_gradient_gives_no_nan(value):
    tx = momentax.momentum_polyak(0.5)
    _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)
    d, state = tx.update(jnp.zeros(2), state, value=value)
    np.testing.assert_allclose(d, 0.5 * 0.5 * 0.5, rtol=1e-6)  # The velocity only decays.


def test_a_loss_below_the_bound_gives_a_step_of_zero():
    tx = momentax.momentum_polyak(0.0, lower_bound=1.0)
    d, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=0.5)
    np.testing.assert_array_equal(d, 0)


def test_half_precision_gradients_do_not_overflow_the_norm():
    g = jnp.full(4, 1000.0, jnp.float16)
    tx = momentax.momentum_polyak(0.0)
    d, _ = tx.update(g, tx.init(g), value=4.0)
    np.testing.assert_allclose(np.asarray(d, np.float64), 1e-3, rtol=1e-3)


def test_a_complex_gradient_counts_with_its_modulus():
    g = jnp.array([3 + 4j])
    tx = momentax.momentum_polyak(0.0)
    d, _ = tx.update(g, tx.init(g), value=50.0)
    np.testing.assert_allclose(d, 2 * g, rtol=1e-6)


def test_a_missing_value_raises_while_tracing():
    tx = momentax.sgd(1.0, momentax.momentum_polyak())
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"needs the loss .* value=loss\), got nothing"):
        jax.jit(tx.update)(PARAMS, state, PARAMS)
    with pytest.raises(ValueError, match=r"one number: .* of shape \(2,\)"):
        jax.jit(tx.update)(PARAMS, state, PARAMS, value=jnp.ones(2))


def test_defaults_are_the_published_ones():
    parameters = inspect.signature(momentax.momentum_polyak).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "beta": 0.9,
        "c": 1.0,
        "gamma_max": 10.0,
        "lower_bound": 0.0,
    }
