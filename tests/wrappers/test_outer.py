"""Outer steps: recurrences of the papers, closed forms, and the state between two steps."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax import heavy_ball, nesterov, outer, sgd, theory
from tests import reference

H = np.array([0.3, 1.0, 2.5])
START = np.array([1.0, -2.0, 0.5])


def follow(values):
    """Return a schedule of some values, for counts of JAX and of Python."""
    return lambda t: values[t] if isinstance(t, int) else jnp.asarray(values)[t]


COUNTS = np.arange(64)
RATE, BETA = follow(0.1 / (1 + COUNTS / 5)), follow(0.9 - 0.5 / (1 + COUNTS))
SLOW = follow(0.7 - 0.01 * COUNTS)


def gradient(θ):
    return H * θ + np.sin(θ)


def run(tx, steps, θ=START):
    """Return the parameters after each step."""
    return descend(tx, steps, θ, evaluate=lambda θ, state: θ)[0]


def descend(tx, steps, θ=START, state=None, evaluate=momentax.eval_params):
    """Return the parameters and the slow ones after each step, and the last state."""
    θ = jnp.asarray(θ)
    state = tx.init(θ) if state is None else state

    def step(carry, _):
        θ, state = carry
        u, state = tx.update(jnp.asarray(H, θ.dtype) * θ + jnp.sin(θ), state, θ)
        θ = optax.apply_updates(θ, u)
        return (θ, state), (θ, evaluate(θ, state))

    (_, state), path = jax.lax.scan(step, (θ, state), length=steps)
    return *path, state


def descent(g, state, t):
    return -RATE(t) * g, state


def nesterov_descent(g, v, t):
    d, v = reference.nesterov(v, g, t, beta=BETA)
    return -RATE(t) * d, v


def decayed_snoo(Δ, w, b, t):
    d, b = reference.nesterov(b, Δ, t, beta=BETA)
    return -SLOW(t) * (d + 0.05 * w), b


INNER = {
    "descent": (lambda: sgd(RATE, heavy_ball(0.0)), descent),
    "nesterov": (lambda: sgd(RATE, nesterov(BETA)), nesterov_descent),
}
OUTER = {
    "snoo, schedules, decay": (
        lambda: sgd(SLOW, nesterov(BETA), weight_decay=0.05, decoupled=True),
        decayed_snoo,
    ),
    "lookahead": (lambda: optax.sgd(0.5), lambda Δ, w, b, t: (-0.5 * Δ, b)),
    "adam": (
        lambda: sgd(0.2, momentax.quasi_hyperbolic_adam(0.9, 0.99, 1.0, 1.0)),
        lambda Δ, w, b, t: _adam(Δ, b, t),
    ),
}


def _adam(Δ, carried, t):
    d, carried = reference.quasi_hyperbolic_adam(
        carried, Δ, t, beta1=lambda t: 0.9, beta2=lambda t: 0.99, nu1=lambda t: 1.0,
        nu2=lambda t: 1.0, eps=lambda t: 1e-8,
    )  # fmt: skip
    return -0.2 * d, carried


PAIRS = [
    ("descent", "snoo, schedules, decay"),
    ("nesterov", "snoo, schedules, decay"),
    ("nesterov", "lookahead"),
    ("descent", "adam"),
]


@pytest.mark.parametrize(
    ("every", "inner_state"),
    [(1, "keep"), (4, "keep"), (4, "reset_velocity"), (4, "reset"), (1, "reset")],
)
@pytest.mark.usefixtures("x64")
def test_equals_its_twin_in_float64(every, inner_state):
    for first, second in PAIRS:
        (inner, twin), (slow, step) = INNER[first], OUTER[second]
        found = descend(outer(inner(), every, slow(), inner_state=inner_state), 22)
        expected = reference.outer(
            gradient, START, 22, inner=twin, every=every, step=step, inner_state=inner_state
        )
        chex.assert_trees_all_close(found[:2], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_with_plain_descent_and_an_outer_step_each_time_it_is_ordinary_momentum():
    θ, w, _ = descend(outer(optax.sgd(0.1), 1, sgd(0.7, nesterov(0.9))), 40)
    np.testing.assert_allclose(θ, run(sgd(0.07, nesterov(0.9)), 40), rtol=1e-12)
    np.testing.assert_array_equal(θ, w)
    θ, *_ = descend(outer(optax.sgd(0.1), 1, sgd(0.7, heavy_ball(0.9))), 40)
    np.testing.assert_allclose(θ, run(sgd(0.07), 40), rtol=1e-12)
    default = run(outer(optax.sgd(0.1), 1), 40)
    np.testing.assert_allclose(default, run(sgd(0.07, nesterov(0.9)), 40), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_an_outer_step_of_one_without_velocity_leaves_the_inner_optimizer_as_it_is():
    θ, w, _ = descend(outer(sgd(0.1, nesterov(0.9)), 5, optax.sgd(1.0)), 20)
    plain = run(sgd(0.1, nesterov(0.9)), 20)
    np.testing.assert_allclose(θ, plain, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(w[4::5], plain[4::5], rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("x64")
@jax.numpy_dtype_promotion("standard")
def test_without_outer_velocity_it_is_the_lookahead_of_optax():
    θ, w, _ = descend(outer(optax.adam(0.1), 3, optax.sgd(0.5)), 33)
    peer = optax.lookahead(optax.adam(0.1), 3, 0.5)
    pair = optax.LookaheadParams.init_synced(jnp.asarray(START))
    state = peer.init(pair)
    for t in range(33):
        u, state = peer.update(gradient(np.asarray(pair.fast)), state, pair)
        pair = optax.apply_updates(pair, u)
        np.testing.assert_allclose(θ[t], pair.fast, rtol=0, atol=5e-15)
        np.testing.assert_allclose(w[t], pair.slow, rtol=0, atol=5e-15)


@pytest.mark.oracles
@pytest.mark.usefixtures("x64")
def test_the_outer_step_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    w = torch.tensor(START, requires_grad=True)
    peer = torch.optim.SGD([w], lr=0.7, momentum=0.9, nesterov=True)
    θ, expected = START, []
    for t in range(20):
        θ = θ - 0.1 * gradient(θ)
        if t % 4 == 3:
            w.grad = w.detach() - torch.tensor(θ)
            peer.step()
            θ = w.detach().numpy().copy()
        expected.append(θ)
    np.testing.assert_allclose(run(outer(optax.sgd(0.1), 4), 20), expected, rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_slow_momentum_with_the_inner_rate_divided_out():
    """SlowMo: u ← β u + (w - θ)/γ, w ← w - α γ u."""
    γ, α, β = 0.1, 0.8, 0.6
    θ, w, u = START, START, 0.0
    path = []
    for t in range(24):
        θ = θ - γ * gradient(θ)
        if t % 6 == 5:
            u = β * u + (w - θ) / γ
            θ = w = w - α * γ * u
        path.append(θ)
    found = run(outer(optax.sgd(γ), 6, sgd(α, heavy_ball(β))), 24)
    np.testing.assert_allclose(found, path, rtol=1e-12)


def period(tx, K, curvature):
    """Return the matrix by which K steps on a quadratic map the slow parameter and its velocity."""
    state = tx.init(jnp.zeros(()))

    def run(w, b):
        θ, s = w, momentax.replace_velocity(state._replace(slow=w), b)
        for _ in range(K):
            u, s = tx.update(curvature * θ, s, θ)
            θ = θ + u
        return jnp.stack([θ, momentax.velocity(s)])

    return np.stack([run(jnp.asarray(x), jnp.asarray(y)) for x, y in ((1.0, 0.0), (0.0, 1.0))], 1)


@pytest.mark.parametrize(
    ("q", "rate"), [(0.0, 0.5196), (0.5, 0.7649), (0.9, 0.9149), (-0.5, 0.2649)]
)
@pytest.mark.usefixtures("x64")
def test_on_a_quadratic_the_rate_and_the_edge_are_those_of_momentum_on_the_curvature(q, rate):
    η, μ, K = 0.7, 0.9, 3
    α = 1 - np.sign(q) * abs(q) ** (1 / K)  # (1 - α λ)³ = q at λ = 1.
    tx = functools.partial(outer, optax.sgd(α), K)
    roots = np.abs(np.linalg.eigvals(period(tx(sgd(η, nesterov(μ))), K, 1.0)))
    np.testing.assert_allclose(roots.max(), rate, atol=5e-5)
    edge = 2 * (1 + μ) / ((1 + 2 * μ) * (1 - q))
    for factor, stable in ((0.999, True), (1.001, False)):
        found = period(tx(sgd(factor * edge, nesterov(μ))), K, 1.0)
        assert (np.abs(np.linalg.eigvals(found)).max() < 1) == stable


def test_the_theory_reads_the_period_of_both_optimizers():
    K, α, η, μ = 3, 0.2, 0.7, 0.9
    read = theory.analyze(outer(optax.sgd(α), K, sgd(η, nesterov(μ))), 0.5, 2.0)
    assert read.period == K
    for each in (read.lowest, read.highest):
        matrix = period(outer(optax.sgd(α), K, sgd(η, nesterov(μ))), K, each.curvature)
        radius = np.abs(np.linalg.eigvals(matrix)).max() ** (1 / K)
        np.testing.assert_allclose(each.radius, radius, rtol=1e-5)
    q = 1 - 2 * (1 + μ) / ((1 + 2 * μ) * η)  # The least that the outer optimizer tolerates.
    np.testing.assert_allclose(read.edge, (1 + abs(q) ** (1 / K)) / α, rtol=1e-5)


# The state between two outer steps.


SNOO = outer(sgd(0.1, nesterov(0.9)), 4)


def test_a_run_continues_from_a_checkpoint_within_a_period_to_the_bit():
    step = jax.jit(lambda θ, s: _step(SNOO, θ, s))
    θ, state = jnp.float32(START), SNOO.init(jnp.float32(START))
    for t in range(10):
        if t == 6:
            saved = jax.tree.map(np.array, (θ, state))
            assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(saved))
        θ, state = step(θ, state)
    again = jax.tree.map(jnp.asarray, saved)
    for _ in range(6, 10):
        again = step(*again)
    chex.assert_trees_all_equal(again, (θ, state))


def _step(tx, θ, state):
    u, state = tx.update(jnp.asarray(H, θ.dtype) * θ + jnp.sin(θ), state, θ)
    return optax.apply_updates(θ, u), state


def test_outer_hyperparameters_are_mapped_over():
    def path(η, μ):
        return descend(outer(sgd(0.1, nesterov(0.9)), 3, sgd(η, nesterov(μ))), 10)[:2]

    η, μ = jnp.array([0.3, 0.7, 1.0]), jnp.array([0.0, 0.5, 0.9])
    mapped = jax.jit(jax.vmap(path))(η, μ)
    loop = jax.tree.map(lambda *x: jnp.stack(x), *map(jax.jit(path), η, μ))
    chex.assert_trees_all_close(mapped, loop, rtol=1e-5, atol=1e-6)


def test_slow_parameters_of_bfloat16_are_kept_in_float32():
    tx = outer(optax.sgd(0.1), 2, optax.sgd(0.5))
    θ = {"w": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    state = tx.init(θ)
    assert state.slow["w"].dtype == jnp.float32
    for _ in range(2):
        u, state = tx.update(jax.tree.map(jnp.ones_like, θ), state, θ)
        assert u["w"].dtype == jnp.bfloat16
        θ = optax.apply_updates(θ, u)
    slow = momentax.eval_params(θ, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(slow, θ)
    np.testing.assert_allclose(np.float32(θ["w"]), state.slow["w"], rtol=2**-7)
    np.testing.assert_allclose(state.slow["b"], 2.9, rtol=1e-6)
    assert state.slow["w"].unsafe_buffer_pointer() != θ["w"].unsafe_buffer_pointer()


def test_the_first_slow_parameters_are_a_copy():
    θ = {"w": jnp.ones(4)}
    state = SNOO.init(θ)
    assert state.slow["w"].unsafe_buffer_pointer() != θ["w"].unsafe_buffer_pointer()


def test_a_leaf_without_a_gradient_makes_its_outer_step_at_the_next_one():
    tx = outer(optax.sgd(0.1), 2, optax.sgd(0.5))
    θ = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    g = jax.tree.map(jnp.ones_like, θ)
    state = tx.init(θ)
    for t in range(4):
        u, state = tx.update(g | ({"b": None} if t == 1 else {}), state, θ)
        assert (u["b"] is None) == (t == 1)
        u = jax.tree.map(lambda u, x: jnp.zeros_like(x) if u is None else u, u, θ,
                         is_leaf=lambda x: x is None)  # fmt: skip
        θ = optax.apply_updates(θ, u)
    np.testing.assert_allclose(θ["a"], -0.2, rtol=1e-6)  # Half of 0.2, twice.
    np.testing.assert_allclose(θ["b"], -0.15, rtol=1e-6)  # Half of 0.3, once.
    chex.assert_trees_all_close(momentax.eval_params(θ, state), θ)


class Statistics(NamedTuple):
    velocity: Any


def poisoned():
    """Return plain descent that keeps a NaN which no update reads."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -0.1 * g, updates), Statistics(
            jax.tree.map(lambda v, g: v + 0 * g, state.velocity, updates)
        )

    return optax.GradientTransformation(
        lambda params: Statistics(jax.tree.map(jnp.zeros_like, params)), update
    )


