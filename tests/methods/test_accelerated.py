"""The accelerated sequences against their exact worst cases and their own two-sequence forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import accelerated, eval_params, item, sgd

pytestmark = pytest.mark.usefixtures("x64")


def run(method, gradient, start, steps, α=1.0):
    """Return the parameters and the base iterates after each step."""
    tx = sgd(α, method)

    def step(carry, _):
        θ, state = carry
        u, state = tx.update(gradient(θ), state, θ)
        return (θ + u, state), (θ + u, eval_params(θ + u, state, learning_rate=α))

    start = jnp.asarray(start)
    return jax.lax.scan(step, (start, tx.init(start)), length=steps)[1]


def huber(τ):
    """Return the gradient of a function that is quadratic on [-τ, τ] and linear outside, L = 1."""
    return lambda x: jnp.clip(x, -τ, τ)


SEQUENCES = ["nesterov", "fista", "ogm"]
# The displacement after N steps along a constant unit gradient.
DISPLACEMENTS = {
    "nesterov": {4: 4.75, 8: 13.25, 20: 62.75},
    "fista": {4: 4.838089, 8: 13.738823, 20: 65.413740},
    "ogm": {4: 9.271754, 8: 27.166866, 20: 130.772569},
}


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("steps", [4, 8, 20])
def test_the_worst_case_on_hubers_function(sequence, steps):
    """Run from 1 on the Huber function of τ = 1/(2c+1): f(x_N) is exactly 1/(2(2c+1))."""
    method = accelerated(sequence, horizon=steps if sequence == "ogm" else None)
    c = -float(run(method, jnp.ones_like, 0.0, steps)[1][-1])
    np.testing.assert_allclose(c, DISPLACEMENTS[sequence][steps], rtol=0, atol=5.1e-7)
    τ = 1 / (2 * c + 1)
    x = float(run(method, huber(τ), 1.0, steps)[1][-1])
    assert x >= τ
    np.testing.assert_allclose(τ * x - τ**2 / 2, 1 / (2 * (2 * c + 1)), rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 5, 10, 50, 100, 1000])
def test_the_published_bounds_hold_on_the_worst_huber_function(steps):
    def value(sequence):
        method = accelerated(sequence, horizon=steps if sequence == "ogm" else None)
        return 1 / (2 * (2 * -float(run(method, jnp.ones_like, 0.0, steps)[1][-1]) + 1))

    θ = 1.0
    for t in range(1, steps + 1):
        θ = (1 + np.sqrt(1 + (8 if t == steps else 4) * θ**2)) / 2
    np.testing.assert_allclose(value("ogm"), 1 / (2 * θ**2), rtol=1e-12)
    np.testing.assert_allclose(value("nesterov"), 2 / (steps**2 + 5 * steps + 6), rtol=1e-12)
    assert value("fista") <= 2 / (steps + 1) ** 2


@pytest.mark.parametrize("steps", [50, 1000])
def test_the_published_numbers_of_ogm(steps):
    method = accelerated("ogm", horizon=steps)
    c = -float(run(method, jnp.ones_like, 0.0, steps)[1][-1])
    published = {50: 0.000351475, 1000: 9.90449e-7}[steps]
    np.testing.assert_allclose(1 / (2 * (2 * c + 1)), published, rtol=2e-6)


N, ROWS = 6, 8


def problem(seed):
    """Return a start, and the rows and offsets of a convex function that is not quadratic."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(ROWS, N))
    return rng.normal(size=N), rows / np.linalg.norm(rows, 2), rng.normal(size=ROWS)


