"""MARS: the recurrence of its authors, run by another library, its exact form and special cases."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import mars

START = jnp.array([[2.0, -1.0], [0.5, 3.0]])


@pytest.mark.usefixtures("x64")
def test_equals_pytorch_optimizer():
    """MARS-Lion on a nonlinear problem, as pytorch_optimizer 4.1.0 runs it."""
    start = jnp.array([[2.0, -1.0], [0.5, 3.0]])
    scale = 3 * jnp.array([[1.0, 0.2], [0.5, 0.7]])

    def loss(w, t):
        return jnp.sum(jnp.log(jnp.cosh(scale * (w - 1)))) * (1 + 0.3 * (t % 3))

    tx = optax.chain(mars(0.9, 0.4), optax.scale_by_sign(), optax.scale(-0.05))
    w, state = start, tx.init(start)
    recorded = {  # The parameters and the average after 1, 4 and 12 steps.
        0: """1.95 -0.95 0.55 2.95
            0.07846160980055272 -0.013146991608546921 -0.02504123973218587 0.055171267085556405""",
        3: """1.8 -0.8 0.7 2.8
            0.11531400522406929 -0.018403854092728412 -0.021947322827038623 0.08209285037286954""",
        11: """1.4 -0.4 1.0 2.4
            0.2734458436679729 -0.043513216715897786 -0.004542408337187937 0.21811956589031678""",
    }
    for t in range(12):
        updates, state = tx.update(jax.grad(loss)(w, t), state, w)
        w = w + updates
        if t in recorded:
            ours = jnp.concatenate([w.ravel(), momentax.velocity(state).ravel()])
            np.testing.assert_allclose(ours, [*map(float, recorded[t].split())], rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_the_exact_form_with_the_whole_correction_is_recursive_momentum():
    g = 1e-3 * np.random.default_rng(0).normal(size=(2, 20, 3))  # Too small to be clipped.
    tx, other = mars(0.9, 1.0, approximate=False), momentax.recursive_momentum(0.9)
    state, expected = tx.init(jnp.zeros(3)), other.init(jnp.zeros(3))
    for t in range(20):
        now, prev = g[0, t], g[1, t]
        d, state = tx.update(jnp.asarray(now), state, prev_grad=jnp.asarray(prev))
        full, expected = other.update(jnp.asarray(now), expected, prev_grad=jnp.asarray(prev))
        kept = 0.9 ** (t + 1) * g[0, 0]  # The average starts at 0, not at the gradient.
        np.testing.assert_allclose(d, full - kept, rtol=1e-10, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_without_correction_it_averages_gradients_of_norm_one_at_most():
    g = {"small": jnp.full(4, 0.1), "large": jnp.full(4, 10.0)}
    tx = mars(0.9, 0.0)
    d, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(d["small"], 0.1 * 0.1)
    np.testing.assert_allclose(d["large"], 0.1 * 0.5)  # Each leaf has its own norm.


@pytest.mark.usefixtures("x64")
def test_the_state_keeps_the_last_gradient():
    g = np.random.default_rng(0).normal(size=(300, 5)) * np.geomspace(1e-8, 1e8, 5)
    tx = mars(0.99, 1.0)
    state = tx.init(jnp.zeros(5))
    update = jax.jit(tx.update)
    for each in g:
        _, state = update(jnp.asarray(each), state)
        np.testing.assert_array_equal(state.gradient, each)
    assert isinstance(state, momentax.states.MarsState)


def test_a_reset_removes_a_nan():
    tx, g = mars(), jnp.ones(2)
    start = tx.init(g)
    _, state = tx.update(jnp.full(2, jnp.nan), start)
    healed = momentax.reset_velocity(state)._replace(count=start.count)
    chex.assert_trees_all_equal(healed, start)


def test_a_beta_near_one_works_in_bfloat16():
    tx, g = mars(0.999, 0.0), jnp.full(3, 0.1, jnp.bfloat16)
    _, state = tx.update(g, tx.init(g))
    _, after = tx.update(jnp.zeros_like(g), state)
    np.testing.assert_allclose(after.velocity, 0.999 * state.velocity, rtol=1e-6)


def test_approximate_must_be_a_bool():
    with pytest.raises(TypeError, match="approximate must be True or False, got 1"):
        mars(approximate=1)


def test_defaults_are_the_published_ones():
    parameters = inspect.signature(mars).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "beta": 0.95,
        "gamma": 0.025,
        "approximate": True,
    }
