"""Nadam: its schedule of μ, optax.nadam as the case without a schedule, and a reset."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import nadam
from momentax.states import NadamState
from tests.methods.runs import draw, follow, follow_peer


def μ(t, β1=0.9, ψ=0.004):
    """Return μ at the paper's step t, which counts from 1."""
    return β1 * (1 - 0.5 * 0.96 ** (t * ψ))


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.usefixtures("x64")
def test_with_a_large_psi_it_is_optax_nadam(dtype):
    g = draw(300, 4, dtype=dtype)
    ours, _ = follow(nadam(psi=1e4), g)
    theirs, _ = follow_peer(optax.scale_by_adam(0.9, 0.999, 1e-8, nesterov=True), g)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_optax_nadam_differs_at_the_published_psi():
    g = draw(300, 4)
    ours, _ = follow(nadam(), g)
    theirs, _ = follow_peer(optax.scale_by_adam(0.9, 0.999, 1e-8, nesterov=True), g)
    assert 0.1 < np.abs(ours - theirs).max() < 10


@pytest.mark.usefixtures("x64")
def test_the_first_direction_in_closed_form():
    g = np.array([3.0, -0.25])
    d, state = follow(nadam(), g[None])
    assert isinstance(state, NadamState)
    np.testing.assert_allclose(state.weight, 1 - μ(1), rtol=1e-15)
    lead = 0.1 * μ(2) / (1 - μ(1) * μ(2)) + 1  # The shares of the velocity and of the gradient.
    np.testing.assert_allclose(d[0], lead * g / (np.abs(g) + 1e-8), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_weight_is_one_minus_the_product_of_the_schedule():
    _, state = follow(nadam(), draw(30, 2))
    np.testing.assert_allclose(state.weight, 1 - np.prod(μ(np.arange(1, 31))), rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_reset_restarts_the_product_but_not_the_schedule_and_the_squares():
    tx, g = nadam(), draw(50, 3)
    _, state = follow(tx, g)
    d, after = tx.update(g[0], momentax.reset_velocity(state))
    np.testing.assert_allclose(after.weight, 1 - μ(51), rtol=1e-12)
    squares = 0.999 * state.squares + 0.001 * g[0] ** 2
    root = np.sqrt(squares / (1 - 0.999**51)) + 1e-8
    lead = 0.1 * μ(52) / (1 - μ(51) * μ(52)) + 1
    np.testing.assert_allclose(d, lead * g[0] / root, rtol=1e-12)


@pytest.mark.parametrize(("steps", "share"), [(1, 0.5), (6125, 1 - 0.5 / np.e), (100_000, 1.0)])
def test_the_schedule_grows_from_half_of_beta1(steps, share):
    tx = nadam()
    state = tx.init(jnp.ones(1))._replace(count=jnp.int32(steps - 1))
    _, state = tx.update(jnp.ones(1), state)
    np.testing.assert_allclose(1 - state.weight, 0.9 * share, rtol=2e-4)
