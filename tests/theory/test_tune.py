"""The best hyperparameters, against published tunings, closed forms and brute force."""

import re
from functools import partial

import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory import StateSpace, Tuned, tune
from tests.theory.systems import (
    Record,
    ball_grid,
    ball_noise,
    ball_rate,
    heavy_ball,
    quasi_hyperbolic,
)

KAPPAS = (10.0, 100.0, 1000.0, 10000.0)


def aggregated(*betas):
    return lambda learning_rate: sgd(learning_rate, momentax.aggregated(betas))


@pytest.mark.parametrize("kappa", KAPPAS)
def test_quasi_hyperbolic_momentum_is_tuned_to_heavy_ball(kappa):
    tuned = tune(quasi_hyperbolic, 1 / kappa, 1.0)
    assert isinstance(tuned, Tuned)
    assert tuned.found == "closed form of heavy ball"
    assert tuned.hyperparameters["nu"] == 1.0
    ρ = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], np.sqrt(kappa), rtol=1e-9)
    np.testing.assert_allclose(tuned.hyperparameters["beta"], ρ**2, rtol=1e-9)
    np.testing.assert_allclose((tuned.rate, tuned.objective), ρ, rtol=1e-12)
    np.testing.assert_allclose(theory.rate(tuned.tx, 1 / kappa, 1.0), ρ, rtol=1e-7)
    np.testing.assert_allclose(theory.rate(tuned.system, 1 / kappa, 1.0), ρ, rtol=1e-9)


AGGREGATED = {
    (0.0, 0.9): (0.88685, 0.94257, 0.98332, 0.99854),
    (0.0, 0.9, 0.99): (0.94596, 0.96908, 0.98966, 0.99445),
}


@pytest.mark.parametrize("betas", AGGREGATED)
def test_aggregated_momentum_reaches_its_best_rates(betas):
    for kappa, known in zip(KAPPAS, AGGREGATED[betas], strict=True):
        tuned = tune(aggregated(*betas), 1 / kappa, 1.0)
        assert tuned.found == "search"
        np.testing.assert_allclose(tuned.rate, known, rtol=0, atol=6e-6)
        # No learning rate nearby is better.
        α = tuned.hyperparameters["learning_rate"]
        for near in α * np.array([0.99, 0.9999, 0.999999, 1.000001, 1.0001, 1.01]):
            nearby = tuned.system._replace(B=tuned.system.B * near / α)
            assert theory.rate(nearby, 1 / kappa, 1.0) >= tuned.rate - 1e-12


@pytest.mark.parametrize(
    ("beta", "rates"),
    # At κ = 10⁴ the roots at μ and L, real ones, are equally large.
    [(0.9, {10: 0.948683, 1000: 0.948683, 10000: 0.9960601}), (0.99, {10000: 0.994987})],
)
def test_heavy_ball_of_a_given_beta_reaches_its_best_rates(beta, rates):
    for kappa, known in rates.items():
        tuned = tune(partial(heavy_ball, beta=beta), 1 / kappa, 1.0)
        assert list(tuned.hyperparameters) == ["learning_rate"]
        np.testing.assert_allclose(tuned.rate, known, rtol=0, atol=5.1e-7)
    α = np.linspace(0, 4, 400001)[1:]
    assert tune(partial(heavy_ball, beta=0.9), 1e-4, 1.0).rate <= ball_rate(α, 0.9, 1e-4, 1).min()


NESTEROV = {
    10.0: (1.290323, 0.471442, 0.640789),
    100.0: (1.328904, 0.793275, 0.884722),
    1000.0: (1.332889, 0.929554, 0.963491),
    10000.0: (1.333289, 0.977170, 0.988453),
}


