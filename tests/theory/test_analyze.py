"""Analyses, against published numbers, closed forms and the functions that they combine."""

import html
import re

import jax
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory import Analysis, Direction, analyze
from tests.theory.systems import linear

HEAVY_BALL = linear(0.1, 0.0, 1.0, 0.9)
SADDLE = analyze(HEAVY_BALL, -0.5, 30.0, gradient_variance=1.0)


def variance(α, β, λ):
    return α * (1 + β) / (λ * (1 - β) * (2 * (1 + β) - α * λ))


def test_heavy_ball_equals_its_closed_forms():
    α, β, L = 0.1, 0.9, 30.0
    tx = sgd(α, momentax.heavy_ball(β))
    a = analyze(tx, 1.0, L, gradient_variance=2.0)
    assert isinstance(a, Analysis)
    assert (a.period, a.step, a.around, a.escape, a.decay) == (1, None, None, None, 1.0)
    assert (a.mu, a.L, a.gradient_variance, a.stable) == (1.0, L, 2.0, True)
    np.testing.assert_allclose(a.edge, 2 * (1 + β) / α, rtol=1e-9)
    np.testing.assert_allclose(a.margin, 3.8 / 3, rtol=1e-9)
    np.testing.assert_allclose(a.rate, np.sqrt(β), rtol=1e-9)
    np.testing.assert_allclose(a.half_life, np.log(0.25) / np.log(β), rtol=1e-8)
    np.testing.assert_allclose(a.effective_learning_rate, α / (1 - β), rtol=1e-12)
    np.testing.assert_allclose(a.alternating_gain, α / (1 + β), rtol=1e-12)
    np.testing.assert_allclose(a.signal_to_noise_gain, (1 + β) / (1 - β), rtol=1e-12)
    for side, λ in ((a.lowest, 1.0), (a.highest, L)):
        assert isinstance(side, Direction)
        assert side.curvature == λ
        np.testing.assert_allclose(side.radius, np.sqrt(β), rtol=1e-12)
        turn = np.arccos((1 + β - α * λ) / (2 * np.sqrt(β)))
        assert side.damping.kind == "under"
        np.testing.assert_allclose(side.damping.period, 2 * np.pi / turn, rtol=1e-9)
        np.testing.assert_allclose(side.damping.half_life, a.half_life, rtol=1e-8)
        np.testing.assert_allclose(side.variance, 2 * variance(α, β, λ), rtol=1e-9)
        spring = side.oscillator
        np.testing.assert_allclose(spring.mass, (1 + β) / 2, rtol=1e-12)
        np.testing.assert_allclose(spring.time_step, np.sqrt(α), rtol=1e-12)
        ζ = (1 - β) / (2 * np.sqrt(α * λ * (1 + β) / 2))
        np.testing.assert_allclose(spring.damping_ratio, ζ, rtol=1e-12)
    floor = variance(α, β, 1.0) + L * variance(α, β, L)
    np.testing.assert_allclose(a.noise_floor, floor, rtol=1e-9)


@pytest.mark.parametrize(
    ("κ", "published"), [(10, 0.519494), (100, 0.818182), (1000, 0.938693), (10000, 0.980198)]
)
def test_the_published_rates_of_heavy_ball(κ, published):
    α, β = (2 / (1 + κ**-0.5)) ** 2, ((κ**0.5 - 1) / (κ**0.5 + 1)) ** 2
    a = analyze(linear(α, 0.0, 1.0, β), 1 / κ, 1.0)
    np.testing.assert_allclose(a.rate, published, rtol=0, atol=5.1e-7)
    assert a.stable


