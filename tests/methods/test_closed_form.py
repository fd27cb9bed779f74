"""Every linear method against its path on quadratics, computed in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import momentax
from momentax import theory

STEPS, MOST = 500, 20

# The method as a function of β and a number s in (0, 1), its weights at gain 1, and its gain.
LINEAR = {
    "linear": (
        lambda β, s: momentax.linear(s, 1 - s, β, gain=0.5),
        lambda β, s: (s, (1 - s) * 0.5),
        0.5,
    ),
    "heavy_ball": (lambda β, s: momentax.heavy_ball(β), lambda β, s: (0.0, 1.0), 1.0),
    "heavy_ball, dampened": (
        lambda β, s: momentax.heavy_ball(β, dampening=s),
        lambda β, s: (0.0, 1 - s),
        lambda β, s: 1 - s,
    ),
    "nesterov": (lambda β, s: momentax.nesterov(β), lambda β, s: (1.0, β), 1.0),
    "quasi_hyperbolic": (
        lambda β, s: momentax.quasi_hyperbolic(β, s),
        lambda β, s: (1 - s, s * (1 - β)),
        lambda β, s: 1 - β,
    ),
    "average": (
        lambda β, s: momentax.average(β, debias=False),
        lambda β, s: (0.0, 1 - β),
        lambda β, s: 1 - β,
    ),
    "primal_averaging": (
        lambda β, s: momentax.primal_averaging(1 - β),
        lambda β, s: (0.0, 1 - β),
        1.0,
    ),
    "generalized_primal_averaging": (
        lambda β, s: momentax.generalized_primal_averaging(β, s),
        lambda β, s: (1 - s, s * (1 - β)),
        1.0,
    ),
}


def runner(name):
    """Compile a run of the largest size; smaller problems are padded by entries without error."""
    make = LINEAR[name][0]

    @jax.jit
    def run(hessian, start, minimizer, α, β, s):
        tx = momentax.sgd(α, make(β, s))

        def step(carry, _):
            θ, state = carry
            u, state = tx.update(hessian @ (θ - minimizer), state, θ)
            θ = optax.apply_updates(θ, u)
            return (θ, state), (θ, momentax.velocity(state))

        return jax.lax.scan(step, (start, tx.init(start)), length=STEPS)[1]

    return run


def random_problem(rng, n, κ):
    """Draw an SPD Hessian with condition number κ, its eigenvalues, a start and a minimizer."""
    λ = np.exp(rng.uniform(0, np.log(κ), n))
    λ[[0, -1]] = 1, (κ if n > 1 else 1)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    H = (basis * λ) @ basis.T
    return (H + H.T) / 2, λ, rng.normal(size=n), rng.normal(size=n)


def learning_rate(regime, λ, a, b, β, share):
    """Return a stable learning rate at which the largest curvature has the damping of a regime."""
    edge = theory.stability_edge(β, gradient_weight=a, velocity_weight=b) / λ.max()
    if regime == "edge":
        return edge * (0.05 + 0.9 * share)
    # Damping is critical at the smaller root in αλ of the discriminant
    # (1 + β - αλ(a + b))² - 4β(1 - αλa).
    coefficients = (a + b) ** 2, -2 * (1 + β) * (a + b) + 4 * β * a, (1 - β) ** 2
    roots = np.roots(coefficients)
    critical = min((r.real for r in roots if abs(r.imag) < 1e-9 and r.real > 0), default=1.0)
    factor = {"over": 0.5, "critical": 1.0, "under": 2.0}[regime]
    return min(factor * critical / λ.max(), 0.95 * edge)


def check_against_closed_form(name, run, n, log_κ, β, s, share, regime, at_origin, seed):
    _, weights, gain = LINEAR[name]
    gain = gain(β, s) if callable(gain) else gain
    a, b = weights(β, s)
    H, λ, start, minimizer = random_problem(np.random.default_rng(seed), n, 10.0**log_κ)
    if at_origin:
        minimizer = np.zeros(n)
    α = learning_rate(regime, λ, a, b, β, share)
    padded = np.eye(MOST)
    padded[:n, :n] = H
    origin = np.pad(minimizer, (0, MOST - n))
    θ, v = run(padded, np.pad(start, (0, MOST - n)), origin, α, β, s)
    path = theory.quadratic_path(
        H, start, STEPS, α, β, gradient_weight=a, velocity_weight=b, minimizer=minimizer
    )

    error, velocity = np.asarray(θ)[:, :n] - minimizer, np.asarray(v)[:, :n] / gain
    # Position and velocity have one unit, so that their joint norm does not cross 0.
    unit = np.sqrt(α / λ.max())
    ours = np.concatenate([error, velocity * unit], axis=1)
    exact = np.concatenate([path.params[1:] - minimizer, path.velocity[1:] * unit], axis=1)
    # The tolerance is relative to the remaining error, taken over three steps as it may cross 0.
    # It grows where rounding determines the remaining error: that of αλ, if the first step reaches
    # the minimizer; that of θ, away from the origin; that of the smallest eigenvalue, with κ.
    size, missed = (np.linalg.norm(each, axis=1) for each in (exact, ours - exact))
    around = np.max([size, np.append(size[1:], 0), np.append(0, size[:-1])], axis=0)
    lands = theory.spectral_radius(α, λ, β, gradient_weight=a, velocity_weight=b).max() < 1e-6
    rounding = 1e-12 * np.linalg.norm(minimizer) + 1e-14 * np.linalg.norm(start) * lands + 1e-300
    relative = 1e-11 * max(10, np.sqrt(λ.max()) / 3)
    assert (missed / (relative * around + rounding)).max() <= 1
    np.testing.assert_array_equal(np.asarray(θ)[:, n:], 0)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.usefixtures("x64")
def test_follows_the_closed_form_for_500_steps(name):
    run = runner(name)

    @given(
        n=st.integers(1, MOST),
        log_κ=st.floats(0, 6),
        β=st.floats(0, 0.999),
        s=st.floats(0, 0.95),
        share=st.floats(0, 1),
        regime=st.sampled_from(["over", "critical", "under", "edge"]),
        at_origin=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(**drawn):
        check_against_closed_form(name, run, **drawn)

    check()


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.usefixtures("x64")
def test_observed_rate_is_the_spectral_radius(name):
    """The rate is read from the iterates, as θ_{t+1} = T θ_t - D θ_{t-1}."""
    run = runner(name)
    padded = np.eye(MOST)
    start = np.pad([1.0], (0, MOST - 1))

    @given(
        β=st.floats(0.05, 0.99),
        s=st.floats(0.05, 0.9),
        share=st.floats(0.01, 0.99),
    )
    def check(β, s, share):
        a, b = LINEAR[name][1](β, s)
        α = share * theory.stability_edge(β, gradient_weight=a, velocity_weight=b)
        θ, _ = run(padded, start, np.zeros(MOST), α, β, s)
        path = np.asarray(θ)[:, 0]
        ρ = theory.spectral_radius(α, 1.0, β, gradient_weight=a, velocity_weight=b)
        trace, determinant = 1 + β - α * (a + b), β * (1 - α * a)
        gap = trace**2 - 4 * determinant
        assume(abs(gap) > 1e-3)
        if gap < 0:
            t = min(STEPS - 3, 20)
            hankel = [path[i + 1] * path[i - 1] - path[i] ** 2 for i in (t, t + 1)]
            observed = np.sqrt(hankel[1] / hankel[0])
        else:
            other = abs(determinant) / ρ
            assume(other < 0.999 * ρ)
            # The smaller root must have decayed, and nothing may underflow yet.
            t = int(np.ceil(np.log(1e-13) / np.log(max(other, 1e-300) / ρ)))
            assume(t < STEPS - 1 and abs(path[t]) > 1e-250)
            observed = abs(path[t + 1] / path[t])
        np.testing.assert_allclose(observed, ρ, rtol=1e-7)

    check()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("at_origin", [False, True])
def test_the_comparison_detects_a_slightly_wrong_recurrence(at_origin, monkeypatch):
    """A change of Nesterov's β in the eighth digit, in the direction only, fails the comparison."""
    broken = (lambda β, s: momentax.linear(1.0, β ** (1 + 1e-8), β), *LINEAR["nesterov"][1:])
    monkeypatch.setitem(LINEAR, "nesterov", broken)
    with pytest.raises(AssertionError):
        check_against_closed_form(
            "nesterov", runner("nesterov"), 5, 2.0, 0.9, 0.5, 0.5, "edge", at_origin, 0
        )


