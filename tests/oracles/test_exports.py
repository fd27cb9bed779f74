"""Exports: AutoLyap and PEPit find the rates and worst cases that are known."""

from functools import cache

import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from tests.oracles.peers import load

pytestmark = [pytest.mark.oracles, pytest.mark.filterwarnings("ignore")]

MU, L = 1.0, 10.0


@cache
def heavy_ball(learning_rate, beta):
    return sgd(learning_rate, momentax.heavy_ball(beta))


def squared_rate(algorithm):
    """Return the smallest factor of squared distances that AutoLyap proves for an iteration."""
    functions = load("autolyap.problemclass:SmoothStronglyConvex")
    problem = load("autolyap.problemclass:InclusionProblem")([functions(MU, L)])
    analysis = load("autolyap:IterationIndependent").LinearConvergence
    P, p, T, t = analysis.get_parameters_distance_to_solution(algorithm)
    found = analysis.bisection_search_rho(
        *(problem, algorithm, P, T, p, t),
        **dict.fromkeys(["S_equals_T", "s_equals_t", "remove_C3"], True),
        tol=1e-7,
        verbosity=0,
        solver_options=load("autolyap:SolverOptions")(backend="cvxpy", cvxpy_solver="CLARABEL"),
    )
    assert found["status"] == "feasible"
    return found["rho"]


def test_autolyap_proves_for_the_export_what_it_proves_for_its_own_heavy_ball():
    theirs = load("autolyap.algorithms:HeavyBallMethod")(0.1, 0.1)
    found = squared_rate(theory.export(heavy_ball(0.1, 0.1), to="autolyap"))
    assert found == pytest.approx(squared_rate(theirs), abs=1e-5)


# A transformation and the steps of its period.
PIPELINES = {
    "descent": (optax.sgd(0.1), 1),
    "heavy ball": (heavy_ball(0.1, 0.1), 1),
    "nesterov": (sgd(0.1, momentax.nesterov(0.5)), 1),
    "lookahead": (optax.lookahead(optax.sgd(0.1), 2, 0.5), 2),
    "two half batches": (optax.MultiSteps(optax.sgd(0.15), 2), 2),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_autolyap_proves_the_rate_of_certify(name):
    tx, period = PIPELINES[name]
    found = squared_rate(theory.export(tx, to="autolyap")) ** (1 / 2 / period)
    assert found == pytest.approx(theory.certify(tx, MU, L).rate, abs=2e-4)
    assert found > theory.rate(tx, MU, L) - 1e-4


def worst_case(tx, **options):
    return theory.export(tx, to="pepit", **options).solve(verbose=0)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("learning_rate", [0.05, 0.1, 0.17])
def test_the_worst_distance_of_descent_is_the_power_of_its_rate(steps, learning_rate):
    tx = optax.sgd(learning_rate)
    expected = theory.rate(tx, MU, L) ** (2 * steps)
    assert worst_case(tx, mu=MU, L=L, steps=steps) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_worst_value_and_gradient_of_descent_are_those_of_the_literature(steps):
    """Drori and Teboulle, 2014; Taylor, Hendrickx and Glineur, 2017."""
    options = {"mu": 0.0, "L": L, "steps": steps}
    value = worst_case(optax.sgd(1 / L), measure="value", **options)
    gradient = worst_case(optax.sgd(1 / L), measure="gradient", **options)
    assert value == pytest.approx(L / (4 * steps + 2), rel=1e-4)
    assert gradient == pytest.approx((L / (steps + 1)) ** 2, rel=1e-4)


def hand_written(steps, learning_rate, beta, mu):
    """Return the worst distance of Polyak's recurrence, θ⁺ = θ - α_t g + β_t (θ - θ⁻)."""
    problem = load("PEPit:PEP")()
    f = problem.declare_function(load("PEPit.functions:SmoothStronglyConvexFunction"), mu=mu, L=L)
    minimizer, θ = f.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((θ - minimizer) ** 2 <= 1)
    before = θ
    for t in range(steps):
        α, ratio = learning_rate(t), learning_rate(t) / learning_rate(max(t - 1, 0))
        before, θ = θ, θ - α * f.gradient(θ) + beta * ratio * (θ - before)
    problem.set_performance_metric((θ - minimizer) ** 2)
    return problem.solve(verbose=0)


def test_the_steps_are_those_that_run_first_under_a_schedule():
    schedule = optax.linear_schedule(0.02, 0.1, 2)
    found = worst_case(sgd(schedule, momentax.heavy_ball(0.4)), mu=MU, L=L, steps=3)
    expected = hand_written(3, lambda t: float(schedule(t)), 0.4, MU)
    assert found == pytest.approx(expected, rel=1e-4)
    settled = theory.state_space(sgd(schedule, momentax.heavy_ball(0.4)))
    assert worst_case(settled, mu=MU, L=L, steps=3) < 0.9 * expected


@pytest.mark.parametrize("steps", [1, 2])
def test_no_worst_case_exceeds_its_certificate_or_is_below_that_of_quadratics(steps):
    tx = heavy_ball(0.1, 0.1)
    rate, _, P = theory.certify(tx, MU, L)
    # V(z_0, 0) against the squared distance, and that against the least V with this parameter.
    inner = 1 / np.linalg.inv(P)[0, 0]
    start = np.array([1, 0, 0])  # z = (θ, v) and ξ = 0.
    bound = rate ** (2 * steps) * (start @ P @ start) / inner
    path = theory.trajectory(tx, np.diag(np.linspace(MU, L, 50)), np.ones(50), steps)
    found = worst_case(tx, mu=MU, L=L, steps=steps)
    assert np.max(path[-1] ** 2) - 1e-5 <= found <= bound + 1e-5  # The solver is not exact.


@pytest.mark.parametrize("to", ["autolyap", "pepit"])
def test_weight_decay_has_no_minimizer_to_stay_at(to):
    more = {"mu": MU, "L": L} if to == "pepit" else {}
    with pytest.raises(ValueError, match="as with weight decay; leave the decay out of tx"):
        theory.export(sgd(0.1, weight_decay=0.1), to=to, **more)