def slope(x, rows, offsets, xp):
    return rows.T @ xp.tanh(rows @ x - offsets)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_parameters_and_iterates_are_the_two_sequences_of_the_papers(sequence):
    α, steps = 0.8, 300
    method = accelerated(sequence, horizon=steps if sequence == "ogm" else None)

    @jax.jit
    def compiled(start, rows, offsets):
        return run(method, lambda x: slope(x, rows, offsets, jnp), start, steps, α)

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        start, rows, offsets = problem(seed)
        y = x = z = start
        θ, ys, xs = 1.0, [], []
        for t in range(1, steps + 1):
            g = slope(y, rows, offsets, np)
            root = (1 + np.sqrt(1 + (8 if (sequence, t) == ("ogm", steps) else 4) * θ**2)) / 2
            x_new = y - α * g
            z = z - 2 * θ * α * g
            if sequence == "ogm":  # Kim and Fessler write OGM with z, momentax with a velocity.
                y = (1 - 1 / root) * x_new + z / root
            else:
                m = (t - 1) / (t + 2) if sequence == "nesterov" else (θ - 1) / root
                y = x_new + m * (x_new - x)
            x, θ = x_new, root
            ys.append(y)
            xs.append(x)
        if sequence == "ogm":
            xs[-1] = ys[-1]  # At the horizon the result is the parameters.
        params, base = compiled(start, rows, offsets)
        np.testing.assert_allclose(params, ys, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(base, xs, rtol=1e-12, atol=1e-12)

    check()


def test_the_nesterov_sequence_is_nesterovs_momentum_with_its_schedule():
    start, rows, offsets = problem(5)

    def path(method):
        return run(method, lambda x: slope(x, rows, offsets, jnp), start, 50)

    schedule = momentax.schedules.nesterov_sequence()
    for ours, theirs in zip(path(accelerated()), path(momentax.nesterov(schedule)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("steps", "published"),
    [(2, 0.37693949148373), (5, 0.04508475926844), (10, 0.00102572722796)],
)
def test_item_contracts_exactly_as_its_paper_says(steps, published):
    z = run(item(0.1, 1.0), lambda x: jnp.array([0.1, 1.0]) * x, jnp.ones(2), steps)[1][-1]
    np.testing.assert_allclose(float(jnp.max(z**2)), published, rtol=0, atol=1e-14)


def test_item_reaches_its_bound_at_both_ends_of_the_curvatures():
    steps = 30

    @jax.jit
    def contraction(mu, L):
        ends = jnp.stack([mu, L])
        z = run(item(mu, L), lambda x: ends * x, jnp.ones(2), steps, 1 / L)[1][-1]
        return jnp.max(z**2)

    @given(log_q=st.floats(-6, -0.01), L=st.floats(0.1, 10))
    def check(log_q, L):
        mu, A = L * 10.0**log_q, 0.0
        q = mu / L
        for _ in range(steps):
            A = ((1 + q) * A + 2 * (1 + np.sqrt((1 + A) * (1 + q * A)))) / (1 - q) ** 2
        np.testing.assert_allclose(float(contraction(mu, L)), 1 / (1 + q * A), rtol=1e-9)

    check()


def test_item_stays_finite_after_its_sequence_overflows():
    start = jnp.ones(2, jnp.float32)
    params, base = run(item(0.5, 1.0), lambda x: jnp.array([0.5, 1.0], x.dtype) * x, start, 2000)
    assert jnp.all(jnp.isfinite(params))
    assert jnp.all(jnp.isfinite(base))
    state = item(0.5, 1.0).init(start)
    assert isinstance(state, momentax.states.ItemState)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: accelerated("adam"), ValueError, "sequence must be one of 'nesterov', 'fista'"),
        (lambda: accelerated("ogm", horizon=0), ValueError, "horizon must be a whole number"),
        (lambda: accelerated("ogm", horizon=2.5), TypeError, "horizon must be a whole number"),
        (lambda: accelerated(horizon=9), ValueError, "horizon is for sequence='ogm', got 'nest"),
        (lambda: item(2.0, 1.0), ValueError, r"mu must be in \(0, L\), got 2.0 with L = 1.0"),
        (lambda: item(1.0, 1.0), ValueError, r"mu must be in \(0, L\)"),
    ],
)
def test_errors_of_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()