@pytest.mark.parametrize("kappa", NESTEROV)
def test_optax_nesterov_is_tuned_to_the_published_values(kappa):
    L = 50.0
    tuned = tune(
        lambda learning_rate, momentum: optax.sgd(learning_rate, momentum, nesterov=True),
        L / kappa,
        L,
    )
    assert tuned.found == "closed form of Nesterov's momentum"
    α, β, ρ = NESTEROV[kappa]
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"] * L, α, rtol=0, atol=6e-7)
    np.testing.assert_allclose(tuned.hyperparameters["momentum"], β, rtol=0, atol=6e-7)
    np.testing.assert_allclose(tuned.rate, ρ, rtol=0, atol=6e-7)


def test_chains_of_optax_and_families_with_more_hyperparameters_than_needed():
    ball = theory.optimal_heavy_ball(1.0, 100.0)
    chain = tune(
        lambda learning_rate, b1, b2: optax.chain(
            optax.ema(b1, debias=False), optax.trace(b2), optax.scale(-learning_rate)
        ),
        1.0,
        100.0,
    )
    assert chain.found == "closed form of heavy ball"
    np.testing.assert_allclose(chain.rate, ball.rate, rtol=1e-12)
    descent = tune(optax.sgd, 1.0, 100.0)
    assert descent.found == "closed form of plain descent"
    np.testing.assert_allclose(descent.hyperparameters["learning_rate"], 2 / 101, rtol=1e-9)
    # An argument with a default is left at it unless there are bounds for it.
    both = tune(optax.sgd, 1.0, 100.0, bounds={"momentum": (0.0, 0.5)})
    assert list(both.hyperparameters) == ["learning_rate", "momentum"]
    assert both.hyperparameters["momentum"] == 0.5
    assert both.found == "search"
    α = np.linspace(0, 0.03, 300001)[1:]
    np.testing.assert_allclose(both.rate, ball_rate(α, 0.5, 1.0, 100.0).min(), rtol=1e-6)


def test_a_search_passes_points_where_velocities_coincide():
    def factory(learning_rate, beta1, beta2):
        return sgd(learning_rate, momentax.aggregated((0.9, beta1, beta2)))

    tuned = tune(factory, 1e-3, 1.0)  # With β1 = β2 = 0.9 it is heavy ball of rate √0.9.
    np.testing.assert_allclose(tuned.rate, 0.941687, rtol=0, atol=1e-6)


def test_weight_decay_may_be_faster_than_any_method_without():
    tuned = tune(
        lambda learning_rate, weight_decay: sgd(
            learning_rate, momentax.heavy_ball(0.0), weight_decay=weight_decay
        ),
        1.0,
        100.0,
        bounds={"weight_decay": (0.0, 1e4)},
    )
    assert tuned.rate < theory.optimal_heavy_ball(1.0, 100.0).rate
    assert tuned.hyperparameters["weight_decay"] == 1e4  # Then all curvatures are nearly equal.
    np.testing.assert_allclose(tuned.rate, 99 / 20101, rtol=1e-6)


def test_one_curvature_is_solved_in_a_step():
    tuned = tune(heavy_ball, 4.0, 4.0)
    np.testing.assert_allclose(tuned.rate, 0, atol=1e-6)
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 0.25, rtol=1e-6)


def test_units_of_the_curvature_do_not_matter():
    bounds = {"beta": (0.0, 0.5)}  # So that heavy ball's own tuning is out of reach.
    plain = tune(heavy_ball, 0.01, 1.0, bounds=bounds)
    for unit in (1e-6, 1e6):
        scaled = tune(heavy_ball, 0.01 * unit, unit, bounds=bounds)
        np.testing.assert_allclose(scaled.rate, plain.rate, rtol=1e-9)
        values = scaled.hyperparameters["learning_rate"] * unit, scaled.hyperparameters["beta"]
        np.testing.assert_allclose(values, list(plain.hyperparameters.values()), rtol=1e-6)


@pytest.mark.parametrize("bounds", [(1e-30, 1e30), (0.0, 1e15), (1e-14, 1e14)])
def test_wide_bounds_do_not_harm(bounds):
    tuned = tune(optax.sgd, 1.0, 100.0, bounds={"learning_rate": bounds})
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 2 / 101, rtol=1e-9)