@pytest.mark.parametrize(
    ("α", "β", "λ", "published"),
    [(0.1, 0.9, 1.0, 0.513514), (0.5, 0.5, 0.3, 1.754386), (0.05, 0.99, 2.0, 1.282216)],
)
def test_the_published_variances_and_a_spectrum_of_one_curvature(α, β, λ, published):
    a = analyze(linear(α, 0.0, 1.0, β), λ, λ, gradient_variance=1.0)
    for side in (a.lowest, a.highest):
        np.testing.assert_allclose(side.variance, published, rtol=0, atol=5.1e-7)
    # The sum of two halves, one for each direction.
    np.testing.assert_allclose(a.noise_floor, λ * published, rtol=1e-6)
    assert "along mu = L" in repr(a)
    assert "along L\n" not in repr(a)


LOOKAHEAD = optax.lookahead(optax.sgd(0.1, 0.9), 3, 0.5)
CHAINS = {
    "sgd": optax.sgd(0.05),
    "sgd, nesterov": optax.sgd(0.01, 0.8, nesterov=True),
    "an average": optax.chain(optax.ema(0.9), optax.scale(-0.1)),
    "two traces": optax.chain(optax.trace(0.5), optax.trace(0.7), optax.scale(-0.01)),
    "coupled decay": optax.chain(optax.add_decayed_weights(0.05), optax.sgd(0.01, 0.9)),
    "decoupled decay": optax.chain(
        optax.trace(0.9), optax.add_decayed_weights(0.05), optax.scale(-0.01)
    ),
    "too long a step": optax.sgd(0.3, 0.9),
    "an ascent": momentax.heavy_ball(0.9),
    "a velocity that grows": optax.chain(optax.trace(1.1), optax.scale(-0.01)),
    "parameters that grow": optax.chain(optax.add_decayed_weights(-0.1), optax.sgd(0.01)),
    "lookahead": LOOKAHEAD,
    "lookahead, decay": optax.lookahead(
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.01)), 2, 0.5
    ),
    "accumulation": optax.MultiSteps(optax.sgd(0.01), 2),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_analysis_of_any_chain_agrees_with_the_single_functions(name):
    a = analyze(CHAINS[name], 0.5, 20.0, gradient_variance=1.0)
    system = a.system
    assert a.rate == theory.rate(system, 0.5, 20.0)
    assert a.stable is (a.rate < 1)
    assert a.edge == theory.sharpness_limit(system)
    assert a.margin == a.edge / 20
    assert np.isinf(a.half_life) or a.half_life == pytest.approx(np.log(0.5) / np.log(a.rate))
    for side, λ in ((a.lowest, 0.5), (a.highest, 20.0)):
        assert side.radius == theory.rate_at(system, λ)
        assert side.damping == theory.damping(system, λ)
        if a.period == 1 and side.radius < 1:
            assert side.variance == theory.stationary_variance(system, λ, 1.0)
        elif side.radius > 1:
            assert side.variance == np.inf
    if a.period == 1 and a.stable:
        assert a.noise_floor == theory.noise_floor(system, [0.5, 20.0], 1.0)
    elif not a.stable:
        assert a.noise_floor == np.inf
    if a.period == 1 and a.decay == 1 and a.signal_to_noise_gain is not None:
        constant, alternating = theory.frequency_response(system, [0, 0.5])
        assert a.effective_learning_rate == -constant.real
        assert a.alternating_gain == abs(alternating)
        assert a.signal_to_noise_gain == theory.signal_to_noise_gain(system)
    lines = repr(a).split("\n")
    assert 5 < len(lines) <= 20
    assert not re.search("nan|inf", repr(a))


def test_a_transformation_is_read_once():
    seen = []

    def update(g, state, params=None):
        seen.append(g)
        return jax.tree.map(lambda leaf: -0.1 * leaf, g), state

    tx = optax.GradientTransformation(lambda params: (), update)
    theory.state_space(tx)
    once = len(seen)
    analyze(tx, 1.0, 2.0, gradient_variance=1.0)
    assert len(seen) == 2 * once


