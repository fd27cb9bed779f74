"""Restarts: the two-sequence forms of the papers, and the values that a restart keeps."""

import re
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import heavy_ball, nesterov, restart, sgd
from tests.compilation import fully_optimized


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing mixes dtypes.
        yield


class Loss(NamedTuple):
    """An objective, written for JAX and, independently, for NumPy."""

    value: Any
    numpy: Any  # θ -> (f, ∇f)
    start: np.ndarray
    L: float


def quadratic(dimension=30, condition=3e3):
    rng = np.random.default_rng(0)
    h, start = np.geomspace(1 / condition, 1, dimension), rng.normal(size=dimension)
    return Loss(
        lambda θ: (jnp.asarray(h) * θ**2).sum() / 2,
        lambda θ: ((h * θ**2).sum() / 2, h * θ),
        start,
        1.0,
    )


def logistic():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 12)) * np.geomspace(1, 0.03, 12)
    y, λ = np.where(rng.random(60) < 0.5, -1.0, 1.0), 1e-4
    numpy_L = np.linalg.norm(x, 2) ** 2 / 4 / 60 + λ

    def value(θ):
        return jnp.logaddexp(0, -y * (x @ θ)).mean() + λ * (θ**2).sum() / 2

    def numpy(θ):
        margin = y * (x @ θ)
        f = np.logaddexp(0, -margin).mean() + λ * (θ**2).sum() / 2
        return f, -(x.T @ (y / (1 + np.exp(margin)))) / 60 + λ * θ

    return Loss(value, numpy, np.ones(12), numpy_L)


LOSSES = {"quadratic": quadratic(), "logistic": logistic()}


def papers(loss, when, steps, least=1):
    """Return the y of the accelerated gradient with restarts, and the updates that restart it."""
    s, x, y, j = 1 / loss.L, loss.start, loss.start, 1
    path, restarts, before, last, slower = [y], [], np.inf, 0.0, False
    for k in range(steps):
        f, g = loss.numpy(y)
        due = {"function": f > before, "speed": slower}.get(when, j - 1 == when)
        if due and j - 1 >= least:
            restarts.append(k)
            x, j = y, 1
        before, old, x = f, x, y - s * g
        if when == "gradient" and g @ (x - old) > 0 and j >= least:
            restarts.append(k)
            y, j = x, 1
        else:
            y = x + (j - 1) / (j + 2) * (x - old)
            j += 1
        if when == "speed":
            speed = np.linalg.norm(x - old)
            slower, last = speed < last, speed
        path.append(y)
    return np.stack(path), restarts


def accelerated():
    def sequence(count):
        count = jnp.asarray(count, jnp.result_type(float))
        return jnp.maximum(count - 1, 0) / (count + 2)

    return nesterov(sequence)


def run(tx, loss, steps):
    """Return the parameters, and the updates at which a restart was counted."""

    @jax.jit
    def whole(θ):
        def step(carry, _):
            θ, state = carry
            f, g = jax.value_and_grad(loss.value)(θ)
            u, state = tx.update(g, state, θ, value=f)
            θ = optax.apply_updates(θ, u)
            return (θ, state), (θ, state.restarts, state.since)

        return jax.lax.scan(step, (θ, tx.init(θ)), length=steps)[1]

    path, restarts, since = whole(jnp.asarray(loss.start))
    fired = np.flatnonzero(np.diff(np.asarray(restarts), prepend=0))
    return np.concatenate([loss.start[None], path]), list(fired), np.asarray(since)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("when", ["gradient", "function", "speed", 40])
def test_equals_the_papers_restarted_sequences(name, when):
    loss, least = LOSSES[name], 10 if when == "speed" else 1
    expected, restarts = papers(loss, when, 300, least)
    assert len(restarts) >= 2
    for units in ("gradient", "parameter"):
        tx = restart(sgd(1 / loss.L, accelerated(), velocity_units=units), when)
        path, fired, since = run(tx, loss, 300)
        assert fired == restarts
        np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-12)
        kept = 0 if when == "gradient" else 1
        np.testing.assert_array_equal(since[fired], kept)
        assert since[-1] == 299 - fired[-1] + kept
    outer = sgd(1 / loss.L, restart(accelerated(), when))
    _, state = outer.update(jnp.ones(2), outer.init(jnp.ones(2)), value=1.0)
    assert int(state[1].since) == 1


