"""Rounding errors after a million steps in float32, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

import momentax

STEPS = 10**6
BETAS = (0.9, 0.99, 0.999)


def errors_and_sizes(betas, gradients):
    """Return the largest difference from float64 over all steps, and the largest |v|, for each β.

    The velocities at every hundredth step are compared.
    """
    g = jnp.asarray(gradients.reshape(-1, 100))

    @jax.jit
    def run(β):
        tx = momentax.heavy_ball(β)

        def stretch(state, rows):
            state, _ = jax.lax.scan(lambda s, g: (tx.update(g, s)[1], None), state, rows)
            return state, state.velocity

        return jax.lax.scan(stretch, tx.init(g[0, 0]), g)[1]

    found = np.asarray(jax.vmap(run)(jnp.asarray(betas, jnp.float32)), np.float64)
    exact = np.stack([lfilter([1.0], [1.0, -β], gradients.astype(np.float64)) for β in betas])
    return np.abs(found - exact[:, 99::100]).max(axis=1), np.abs(exact).max(axis=1)


@pytest.mark.parametrize("kind", ["noise and drift", "constant"])
def test_a_million_steps_stay_within_the_bound_of_the_docstring(kind):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=STEPS) + np.sin(np.arange(STEPS) / 1000)
    gradients = (noise if kind != "constant" else np.full(STEPS, 0.1)).astype(np.float32)
    errors, largest = errors_and_sizes(BETAS, gradients)
    bound = 7 * 2.0**-24 * largest / (1 - np.array(BETAS))
    assert "7 · 2⁻²⁴ max|v| / (1 - β)" in (momentax.linear.__doc__ or "")
    assert (errors <= bound).all()
    assert (errors > 0).all()  # The bound is not of an exact computation.
