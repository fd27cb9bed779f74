"""Spectral radius, stability edge and path, against products of matrices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentax import theory


def matrix(α, λ, a, b, β):
    return np.array([[1 - α * (a + b) * λ, -α * b * β], [λ, β]])


coefficients = {
    "α": st.floats(0.01, 2),
    "λ": st.floats(-2, 5),
    "a": st.floats(-1, 2),
    "b": st.floats(-1, 2),
    "β": st.floats(0, 0.999),
}


@given(**coefficients)
def test_spectral_radius_is_that_of_the_matrix(α, λ, a, b, β):
    expected = np.abs(np.linalg.eigvals(matrix(α, λ, a, b, β))).max()
    np.testing.assert_allclose(
        theory.spectral_radius(α, λ, β, gradient_weight=a, velocity_weight=b),
        expected,
        rtol=1e-6,
        atol=1e-7,
    )


@given(a=coefficients["a"], b=coefficients["b"], β=coefficients["β"])
def test_stability_edge_is_where_the_radius_crosses_one(a, b, β):
    edge = float(theory.stability_edge(β, gradient_weight=a, velocity_weight=b))
    if abs(a * (1 - β) + b) < 1e-3:
        return  # The net step is nearly 0: float64 cannot tell the stable side from the other.
    if edge == 0:
        assert theory.spectral_radius(1.0, 1e-3, β, gradient_weight=a, velocity_weight=b) > 1
        return
    inside = edge * np.linspace(0.001, 0.999, 50)
    assert (theory.spectral_radius(1.0, inside, β, gradient_weight=a, velocity_weight=b) < 1).all()
    assert theory.spectral_radius(1.0, 1.001 * edge, β, gradient_weight=a, velocity_weight=b) > 1


def test_known_edges():
    β, ν = np.array([0.0, 0.5, 0.9, 0.99]), 0.7
    np.testing.assert_allclose(theory.stability_edge(β), 2 * (1 + β))
    np.testing.assert_allclose(
        theory.stability_edge(β, gradient_weight=1, velocity_weight=β), 2 * (1 + β) / (1 + 2 * β)
    )
    quasi = theory.stability_edge(β, gradient_weight=1 - ν, velocity_weight=ν * (1 - β))
    np.testing.assert_allclose(quasi, 2 * (1 + β) / (1 + β * (1 - 2 * ν)))
    assert theory.stability_edge(0, gradient_weight=1, velocity_weight=0) == 2
    assert theory.stability_edge(0, gradient_weight=-1, velocity_weight=0) == 0


@pytest.mark.parametrize(
    ("step", "β", "rate"),
    [(0.01, 0.81, 0.9), (0.1, 0.467544, 0.683772), (0.5, 0.085786, 0.292893)],
)
def test_critical_damping_of_heavy_ball(step, β, rate):
    critical = (1 - np.sqrt(step)) ** 2
    np.testing.assert_allclose(critical, β, atol=5e-7)
    np.testing.assert_allclose(theory.spectral_radius(step, 1, critical), rate, atol=1e-6)
    more = np.linspace(critical + 1e-3, 0.99, 20)
    np.testing.assert_allclose(theory.spectral_radius(step, 1, more), np.sqrt(more))


def test_growth_at_a_saddle_is_the_larger_root():
    for β in (0.0, 0.9):
        x = -0.05  # α λ
        larger = max(np.roots([1, -(1 + β - x), β]))
        np.testing.assert_allclose(theory.spectral_radius(0.1, -0.5, β), larger)
        assert larger > 1


def stepped(H, start, steps, α, a, b, β, minimizer):
    θ, v = start.astype(np.longdouble), np.zeros(len(H), np.longdouble)
    path, velocities = [θ], [v]
    for _ in range(steps):
        g = H.astype(np.longdouble) @ (θ - minimizer)
        v = β * v + g
        θ = θ - α * (a * g + b * v)
        path.append(θ)
        velocities.append(v)
    return np.array(path), np.array(velocities)


@given(
    n=st.integers(1, 20),
    log_κ=st.floats(0, 6),
    a=st.floats(0, 1),
    b=st.floats(0.01, 1),
    β=st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_path_equals_stepping_in_extended_precision(n, log_κ, a, b, β, share, seed):
    rng = np.random.default_rng(seed)
    λ = 10.0 ** (log_κ * rng.uniform(size=n))
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    H = (basis * λ) @ basis.T
    H = (H + H.T) / 2
    start, minimizer = rng.normal(size=(2, n))
    α = share * theory.stability_edge(β, gradient_weight=a, velocity_weight=b) / λ.max()
    path = theory.quadratic_path(
        H, start, 500, α, β, gradient_weight=a, velocity_weight=b, minimizer=minimizer
    )
    θ, v = stepped(H, start, 500, α, a, b, β, minimizer)
    assert isinstance(path, theory.QuadraticPath)
    assert path.params.shape == path.velocity.shape == (501, n)
    np.testing.assert_allclose(path.params, θ.astype(float), atol=1e-10 * np.abs(θ).max())
    np.testing.assert_allclose(path.velocity, v.astype(float), atol=1e-10 * np.abs(v).max())


@pytest.mark.parametrize("offset", [0.0, 1e-15, 1e-12, 1e-8, 1e-4, -1e-15, -1e-12, -1e-8, -1e-4])
@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, 0.9)])
def test_nothing_cancels_as_the_roots_meet(offset, a, b):
    β, T = 0.9, 500
    coefficients = (a + b) ** 2, -2 * (1 + β) * (a + b) + 4 * β * a, (1 - β) ** 2
    x = min(np.roots(coefficients).real) * (1 + offset)
    path = theory.quadratic_path([[x]], [1.0], T, 1.0, β, gradient_weight=a, velocity_weight=b)
    θ, v = stepped(np.array([[x]]), np.ones(1), T, 1.0, a, b, β, np.zeros(1))
    np.testing.assert_allclose(path.params, θ.astype(float), rtol=1e-9, atol=1e-30)
    np.testing.assert_allclose(path.velocity, v.astype(float), rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("κ", [3.0, 10.0, 1e4, 1e6])
def test_nothing_cancels_as_the_roots_meet_below_zero(κ):
    """Tuned heavy ball is critical at both ends: with a negative root at the largest curvature."""
    α, β, rate = theory.optimal_heavy_ball(1.0, κ)
    for λ in (1.0, κ):
        path = theory.quadratic_path([[λ]], [1.0], 300, α, β)
        θ, _ = stepped(np.array([[λ]]), np.ones(1), 300, α, 0.0, 1.0, β, np.zeros(1))
        size = rate ** np.arange(301) * np.arange(1, 302)  # The decay of a double root.
        assert (np.abs(path.params - θ).ravel() / size).max() < 1e-9


@pytest.mark.parametrize("ulps", range(-4, 5))
@pytest.mark.parametrize("β", [0.0, 1e-300, 0.05, 0.5, 0.9, 0.999])
def test_nothing_cancels_as_both_roots_vanish(ulps, β):
    """Nesterov at α = 1/L: D is 0, and of either sign by rounding."""
    x = 1 + ulps * 2.0**-52
    path = theory.quadratic_path([[x]], [1.0], 50, 1.0, β, gradient_weight=1.0, velocity_weight=β)
    θ, v = stepped(np.array([[x]]), np.ones(1), 50, 1.0, 1.0, β, β, np.zeros(1))
    np.testing.assert_allclose(path.params, θ.astype(float), atol=1e-14)
    np.testing.assert_allclose(path.velocity, v.astype(float), atol=1e-14)


@pytest.mark.parametrize("λ", [0.0, 1e-9, 1e-3])
def test_slow_errors_keep_all_digits(λ):
    path = theory.quadratic_path([[λ]], [1.0], 5000, 0.1, 0.999)
    θ, _ = stepped(np.array([[λ]]), np.ones(1), 5000, 0.1, 0.0, 1.0, 0.999, np.zeros(1))
    np.testing.assert_allclose(path.params, θ.astype(float), rtol=0, atol=5e-12)


@pytest.mark.parametrize("x", [1.0, 2.5, 3.9, 1.9])
def test_large_steps_with_roots_of_either_sign(x):
    for a, b, β in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.9), (0.0, 1.0, 0.0), (1.0, 0.3, 0.2)):
        path = theory.quadratic_path([[x]], [1.0], 30, 1.0, β, gradient_weight=a, velocity_weight=b)
        θ, v = stepped(np.array([[x]]), np.ones(1), 30, 1.0, a, b, β, np.zeros(1))
        np.testing.assert_allclose(path.params, θ.astype(float), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(path.velocity, v.astype(float), rtol=1e-10, atol=1e-14)


def test_plain_descent_does_not_oscillate_on_the_folklore_example():
    """100 x² + y² at α = 0.005: α λ = 1 along x."""
    path = theory.quadratic_path(
        np.diag([200.0, 2.0]), [1.0, 1.0], 3, 0.005, 0.0, gradient_weight=1.0, velocity_weight=0.0
    )
    np.testing.assert_allclose(path.params[1:, 0], 0, atol=1e-15)


def test_an_indefinite_hessian_has_a_path_too():
    path = theory.quadratic_path(np.diag([1.0, -0.5]), [1.0, 1e-3], 200, 0.1, 0.9)
    growth = path.params[200, 1] / path.params[199, 1]
    np.testing.assert_allclose(growth, theory.spectral_radius(0.1, -0.5, 0.9), rtol=1e-10)


def test_hyperparameters_broadcast_over_leading_axes():
    α, β = np.array([[0.1], [0.2]]), np.array([0.0, 0.5, 0.9])
    H, start = np.diag([1.0, 2.0]), [1.0, -1.0]
    path = theory.quadratic_path(H, start, 7, α, β)
    assert path.params.shape == (2, 3, 8, 2)
    for i, j in np.ndindex(2, 3):
        single = theory.quadratic_path(H, start, 7, α[i, 0], β[j])
        np.testing.assert_allclose(path.params[i, j], single.params, rtol=1e-13)
        np.testing.assert_allclose(path.velocity[i, j], single.velocity, rtol=1e-13)


def test_rounding_in_the_hessian_is_averaged_out():
    skew = 1e-8 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    H = np.array([[2.0, 0.5], [0.5, 1.0]])
    paths = [theory.quadratic_path(M, [1.0, 1.0], 9, 0.1, 0.9) for M in (H, H + skew)]
    np.testing.assert_allclose(paths[0].params, paths[1].params, rtol=1e-14)


def test_no_steps_and_divergence():
    path = theory.quadratic_path(np.eye(2), [1.0, 2.0], 0, 0.1, 0.9, minimizer=[1.0, 1.0])
    np.testing.assert_array_equal(path.params, [[1.0, 2.0]])
    np.testing.assert_array_equal(path.velocity, [[0.0, 0.0]])
    path = theory.quadratic_path([[1.0]], [1.0], 5000, 10.0, 0.9)
    assert not np.isfinite(path.params[-1]).any()  # And there is no warning.


H = np.eye(2)
BAD = {
    "skew": (([[1, 2], [3, 4]], [1, 1], 3, 0.1, 0.9), {}, "symmetric.*differs by 1 .*H.T"),
    "shape": (([[1, 2, 3]], [1], 3, 0.1, 0.9), {}, r"square matrix, got shape \(1, 3\)"),
    "start": ((H, [1.0], 3, 0.1, 0.9), {}, r"start must have shape \(2,\).*got \(1,\)"),
    "minimizer": (
        (H, [1, 1], 3, 0.1, 0.9),
        {"minimizer": 0.0},
        r"minimizer must have shape \(2,\)",
    ),
    "steps": ((H, [1, 1], -1, 0.1, 0.9), {}, "steps must be a whole number, at least 0"),
    "α": ((H, [1, 1], 3, 0.0, 0.9), {}, r"learning_rate must be in \(0, inf\), got 0.0"),
    "β": ((H, [1, 1], 3, 0.1, 1.0), {}, r"beta must be in \[0, 1\), got 1.0"),
    "nan": ((H * np.nan, [1, 1], 3, 0.1, 0.9), {}, "hessian must be in .*got nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    arguments, options, text = BAD[case]
    with pytest.raises(ValueError, match=text):
        theory.quadratic_path(*arguments, **options)


def test_traced_arguments_raise():
    with pytest.raises(TypeError, match="beta must be concrete: the theory runs in NumPy"):
        jax.jit(theory.half_life)(jnp.float32(0.9))


def test_a_transformation_in_place_of_hyperparameters_names_the_reading():
    tx = optax.sgd(0.1)
    for call, reading in (
        (lambda: theory.spectral_radius(tx, 1.0, 0.9), "rate_at(tx, curvature)"),
        (lambda: theory.stability_edge(tx), "sharpness_limit(tx)"),
        (lambda: theory.quadratic_path(tx, H, [1.0, 1.0], 3, 0.1), "trajectory(tx, hessian, start"),
    ):
        with pytest.raises(
            TypeError, match=re.escape(f"for a transformation call theory.{reading}")
        ):
            call()


def test_heavy_ball_is_the_default():
    assert theory.stability_edge(beta=0.9) == 2 * (1 + 0.9)
    np.testing.assert_array_equal(
        theory.spectral_radius(0.1, 1.0, 0.9),
        theory.spectral_radius(0.1, 1.0, 0.9, gradient_weight=0, velocity_weight=1),
    )