@pytest.mark.usefixtures("x64")
def test_recovers_linear_convergence():
    loss, counts = quadratic(condition=1e3), {}
    for when in ("gradient", "function", "speed", 10**6):
        path, _, _ = run(restart(sgd(1.0, accelerated()), when), loss, 3000)
        error = np.array([loss.numpy(θ)[0] for θ in path])
        error /= error[0]
        last = np.flatnonzero(error > 1e-10)[-1]
        twin = papers(loss, when, 3000, 10 if when == "speed" else 1)[0]
        twin_error = np.array([loss.numpy(θ)[0] for θ in twin])
        assert last == np.flatnonzero(twin_error > 1e-10 * twin_error[0])[-1]
        counts[when] = int(last) + 1
    assert counts == {"gradient": 349, "function": 347, "speed": 689, 10**6: 1868}


@pytest.mark.usefixtures("x64")
def test_min_steps_is_the_shortest_run():
    least, loss = 25, quadratic(condition=1e3)
    for when in ("gradient", "function", "speed"):
        expected, restarts = papers(loss, when, 200, least)
        path, fired, _ = run(restart(sgd(1.0, accelerated()), when, min_steps=least), loss, 200)
        assert fired == restarts
        assert np.diff(fired).min() >= least
        np.testing.assert_allclose(path, expected, rtol=1e-12, atol=1e-12)


# Pipelines.

α, β = 0.02, 0.95
PIPELINES = {
    "sgd": sgd(α, nesterov(β)),
    "sgd, parameter units": sgd(α, nesterov(β), velocity_units="parameter"),
    "optax.sgd": optax.sgd(α, momentum=β, nesterov=True),
    "chain": optax.chain(optax.clip(1e6), nesterov(β), optax.scale(-α)),
    "trace": optax.chain(optax.scale(-α), optax.trace(β, nesterov=True)),
    "inject_hyperparams": optax.inject_hyperparams(optax.sgd)(α, momentum=β, nesterov=True),
    "masked": optax.masked(sgd(α, nesterov(β)), {"a": True, "b": True}),
    "partition": optax.partition({"all": sgd(α, nesterov(β))}, {"a": "all", "b": "all"}),
    "apply_if_finite": optax.apply_if_finite(sgd(α, nesterov(β)), 3),
}
FIRST = {"a": jnp.array([3.0, -2.0]), "b": jnp.array(1.5)}


def descend(tx, steps=80, curvature=(1.0, 30.0), start=FIRST, value=True):
    """Return the parameters on a ravine with two leaves, and the restarts."""

    def loss(θ):
        near, far = jnp.abs(θ["a"]) ** 2, jnp.abs(θ["b"]) ** 2
        return (curvature[0] * near.sum() + curvature[1] * far.sum()) / 2

    def step(carry, _):
        θ, state = carry
        f, g = jax.value_and_grad(loss)(θ)
        u, state = tx.update(jax.tree.map(jnp.conj, g), state, θ, value=f)
        θ = optax.apply_updates(θ, u)
        return (θ, state), (θ, momentax_state(state).restarts)

    return jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=steps)[1])()


def momentax_state(state):
    nodes = jax.tree.leaves(state, is_leaf=lambda n: isinstance(n, momentax.states.RestartState))
    return next(n for n in nodes if isinstance(n, momentax.states.RestartState))


@pytest.mark.parametrize("when", ["gradient", "function", "speed", 7])
def test_every_pipeline_restarts_at_the_same_updates(when):
    θ, restarts = descend(sgd(α, restart(nesterov(β), when)))
    assert 2 <= int(restarts[-1]) < 40
    for name, tx in PIPELINES.items():
        other, fired = descend(restart(tx, when))
        np.testing.assert_array_equal(fired, restarts, err_msg=name)
        chex.assert_trees_all_close(other, θ, rtol=2e-4, atol=1e-5)


def test_ascent_restarts_where_descent_does():
    θ, restarts = descend(restart(sgd(α, nesterov(β))))
    other, fired = descend(restart(sgd(α, nesterov(β), maximize=True)), curvature=(-1.0, -30.0))
    np.testing.assert_array_equal(fired, restarts)
    chex.assert_trees_all_close(other, θ, rtol=1e-5)