def test_a_state_space_is_not_changed():
    a = analyze(HEAVY_BALL, 1.0, 30.0)
    for one, other in zip(a.system, HEAVY_BALL, strict=True):
        np.testing.assert_array_equal(one, other)
    lists = theory.StateSpace([[1.0, -0.09], [0.0, 0.9]], [-0.1, 1.0], [1.0, 0.0])
    np.testing.assert_allclose(analyze(lists, 1.0, 30.0).edge, 38.0, rtol=1e-12)
    assert repr(a) == repr(analyze(optax.sgd(0.1, 0.9), 1.0, 30.0))
    assert (a.lowest.variance, a.noise_floor, a.gradient_variance) == (None, None, None)


def test_an_unstable_pipeline():
    a = analyze(HEAVY_BALL, 1.0, 100.0, gradient_variance=1.0)
    assert a.stable is False
    np.testing.assert_allclose(a.margin, 0.38, rtol=1e-9)
    top = np.roots([1, -(1.9 - 10), 0.9])  # z² - (1 + β - α L) z + β.
    np.testing.assert_allclose(a.rate, np.abs(top).max(), rtol=1e-9)
    assert a.half_life == a.noise_floor == a.highest.variance == np.inf
    np.testing.assert_allclose(a.lowest.variance, variance(0.1, 0.9, 1.0), rtol=1e-9)
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in repr(a).split("\n"))
    assert rows["stable"] == "no"
    assert rows["stability edge"] == "curvature 38, 0.38 times L"
    assert rows["noise floor"] == "unbounded in the loss"
    assert rows["damping"].split() == ["under", "none"]


def test_an_ascent_has_no_edge():
    a = analyze(linear(-0.1, 0.0, 1.0, 0.9), 1.0, 10.0)
    assert (a.stable, a.edge, a.margin) == (False, 0.0, 0.0)
    np.testing.assert_allclose(a.effective_learning_rate, -1, rtol=1e-12)
    assert a.highest.oscillator is None
    assert "none, no positive curvature is stable" in repr(a)
    still = analyze(linear(0.0, 0.0, 1.0, 0.9), 1.0, 10.0)
    assert (still.rate, still.stable, still.signal_to_noise_gain) == (1.0, False, None)
    assert str(still.effective_learning_rate) == "0.0"


def test_the_edge_is_infinite_where_every_curvature_is_stable():
    implicit = theory.StateSpace(np.array([[0.5]]), np.array([0.0]), np.ones(1))
    a = analyze(implicit, 1.0, 10.0)
    assert (a.stable, a.edge, a.margin) == (True, np.inf, np.inf)
    assert "none, every positive curvature is stable" in repr(a)


@pytest.mark.parametrize("mu", [-0.5, 0.0])
def test_a_curvature_that_is_not_positive_is_reported_separately_as_in_advice(mu):
    a = analyze(HEAVY_BALL, mu, 30.0, gradient_variance=1.0)
    said = theory.advise(HEAVY_BALL, mu, 30.0, certified=False)
    assert (a.stable, a.rate, a.half_life) == (said.stable, said.rate, said.half_life)
    assert (a.edge, a.margin, a.escape) == (said.edge, said.margin, said.escape)
    assert a.lowest.variance == np.inf
    assert a.lowest.oscillator is None
    assert a.highest.oscillator is not None
    assert a.lowest.damping.half_life == np.inf
    assert "along L alone" in repr(a)
    assert re.search(r"damping ratio +- +0.0296174$", repr(a))
    assert "yes, along positive curvatures" in repr(a)


def test_a_saddle_is_left_by_the_larger_root():
    growth = np.roots([1, -(1.9 + 0.05), 0.9]).max()
    np.testing.assert_allclose(SADDLE.escape, growth, rtol=1e-12)
    np.testing.assert_allclose(SADDLE.lowest.radius, growth, rtol=1e-12)
    assert SADDLE.noise_floor is None  # There is no lowest loss.
    assert analyze(HEAVY_BALL, -0.5, 100.0, gradient_variance=1.0).noise_floor is None
    np.testing.assert_allclose(SADDLE.highest.variance, variance(0.1, 0.9, 30.0), rtol=1e-9)