@jax.numpy_dtype_promotion("standard")
def test_no_nan_survives_a_reset():
    θ = jnp.ones(3)
    for mode, is_finite in (("reset", True), ("reset_velocity", True), ("keep", False)):
        tx = outer(poisoned(), 2, optax.sgd(0.5), inner_state=mode)
        state = tx.init(θ)
        state = state._replace(inner_state=Statistics(jnp.full(3, jnp.nan)))
        for _ in range(2):
            _, state = tx.update(θ, state, θ)
        assert np.isfinite(state.inner_state.velocity).all() == is_finite
    # Optax multiplies the state by 0, and 0 × NaN is NaN.
    peer = optax.lookahead(poisoned(), 2, 0.5, reset_state=True)
    pair = optax.LookaheadParams.init_synced(θ)
    state = peer.init(pair)
    state = state._replace(fast_state=Statistics(jnp.full(3, jnp.nan)))
    for _ in range(2):
        _, state = peer.update(θ, state, pair)
    assert not np.isfinite(state.fast_state.velocity).any()


def test_the_first_period_of_the_authors_class_is_one_step():
    η, μ, K = 0.7, 0.9, 4
    tx = outer(optax.sgd(0.1), K, sgd(η, nesterov(μ)))
    state = tx.init(jnp.asarray(START))._replace(since=jnp.int32(K - 1))
    found, *_ = descend(tx, 12, state=state)
    θ = w = START
    b, expected = 0.0, []
    for t in range(12):  # They test the counter before raising it, from 0.
        θ = θ - 0.1 * gradient(θ)
        if t % K == 0:
            Δ = w - θ
            b = μ * b + Δ
            θ = w = w - η * (Δ + μ * b)
        expected.append(θ)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