@pytest.mark.parametrize(
    "tx",
    [optax.adam(0.3), optax.lion(0.05), optax.adamw(0.3), momentax.average(0.9), heavy_ball(0.9)],
    ids=["adam", "lion", "adamw", "average", "heavy_ball"],
)
def test_restarts_where_the_velocity_ascends(tx):
    tx = restart(tx)
    state, rng = tx.init(FIRST), np.random.default_rng(0)
    update = jax.jit(tx.update)
    for _ in range(20):
        g = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), FIRST)
        fresh = int(state.since) == 0  # After a restart there is no velocity yet.
        held = momentax.velocity(tx.init(FIRST) if fresh else state)
        _, plain = update(g, state, FIRST)
        kept = momentax.velocity(plain)
        restarted = int(plain.restarts) > int(state.restarts)
        if not restarted:
            inner = sum(np.sum(g[key] * kept[key]) for key in g)
            assert inner >= 0
        else:
            assert not fresh
            slope = [sum(np.sum(g[key] * v[key]) for key in g) for v in (held, kept)]
            assert slope[0] < 0 < slope[1]
        state = plain
    assert int(state.restarts) >= 2


def test_a_restart_resets_the_whole_node_and_nothing_else():
    rate = optax.linear_schedule(1.0, 0.0, 10)
    tx = restart(optax.adam(rate), 3)
    state = tx.init(FIRST)
    for _ in range(4):
        _, state = tx.update(FIRST, state, FIRST)
    adam, scale = state.inner_state
    assert (int(state.since), int(state.restarts)) == (1, 1)
    assert int(adam.count) == 1
    assert int(scale.count) == 4
    _, once = optax.scale_by_adam().update(FIRST, optax.scale_by_adam().init(FIRST))
    chex.assert_trees_all_close(adam, once, rtol=1e-6)


def test_a_restart_returns_to_the_initial_values_and_not_to_zero():
    tx = restart(optax.yogi(0.1), 2)  # Its moments start at 10⁻⁶, not at 0.
    state = tx.init(FIRST)
    for _ in range(3):
        _, state = tx.update(FIRST, state, FIRST)
    _, once = optax.yogi(0.1).update(FIRST, optax.yogi(0.1).init(FIRST), FIRST)
    chex.assert_trees_all_close(state.inner_state, once, rtol=1e-6)


def test_a_gradient_restart_steps_along_the_gradient_and_the_next_run_starts_after_it():
    tx = restart(accelerated())
    state, g = tx.init(jnp.ones(2)), jnp.array([1.0, 2.0])
    for _ in range(4):
        _, state = tx.update(g, state)
    d, state = tx.update(-g / 10, state)
    np.testing.assert_array_equal(d, -g / 10)
    assert (int(state.since), int(state.restarts)) == (0, 1)
    after, again = tx.init(jnp.ones(2)), []
    for _ in range(3):
        d, state = tx.update(g, state)
        expected, after = tx.update(g, after)
        again.append((d, expected))
    for d, expected in again:
        np.testing.assert_array_equal(d, expected)
    chex.assert_trees_all_equal(state.inner_state, after.inner_state)


def test_decay_in_the_velocity_does_not_reverse_the_test():
    # With coupled decay v_1 = g + λθ opposes g, and by the paper's test it still ascends.
    tx = restart(sgd(0.1, heavy_ball(0.5), weight_decay=1.0))
    θ, g = jnp.array([10.0]), jnp.array([-1.0])
    _, state = tx.update(g, tx.init(θ), θ)
    assert int(state.restarts) == 1
    tx = restart(sgd(0.1, heavy_ball(0.5), weight_decay=1.0, velocity_units="parameter"))
    _, state = tx.update(g, tx.init(θ), θ)
    assert int(state.restarts) == 1
    _, state = tx.update(-g, tx.init(θ), θ)
    assert int(state.restarts) == 0