def test_a_flat_direction_adds_nothing_to_the_noise_floor():
    a = analyze(HEAVY_BALL, 0.0, 30.0, gradient_variance=1.0)
    assert a.escape is None
    assert a.lowest.radius == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(a.noise_floor, 15 * variance(0.1, 0.9, 30.0), rtol=1e-9)
    assert not analyze(HEAVY_BALL, 0.0, 39.0).stable


def test_stable_means_along_every_positive_curvature():
    growing = linear(0.1, 1.0, 0.0, 0.0, decay=-0.1)  # θ⁺ = (1.1 - λ / 10) θ.
    for mu, stable in ((2.0, True), (0.5, False), (0.0, False), (-1.0, False)):
        a = analyze(growing, mu, 10.0)
        assert a.stable is stable
        assert a.edge == 0
    np.testing.assert_allclose(a.rate, 0.1, rtol=1e-12)  # The factor along L.


def test_an_error_that_dies_out_too_slowly_for_float64_is_stable():
    a = analyze(optax.sgd(1e-6), 1e-10, 1.0, gradient_variance=2.0)
    assert a.stable
    assert a.edge > a.L
    np.testing.assert_allclose(a.lowest.variance, variance(1e-6, 0.0, 1e-10) * 2, rtol=1e-9)
    np.testing.assert_allclose(
        a.noise_floor, theory.noise_floor(a.system, [1e-10, 1.0], 2.0), rtol=1e-12
    )
    assert analyze(optax.sgd(1e-6), 0.0, 1e-10).stable


@pytest.mark.parametrize("decoupled", [False, True])
def test_weight_decay_is_not_part_of_the_filter(decoupled):
    tx = sgd(0.1, momentax.heavy_ball(0.9), weight_decay=0.01, decoupled=decoupled)
    assert abs(theory.frequency_response(tx, 0)) < 1e-12  # The parameters settle.
    a = analyze(tx, 1.0, 30.0)
    shrink = 0.999 if decoupled else np.roots([1, -(1.9 - 0.001), 0.9]).max()
    np.testing.assert_allclose(a.decay, shrink, rtol=1e-12)
    np.testing.assert_allclose(a.effective_learning_rate, 1, rtol=1e-12)
    np.testing.assert_allclose(a.alternating_gain, 0.1 / 1.9, rtol=1e-12)
    np.testing.assert_allclose(a.signal_to_noise_gain, 19, rtol=1e-9)
    assert a.highest.oscillator is None  # It is that of heavy ball alone.
    assert re.search(rf"without gradients +factor {shrink:.6g} per step", repr(a))


@pytest.mark.parametrize(
    "method",
    [
        momentax.aggregated((0.9, 0.9, 0.5)),
        momentax.generalized_primal_averaging(0.9, 0.7),
        optax.chain(optax.trace(0.5), optax.ema(0.7, debias=False)),
    ],
    ids=["aggregated", "primal averaging", "chain"],
)
def test_the_gains_do_not_depend_on_weight_decay(method):
    plain, decayed = (
        analyze(optax.chain(*decay, method, optax.scale(-0.1)), 1.0, 2.0)
        for decay in ((), (optax.add_decayed_weights(0.01),))
    )
    assert plain.decay == 1 > decayed.decay
    for name in ("effective_learning_rate", "alternating_gain", "signal_to_noise_gain"):
        np.testing.assert_allclose(getattr(decayed, name), getattr(plain, name), rtol=1e-9)


def test_enough_weight_decay_holds_a_saddle_back():
    a = analyze(linear(0.1, 1.0, 0.0, 0.0, decay=0.1), -0.5, 2.0)
    np.testing.assert_allclose((a.escape, a.decay, a.rate), (0.95, 0.9, 0.7), rtol=1e-12)


