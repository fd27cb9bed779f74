"""Heavy ball and the mass on a spring: the exact identity, the inverse, the limit."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentax import theory


def iterates(α, β, λ, start, steps):
    return theory.quadratic_path([[λ]], [start], steps, α, β).params[..., 0]


@given(log_α=st.floats(-4, 1), β=st.floats(0, 0.999), share=st.floats(0.01, 0.9))
def test_heavy_ball_is_the_central_difference_of_the_oscillator(log_α, β, share):
    α = 10.0**log_α
    λ = share * 2 * (1 + β) / α
    m, c, h, ζ = theory.oscillator(α, λ, β)
    θ = iterates(α, β, λ, 1.0, 30)
    θ = np.concatenate([θ[:1], θ])  # It starts with θ_0 = θ_{-1}.
    inertia = m * (θ[2:] - 2 * θ[1:-1] + θ[:-2]) / h**2
    drag = c * (θ[2:] - θ[:-2]) / (2 * h)
    np.testing.assert_allclose(inertia + drag + λ * θ[1:-1], 0, atol=1e-13 / α)
    np.testing.assert_allclose(ζ, c / (2 * np.sqrt(m * λ)), rtol=1e-14)


@given(log_α=st.floats(-6, 3), β=st.floats(0, 0.999))
def test_from_oscillator_is_the_inverse(log_α, β):
    m, c, h, _ = theory.oscillator(10.0**log_α, 1.0, β)
    np.testing.assert_allclose(theory.from_oscillator(m, c, h), (10.0**log_α, β), atol=1e-15)
    # In other units of time it is the same heavy ball.
    np.testing.assert_allclose(
        theory.from_oscillator(m * 9, c * 3, h * 3), (10.0**log_α, β), atol=1e-15
    )


@pytest.mark.parametrize(("friction", "ratio"), [(0.2, 0.05), (4.0, 1.0), (9.0, 2.25)])
def test_the_iterates_approach_the_oscillators_path_as_the_square_of_the_step(friction, ratio):
    """One mass and spring over the same time, at ever smaller steps."""
    mass, λ, errors = 1.0, 4.0, []
    for h in (0.04, 0.02, 0.01):
        α, β = theory.from_oscillator(mass, friction, h)
        steps = round(4 / h)
        path = theory.oscillator_path(α, λ, β, 3.0, steps)
        np.testing.assert_allclose(theory.oscillator(α, λ, β).damping_ratio, ratio, rtol=1e-12)
        errors.append(np.abs(path - iterates(α, β, λ, 3.0, steps)).max())
    assert errors[0] < 0.01
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.05)


@pytest.mark.parametrize("β", [0.0, 0.3, 0.9, 0.99])
def test_the_path_solves_the_differential_equation(β):
    α, λ = 0.01, 2.0
    m, c, h, _ = theory.oscillator(α, λ, β)
    small = 1e-3 * h
    # A path of finer steps in the same units of time, which starts at rest.
    fine = theory.from_oscillator(m, c, small)
    θ = theory.oscillator_path(fine[0], λ, fine[1], 1.0, 4000)
    speed = np.gradient(θ, small)
    force = m * np.gradient(speed, small) + c * speed + λ * θ
    np.testing.assert_allclose(force[2:-2], 0, atol=1e-4)
    np.testing.assert_allclose(θ[0], 1, atol=1e-6)
    np.testing.assert_allclose(speed[0], 0, atol=1e-3)


def test_critical_damping_is_that_of_the_iterates_for_small_steps():
    αλ = np.array([1e-2, 1e-4, 1e-6])
    ζ = theory.oscillator(αλ, 1.0, (1 - np.sqrt(αλ)) ** 2).damping_ratio
    np.testing.assert_allclose(ζ, 1, atol=1e-2)
    assert np.all(np.abs(ζ - 1) < αλ)
    # At critical damping the path is that of a double root.
    α, β, λ = 0.01, 0.81, 1.0
    m, c, h, _ = theory.oscillator(α, λ, β)
    λ = c**2 / (4 * m)
    τ = (np.arange(40) + 0.5) * h * c / (2 * m)
    path = theory.oscillator_path(α, λ, β, 1.0, 39)
    np.testing.assert_allclose(path, (1 + τ) * np.exp(-τ), rtol=1e-6)


def test_plain_descent_has_half_a_unit_of_mass():
    m, c, h, ζ = theory.oscillator(0.01, 1.0, 0.0)
    np.testing.assert_allclose((m, c, h, ζ), (0.5, 10.0, 0.1, 10 / np.sqrt(2)), rtol=1e-14)


def test_arguments_broadcast():
    oscillator = theory.oscillator(np.full((3, 1), 0.1), np.ones(2), 0.5)
    assert isinstance(oscillator, theory.Oscillator)
    assert all(field.shape == (3, 2) for field in oscillator)
    assert all(field.shape == (2,) for field in theory.from_oscillator(1.0, 1.0, [0.1, 0.2]))
    path = theory.oscillator_path([[0.1], [0.2]], np.ones(3), 0.5, 2.0, 7)
    assert path.shape == (2, 3, 8)
    np.testing.assert_array_equal(path[0, 1], theory.oscillator_path(0.1, 1.0, 0.5, 2.0, 7))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: theory.oscillator(0.1, 1.0, 1.0), "beta must be in [0, 1), got 1.0"),
        (lambda: theory.oscillator(0.1, 0.0, 0.9), "curvature must be in (0, inf), got 0.0"),
        (lambda: theory.from_oscillator(1.0, 0.0, 0.1), "friction must be in (0, inf), got 0.0"),
        (
            lambda: theory.from_oscillator(1.0, 4.0, [0.1, 0.75]),
            "time_step must be at most 2 mass / friction = 0.5, got 0.75; beyond it beta",
        ),
        (lambda: theory.oscillator_path(0.1, 1.0, 0.9, 1.0, -1), "steps must be a whole number"),
    ],
)
def test_errors_of_bad_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        call()