@pytest.mark.parametrize("when", ["gradient", "function", "speed", 5])
def test_complex_leaves_count_as_pairs_of_reals(when):
    start = {"a": jnp.array([1 + 2j, -2 + 1j], jnp.complex64), "b": jnp.array(1.5 - 1j)}
    pairs = {key: jnp.stack([leaf.real, leaf.imag]) for key, leaf in start.items()}
    tx = restart(sgd(α, nesterov(β)), when)
    θ, restarts = descend(tx, start=start)
    real, fired = descend(tx, start=pairs)
    assert int(fired[-1]) >= 2
    np.testing.assert_array_equal(restarts, fired)
    for key in start:
        whole = np.moveaxis(np.stack([θ[key].real, θ[key].imag]), 0, 1)
        np.testing.assert_allclose(whole, real[key], rtol=1e-3, atol=1e-5)


def test_leaves_without_a_velocity_or_a_gradient_are_ignored():
    labels = {"a": "momentum", "b": "plain"}
    tx = restart(optax.partition({"momentum": heavy_ball(0.9), "plain": optax.sgd(1.0)}, labels))
    state = tx.init(FIRST)
    _, state = tx.update(FIRST, state, FIRST)
    # A turn of leaf b, which has no velocity, restarts nothing; a turn of leaf a does.
    _, state = tx.update({"a": FIRST["a"], "b": -100 * FIRST["b"]}, state, FIRST)
    assert int(state.restarts) == 0
    _, state = tx.update({"a": -FIRST["a"] / 9, "b": FIRST["b"]}, state, FIRST)
    assert int(state.restarts) == 1
    tx = restart(heavy_ball(0.9))
    _, state = tx.update(FIRST, tx.init(FIRST), FIRST)
    _, state = tx.update({"a": None, "b": FIRST["b"]}, state, FIRST)
    assert int(state.restarts) == 0
    held = momentax.velocity(state)["a"]
    _, state = tx.update({"a": None, "b": -FIRST["b"] / 9}, state, FIRST)
    assert int(state.restarts) == 1
    assert not jnp.array_equal(momentax.velocity(state)["a"], held)  # All leaves restart.


def test_stacked_velocities_are_summed_and_others_refused():
    class Stacked(NamedTuple):
        velocity: jax.Array

    decays = jnp.array([[0.0], [0.9]])

    def update(g, state, params=None):
        v = decays * state.velocity + g[None]
        return v.mean(0), Stacked(v)

    tx = restart(optax.GradientTransformation(lambda p: Stacked(jnp.zeros((2, *p.shape))), update))
    g = jnp.array([1.0, 2.0])
    _, state = tx.update(g, tx.init(g))
    for small, restarts in ((-0.4, 1), (-0.5, 0)):  # The velocities sum to (0.9 + 2 small) g.
        _, after = tx.update(small * g, state)
        assert int(after.restarts) == restarts
    flat = restart(optax.flatten(heavy_ball(0.9)))
    with pytest.raises(ValueError, match=r"not shaped like the gradients.*'speed'"):
        flat.update(FIRST, flat.init(FIRST), FIRST)
    flat = restart(optax.flatten(heavy_ball(0.9)), "speed")
    flat.update(FIRST, flat.init(FIRST), FIRST)


def test_vmap_over_beta_decides_each_element_separately():
    def restarts(beta, when):
        return descend(restart(sgd(α, nesterov(beta)), when), steps=60)[1]

    betas = jnp.array([0.5, 0.9, 0.95, 0.99])
    for when in ("gradient", "function", "speed"):
        lanes = jax.vmap(lambda beta, when=when: restarts(beta, when))(betas)
        assert len({lane.tobytes() for lane in np.asarray(lanes)}) > 1
        for beta, lane in zip(betas[1:3], lanes[1:3], strict=True):
            np.testing.assert_array_equal(restarts(beta, when), lane)


def test_the_argument_path_selects_the_velocity():
    both = optax.chain(heavy_ball(0.9), optax.ema(0.9))
    with pytest.raises(ValueError, match=r"holds 2 velocities, at \[0\].velocity, \[1\].ema"):
        restart(both).init(FIRST)
    with pytest.raises(ValueError, match="holds no velocity"):
        restart(optax.scale(-0.1)).init(FIRST)
    tx = restart(both, 1, path="[1].ema")
    state = tx.init(FIRST)
    for _ in range(3):
        _, state = tx.update(FIRST, state, FIRST)
    assert int(state.inner_state[0].count) == 3
    assert int(state.inner_state[1].count) == 1