def test_only_heavy_ball_discretises_the_oscillator():
    for tx, α, β in (
        (linear(0.3, 0.0, 1.0, 0.0), 0.3, 0.0),
        (sgd(0.5, momentax.average(0.9)), 0.05, 0.9),
        (linear(0.2, 0.0, 1.0, 0.7), 0.2, 0.7),
    ):
        np.testing.assert_allclose(
            analyze(tx, 0.1, 2.0).highest.oscillator, theory.oscillator(α, 2.0, β), rtol=1e-9
        )
    for tx in (
        linear(0.1, 1.0, 0.9, 0.9),  # Nesterov's.
        linear(0.1, 0.3, 0.07, 0.9),  # Quasi-hyperbolic.
        linear(-0.1, 0.0, 1.0, 0.9),
        sgd(0.1, momentax.aggregated((0.0, 0.5, 0.9))),
        linear(0.1, 0.0, 1.0, -0.5),
        linear(0.1, 0.0, 1.0, 0.9, decay=0.01),
        linear(0.1, 0.0, 1.0, 0.0, decay=0.01),
        linear(0.1, 0.0, 1.0, 0.0, decay=-0.01),
        theory.StateSpace(  # Three gradients with heavy ball's weights, and no others.
            np.array([[1, -0.05, -0.025], [0, 0, 0], [0, 1, 0]]),
            np.array([-0.1, 1, 0]),
            np.eye(3)[0],
        ),
    ):
        assert analyze(tx, 0.1, 2.0).highest.oscillator is None


def test_a_transformation_with_a_period_is_analysed_as_far_as_possible():
    system = theory.state_space(LOOKAHEAD)
    a = analyze(system, 0.1, 2.0, gradient_variance=1.0)
    assert a.period == 3
    assert a.stable
    assert re.search(r"repeats itself +every 3 steps", repr(a))
    for value in (
        a.effective_learning_rate,
        a.signal_to_noise_gain,
        a.lowest.variance,
        a.noise_floor,
    ):
        assert value is None or 0 < value < np.inf
    assert a.highest.oscillator is None
    assert analyze(system, 0.1, 100.0, gradient_variance=1.0).highest.variance == np.inf


def test_a_velocity_that_never_forgets_has_no_gains():
    for β in (1.0, 1.1):
        a = analyze(linear(0.1, 0.0, 1.0, β), 1.0, 10.0, gradient_variance=1)
        gains = (a.effective_learning_rate, a.alternating_gain, a.signal_to_noise_gain)
        assert gains == (None, None, None)
        assert not a.stable
        assert a.lowest.variance == a.noise_floor == a.half_life == np.inf


def test_clipping_is_refused_with_the_reason_and_a_point_is_the_remedy():
    tx = optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9))
    message = r"only within a range, as clipping .*or give around=\(θ, g\) to theory.state_space,"
    with pytest.raises(ValueError, match=message):
        analyze(tx, 1.0, 10.0)
    a = analyze(tx, 1.0, 30.0, around=(0.0, 0.1))
    assert a.around == (0.0, 0.1)
    np.testing.assert_allclose(a.edge, 38, rtol=1e-9)
    assert re.search(r"linearised at +parameter 0, gradient 0.1", repr(a))
    beyond = analyze(tx, 1.0, 30.0, around=(0.0, 3.0))
    assert (beyond.rate, beyond.stable, beyond.effective_learning_rate) == (1.0, False, 0.0)


def test_around_a_point_adam_hardly_responds_to_its_gradient():
    # At rest in a constant gradient its step is -α g / (|g| + ε), of derivative -α ε / (|g| + ε)².
    a = analyze(optax.adam(0.1, b1=0.9, b2=0.99, eps=1.0), 1.0, 2.0, around=(0.0, 2.0))
    np.testing.assert_allclose(a.effective_learning_rate, 0.1 / 9, rtol=1e-9)


