"""tune against published tunings, closed forms and searches by brute force."""

import re
from functools import partial

import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory import StateSpace, TradeOff, Tuned, trade_off, tune
from momentax.theory._reading._family import Family

KAPPAS = (10.0, 100.0, 1000.0, 10000.0)


def heavy_ball(learning_rate, beta):
    return sgd(learning_rate, momentax.heavy_ball(beta))


def quasi_hyperbolic(learning_rate, beta, nu):
    return sgd(learning_rate, momentax.quasi_hyperbolic(beta, nu))


def aggregated(*betas):
    return lambda learning_rate: sgd(learning_rate, momentax.aggregated(betas))


def ball_rate(α, β, μ, L):
    """Heavy ball's rate in closed form; between μ and L it is never slower than at one of them."""
    sizes = []
    for λ in (μ, L):
        half = (1 + β - α * λ) / 2
        real = np.sqrt(np.maximum(half**2 - β, 0))
        sizes.append(np.where(half**2 < β, np.sqrt(β), np.abs(half) + real))
    return np.maximum(*sizes)


def ball_noise(α, β, μ, L):
    """½ Σ λ Var θ, as methods' references give Var θ."""
    each = [α * (1 + β) / ((1 - β) * (2 * (1 + β) - α * λ)) for λ in (μ, L)]
    return sum(each) / 2


def ball_grid(μ, L, limit):
    """The least noise on a grid of α and β within a limit on the rate."""
    α, β = np.meshgrid(np.geomspace(1e-4, 4, 1500) / L, 1 - np.geomspace(1e-3, 1, 1500))
    with np.errstate(all="ignore"):
        noise = np.where(ball_rate(α, β, μ, L) <= limit, ball_noise(α, β, μ, L), np.inf)
    return noise.min()


@pytest.mark.parametrize("kappa", KAPPAS)
def test_quasi_hyperbolic_momentum_comes_out_as_heavy_ball(kappa):
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
def test_optax_nesterov_comes_out_as_published(kappa):
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


def test_chains_of_optax_and_families_with_settings_to_spare():
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


def test_a_search_is_not_held_up_where_velocities_become_one():
    def factory(learning_rate, beta1, beta2):
        return sgd(learning_rate, momentax.aggregated((0.9, beta1, beta2)))

    tuned = tune(factory, 1e-3, 1.0)  # With β1 = β2 = 0.9 it is heavy ball of rate √0.9.
    np.testing.assert_allclose(tuned.rate, 0.941687, rtol=0, atol=1e-6)


def test_decay_may_be_faster_than_any_method_that_keeps_still():
    tuned = tune(
        lambda learning_rate, weight_decay: sgd(
            learning_rate, momentax.heavy_ball(0.0), weight_decay=weight_decay
        ),
        1.0,
        100.0,
        bounds={"weight_decay": (0.0, 1e4)},
    )
    assert tuned.rate < theory.optimal_heavy_ball(1.0, 100.0).rate
    assert tuned.hyperparameters["weight_decay"] == 1e4  # All curvatures are then as good as one.
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
def test_no_bounds_are_too_wide(bounds):
    tuned = tune(optax.sgd, 1.0, 100.0, bounds={"learning_rate": bounds})
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 2 / 101, rtol=1e-9)


def test_the_lowest_learning_rate_allowed_is_within_reach():
    bounds = {"learning_rate": (1e-13, 1.0)}
    tuned = tune(optax.sgd, 1.0, 100.0, objective="noise", bounds=bounds)
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 1e-13, rtol=1e-12)


def test_a_memory_may_be_kept_within_a_hair_of_1():
    low = 1 - 1e-11
    tuned = tune(optax.sgd, 1.0, 100.0, bounds={"momentum": (low, 1.0)})
    assert low <= tuned.hyperparameters["momentum"] < 1


def test_a_family_with_a_period_is_tuned_to_the_last_digits():
    def accumulated(learning_rate, momentum):
        return optax.MultiSteps(optax.sgd(learning_rate, momentum), 2)

    tuned = tune(accumulated, 1.0, 100.0)
    np.testing.assert_allclose(tuned.rate, np.sqrt(9 / 11), rtol=1e-9)


def test_the_same_again_gives_the_same():
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


def test_a_family_without_triple_momentum_gets_the_best_certificate_of_its_own():
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
def test_any_function_of_the_system_can_be_made_small(power):
    def objective(system):
        push, trace = system.C @ system.B, np.trace(system.A)
        return abs(push + 0.3) ** power + abs(trace - 1.7) ** power

    tuned = tune(heavy_ball, 0.01, 1.0, objective=objective)
    assert tuned.objective < 1e-9
    np.testing.assert_allclose(list(tuned.hyperparameters.values()), (0.3, 0.7), rtol=1e-4)


def test_a_function_is_kept_within_a_rate():
    tuned = tune(
        partial(heavy_ball, beta=0.0), 0.1, 1.0, objective=lambda s: -s.B[0], max_rate=0.95
    )
    np.testing.assert_allclose(tuned.hyperparameters["learning_rate"], 0.5, rtol=1e-6)
    assert tuned.rate <= 0.95