@pytest.mark.usefixtures("x64")
def test_special_cases_are_equal():
    """The equalities that the docstrings claim."""
    rng = np.random.default_rng(0)
    gradients = jnp.asarray(rng.normal(size=(50, 4)))
    β = 0.85

    def directions(tx):
        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        return jax.lax.scan(step, tx.init(gradients[0]), gradients)[1]

    def same(left, right, factor=1.0):
        scaled = factor * np.asarray(directions(right))
        chex.assert_trees_all_close(np.asarray(directions(left)), scaled, rtol=1e-12, atol=1e-13)

    same(momentax.linear(0.0, 1.0, β), momentax.heavy_ball(β))
    same(momentax.linear(1.0, β, β), momentax.nesterov(β))
    same(momentax.heavy_ball(0.0), optax.identity())
    same(momentax.nesterov(0.0), optax.identity())
    same(momentax.quasi_hyperbolic(β, 0.0), optax.identity())
    same(momentax.quasi_hyperbolic(β, 1.0), momentax.heavy_ball(β), factor=1 - β)
    same(momentax.quasi_hyperbolic(β, β), momentax.nesterov(β), factor=1 - β)
    same(momentax.average(β, debias=False), momentax.heavy_ball(β), factor=1 - β)
    same(momentax.heavy_ball(β, dampening=β), momentax.average(β, debias=False))