# Around it and in it.


@jax.numpy_dtype_promotion("standard")
def test_a_period_counts_steps_outside_of_multi_steps_and_gradients_inside():
    plain = run(outer(sgd(0.1, nesterov(0.9)), 3), 12)
    outside = optax.MultiSteps(outer(sgd(0.1, nesterov(0.9)), 3), 2).gradient_transformation()
    accumulated = optax.MultiSteps(sgd(0.1, nesterov(0.9)), 2).gradient_transformation()
    for tx in (outside, outer(accumulated, 6)):
        found = run(tx, 24)
        np.testing.assert_allclose(found[1::2], plain, rtol=2e-5, atol=1e-6)


def test_a_step_that_a_guard_skips_does_not_count():
    tx = momentax.guard(SNOO)
    θ = jnp.float32(START)
    state = tx.init(θ)
    for t in range(10):
        g = jnp.float32(gradient(np.asarray(θ)))
        u, state = tx.update(g * jnp.where(t == 3, jnp.nan, 1), state, θ)
        θ = optax.apply_updates(θ, u)
    assert int(state.skipped_nonfinite) == 1
    assert int(state.inner_state.since) == 9 % 4
    np.testing.assert_allclose(θ, run(SNOO, 9)[-1], rtol=1e-5)


def test_a_monitor_measures_the_inner_velocity_and_keeps_the_updates():
    tx = momentax.monitor(SNOO, history=4)
    θ, _, state = descend(tx, 8)
    np.testing.assert_allclose(θ, run(SNOO, 8), rtol=1e-6, atol=1e-6)
    measured = momentax.measurements(state)
    v = momentax.velocity(state, path=".inner_state.inner_state[1].velocity")
    np.testing.assert_allclose(measured["velocity_norm"], np.linalg.norm(v), rtol=1e-5)


