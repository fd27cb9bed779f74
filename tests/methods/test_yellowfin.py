"""YellowFin: SingleStep to the published digits, and the tuning that it finds."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import theory, yellowfin
from momentax._methods._yellowfin import single_step
from tests import reference


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 1, 1, 1), ("0.168301", "0.347810")),
        ((1, 1, 1, 10), ("0.269874", "0.230886")),
        ((1, 1, 1, 100), ("0.669421", "0.0330579")),
        ((1, 0.01, 1, 1), ("0.000356756", "0.962581")),
    ],
)
@pytest.mark.usefixtures("x64")
def test_single_step_has_the_digits_of_the_table(arguments, expected):
    for value, digits in zip(single_step(*map(jnp.float64, arguments)), expected, strict=True):
        places = len(digits) - 2
        assert f"{value:.{places}f}" == digits


@pytest.mark.usefixtures("x64")
def test_single_step_minimizes_the_expected_squared_distance():
    """x² D² + (1 - x)⁴ C / h² is the squared bias and the variance after one step."""
    step = jax.jit(single_step)

    @given(D=st.floats(0.01, 100), C=st.floats(1e-4, 1e4), h=st.floats(0.01, 100))
    def check(D, C, h):
        x = np.linspace(0, 1, 20001)
        best = x[np.argmin(x**2 * D**2 + (1 - x) ** 4 * C / h**2)]
        μ, α = step(D, C, h, h)
        np.testing.assert_allclose(np.sqrt(μ), best, atol=6e-5)
        np.testing.assert_allclose(α, (1 - np.sqrt(μ)) ** 2 / h, rtol=1e-9)
        np.testing.assert_allclose((μ, α), reference.single_step(D, C, h, h), rtol=1e-7, atol=1e-12)

    check()


def test_single_step_is_stable_on_the_whole_range_of_curvatures():
    """Without noise it is heavy ball's optimal tuning of a quadratic."""
    μ, α = single_step(*map(jnp.float32, (1.0, 0.0, 0.5, 50.0)))
    best = theory.optimal_heavy_ball(0.5, 50.0)
    np.testing.assert_allclose((μ, α), (best.beta, best.learning_rate), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1.0, 1e6, 1e17])
def test_gradients_of_any_scale_give_no_nan(scale):
    g = scale * jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.float32)
    tx = yellowfin(smoothing=0.5)
    state = tx.init(g[0])
    for each in (*g, *g[:3] * 1e-12):
        d, state = tx.update(each, state)
        assert jnp.isfinite(d).all()
        assert 0 <= state.beta < 1


def test_gradients_of_zero_do_not_change_the_tuning():
    tx, zero = yellowfin(0.1, 0.5), jnp.zeros(3)
    state = tx.init(zero)
    for _ in range(3):
        d, state = tx.update(zero, state)
        np.testing.assert_array_equal(d, 0)
    np.testing.assert_allclose((state.learning_rate, state.beta), (0.1, 0.5))
    d, state = tx.update(jnp.ones(3), state)
    np.testing.assert_allclose(d, 0.1)
    assert isinstance(state, momentax.states.YellowFinState)


@pytest.mark.usefixtures("x64")
def test_the_range_is_that_of_the_window():
    tx = yellowfin(smoothing=0.0, window=3)
    sizes = [5.0, 1.0, 2.0, 3.0, 4.0]
    state = tx.init(jnp.zeros(1))
    for t, size in enumerate(sizes):
        _, state = tx.update(jnp.array([size]), state)
        seen = np.square(sizes[max(0, t - 2) : t + 1])
        np.testing.assert_allclose((state.h_min, state.h_max), (seen.min(), seen.max()))


@pytest.mark.usefixtures("x64")
def test_norms_are_over_all_leaves_and_of_the_modulus_of_complex_entries():
    g = np.random.default_rng(0).normal(size=(30, 4))
    tx = yellowfin(0.1, smoothing=0.9)
    whole, parts = tx.init(jnp.zeros(4)), tx.init({"a": jnp.zeros(2), "b": jnp.zeros((), complex)})
    for each in g:
        d, whole = tx.update(jnp.asarray(each), whole)
        split = {"a": jnp.asarray(each[:2]), "b": jnp.asarray(each[2] + 1j * each[3])}
        d_parts, parts = tx.update(split, parts)
        joined = [*d_parts["a"], d_parts["b"].real, d_parts["b"].imag]
        np.testing.assert_allclose(joined, d, rtol=1e-10)


def test_window_must_be_an_integer():
    with pytest.raises(TypeError, match="window must be a whole number"):
        yellowfin(window=2.5)


def test_it_converges_from_a_learning_rate_that_is_too_small():
    """On a quadratic with noise the loss ends far lower than with the initial learning rate."""
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(2000, 2)), jnp.float32)
    curvature = jnp.array([1.0, 10.0])

    def end(tx):
        def step(carry, noise):
            θ, state = carry
            u, state = tx.update(curvature * θ + 0.01 * noise, state, θ)
            return (θ + u, state), None

        θ = jnp.array([10.0, 10.0])
        (θ, _), _ = jax.lax.scan(step, (θ, tx.init(θ)), noise)
        return float(jnp.sum(curvature * θ**2))

    assert end(momentax.sgd(1.0, yellowfin(1e-4, smoothing=0.99))) < 0.1 * end(
        momentax.sgd(1e-4, momentax.heavy_ball(0.0))
    )


def test_defaults_are_the_published_ones():
    parameters = inspect.signature(yellowfin).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "learning_rate": 1.0,
        "beta": 0.0,
        "smoothing": 0.999,
        "window": 20,
    }