@pytest.mark.usefixtures("x64")
def test_equals_optax_where_optax_is_right():
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)))

    def directions(tx):
        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        with jax.numpy_dtype_promotion("standard"):  # optax.ema mixes dtypes.
            return jax.lax.scan(step, tx.init(gradients[0]), gradients)[1]

    for ours, theirs in (
        (momentax.heavy_ball(0.9), optax.trace(0.9)),
        (momentax.nesterov(0.9), optax.trace(0.9, nesterov=True)),
        (momentax.average(0.9), optax.ema(0.9)),
        (momentax.average(0.9, debias=False), optax.ema(0.9, debias=False)),
    ):
        chex.assert_trees_all_close(directions(ours), directions(theirs), rtol=1e-12, atol=1e-14)


def test_counts_stop_at_the_largest_integer_so_that_schedules_never_get_a_negative_one():
    last = jnp.iinfo(jnp.int32).max
    tx = momentax.nesterov(lambda count: jnp.where(count < 0, jnp.nan, 0.5))
    state = tx.init(jnp.ones(2))._replace(count=jnp.int32(last), velocity=jnp.ones(2))
    d, state = tx.update(jnp.ones(2), state)
    np.testing.assert_array_equal(d, 1.75)
    assert state.count == last


@given(β=st.floats(0, 0.999), ν=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_quasi_hyperbolic_is_a_geometric_filter_of_the_gradients(β, ν, seed):
    g = np.random.default_rng(seed).normal(size=(20, 3))
    lag = np.subtract.outer(np.arange(20), np.arange(20))
    geometric = np.where(lag >= 0, β ** np.abs(lag), 0)
    expected = ((1 - ν) * (lag == 0) + ν * (1 - β) * geometric) @ g
    chex.assert_trees_all_close(_filtered(β, ν, g), expected.astype(np.float32), atol=1e-5)


@jax.jit
def _filtered(β, ν, g):
    tx = momentax.quasi_hyperbolic(β, ν)

    def step(state, g):
        d, state = tx.update(g, state)
        return state, d

    return jax.lax.scan(step, tx.init(g[0]), g)[1]


@pytest.mark.usefixtures("x64")
@given(seed=st.integers(0, 2**32 - 1))
def test_a_debiased_average_of_equal_gradients_is_that_gradient_under_any_schedule(seed):
    β = jnp.asarray(np.random.default_rng(seed).uniform(0, 0.999, 30))
    np.testing.assert_allclose(_averaged(β, jnp.full((30, 2), 3.0)), 3.0, rtol=1e-12)


@jax.jit
def _averaged(β, g):
    tx = momentax.average(lambda t: β[t])

    def step(state, g):
        d, state = tx.update(g, state)
        return state, d

    return jax.lax.scan(step, tx.init(g[0]), g)[1]