def test_the_hyperparameters_of_both_optimizers_are_read():
    tx = outer(sgd(RATE, nesterov(BETA)), 4, sgd(0.7, nesterov(0.8), weight_decay=0.1))
    *_, state = descend(tx, 10)
    found = momentax.hyperparameters(state, tx)
    np.testing.assert_allclose(found["learning_rate"], RATE(9), rtol=1e-6)
    np.testing.assert_allclose(found["beta"], BETA(9), rtol=1e-6)
    slow = {key: value for key, value in found.items() if key.startswith("outer/")}
    assert slow == {
        "outer/learning_rate": 0.7, "outer/beta": 0.8, "outer/weight_decay": 0.1, "outer/count": 1
    }  # fmt: skip
    assert found["count"] == 9
    injected = optax.inject_hyperparams(optax.sgd)
    tx = outer(injected(0.1), 2, injected(0.5))
    alone = momentax.hyperparameters(tx.init(jnp.ones(2)))
    assert (alone["learning_rate"], alone["outer/learning_rate"]) == (0.1, 0.5)


def test_the_slow_parameters_are_found_in_any_state():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    each = outer(optax.sgd(0.1), 1, optax.sgd(0.5))
    txs = {
        "chain": optax.chain(optax.clip(1.0), each),
        "masked": optax.masked(each, {"a": True, "b": False}),
        "partition": optax.partition({"x": each, "y": each}, {"a": "x", "b": "y"}),
        "nested": outer(each, 3),
    }
    slow = {"a": jnp.full(2, 0.95), "b": jnp.full(3, 0.95)}
    expected = {"masked": slow | {"b": params["b"]}, "nested": params}
    for name, tx in txs.items():
        _, state = tx.update(params, tx.init(params), params)
        found = momentax.eval_params(params, state)
        chex.assert_trees_all_close(found, expected.get(name, slow), rtol=1e-6)
    with pytest.raises(ValueError, match=r"params at \['b'\] does not fit the slow parameters"):
        momentax.eval_params({"a": jnp.ones(2), "b": jnp.ones(4)}, each.init(params))


