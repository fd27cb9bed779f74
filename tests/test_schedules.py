"""Schedules of β over time."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentax import heavy_ball, linear, nesterov, schedules, sgd
from tests import reference
from tests.test_sgd import run

LARGEST = 2**31 - 1


def decay(count):
    """Return a learning rate that decreases and is never 0."""
    return 0.05 + 0.1 / (1 + jnp.asarray(count, jnp.result_type(float)))


# One schedule of each kind, for the tests of what all have in common.
EVERY = {
    "anneal_age": lambda: schedules.anneal_age(1.0, 30.0, 25),
    "anneal_age, cosine": lambda: schedules.anneal_age(30.0, 0.0, 25, shape="cosine"),
    "anneal_age, exponential": lambda: schedules.anneal_age(1.0, 30.0, 25, shape="exponential"),
    "demon": lambda: schedules.demon(0.9, 30),
    "logarithmic": lambda: schedules.logarithmic(3.0),
    "matched": lambda: schedules.matched(decay, 0.8),
    "momentum_corrected": lambda: schedules.momentum_corrected(decay, 0.9, "parameter"),
    "momentum_corrected, gradient": lambda: schedules.momentum_corrected(decay, 0.9),
    "nesterov_sequence": schedules.nesterov_sequence,
    "one_cycle": lambda: schedules.one_cycle(30),
    "one_cycle, linear": lambda: schedules.one_cycle(30, pct_final=0.8, anneal="linear"),
    "scheduled_restart": lambda: schedules.scheduled_restart(4, [11, 23]),
    "sutskever": schedules.sutskever,
    "trapezoid": lambda: schedules.trapezoid(0.3, 0.9, 0.5, 7, 30, 11),
    "warmup": lambda: schedules.warmup(0.1, 0.8, 20),
}


def drops(first, factors):
    """Return a learning rate that a factor multiplies at each of a few counts."""
    return lambda t: first * math.prod(jnp.where(t < at, 1, f) for at, f in factors.items())


def values(schedule, counts):
    """Return the values at many counts, computed in one traced call."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(counts, jnp.int32)))


def test_every_public_schedule_is_in_the_table():
    assert {name.partition(",")[0] for name in EVERY} == set(schedules.__all__)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", EVERY)
def test_any_integer_count_gives_the_same_scalar_of_the_widest_dtype(name, bits):
    with jax.enable_x64(bits == 64):
        schedule = EVERY[name]()
        for t in (0, 7, LARGEST):
            counts = (t, np.int32(t), np.int64(t), jnp.int32(t), jnp.asarray(t))
            results = [schedule(count) for count in counts]
            results.append(jax.jit(schedule)(jnp.int32(t)))
            for β in results:
                chex.assert_shape(β, ())
                assert isinstance(β, jax.Array)
                assert not β.weak_type
                assert β.dtype == f"float{bits}"
                np.testing.assert_allclose(β, results[0], rtol=1e-6 if bits == 32 else 1e-15)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", sorted(set(EVERY) - {"momentum_corrected, gradient"}))
def test_values_stay_in_the_interval_up_to_the_largest_count(name, bits):
    with jax.enable_x64(bits == 64):
        counts = np.unique(np.concatenate([np.arange(300), np.geomspace(300, LARGEST, 100)]))
        β = values(EVERY[name](), counts)
        assert np.all((β >= 0) & (β < 1)), β


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.usefixtures("x64")
def test_drives_a_method_in_a_scan_of_one_trace(name):
    g = np.random.default_rng(0).normal(size=(40, 3))
    schedule = EVERY[name]()
    methods = {"heavy_ball": heavy_ball(schedule), "nesterov": nesterov(schedule)}
    traces = []

    @jax.jit
    def directions(states, gradients):
        traces.append(name)

        def step(states, g):
            moves = {key: tx.update(g, states[key]) for key, tx in methods.items()}
            return {key: new for key, (_, new) in moves.items()}, {
                key: d for key, (d, _) in moves.items()
            }

        return jax.lax.scan(step, states, gradients)

    states, d = directions({key: tx.init(g[0]) for key, tx in methods.items()}, jnp.asarray(g))
    directions(states, jnp.asarray(g))
    assert len(traces) == 1
    β = values(schedule, np.arange(41)).__getitem__
    expected = {
        "heavy_ball": reference.directions(
            reference.heavy_ball, g, beta=β, dampening=lambda t: 0.0
        )[0],
        "nesterov": reference.directions(reference.nesterov, g, beta=β)[0],
    }
    chex.assert_trees_all_close(d, expected, rtol=1e-12, atol=1e-13)


