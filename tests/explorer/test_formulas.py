"""The formulas of the explorer in a JavaScript engine, against the theory and the methods."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import problems, theory
from momentax.theory._reading._family import Family
from tests.explorer.engine import Formulas


@pytest.fixture(scope="module")
def formulas():
    return Formulas()


def aggregated(beta, number):
    betas = [1 - (1 - beta) ** (i / (number - 1)) for i in range(number)]
    return momentax.aggregated(betas)


# Each method of the explorer as momentax has it, and some values of its extra hyperparameter.
METHODS = {
    "gradient_descent": (lambda beta, extra: optax.identity(), [0.0]),
    "heavy_ball": (lambda beta, extra: momentax.heavy_ball(beta), [0.0]),
    "nesterov": (lambda beta, extra: momentax.nesterov(beta), [0.0]),
    "average": (lambda beta, extra: momentax.average(beta, debias=False), [0.0]),
    "quasi_hyperbolic": (momentax.quasi_hyperbolic, [0.0, 1.0, 0.7]),
    "synthesized_nesterov": (momentax.synthesized_nesterov, [0.5, 1.3]),
    "overshoot": (momentax.overshoot, [0.5, 5.0]),
    "mass": (momentax.mass, [0.05, 0.4]),
    "aggregated": (aggregated, [4, 3]),
    "aggregated_averages": (
        lambda beta, extra: momentax.aggregated((0.9, beta), (1 - extra, extra), gain="average"),
        [1.0, 0.5],
    ),
}


@cache
def heavy_ball():
    return theory.state_space(optax.sgd(1.0, momentum=0.9))


def settings(formulas, name):
    """Yield β, the extra value, the kernel and the StateSpace at a learning rate of 1."""
    method, extras = METHODS[name]
    rng = np.random.default_rng(len(name))
    least = 0.05 if name in ("synthesized_nesterov", "overshoot") else 0.0
    for extra in extras:
        family = Family(lambda beta, extra=extra: momentax.sgd(1.0, method(beta, extra)))
        for β in [least, 0.97, rng.uniform(least, 1), 1 - 10 ** rng.uniform(-4, -1)]:
            space = family({"beta": float(β)}).state_space
            yield β, extra, formulas.kernel(name, β, extra), space


def at_learning_rate(space, α):
    """Return a StateSpace whose updates are multiplied by a learning rate."""
    A, B = space.A.copy(), space.B.copy()
    A[0, 1:] *= α
    B[0] *= α
    return theory.StateSpace(A, B, space.C)


def test_a_scaled_state_space_is_that_of_the_learning_rate():
    scaled = at_learning_rate(heavy_ball(), 0.1)
    expected = theory.rate_at(optax.sgd(0.1, momentum=0.9), [1.0, 30.0])
    np.testing.assert_allclose(theory.rate_at(scaled, [1.0, 30.0]), expected, rtol=1e-12)


def test_the_explorer_has_exactly_these_methods(formulas):
    assert formulas.eval("Object.keys(METHODS)") == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_numbers_are_those_of_the_theory(formulas, name):
    rng = np.random.default_rng(0)
    for β, extra, kernel, space in settings(formulas, name):
        message = f"{name}, β = {β}, extra = {extra}"
        edge = theory.sharpness_limit(space)
        np.testing.assert_allclose(formulas("edge", kernel), edge, rtol=1e-9, err_msg=message)
        response = -theory.impulse_response(space, 40)
        weights = formulas("kernelWeights", kernel, 40)
        np.testing.assert_allclose(weights, response, rtol=0, atol=1e-9, err_msg=message)
        summary = formulas("kernelSummary", kernel)
        expected = theory.mean_age(space), theory.signal_to_noise_gain(space)
        found = summary["meanAge"], summary["gain"]
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=message)
        total = -float(np.real(theory.frequency_response(space, 0.0)))
        np.testing.assert_allclose(summary["total"], total, rtol=1e-9, err_msg=message)
        for share, κ in zip([*rng.uniform(0.001, 1.1, 3), 0.999], [1, 3, 100, 1000], strict=True):
            L, α = 10 ** rng.uniform(0, 3), 0.1
            α = share * min(edge, 1e3) / L
            μ, scaled = L / κ, at_learning_rate(space, α)
            found = formulas("rate", kernel, α, μ, L)
            np.testing.assert_allclose(found, theory.rate(scaled, μ, L), rtol=1e-9, err_msg=message)
            found = formulas("rate", kernel, α, -L / 10, L)  # A saddle.
            expected = theory.rate(scaled, -L / 10, L)
            np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=message)
            found = formulas("noiseFloor", kernel, α, [μ, L], 0.3)
            expected = float(theory.noise_floor(scaled, [μ, L], 0.3))
            np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=message)
            for λ in (μ, L, -0.1 * L):
                found, expected = formulas("damping", kernel, α * λ), theory.damping(scaled, λ)
                assert found["kind"] == expected.kind, message
                pair = found["period"], found["halfLife"]
                np.testing.assert_allclose(
                    pair, (expected.period, expected.half_life), rtol=1e-7, err_msg=message
                )


@pytest.mark.parametrize(
    ("a", "betas", "c", "κ", "x"),
    [
        (0.74, [0.84, 0.91], [-0.77, 0.84], 33.9, 1.245),
        (0.49, [0.67, 0.95], [-0.43, 0.69], 67.2, 0.503),
        (0.2, [0.77, 0.98], [-0.19, 0.8], 401.7, 1.875),
    ],
)
def test_the_worst_curvature_may_lie_between_the_ends(formulas, a, betas, c, κ, x):
    kernel = {"a": a, "betas": betas, "c": c}
    # θ⁺ = θ - (a g + Σ cᵢ vᵢ⁺) with vᵢ⁺ = βᵢ vᵢ + g.
    A = np.block([[np.ones((1, 1)), -np.multiply(c, betas)], [np.zeros((2, 1)), np.diag(betas)]])
    space = theory.StateSpace(A, np.array([-a - sum(c), 1, 1]), np.array([1.0, 0, 0]))
    expected = theory.rate(space, x / κ, x)
    assert expected > theory.rate_at(space, [x / κ, x]).max() + 1e-3
    np.testing.assert_allclose(formulas("rate", kernel, 1, x / κ, x), expected, rtol=1e-9)
    np.testing.assert_allclose(formulas("edge", kernel), theory.sharpness_limit(space), rtol=1e-9)


@pytest.mark.parametrize("β", [0.0, 0.3, 0.9])
def test_roots_meet_at_the_critical_products(formulas, β):
    for name, extra in (("heavy_ball", 0), ("nesterov", 0), ("quasi_hyperbolic", 0.7)):
        kernel = formulas.kernel(name, β, extra)
        found = formulas("criticalProducts", kernel)
        assert len(found) == (2 if β else 0)
        for x in found:
            first, second = formulas("roots", kernel, x)
            np.testing.assert_allclose(first["size"], second["size"], rtol=1e-6)
    kernel = formulas.kernel("heavy_ball", 0.81)
    np.testing.assert_allclose(formulas("criticalProducts", kernel), [0.01, 3.61], rtol=1e-12)


def test_optima_are_those_of_the_closed_forms(formulas):
    for μ, L in ((2.0, 200.0), (1.0, 1.0), (0.3, 5000.0)):
        for name, tuning in (
            ("gradient_descent", theory.optimal_gradient_descent(μ, L)),
            ("heavy_ball", theory.optimal_heavy_ball(μ, L)),
            ("nesterov", theory.optimal_nesterov(μ, L, quadratic=True)),
        ):
            found = formulas("optimum", name, 0, μ, L)
            np.testing.assert_allclose(list(found.values()), list(tuning), rtol=1e-9, atol=1e-12)
        best = formulas("optimum", "average", 0, μ, L)
        found = formulas("rate", formulas.kernel("average", best["beta"]), best["alpha"], μ, L)
        np.testing.assert_allclose(found, theory.heavy_ball_rate(L / μ), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "extra"), [("quasi_hyperbolic", 0.7), ("mass", 0.05), ("aggregated", 3)]
)
def test_no_setting_nearby_is_better_than_the_optimum_that_is_searched_for(formulas, name, extra):
    μ, L, rng = 2.0, 200.0, np.random.default_rng(0)
    best = formulas("optimum", name, extra, μ, L)
    kernel = formulas.kernel(name, best["beta"], extra)
    np.testing.assert_allclose(formulas("rate", kernel, best["alpha"], μ, L), best["rate"])
    for spread in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(10):
            α = best["alpha"] * np.exp(spread * rng.normal())
            β = 1 - (1 - best["beta"]) * np.exp(-spread * abs(rng.normal()))
            if rng.integers(2):
                β = best["beta"] * np.exp(-spread * abs(rng.normal()))
            kernel = formulas.kernel(name, β, extra)
            assert formulas("rate", kernel, α, μ, L) > best["rate"] - 1e-7


@pytest.mark.parametrize("name", ["heavy_ball", "quasi_hyperbolic", "aggregated"])
@pytest.mark.parametrize("μ", [2.0, -1.0])
def test_a_row_of_the_map_has_the_rates_of_its_cells(formulas, name, μ):
    kernel = formulas.kernel(name, 0.95, 3 if name == "aggregated" else 0.7)
    α = np.geomspace(1e-4, 10, 120).tolist()
    row = np.array(formulas("ratesAlong", kernel, α, μ, 200.0))
    exact = np.array([formulas("rate", kernel, each, μ, 200.0) for each in α])
    np.testing.assert_allclose(row, exact, rtol=1e-9 if name != "aggregated" else 2e-3)


# Surfaces and runs.


def well(θ, p):
    x, y = θ
    return x**4 / 4 - p * x**3 / 3 - x**2 / 2 + p * x + y**2 / 2


def slope(θ, s):
    return problems.plateau(s).loss(θ[:1]) + θ[1] ** 2 / 2


SURFACES = {
    "ravine": (lambda θ, p: problems.ravine(p).loss(θ), [1.0, 100.0]),
    "saddle": (lambda θ, p: problems.saddle(p).loss(θ), [0.1, 2.0]),
    "plateau": (slope, [0.05, 0.7]),
    "rosenbrock": (lambda θ, p: problems.rosenbrock(p).loss(θ), [1.0, 100.0]),
    "double_well": (well, [0.0, 0.2, 0.9]),
}
MADE = {
    "ravine": problems.ravine,
    "saddle": problems.saddle,
    "rosenbrock": problems.rosenbrock,
}


@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_are_those_of_the_problems(formulas, x64, name):
    loss, values = SURFACES[name]
    points = 1.5 * np.random.default_rng(0).normal(size=(20, 2))

    @partial(jax.jit, static_argnums=1)
    @partial(jax.vmap, in_axes=(0, None))
    def compiled(θ, p):
        return *jax.value_and_grad(loss)(θ, p), jax.hessian(loss)(θ, p)

    for p in values:
        point = formulas(f"SURFACES.{name}.point", p)
        at = jnp.concatenate([jnp.array([point], float), points])
        values, gradients, hessians = compiled(at, p)
        for θ, value, gradient in zip(at.tolist(), values, gradients, strict=True):
            found = formulas(f"SURFACES.{name}.loss", *θ, p)
            np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)
            found = formulas(f"SURFACES.{name}.gradient", *θ, p)
            np.testing.assert_allclose(found, gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gradients[0], 0, atol=1e-12)
        H = np.asarray(hessians[0])
        xx, xy, yy = formulas(f"SURFACES.{name}.hessian", p)
        np.testing.assert_allclose([[xx, xy], [xy, yy]], H, rtol=1e-9, atol=1e-12)
        found = formulas("eigen", [xx, xy, yy])
        np.testing.assert_allclose(found["values"], np.linalg.eigvalsh(H), rtol=1e-9)
        for λ, q in zip(found["values"], np.array(found["vectors"]), strict=True):
            np.testing.assert_allclose(H @ q, λ * q, rtol=0, atol=1e-9 * np.abs(H).max())
    if name in MADE:
        surface = formulas.eval(f"SURFACES.{name}")
        problem = MADE[name](surface["initial"])
        np.testing.assert_allclose(surface["start"], problem.start, rtol=1e-6)
        assert surface["isMinimum"] == (problem.minimum is not None)


def run_numpy(loss, p, tx, start, noise):
    """Run an optimizer in 64 bits; return the parameters before and after each step."""

    def step(carry, ε):
        θ, state = carry
        updates, state = tx.update(jax.grad(loss)(θ, p) + ε, state, θ)
        θ = optax.apply_updates(θ, updates)
        return (θ, state), θ

    @jax.jit
    def run(start, noise):
        return jax.lax.scan(step, (start, tx.init(start)), noise)[1]

    start = jnp.asarray(start, float)
    return np.concatenate([start[None], run(start, jnp.asarray(noise))])


@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_that_of_the_method(formulas, x64, name):
    method, extras = METHODS[name]
    noise = 0.1 * np.random.default_rng(1).normal(size=(150, 2))
    for surface, α, start in (("rosenbrock", 3e-4, [-1.2, 1.0]), ("double_well", 0.05, [1.7, 0.6])):
        tx = momentax.sgd(α, method(0.8, extras[-1]))
        loss, values = SURFACES[surface]
        expected = run_numpy(loss, values[1], tx, start, noise)
        run = formulas(
            "((s, p, n, b, e, ...rest) => simulate(s, p, METHODS[n].coefficients(b, e), ...rest))",
            *(surface, values[1], name, 0.8, extras[-1]),
            *(α, start, 150, noise.ravel().tolist()),
        )
        assert not run["diverged"]
        np.testing.assert_allclose(np.stack([run["x"], run["y"]], 1), expected, rtol=0, atol=1e-9)
        losses = [float(loss(θ, values[1])) for θ in expected[[0, 70, 150]]]
        np.testing.assert_allclose(np.array(run["loss"])[[0, 70, 150]], losses, atol=1e-9)


def test_the_velocity_of_a_run_is_that_of_heavy_ball(formulas):
    path = theory.quadratic_path(np.diag([200.0, 2.0]), [1.0, -0.5], 80, 0.01, 0.9)
    run = formulas(
        "((...rest) => simulate('ravine', 100, METHODS.heavy_ball.coefficients(0.9), ...rest))",
        *(0.01, [1.0, -0.5], 80, None),
    )
    np.testing.assert_allclose(np.stack([run["x"], run["y"]], 1), path.params, atol=1e-9)
    np.testing.assert_allclose(np.stack([run["vx"], run["vy"]], 1), path.velocity, atol=1e-9)


def test_a_run_that_diverges_ends_with_finite_numbers(formulas):
    run = formulas.eval(
        "simulate('ravine', 100, METHODS.nesterov.coefficients(0.9), 0.1, [1, 1], 99, null)"
    )
    assert run["diverged"]
    assert 3 < len(run["x"]) < 100
    assert np.isfinite(run["loss"]).all()


def test_noise_is_standard_normal_and_the_same_for_a_seed(formulas):
    noise = np.array(formulas("gaussians", 20000, 7))
    assert np.array_equal(noise, formulas("gaussians", 20000, 7))
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert abs((noise**4).mean() - 3) < 0.3
    assert np.abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03
    assert not np.array_equal(noise[:10], formulas("gaussians", 10, 8))


def test_the_noise_floor_is_the_mean_loss_of_a_long_run(formulas):
    noise = formulas("gaussians", 200_000, 3)
    run = formulas(
        "((...rest) => simulate('ravine', 10, METHODS.heavy_ball.coefficients(0.8), ...rest))",
        *(0.02, [0.0, 0.0], 100_000, noise),
    )
    floor = formulas("noiseFloor", formulas.kernel("heavy_ball", 0.8), 0.02, [2, 20], 1)
    np.testing.assert_allclose(np.mean(run["loss"]), floor, rtol=0.03)