def test_coefficients_may_be_frozen_at_a_step():
    a = analyze(sgd(0.1, momentax.average(0.9)), 1.0, 2.0, step=np.int64(0))
    assert a.step == 0
    np.testing.assert_allclose(a.system.B[0], -0.1, rtol=1e-12)  # It is the gradient.
    assert re.search(r"coefficients +those after 0 steps", repr(a))


def test_the_table():
    assert repr(analyze(HEAVY_BALL, 1.0, 30.0, gradient_variance=1.0)) == (
        "curvatures                from mu = 1 to L = 30\n"
        "stable                    yes\n"
        "stability edge            curvature 38, 1.26667 times L\n"
        "rate                      factor 0.948683 per step, the worst from mu to L\n"
        "half-life                 13.1576 steps\n"
        "effective learning rate   1\n"
        "on alternating gradients  0.0526316\n"
        "signal to noise           19 times that of a gradient\n"
        "noise floor               1.44426 in the loss\n"
        "mass on a spring          mass 0.95, friction 0.316228, time step 0.316228\n"
        "                          along mu         along L\n"
        "error per step            factor 0.948683  factor 0.948683\n"
        "half-life                 13.1576 steps    13.1576 steps\n"
        "damping                   under            under\n"
        "oscillation               19.5281 steps    2.87006 steps\n"
        "variance                  0.513514         0.0791667\n"
        "damping ratio             0.162221         0.0296174"
    )


@pytest.mark.parametrize("mu", [-0.5, 1.0, 30.0])
def test_the_html_holds_the_same_words_escaped(mu):
    a = analyze(HEAVY_BALL, mu, 30.0, gradient_variance=1.0)
    page = a._repr_html_()
    assert page.startswith("<table>\n")
    assert page.endswith("\n</table>")
    columns = 2 if mu == 30 else 3
    rows = re.findall("<tr>(.*)</tr>", page)
    for row, line in zip(rows, repr(a).split("\n"), strict=True):
        cells = re.findall(r"<t[hd][^>]*>([^<>]*)</t[hd]>", row)
        wide = re.search(r'colspan="(\d)"', row)
        assert len(cells) + (int(wide[1]) - 1 if wide else 0) == columns
        assert html.unescape(" ".join(cells)).split() == line.split()
    assert ("<th>escape, mu &lt; 0</th>" in page) is (mu < 0)


def test_the_record_is_frozen():
    for record, name in ((SADDLE, "rate"), (SADDLE.highest, "radius")):
        with pytest.raises(AttributeError):
            setattr(record, name, 0.5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((2.0, 1.0), {}, ValueError, "mu must not exceed L, got mu=2.0 and L=1.0; are they swap"),
        ((1.0, np.nan), {}, ValueError, r"L must be in \(0, inf\), got nan"),
        ((-2.0, -1.0), {}, ValueError, r"L must be in \(0, inf\), got -1.0"),
        ((-np.inf, 1.0), {}, ValueError, r"mu must be in \(-inf, inf\), got -inf"),
        (([1.0], 1.0), {}, ValueError, "mu must be one number"),
        (
            (1.0, 2.0),
            {"gradient_variance": -1},
            ValueError,
            r"gradient_variance must be in \[0, inf\)",
        ),
        ((1.0, 2.0), {"step": 0.5}, TypeError, "step must be a whole number"),
        ((1.0, 2.0), {"around": 3.0}, ValueError, r"around must be a pair \(θ, g\)"),
    ],
)
def test_errors_of_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        analyze(optax.sgd(0.1), *arguments, **options)


def test_bad_transformations_are_sentences():
    with pytest.raises(TypeError, match=r"^tx must be a gradient transformation"):
        analyze(momentax.sgd, 1.0, 2.0)
    for options in ({"step": 3}, {"around": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=r"^step and around must be None for a StateSpace"):
            analyze(linear(0.1, 0.0, 1.0, 0.9), 1.0, 2.0, **options)