def test_the_trade_off_is_the_front_of_all_settings():
    curve = trade_off(heavy_ball, 0.01, 1.0, gradient_variance=4.0, count=5)
    assert isinstance(curve, TradeOff)
    assert curve.rate.shape == curve.noise_floor.shape == (5,)
    assert np.all(np.diff(curve.rate) > 0)
    assert np.all(np.diff(curve.noise_floor) < 0)
    fastest = theory.optimal_heavy_ball(0.01, 1.0).rate
    np.testing.assert_allclose(curve.rate[0], fastest, rtol=1e-9)
    np.testing.assert_allclose(1 - curve.rate[-1], (1 - fastest) / 100, rtol=1e-6)
    α, β = curve.hyperparameters["learning_rate"], curve.hyperparameters["beta"]
    np.testing.assert_allclose(ball_noise(α, β, 0.01, 1.0) * 4, curve.noise_floor, rtol=1e-9)
    np.testing.assert_allclose(ball_rate(α, β, 0.01, 1.0), curve.rate, rtol=1e-6)
    # Along it the roots at μ meet, for no setting is as fast and quieter.
    np.testing.assert_allclose(α[1:], (1 - curve.rate[1:]) ** 2 / 0.01, rtol=1e-5)
    for rate, noise in zip(curve.rate[1:4], curve.noise_floor[1:4], strict=True):
        assert noise <= 4 * ball_grid(0.01, 1.0, rate)


def test_the_trade_off_ends_where_it_is_told_to_or_where_slower_is_not_quieter():
    descent = partial(heavy_ball, beta=0.0)
    curve = trade_off(descent, 0.1, 1.0, count=3, max_rate=0.99)
    α = curve.hyperparameters["learning_rate"]
    np.testing.assert_allclose(α[1:], (1 - curve.rate[1:]) / 0.1, rtol=1e-6)
    np.testing.assert_allclose(curve.rate[[0, -1]], (9 / 11, 0.99), rtol=1e-7)
    short = trade_off(descent, 0.1, 1.0, count=5, bounds={"learning_rate": (0.5, 2.0)})
    np.testing.assert_allclose(short.rate[-1], 0.95, rtol=1e-12)
    assert len(short.rate) == len(short.hyperparameters["learning_rate"]) < 5


@pytest.mark.parametrize(
    "factory",
    [
        quasi_hyperbolic,
        lambda learning_rate, beta, nu: sgd(float(learning_rate), momentax.heavy_ball(beta)),
        lambda learning_rate, beta, nu: optax.inject_hyperparams(sgd)(
            learning_rate, momentax.average(beta)
        ),
        lambda learning_rate, beta, nu: optax.lookahead(optax.sgd(learning_rate, beta), 3, nu),
        lambda learning_rate, beta, nu: optax.MultiSteps(optax.sgd(learning_rate, beta), 2),
    ],
    ids=["traced", "not to be traced", "with a state of its own", "with a period", "accumulated"],
)
def test_a_family_reads_what_state_space_reads(factory):
    family = Family(factory)
    for k in range(5):
        values = {"learning_rate": 0.1 * (k + 1), "beta": 0.9 - 0.2 * k, "nu": 0.2 + 0.1 * k}
        seen = family(values)
        if k in (0, 4):
            for one, other in zip(
                seen.state_space, theory.state_space(factory(**values)), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
            for one, other in zip(
                seen.state_space, family(values, full=True).state_space, strict=True
            ):
                np.testing.assert_array_equal(one, other)


def test_settings_that_a_factory_refuses_are_passed_over():
    tuned = tune(heavy_ball, 0.1, 1.0, bounds={"beta": (-0.9, 1.5), "learning_rate": (0.1, 3.0)})
    np.testing.assert_allclose(tuned.rate, theory.optimal_heavy_ball(0.1, 1.0).rate, rtol=1e-9)


def test_a_factory_that_cannot_be_traced_is_tuned_too():
    tuned = tune(lambda learning_rate: optax.sgd(float(learning_rate), 0.5), 0.1, 1.0)
    np.testing.assert_allclose(tuned.rate, np.sqrt(0.5), rtol=1e-9)


def test_the_best_of_what_diverges_is_the_slowest_to():
    tuned = tune(optax.sgd, 0.1, 1.0, bounds={"learning_rate": (3.0, 5.0)})
    np.testing.assert_allclose((tuned.hyperparameters["learning_rate"], tuned.rate), (3, 2))


def test_it_is_read_at_a_glance():
    tuned = tune(optax.sgd, 1.0, 9.0)
    assert repr(tuned) == (
        "Tuned(learning_rate=0.2, objective=0.8, rate=0.8, found='closed form of plain descent')"
    )
    assert isinstance(tuned.system, StateSpace)
    assert isinstance(tuned.tx, optax.GradientTransformation)


def fails(error, text, *args, **kwargs):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        tune(*args, **kwargs)


def test_bad_arguments_are_sentences():
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
    with pytest.raises(ValueError, match=r"^no setting within the bounds converges"):
        trade_off(optax.sgd, 0.5, 1.0, bounds={"learning_rate": (3.0, 5.0)})
    with pytest.raises(ValueError, match=r"^count must be a whole number, at least 2"):
        trade_off(optax.sgd, 0.5, 1.0, count=1)
