"""Linear regression by Nesterov's momentum in NumPy: what every framework must compute."""

import jax.numpy as jnp
import numpy as np

import momentax

LEARNING_RATE, BETA, STEPS = 0.05, 0.9, 6
NESTEROV = momentax.sgd(LEARNING_RATE, momentax.nesterov(BETA))

_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(16, 3)), _rng.normal(size=(16, 1))
KERNEL, BIAS = _rng.normal(size=(3, 1)), _rng.normal(size=1)
BATCH = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)


def mean_squared_error(outputs, targets):
    return jnp.mean(jnp.square(outputs - targets))


def gradient(kernel, bias, x=X, y=Y):
    residual = x @ kernel + bias - y
    return 2 * x.T @ residual / len(x), 2 * residual.mean(axis=0)


def trained(steps=STEPS):
    """Return kernel and bias after some steps, and the velocity of each."""
    θ, v = [KERNEL, BIAS], [np.zeros((3, 1)), np.zeros(1)]
    for _ in range(steps):
        g = gradient(*θ)
        v = [BETA * each + slope for each, slope in zip(v, g, strict=True)]
        θ = [
            each - LEARNING_RATE * (slope + BETA * velocity)
            for each, slope, velocity in zip(θ, g, v, strict=True)
        ]
    return θ, v


def start():
    """Return the initial kernel and bias in float32, as new arrays."""
    return jnp.asarray(KERNEL, jnp.float32), jnp.asarray(BIAS, jnp.float32)


def assert_trained(kernel, bias, velocity, steps=STEPS):
    """Compare a model and the leaves of its velocity, kernel first, with the run in NumPy."""
    θ, v = trained(steps)
    for found, expected in zip([kernel, bias, *velocity], [*θ, *v], strict=True):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-5, atol=2e-6)
