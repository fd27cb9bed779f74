"""The largest stable learning rate, against closed forms and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import theory

BETAS = np.array([0.0, 0.5, 0.9, 0.99])
λ = 50.0


def pipeline(method, **options):
    def factory(learning_rate, beta):
        return momentax.sgd(learning_rate, method(beta), **options)

    return factory


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (pipeline(momentax.heavy_ball), 2 * (1 + BETAS) / λ),
        (pipeline(momentax.nesterov), 2 * (1 + BETAS) / (1 + 2 * BETAS) / λ),
        (pipeline(momentax.average), 2 * (1 + BETAS) / (1 - BETAS) / λ),
        # Coupled decay adds to the curvature.
        (pipeline(momentax.heavy_ball, weight_decay=3.0), 2 * (1 + BETAS) / (λ + 3)),
        # With decoupled decay a root reaches -1 where (1 + β) (2 - α w) = α λ.
        (
            pipeline(momentax.heavy_ball, weight_decay=3.0, decoupled=True),
            2 * (1 + BETAS) / (λ + 3 * (1 + BETAS)),
        ),
    ],
)
def test_closed_forms(factory, expected):
    found = theory.largest_learning_rate(factory, λ, beta=BETAS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_shapes_broadcast():
    found = theory.largest_learning_rate(
        pipeline(momentax.heavy_ball), [[1.0], [10.0]], beta=[0.0, 0.5, 0.9]
    )
    np.testing.assert_allclose(found, [[2, 3, 3.8], [0.2, 0.3, 0.38]])
    alone = theory.largest_learning_rate(lambda learning_rate: optax.sgd(learning_rate), 4.0)
    assert alone.shape == ()
    np.testing.assert_allclose(alone, 0.5)


def test_a_run_converges_just_below_and_grows_just_above():
    factory = pipeline(momentax.nesterov, weight_decay=2.0, velocity_units="parameter")
    found = theory.largest_learning_rate(factory, λ, beta=BETAS)

    def growth(learning_rate, beta):
        tx = factory(learning_rate, beta)

        def step(carried, _):
            θ, state = carried
            updates, state = tx.update(λ * θ, state, θ)
            return (optax.apply_updates(θ, updates), state), abs(θ)

        θ = jnp.ones(())
        return jax.lax.scan(step, (θ, tx.init(θ)), None, 4000)[1][jnp.array([500, 3999])]

    run = jax.jit(jax.vmap(growth))
    early, late = run(jnp.array(0.999 * found), jnp.array(BETAS)).T
    assert np.all(late < early)
    early, late = run(jnp.array(1.001 * found), jnp.array(BETAS)).T
    assert np.all(late > early)


def test_without_an_edge_the_learning_rate_is_0_or_infinite():
    def ascent(learning_rate, beta):
        return momentax.sgd(learning_rate, momentax.heavy_ball(beta), maximize=True)

    def still(learning_rate, beta):  # Does not use the learning rate, and takes no tracer.
        return optax.sgd(0.3 * 2 / λ if learning_rate else beta)

    np.testing.assert_array_equal(theory.largest_learning_rate(ascent, λ, beta=[0.0, 0.9]), 0)
    np.testing.assert_array_equal(theory.largest_learning_rate(still, λ, beta=[0.0, 0.9]), np.inf)


@pytest.mark.parametrize("least", [0.01, 1e-12])  # From 1e-12 the search reaches its end.
def test_an_edge_that_jumps_is_found(least):
    def factory(learning_rate):
        return optax.sgd(jnp.where(learning_rate < 0.7, least / λ, 100 / λ))

    np.testing.assert_allclose(theory.largest_learning_rate(factory, λ), 0.7, rtol=1e-9)


@pytest.mark.parametrize(
    ("factory", "curvature", "settings", "error", "text"),
    [
        (optax.sgd(0.1), 1.0, {}, TypeError, "factory must be a function of learning_rate"),
        (optax.sgd, 0.0, {}, ValueError, r"curvature must be in \(0, inf\), got 0"),
        (lambda learning_rate, beta: 1, 1.0, {"beta": 0.5}, TypeError, "gradient transformation"),
        (optax.adam, 1.0, {}, ValueError, "not linear"),
        (pipeline(momentax.heavy_ball), 1.0, {"beta": np.nan}, ValueError, "beta must be in"),
    ],
)
def test_bad_arguments(factory, curvature, settings, error, text):
    with pytest.raises(error, match=text):
        theory.largest_learning_rate(factory, curvature, **settings)