def test_hyperparameters_may_be_batched():
    counts = (0, 4, 11)
    halves = jnp.array([0.3, 0.6])
    for make in (
        lambda x: schedules.warmup(0.0, x, 9),
        lambda x: schedules.warmup(x, 0.0, 9),
        schedules.sutskever,
        lambda x: schedules.demon(x, 9),
        lambda x: schedules.one_cycle(9, x, 0.1),
        lambda x: schedules.one_cycle(9, 0.9, x),
        lambda x: schedules.matched(decay, x),
        lambda x: schedules.matched(x, 0.8),
        lambda x: schedules.trapezoid(x, 0.9, x, 3, 12, 4),
        lambda x: schedules.trapezoid(0.1, x, 0.2, 3, 12, 4),
        schedules.logarithmic,
        lambda x: schedules.anneal_age(x, 9.0, 8, shape="exponential"),
        lambda x: schedules.anneal_age(9.0, x, 8),
        lambda x: schedules.momentum_corrected(decay, x),
        lambda x: schedules.momentum_corrected(lambda t: x, 0.9),
    ):
        for t in counts:
            batched = jax.vmap(lambda x, make=make, t=t: make(x)(t))(halves)
            np.testing.assert_allclose(batched, [make(float(x))(t) for x in halves], rtol=1e-5)


def test_warmup_is_a_line_and_then_constant():
    schedule = schedules.warmup(0.5, 0.9, steps=4)
    values = [schedule(jnp.int32(t)) for t in range(7)]
    np.testing.assert_allclose(values, [0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9], rtol=1e-6)
    assert values[0].shape == ()
    assert values[0].dtype == jnp.float32


def test_warmup_defaults_and_agreement_with_optax():
    schedule, peer = schedules.warmup(), optax.linear_schedule(0.5, 0.9, 1000)
    np.testing.assert_allclose(schedule(jnp.arange(0, 2000, 7)), peer(jnp.arange(0, 2000, 7)), 1e-6)


def test_warmup_is_exact_in_64_bits_and_traceable():
    with jax.enable_x64(True):
        value = schedules.warmup(0.5, 0.9, 3)(jnp.int32(1))
        np.testing.assert_allclose(value, 0.5 + 0.4 / 3, rtol=1e-15)
    ends = jax.vmap(lambda end: schedules.warmup(0.0, end, 2)(jnp.int32(1)))(jnp.array([0.2, 0.8]))
    np.testing.assert_allclose(ends, [0.1, 0.4], rtol=1e-6)