def test_the_lowest_learning_rate_allowed_is_found():
    bounds = {"learning_rate": (1e-13, 1.0)}
    tuned = tune(optax.sgd, 1.0, 100.0, objective="noise", bounds=bounds)
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 1e-13, rtol=1e-12)


def test_a_momentum_may_be_bounded_close_to_1():
    low = 1 - 1e-11
    tuned = tune(optax.sgd, 1.0, 100.0, bounds={"momentum": (low, 1.0)})
    assert low <= tuned.hyperparameters["momentum"] < 1


def test_a_family_with_a_period_is_tuned_to_the_last_digits():
    def accumulated(learning_rate, momentum):
        return optax.MultiSteps(optax.sgd(learning_rate, momentum), 2)

    tuned = tune(accumulated, 1.0, 100.0)
    np.testing.assert_allclose(tuned.rate, np.sqrt(9 / 11), rtol=1e-9)


def test_the_result_is_deterministic():
    one, other = (
        tune(quasi_hyperbolic, 0.01, 1.0, objective="noise", max_rate=0.95) for _ in range(2)
    )
    assert one.hyperparameters == other.hyperparameters
    assert one.objective == other.objective


def test_the_best_certificate_is_triple_momentum():
    tuned = tune(quasi_hyperbolic, 1.0, 10.0, objective="certified_rate")
    assert tuned.found == "closed form of triple momentum"
    exact = 1 - 1 / np.sqrt(10)
    np.testing.assert_allclose(tuned.objective, exact, rtol=1e-12)
    np.testing.assert_allclose(theory.certify(tuned.tx, 1.0, 10.0).rate, exact, rtol=0, atol=2e-4)


def test_a_family_without_triple_momentum_is_tuned_by_search():
    tuned = tune(optax.sgd, 1.0, 10.0, objective="certified_rate")
    np.testing.assert_allclose(tuned.objective, 9 / 11, rtol=0, atol=1e-4)
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 2 / 11, rtol=1e-3)
    assert tuned.rate <= tuned.objective


def test_the_least_noise_within_a_rate_is_that_of_a_grid():
    for kappa, limit in ((10.0, 0.9), (100.0, 0.95)):
        μ = 1 / kappa
        tuned = tune(heavy_ball, μ, 1.0, objective="noise", max_rate=limit)
        assert tuned.rate <= limit
        α, β = tuned.hyperparameters.values()
        np.testing.assert_allclose(tuned.objective, ball_noise(α, β, μ, 1.0), rtol=1e-9)
        found = ball_grid(μ, 1.0, limit)
        assert found / 1.02 < tuned.objective <= found
        # Where both roots at μ meet.
        np.testing.assert_allclose((α * μ, β), ((1 - limit) ** 2, limit**2), rtol=1e-6)


def test_noise_alone_takes_the_smallest_learning_rate():
    tuned = tune(
        heavy_ball, 0.1, 1.0, objective="noise", bounds={"learning_rate": (0.01, 1.0)}
    ).hyperparameters
    np.testing.assert_allclose(list(tuned.values()), (0.01, 0.0), rtol=1e-12)


@pytest.mark.parametrize("power", [2, 1], ids=["smooth", "not smooth"])
def test_any_function_of_the_system_can_be_minimized(power):
    def objective(system):
        push, trace = system.C @ system.B, np.trace(system.A)
        return abs(push + 0.3) ** power + abs(trace - 1.7) ** power

    tuned = tune(heavy_ball, 0.01, 1.0, objective=objective)
    assert tuned.objective < 1e-9
    np.testing.assert_allclose(list(tuned.hyperparameters.values()), (0.3, 0.7), rtol=1e-4)


def test_a_function_is_minimized_within_a_rate():
    tuned = tune(
        partial(heavy_ball, beta=0.0), 0.1, 1.0, objective=lambda s: -s.B[0], max_rate=0.95
    )
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 0.5, rtol=1e-6)
    assert tuned.rate <= 0.95