def test_without_params_the_gradients_are_used_in_their_place():
    tx = restart(heavy_ball(0.9), 2)
    state = tx.init(FIRST)
    for _ in range(3):
        d, state = tx.update(FIRST, state)
    chex.assert_trees_all_equal(d, FIRST)
    with pytest.raises(ValueError, match="needs the parameters where a gradient is None"):
        tx.update({"a": None, "b": FIRST["b"]}, state)
    with pytest.raises(ValueError, match=r"the gradient at \['a'\] does not fit"):
        tx.update({"a": FIRST["b"], "b": FIRST["b"]}, state)


def test_the_trial_steps_compute_only_the_velocity():
    matrix = jnp.ones((8, 8))

    def products(tx):
        state = tx.init(matrix)
        text = fully_optimized(jax.jit(tx.update).lower(matrix, state, matrix)).as_text()
        return len(re.findall(r" dot\(|__onednn|custom-call", text))

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        muon = optax.contrib.scale_by_muon()
        assert products(restart(muon)) == products(muon) > 0


def test_errors_of_bad_arguments():
    with pytest.raises(ValueError, match="when must be one of 'gradient', 'function', 'speed'"):
        restart(heavy_ball(), "value")
    with pytest.raises(ValueError, match="when must be a whole number, at least 1, got 0"):
        restart(heavy_ball(), 0)
    for wrong in (True, 2.0, None):
        with pytest.raises(TypeError, match="when must be a whole number"):
            restart(heavy_ball(), wrong)
    with pytest.raises(ValueError, match="min_steps must be a whole number, at least 1, got 0"):
        restart(heavy_ball(), min_steps=0)
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        restart(heavy_ball)
    tx = restart(heavy_ball(), "function")
    state = tx.init(FIRST)
    with pytest.raises(ValueError, match=r"needs the loss: call update\(grads, state, par"):
        tx.update(FIRST, state, FIRST)
    for wrong in (jnp.ones(2), 1j, 3):
        with pytest.raises(ValueError, match="value must be a real scalar"):
            tx.update(FIRST, state, FIRST, value=wrong)


def test_a_value_that_is_not_finite_does_not_stop_the_test():
    tx = restart(heavy_ball(), "function")
    state, counts = tx.init(FIRST), []
    for value in (3.0, jnp.nan, 2.0, jnp.inf, 1.0, 2.0):
        _, state = tx.update(FIRST, state, FIRST, value=value)
        counts.append(int(state.restarts))
    assert counts == [0, 0, 0, 1, 1, 2]


def test_the_momentum_resets_of_spam_are_a_restart_of_adam_in_a_guard():
    K, warmup, spike = 8, 4, 29

    def rate(count):
        return 0.1 * (1 - jnp.cos(jnp.pi * jnp.minimum(count % K / warmup, 1))) / 2

    tx = momentax.guard(restart(optax.adam(rate, eps=1e-8), K), spike=6.0)
    g = np.random.default_rng(0).normal(size=(40, 3)) + 0.5
    g[spike] *= 1e4
    _, (u, skipped) = jax.lax.scan(
        lambda state, g: _reading(tx.update(g, state)), tx.init(jnp.zeros(3)), jnp.float32(g)
    )
    m = v = made = 0
    for t in range(40):
        if t == spike:  # The step is left out, and nothing counts it.
            np.testing.assert_array_equal(u[t], 0)
            continue
        run = made % K
        if run == 0:
            m, v = 0.0, 0.0
        m, v = 0.9 * m + 0.1 * g[t], 0.999 * v + 0.001 * g[t] ** 2
        mean, square = m / (1 - 0.9 ** (run + 1)), v / (1 - 0.999 ** (run + 1))
        α = 0.1 * (1 - np.cos(np.pi * min(run / warmup, 1))) / 2
        np.testing.assert_allclose(u[t], -α * mean / np.sqrt(square), rtol=2e-4, atol=1e-8)
        made += 1
    np.testing.assert_array_equal(skipped, np.arange(40) >= spike)


def _reading(result):
    u, state = result
    return state, (u, state.skipped_spike)
