"""The closed loop along one curvature: its matrix, damping, escape and trajectory."""

import numpy as np
import optax
import pytest

from momentax import nesterov, sgd, theory
from momentax.theory import StateSpace
from momentax.theory._reading._family import Family
from tests.theory.systems import linear


@pytest.mark.parametrize(
    ("product", "β", "rate"), [(0.01, 0.81, 0.9), (0.1, 0.467544, 0.683772), (0.5, 0.085786, None)]
)
def test_damping_of_heavy_ball(product, β, rate):
    critical = (1 - np.sqrt(product)) ** 2
    np.testing.assert_allclose(critical, β, atol=1e-6)
    for factor, kind in ((0.9, "over"), (1.0, "critical"), (1.1, "under")):
        found = theory.damping(linear(product, 0, 1, critical * factor), 1.0)
        assert found.kind == kind
        if kind == "under":
            roots = np.roots([1, -(1 + critical * factor - product), critical * factor])
            np.testing.assert_allclose(found.period, 2 * np.pi / abs(np.angle(roots[0])))
            np.testing.assert_allclose(
                found.half_life, np.log(0.5) / np.log(np.sqrt(critical * factor))
            )
        else:
            assert found.period == np.inf


def test_damping_of_plain_descent():
    system = linear(0.5, 1, 0, 0.0)
    assert theory.damping(system, 1.0) == theory.Damping("over", np.inf, 1.0)
    assert theory.damping(system, 2.0) == ("critical", np.inf, 0.0)
    kind, period, half_life = theory.damping(system, 3.0)
    assert (kind, half_life) == ("under", 1.0)
    np.testing.assert_allclose(period, 2)
    assert theory.damping(system, 5.0).half_life == np.inf


def test_escape_from_a_saddle():
    system = linear(0.1, 0, 1, 0.9)
    growth = theory.escape_rate(system, [-1.0, -0.1])
    np.testing.assert_allclose(growth, theory.spectral_radius(0.1, [-1.0, -0.1], 0.9))
    assert (growth > 1 + 0.1 * np.array([1.0, 0.1])).all()
    with pytest.raises(ValueError, match=r"negative_curvature must be in \(-inf, 0\), got 0.5"):
        theory.escape_rate(system, 0.5)


def test_readings_agree_with_closed_forms():
    tx, λ = sgd(0.1, nesterov(0.8)), np.array([0.5, 3.0])
    np.testing.assert_allclose(
        theory.rate_at(tx, λ),
        theory.spectral_radius(0.1, λ, 0.8, gradient_weight=1, velocity_weight=0.8),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        theory.sharpness_limit(tx),
        theory.stability_edge(0.8, gradient_weight=1, velocity_weight=0.8) / 0.1,
        rtol=1e-12,
    )
    M = theory.closed_loop(tx, λ)
    assert M.shape == (2, 2, 2)
    np.testing.assert_allclose(np.linalg.det(M), 0.8 * (1 - 0.1 * λ), rtol=1e-12)


def test_the_trajectory_by_squaring_is_the_path_by_roots():
    H, start, minimizer = np.diag([0.3, 2.0]), [1.0, -1.0], [0.5, 3.0]
    roots = theory.quadratic_path(
        H, start, 300, 0.1, 0.9, gradient_weight=1.0, velocity_weight=0.9, minimizer=minimizer
    )
    squared = theory.trajectory(linear(0.1, 1, 0.9, 0.9), H, start, 300, minimizer=minimizer)
    np.testing.assert_allclose(squared, roots.params, rtol=0, atol=1e-12)
    at_once = theory.trajectory(linear(0.1, 1, 0.9, 0.9), H, start, 0)
    np.testing.assert_array_equal(at_once, [start])
    far = theory.trajectory(linear(10.0, 0, 1, 0.9), H, start, 5000)
    assert not np.isfinite(far[-1]).all()  # And there is no warning.


def test_the_steps_of_a_period_must_not_share_a_state():
    two = StateSpace(np.eye(2), -0.1 * np.eye(2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="period of 2 steps must hold the states before each of"):
        theory.stationary_variance(two, 1.0, 1.0)


def test_bad_arguments():
    system = linear(0.1, 0, 1, 0.9)
    for curvature in (np.nan, [1.0, np.inf]):
        with pytest.raises(ValueError, match=r"curvature must be in \(-inf, inf\), got (nan|inf)"):
            theory.rate_at(system, curvature)
    with pytest.raises(TypeError, match="curvature must be real numbers"):
        theory.rate_at(system, "1")
    with pytest.raises(ValueError, match="curvature must be one number"):
        theory.damping(system, [1.0, 2.0])


@pytest.mark.parametrize("every", [2, 3])
def test_damping_of_accumulated_gradients_is_that_of_the_steps_taken(every):
    family = Family(lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), every))
    for learning_rate in (0.1, 1.5):
        plain = theory.damping(linear(learning_rate, 1, 0, 0), 1.0)
        accumulated = family({"learning_rate": learning_rate}, full=True).state_space
        found = theory.damping(accumulated, 1.0)
        assert found.kind == plain.kind
        np.testing.assert_allclose(found[1:], np.array(plain[1:]) * every, rtol=1e-9)