def test_settings_that_the_factory_refuses_are_skipped():
    tuned = tune(heavy_ball, 0.1, 1.0, bounds={"beta": (-0.9, 1.5), "learning_rate": (0.1, 3.0)})
    np.testing.assert_allclose(tuned.rate, theory.optimal_heavy_ball(0.1, 1.0).rate, rtol=1e-9)


def test_a_factory_that_cannot_be_traced_is_tuned_too():
    tuned = tune(lambda learning_rate: optax.sgd(float(learning_rate), 0.5), 0.1, 1.0)
    np.testing.assert_allclose(tuned.rate, np.sqrt(0.5), rtol=1e-9)


def test_if_all_settings_diverge_the_slowest_divergence_is_the_best():
    tuned = tune(optax.sgd, 0.1, 1.0, bounds={"learning_rate": (3.0, 5.0)})
    np.testing.assert_allclose((tuned.hyperparameters["learning_rate"], tuned.rate), (3, 2))


def test_the_repr_is_short():
    tuned = tune(optax.sgd, 1.0, 9.0)
    assert repr(tuned) == (
        "Tuned(learning_rate=0.2, objective=0.8, rate=0.8, found='closed form of plain descent')"
    )
    assert isinstance(tuned.system, StateSpace)
    assert isinstance(tuned.tx, optax.GradientTransformation)


def fails(error, text, *args, **kwargs):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        tune(*args, **kwargs)


def test_errors_of_bad_arguments():
    fails(
        ValueError,
        "objective must be one of 'rate', 'certified_rate', 'noise', got 'speed'",
        optax.sgd,
        1.0,
        2.0,
        objective="speed",
    )
    fails(ValueError, "mu must not exceed L", optax.sgd, 2.0, 1.0)
    fails(ValueError, "mu must be in (0, inf), got 0.0", optax.sgd, 0.0, 1.0)
    fails(TypeError, "factory must be a function of hyperparameters", optax.sgd(0.1), 1.0, 2.0)
    fails(
        TypeError,
        "what factory returns must be a gradient transformation",
        lambda learning_rate: learning_rate,
        1.0,
        2.0,
    )
    fails(ValueError, "factory has nothing to tune", lambda: optax.sgd(0.1), 1.0, 2.0)
    fails(
        ValueError,
        "bounds names gamma, but factory takes learning_rate, beta",
        heavy_ball,
        1.0,
        2.0,
        bounds={"gamma": (0, 1)},
    )
    for pair in ((0.5, 0.5), (0.9, 0.1), 0.5, (0, 1, 2)):
        fails(
            ValueError,
            "the bounds of beta must be a pair (low, high) with low below high, got ",
            heavy_ball,
            1.0,
            2.0,
            bounds={"beta": pair},
        )
    fails(
        TypeError,
        "bounds must be a dictionary of name to (low, high), got [0, 1]",
        optax.sgd,
        1.0,
        2.0,
        bounds=[0, 1],
    )
    fails(ValueError, "gain has no default bounds", lambda gain: optax.sgd(gain), 1.0, 2.0)
    fails(ValueError, "tx is not linear: a step from twice", optax.sign_sgd, 1.0, 2.0)
    fails(
        ValueError,
        "max_rate=0.8 is out of reach: the best rate within the bounds is 0.8181818182, at",
        heavy_ball,
        1.0,
        100.0,
        objective="noise",
        max_rate=0.8,
    )
    fails(ValueError, "max_rate goes with objective='noise'", optax.sgd, 1.0, 2.0, max_rate=0.9)
    fails(
        TypeError,
        "objective must return one real number, got ",
        optax.sgd,
        1.0,
        2.0,
        objective=lambda system: system.A,
    )
    never = {"objective": "noise", "bounds": {"learning_rate": (3.0, 5.0)}}
    fails(ValueError, "the objective is infinite at every setting", optax.sgd, 0.5, 1.0, **never)


def test_a_curvature_record_replaces_both_curvatures():
    assert repr(tune(optax.sgd, Record(1.0, 9.0))) == repr(tune(optax.sgd, 1.0, 9.0))