def test_a_training_step_and_an_optimizer_of_flax_use_it():
    def loss(θ):
        return jnp.sum(H * θ**2) / 2 - jnp.sum(jnp.cos(θ))

    step = momentax.train_step(loss, SNOO, steps_per_call=5)
    θ, state, _ = step(jnp.float32(START), SNOO.init(jnp.float32(START)))
    θ, state, _ = step(θ, state)
    expected, slow, _ = descend(SNOO, 10, jnp.float32(START))
    np.testing.assert_allclose(θ, expected[-1], rtol=1e-4, atol=1e-6)

    class Model(nnx.Module):
        def __init__(self):
            self.θ = nnx.Param(jnp.float32(START))

    model = Model()
    optimizer = nnx.Optimizer(model, SNOO, wrt=nnx.Param)
    for _ in range(10):
        optimizer.update(model, nnx.grad(lambda model: loss(model.θ[...]))(model))
    np.testing.assert_allclose(model.θ[...], expected[-1], rtol=1e-4, atol=1e-6)
    for held in (optimizer.opt_state, nnx.state(optimizer)):
        found = momentax.eval_params(nnx.state(model, nnx.Param), held)
        np.testing.assert_allclose(found["θ"][...], slow[-1], rtol=1e-4, atol=1e-6)


# What is refused.


@pytest.mark.parametrize("method", [nesterov(0.9), optax.trace(0.9), optax.scale_by_adam()])
def test_a_method_in_the_place_of_an_optimizer_is_refused(method):
    with pytest.raises(ValueError, match=r"^tx must be a complete optimizer, .* optax.adam\(1e-3"):
        outer(method, 2)
    with pytest.raises(ValueError, match=r"^outer must be a complete optimizer"):
        outer(optax.sgd(0.1), 2, method)


def test_an_optimizer_that_ascends_may_be_inner_and_not_outer():
    outer(sgd(0.1, maximize=True), 2)
    with pytest.raises(ValueError, match=r"^outer must be a complete optimizer"):
        outer(optax.sgd(0.1), 2, sgd(0.7, maximize=True))


def test_errors_say_what_to_write():
    θ = jnp.ones(2)
    with pytest.raises(ValueError, match=r"outer needs the parameters: call update\(grads, state"):
        SNOO.update(θ, SNOO.init(θ))
    with pytest.raises(ValueError, match=r'inner_state="reset_velocity" needs a velocity'):
        outer(optax.sgd(0.1), 2, inner_state="reset_velocity").init(θ)
    with pytest.raises(ValueError, match=r"the parameter at the root does not fit|the gradient at"):
        SNOO.update(θ, SNOO.init(θ), jnp.ones(3))
    tx = outer(optax.sgd(0.1), 1, optax.sgd(0.7, momentum=0.9))
    params = {"a": θ, "b": θ}
    with pytest.raises(ValueError, match=r"outer changes its state at .* drop a velocity where"):
        tx.update({"a": θ, "b": None}, tx.init(params), params)