def test_warmup_drives_a_method():
    tx, g = heavy_ball(schedules.warmup(0.0, 0.8, 2)), jnp.ones(1)
    state = tx.init(g)
    for expected in (1.0, 1.4, 1.0 + 0.8 * 1.4):
        d, state = tx.update(g, state)
        np.testing.assert_allclose(d, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_sutskever_has_the_published_values():
    β = values(schedules.sutskever(0.999), [0, 249, 250, 500, 750, 1000, 2500, 10000])
    published = [0.5, 0.5, 0.75, 0.833333, 0.875, 0.9, 0.954545, 0.987805]
    np.testing.assert_allclose(β, published, atol=5e-7)
    counts = np.arange(0, 200_000, 83)
    formula = [1 - 2 ** (-1 - math.log2(t // 250 + 1)) for t in counts]
    for limit in (0.3, 0.9, 0.995):
        β = values(schedules.sutskever(limit), counts)
        np.testing.assert_allclose(β, np.minimum(formula, limit), rtol=1e-14)
        assert np.all(np.diff(β) >= 0)


@pytest.mark.usefixtures("x64")
def test_demon_has_the_published_values():
    β = values(schedules.demon(0.9, 100), [0, 25, 50, 75, 90, 100, 101, LARGEST])
    published = [0.9, 0.870968, 0.818182, 0.692308, 0.473684, 0, 0, 0]
    np.testing.assert_allclose(β, published, atol=5e-7)


@given(β=st.floats(0, 0.9999), steps=st.integers(1, LARGEST), share=st.floats(0, 1.5))
@pytest.mark.usefixtures("x64")
def test_demon_decreases_the_later_contribution_of_a_gradient_linearly(β, steps, share):
    t = min(int(share * steps), LARGEST)
    value = schedules.demon(β, steps)(t)
    line = max(1 - t / steps, 0) * β / (1 - β)
    np.testing.assert_allclose(value / (1 - value), line, rtol=1e-9, atol=1e-12)
    assert schedules.demon(β, steps)(min(t + steps, LARGEST)) <= value


def test_demon_reaches_zero_at_the_end_of_a_long_run_in_32_bits():
    t = np.array([LARGEST - 1000, LARGEST - 10, LARGEST - 1, LARGEST])
    left = (LARGEST - t) / LARGEST
    β = values(schedules.demon(0.999, LARGEST), t)
    np.testing.assert_allclose(β, 0.999 * left / (0.001 + 0.999 * left), rtol=1e-4)


# torch 2.13.0, OneCycleLR(total_steps=21, pct_start=6/21, base_momentum=0.85, max_momentum=0.95).
TORCH = {
    ("cosine", 1.0): """
        0.95 0.9404508497187474 0.9154508497187474 0.8845491502812526 0.8595491502812526 0.85
        0.8510926199633096 0.8543227271178699 0.8595491502812526 0.8665434696820571 0.875
        0.8845491502812526 0.8947735768366173 0.9052264231633826 0.9154508497187474
        0.9249999999999999 0.9334565303179428 0.9404508497187474 0.94567727288213
        0.9489073800366903 0.95""",
    ("linear", 1.0): """
        0.95 0.9299999999999999 0.9099999999999999 0.89 0.87 0.85 0.8566666666666667
        0.8633333333333333 0.87 0.8766666666666666 0.8833333333333333 0.89 0.8966666666666666
        0.9033333333333333 0.9099999999999999 0.9166666666666666 0.9233333333333333
        0.9299999999999999 0.9366666666666666 0.9433333333333332 0.95""",
    # three_phase=True.
    ("cosine", 0.5): """
        0.95 0.9404508497187474 0.9154508497187474 0.8845491502812526 0.8595491502812526 0.85
        0.8595491502812526 0.8845491502812526 0.9154508497187474 0.9404508497187474 0.95
        0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95""",
    ("linear", 0.5): """
        0.95 0.9299999999999999 0.9099999999999999 0.89 0.87 0.85 0.87 0.89 0.9099999999999999
        0.9299999999999999 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95 0.95""",
}


@pytest.mark.parametrize(("anneal", "pct_final"), TORCH)
@pytest.mark.usefixtures("x64")
def test_one_cycle_equals_torch(anneal, pct_final):
    schedule = schedules.one_cycle(20, pct_start=0.25, pct_final=pct_final, anneal=anneal)
    recorded = np.array(TORCH[anneal, pct_final].split(), float)
    np.testing.assert_allclose(values(schedule, np.arange(21)), recorded, rtol=1e-14)
    np.testing.assert_allclose(values(schedule, [21, 1000, LARGEST]), 0.95, rtol=1e-15)


def test_one_cycle_is_lowest_where_the_learning_rate_of_optax_is_highest():
    for steps, pct_start in itertools.product((5, 100), (0.0, 0.29, 0.5)):
        counts = np.arange(steps + 3)
        for anneal, peer, final in (
            ("cosine", optax.cosine_onecycle_schedule, {}),
            ("linear", optax.linear_onecycle_schedule, {"pct_final": 0.85}),
        ):
            schedule = schedules.one_cycle(
                steps, 0.9, 0.6, pct_start=pct_start, anneal=anneal, **final
            )
            with jax.numpy_dtype_promotion("standard"):
                α = values(peer(steps, 0.5, pct_start=pct_start), counts)
            β = values(schedule, counts)
            turn = np.argmax(α)
            assert np.argmin(β) == turn
            np.testing.assert_allclose([β[turn], β[-1]], [0.6, 0.9], rtol=1e-6)
            assert np.all(np.diff(β[: turn + 1]) < 0)
            assert np.all(np.diff(β[turn:]) >= 0)


@given(
    steps=st.integers(1, LARGEST),
    ends=st.tuples(st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, width=32)),
    pct=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    share=st.floats(0, 1),
    anneal=st.sampled_from(["linear", "cosine"]),
)
def test_one_cycle_stays_between_its_ends(steps, ends, pct, share, anneal):
    high, low = ends[0], ends[0] * ends[1]
    low, (start, final) = float(np.float32(low)), sorted(pct)
    schedule = schedules.one_cycle(
        steps, high, low, pct_start=start, pct_final=final, anneal=anneal
    )
    β = float(schedule(int(share * steps)))
    assert low - 1e-7 <= β <= high


def unit_displacements(schedule, steps):
    """Return how far x_N = y_{N-1} - g is from the start after N constant unit gradients."""
    tx = nesterov(schedule)

    def step(carry, _):
        y, state = carry
        d, state = tx.update(jnp.ones(()), state)
        return (y + d, state), y + 1

    return jax.lax.scan(step, (jnp.zeros(()), tx.init(jnp.zeros(()))), length=steps)[1]


@pytest.mark.parametrize("name", ["nesterov_sequence", "scheduled_restart"])
@pytest.mark.usefixtures("x64")
def test_nesterov_sequence_attains_the_worst_case_on_a_huber_loss(name):
    # A single cycle as long as the run is the sequence without restarts.
    make = {"scheduled_restart": lambda: schedules.scheduled_restart(20)}
    schedule = make.get(name, schedules.nesterov_sequence)()
    c = unit_displacements(schedule, 20)
    np.testing.assert_allclose(c[np.array([3, 7, 19])], [4.75, 13.25, 62.75], rtol=1e-14)
    N = np.arange(1, 21)
    np.testing.assert_allclose(1 / (2 * (2 * c + 1)), 2 / (N**2 + 5 * N + 6), rtol=1e-14)
    for steps in (4, 8, 20):  # The worst case is attained by a Huber loss of this width.
        τ = float(1 / (2 * c[steps - 1] + 1))
        tx = sgd(1.0, nesterov(schedule))
        y = run(tx, lambda y, t, τ=τ: jnp.clip(y, -τ, τ), jnp.ones(()), steps - 1)[-1]
        x = y - jnp.clip(y, -τ, τ)
        loss = x**2 / 2 if abs(x) <= τ else τ * abs(x) - τ**2 / 2
        np.testing.assert_allclose(loss, τ / 2, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_nesterov_sequence_is_that_of_the_papers_shifted_by_one_count():
    β = values(schedules.nesterov_sequence(), np.arange(100))
    t = np.arange(1, 100)
    assert β[0] == 0
    np.testing.assert_allclose(β[1:], (t - 1) / (t + 2), rtol=1e-15)
    assert np.all(np.diff(β) >= 0)


def paper_restart(gradient, θ, steps, learning_rate, length):
    """SR-SGD as in its paper; length(k) returns the length of the cycle and the stage's start."""
    v, path = θ, [θ]
    for k in range(steps):
        F, start = length(k)
        new = θ - learning_rate(k) * gradient(θ)
        j = (k - start) % F
        θ, v = new + j / (j + 3) * (new - v), new
        path.append(θ)
    return np.stack(path)


@pytest.mark.usefixtures("x64")
def test_scheduled_restart_makes_the_steps_of_the_paper():
    boundaries, lengths = (0, 23, 40), (5, 10, 15)

    def stage(k):
        return np.searchsorted(boundaries, k, side="right") - 1

    α = drops(0.2, {23: 0.5, 40: 0.1})
    tx = sgd(
        α, nesterov(schedules.scheduled_restart(5, boundaries[1:])), velocity_units="parameter"
    )
    start = np.array([1.0, -2.0, 3.0])
    path = run(tx, lambda θ, t: jnp.sin(θ) + θ, jnp.asarray(start), 70)
    expected = paper_restart(
        lambda θ: np.sin(θ) + θ,
        start,
        70,
        lambda k: 0.2 * np.prod([0.5, 0.1][: stage(k)]),
        lambda k: (lengths[stage(k)], boundaries[stage(k)]),
    )
    np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-13)


@settings(max_examples=10)
@given(F=st.integers(1, 40), cycles=st.integers(1, 5))
@pytest.mark.usefixtures("x64")
def test_cycles_take_exactly_their_length(F, cycles):
    β = values(schedules.scheduled_restart(F), np.arange(1, 202))[: F * cycles]
    k = np.tile(np.arange(F), cycles)[: len(β)]
    np.testing.assert_allclose(β, k / (k + 3), rtol=1e-15)
    assert schedules.scheduled_restart(F)(0) == 0


# The lengths in the commands that the paper's authors give for CIFAR-10 and CIFAR-100.
LENGTHS = {
    ("linear", 30, 2.0): (30, 60, 90, 120),
    ("exponential", 40, 1.25): (40, 50, 63, 78),
    ("linear", 50, 2.0): (50, 100, 150, 200),
    ("exponential", 45, 1.5): (45, 68, 101, 152),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_cycles_grow_from_stage_to_stage_as_published(case):
    growth, first, ratio = case
    stages = (1000, 2000, 3000)
    schedule = schedules.scheduled_restart(first, stages, growth=growth, ratio=ratio)
    β = values(schedule, np.arange(1, 4001)).reshape(4, 1000)
    for of_stage, length in zip(β, LENGTHS[case], strict=True):
        np.testing.assert_array_equal(np.flatnonzero(of_stage == 0), np.arange(0, 1000, length))


def test_a_boundary_after_each_cycle_makes_every_cycle_longer():
    schedule = schedules.scheduled_restart(2, (2, 6, 12), growth="linear", ratio=2)
    k = [0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 0]
    expected = [j / (j + 3) for j in k]
    np.testing.assert_allclose(values(schedule, np.arange(1, 22)), expected, rtol=1e-6)


def test_cycles_may_be_longer_than_the_largest_count():
    schedule = schedules.scheduled_restart(LARGEST, (7,), growth="exponential", ratio=1e300)
    np.testing.assert_array_equal(values(schedule, [1, 8]), 0)
    assert values(schedule, [LARGEST]) < 1


@given(α=st.floats(1e-4, 2.0), effective=st.floats(1e-2, 2.0))
@pytest.mark.usefixtures("x64")
def test_matched_keeps_the_effective_learning_rate(α, effective):
    value = schedules.matched(lambda t: α / (1 + float(t)), effective)
    for t in (0, 3, 50):
        β = float(value(t))
        assert 0 <= β < 1
        rate = α / (1 + t)
        np.testing.assert_allclose(rate / (1 - β), max(effective, rate), rtol=1e-9)
    assert value(0) <= value(3) <= value(50)


def test_matched_at_a_learning_rate_of_zero_is_the_largest_number_below_one():
    for bits in (32, 64):
        with jax.enable_x64(bits == 64):
            β = schedules.matched(optax.linear_schedule(0.0, 1.0, 4), 2.0)(0)
            assert β == np.nextafter(β.dtype.type(1), β.dtype.type(0))


def test_matched_moves_a_steady_gradient_at_the_effective_rate():
    α = drops(0.4, {100: 0.25})
    tx = sgd(α, heavy_ball(schedules.matched(α, 0.8)))
    path = run(tx, lambda θ, t: jnp.ones_like(θ), jnp.zeros(()), 250)
    np.testing.assert_allclose([path[99] - path[98], path[-1] - path[-2]], -0.8, rtol=1e-4)


UNITS = {"parameter": "gradient", "gradient": "parameter"}  # The corrected units, and the others.


@pytest.mark.parametrize("nesterov_like", [False, True])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.usefixtures("x64")
def test_momentum_corrected_gives_the_iterates_of_the_other_units(units, nesterov_like):
    start = np.array([1.0, -2.0, 3.0])

    @jax.jit
    def corrected(rates, betas):
        α, β = (lambda t: rates[t]), (lambda t: betas[t])
        schedule = schedules.momentum_corrected(α, β, units)
        method = (
            linear(1.0, lambda t: β(t + 1), beta=schedule)
            if nesterov_like
            else heavy_ball(schedule, dampening=0.25)
        )
        tx = sgd(α, method, velocity_units=units)
        return run(tx, lambda θ, t: jnp.sin(θ) + θ * jnp.cos(t), jnp.asarray(start), 30)

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        rates, betas = rng.uniform([[0.02], [0]], [[0.3], [0.9]], (2, 31))
        expected = reference.sgd(
            reference.nesterov if nesterov_like else reference.heavy_ball,
            lambda θ, t: np.sin(θ) + θ * np.cos(t),
            start,
            30,
            learning_rate=rates.__getitem__,
            velocity_units=UNITS[units],
            beta=betas.__getitem__,
            **({} if nesterov_like else {"dampening": lambda t: 0.25}),
        )
        np.testing.assert_allclose(corrected(rates, betas), expected, rtol=1e-12, atol=1e-12)

    check()


@pytest.mark.usefixtures("x64")
def test_momentum_corrected_has_the_values_of_its_formula():
    α = jnp.array([0.1, 0.4, 0.2, 0.2])
    for units, expected in (
        ("parameter", [0.5, 2.0, 0.25, 0.5]),  # Above 1 where the learning rate jumps up.
        ("gradient", [0.5, 0.125, 1.0, 0.5]),
    ):
        β = schedules.momentum_corrected(lambda t: α[t], 0.5, units)
        np.testing.assert_allclose(values(β, range(4)), expected, rtol=1e-15)


@pytest.mark.optimized
@pytest.mark.usefixtures("x64")
def test_a_warm_up_from_zero_is_exact_in_gradient_units_and_refused_in_parameter_units():
    α = optax.linear_schedule(0.0, 0.3, 8)
    start = np.array([1.0, -2.0])

    def path(units, β):
        return run(sgd(α, heavy_ball(β), velocity_units=units), lambda θ, t: jnp.sin(θ), start_, 20)

    start_ = jnp.asarray(start)
    corrected = schedules.momentum_corrected(α, 0.9, "gradient")
    np.testing.assert_allclose(path("gradient", corrected), path("parameter", 0.9), rtol=1e-12)
    refused = schedules.momentum_corrected(α, 0.9, "parameter")
    refused(0)
    with pytest.raises(
        ValueError, match="learning_rate_schedule is 0 at count 0, which no beta corrects"
    ):
        refused(1)
    np.testing.assert_array_equal(values(refused, [0, 1]), 0)  # Under jit β is 0.


def test_a_learning_rate_of_zero_in_the_middle_is_refused_where_it_divides():
    α = drops(0.1, {3: 0.0})
    for units, count in (("parameter", 4), ("gradient", 3)):
        schedule = schedules.momentum_corrected(α, 0.9, units)
        schedule(count - 1)
        with pytest.raises(
            ValueError, match="learning_rate_schedule is 0 at count 3, which no beta"
        ):
            schedule(count)
        assert values(schedule, [count]) == 0
        slope = jax.grad(
            lambda x, units=units, t=count: schedules.momentum_corrected(
                drops(x, {3: 0.0}), 0.9, units
            )(t)
        )
        assert jax.jit(slope)(0.1) == 0  # The gradient is not NaN.


BAD = {
    "start": (lambda: schedules.warmup(1.0), ValueError, r"start must be in \[0, 1\), got 1.0"),
    "end": (lambda: schedules.warmup(end=-0.1), ValueError, r"end must be in \[0, 1\), got -0.1"),
    "start scheduled": (
        lambda: schedules.warmup(lambda count: 0.5),
        TypeError,
        "start must be a number or a 0-d array",
    ),
    "steps=0": (
        lambda: schedules.warmup(steps=0),
        ValueError,
        "steps must be a whole number, at least 1, got 0",
    ),
    "steps=2.5": (
        lambda: schedules.warmup(steps=2.5),
        TypeError,
        "steps must be a whole number, at least 1, got 2.5",
    ),
    "beta_max": (lambda: schedules.sutskever(1), ValueError, r"beta_max must be in \[0, 1\)"),
    "beta_max scheduled": (
        lambda: schedules.sutskever(schedules.sutskever()),
        TypeError,
        "beta_max must be a number or a 0-d array",
    ),
    "demon": (lambda: schedules.demon(1.5, 10), ValueError, r"beta must be in \[0, 1\), got 1.5"),
    "demon steps": (
        lambda: schedules.demon(0.9, 2**31),
        ValueError,
        "steps must be at most 2147483647, the largest int32 count, got 2147483648",
    ),
    "low above high": (
        lambda: schedules.one_cycle(10, 0.8, 0.9),
        ValueError,
        "low must be at most high, got low=0.9 and high=0.8",
    ),
    "pct_start": (
        lambda: schedules.one_cycle(10, pct_start=30),
        ValueError,
        r"pct_start must be in \[0, 1\], got 30",
    ),
    "pct_final": (
        lambda: schedules.one_cycle(10, pct_final=0.2),
        ValueError,
        r"pct_final must be in \[0.3, 1\], got 0.2",
    ),
    "anneal": (
        lambda: schedules.one_cycle(10, anneal="cos"),
        ValueError,
        "anneal must be one of 'linear', 'cosine', got 'cos'",
    ),
    "boundaries": (
        lambda: schedules.scheduled_restart(5, (7, 7)),
        ValueError,
        r"boundaries must increase, got \[7, 7\]",
    ),
    "no boundaries": (
        lambda: schedules.scheduled_restart(5, 7),
        TypeError,
        "boundaries must be a sequence of counts, got 7",
    ),
    "boundary": (
        lambda: schedules.scheduled_restart(5, (0,)),
        ValueError,
        r"boundaries\[0\] must be a whole number, at least 1, got 0",
    ),
    "growth": (
        lambda: schedules.scheduled_restart(5, growth="none"),
        ValueError,
        "growth must be one of 'linear', 'exponential', got 'none'",
    ),
    "ratio": (
        lambda: schedules.scheduled_restart(5, ratio=0.5),
        ValueError,
        r"ratio must be in \[1, inf\), got 0.5",
    ),
    "learning_rate": (
        lambda: schedules.matched(0.0, 1.0),
        ValueError,
        r"learning_rate_schedule must be in \(0, inf\), got 0.0",
    ),
    "effective": (
        lambda: schedules.matched(decay, 0.0),
        ValueError,
        r"effective must be in \(0, inf\), got 0.0",
    ),
    "velocity_units": (
        lambda: schedules.momentum_corrected(decay, 0.9, "parameters"),
        ValueError,
        "velocity_units must be one of 'gradient', 'parameter', got 'parameters'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, error, text = BAD[case]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("delta", [0.5, 8.0])
@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
@pytest.mark.usefixtures("x64")
def test_the_mean_age_of_the_logarithmic_schedule_is_a_fixed_share_of_all_steps(delta, steps):
    β = values(schedules.logarithmic(delta), np.arange(steps))
    kept = np.append(np.cumprod(β[::-1])[::-1], 1.0)  # Products of β from s to the end.
    weights, ages = (1 - β) * kept[1:], np.arange(steps)[::-1]
    np.testing.assert_allclose(weights.sum() + kept[0], 1, rtol=1e-12)
    np.testing.assert_allclose(weights @ ages + kept[0] * steps, steps / (delta + 1), rtol=1e-9)


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
@pytest.mark.usefixtures("x64")
def test_the_mean_age_of_the_velocity_moves_along_the_shape(shape):
    β = values(schedules.anneal_age(4.0, 64.0, 20, shape=shape), np.arange(25))
    x = np.minimum(np.arange(25) / 20, 1)
    expected = {
        "linear": 4 + 60 * x,
        "cosine": 64 - 60 * (1 + np.cos(np.pi * x)) / 2,
        "exponential": 4 * 16**x,
    }
    np.testing.assert_allclose(β / (1 - β), expected[shape], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_trapezoid_is_made_of_three_lines():
    β = values(schedules.trapezoid(0.2, 0.9, 0.5, 4, 20, 5), np.arange(24))
    np.testing.assert_allclose(β, np.interp(np.arange(24), [0, 4, 15, 20], [0.2, 0.9, 0.9, 0.5]))
    β = values(schedules.trapezoid(0.2, 0.9, 0.5, 0, 6, 0), np.arange(9))
    np.testing.assert_allclose(β, [0.9] * 6 + [0.5] * 3)
    β = values(schedules.trapezoid(0.2, 0.8, 0.2, 3, 6, 3), np.arange(7))
    np.testing.assert_allclose(β, [0.2, 0.4, 0.6, 0.8, 0.6, 0.4, 0.2])


def test_an_error_names_the_argument_that_is_wrong():
    with pytest.raises(ValueError, match=r"warmup_steps \+ cooldown_steps must be at most total_"):
        schedules.trapezoid(warmup_steps=10, total_steps=12, cooldown_steps=3)
    with pytest.raises(ValueError, match=r"delta must be in \(0, inf\), got 0"):
        schedules.logarithmic(0)
    with pytest.raises(ValueError, match=r"start must be in \(0, inf\), got 0"):
        schedules.anneal_age(0, 9, 10, shape="exponential")
    with pytest.raises(ValueError, match=r"shape must be one of 'linear', 'cosine', 'exp"):
        schedules.anneal_age(1, 9, 10, shape="quadratic")
