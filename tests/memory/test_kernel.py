"""Kernels: their sums in closed form, read from pipelines, and computed by transformations."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax
from momentax import memory, theory
from momentax.memory import Kernel
from momentax.states import AggregatedState, FilterState

LAGS = 20_000
BI_MAXWELL = [(0.85, 0.4385), (0.98, 0.5615)]
EXPONENTIALS = {
    "one": [(0.95, 1.0)],
    "plain": [(0.0, 2.0)],
    "nesterov": [(0.0, 0.05), (0.95, 0.95)],
    "bi-maxwell": BI_MAXWELL,
    "signed": [(0.3, 1.4), (0.9, -0.7), (0.99, 0.2)],
}
PIPELINES = {
    "heavy ball": momentax.heavy_ball(0.9),
    "nesterov": momentax.nesterov(0.8),
    "average": momentax.average(0.9),
    "quasi-hyperbolic": momentax.quasi_hyperbolic(0.95, 0.7),
    "aggregated": momentax.aggregated((0.0, 0.9, 0.99)),
    "pid": momentax.proportional_integral_derivative(0.9, 5.0, 10.0),
    "twice": optax.chain(optax.trace(0.9), optax.trace(0.9)),
    "sgd": momentax.sgd(0.1, momentax.heavy_ball(0.9)),
    "optax": optax.sgd(0.1, 0.9, nesterov=True),
    "decay": momentax.sgd(0.1, momentax.heavy_ball(0.9), weight_decay=0.1, decoupled=True),
}


def follows(kernel, w):
    """Compare the closed forms of a kernel with the sums over its weights."""
    k = np.arange(len(w))
    total = w.sum()
    scale = np.abs(w).sum()
    np.testing.assert_allclose(kernel.weights(len(w)), w, rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(kernel.total, total, rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(kernel.noise_gain, w @ w, rtol=1e-9)
    np.testing.assert_allclose(kernel.alternating, w @ (-1.0) ** k, rtol=1e-9, atol=1e-12 * scale)
    if abs(total) > 1e-9 * scale:
        age = w @ k / total
        np.testing.assert_allclose(kernel.mean_age, age, rtol=1e-8)
        np.testing.assert_allclose(kernel.age_variance, w @ k**2 / total - age**2, rtol=1e-7)
        np.testing.assert_allclose(kernel.effective_samples, total**2 / (w @ w), rtol=1e-9)
        below = np.cumsum(w) / total
        half = kernel.half_life
        before = int(np.ceil(half)) - 1  # Half of the weight is not behind at this lag.
        assert below[int(half)] >= 0.5 - 1e-9
        assert before < 1 or below[before - 1] < 0.5 + 1e-9
    f = np.array([0.0, 0.013, 0.2, -0.4, 0.5, 1.3])
    expected = np.exp(-2j * np.pi * f[:, None] * k) @ w
    np.testing.assert_allclose(kernel.frequency_response(f), expected, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_the_quantities_of_exponentials_are_the_sums_over_their_weights(name):
    pairs = EXPONENTIALS[name]
    kernel = Kernel.from_exponentials(pairs)
    follows(kernel, sum(c * (1 - β) * β ** np.arange(LAGS) for β, c in pairs))
    assert kernel.exponentials == tuple(pairs)
    assert kernel.buffers == len(pairs)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_the_quantities_of_finitely_many_weights_are_their_sums(n):
    w = np.random.default_rng(n).normal(1, 1, n)
    kernel = Kernel.from_weights(w)
    follows(kernel, np.append(w, np.zeros(5)))
    assert kernel.exponentials is None
    assert kernel.buffers == n - 1


@pytest.mark.parametrize("name", PIPELINES)
def test_the_kernel_of_a_pipeline_is_what_the_theory_reads(name):
    tx = PIPELINES[name]
    kernel = memory.of(tx)
    follows(kernel, theory.impulse_response(tx, LAGS))
    f = np.linspace(-0.5, 0.5, 7)
    np.testing.assert_allclose(
        kernel.frequency_response(f), theory.frequency_response(tx, f), rtol=1e-9, atol=1e-12
    )
    if kernel.total < 0:  # A whole optimizer.
        assert kernel.edge == theory.sharpness_limit(tx)
    elif kernel.total > 0:
        whole = optax.chain(tx, optax.scale(-1.0))
        np.testing.assert_allclose(kernel.edge, theory.sharpness_limit(whole), rtol=1e-9)
        np.testing.assert_allclose(
            kernel.effective_samples, theory.signal_to_noise_gain(tx), rtol=1e-9
        )


def test_a_pipeline_of_exponentials_is_recognized_and_one_with_equal_betas_is_not():
    for tx, pairs in (
        (momentax.heavy_ball(0.9), [(0.9, 10.0)]),
        (momentax.nesterov(0.9), [(0.0, 1.0), (0.9, 9.0)]),
        (momentax.aggregated((0.5, 0.9), (0.25, 0.75), gain="average"), [(0.5, 0.25), (0.9, 0.75)]),
    ):
        np.testing.assert_allclose(memory.of(tx).exponentials, pairs, rtol=1e-9)
    twice = memory.of(PIPELINES["twice"])
    assert twice.exponentials is None
    assert twice.buffers == 2


@pytest.mark.parametrize(
    ("kernel", "age", "deviation", "samples", "edge"),
    [
        (Kernel.from_exponentials([(0.95, 1)]), 19, 19.49, 39, 78),
        (Kernel.from_exponentials(EXPONENTIALS["nesterov"]), 18.05, 19.45, 32.90, 26.90),
        (Kernel.from_exponentials(BI_MAXWELL), 29.998, 43.06, 36.20, 48.51),
    ],
    ids=["average", "nesterov", "bi-maxwell"],
)
def test_published_numbers(kernel, age, deviation, samples, edge):
    got = kernel.mean_age, kernel.age_variance**0.5, kernel.effective_samples, kernel.edge
    np.testing.assert_allclose(got, [age, deviation, samples, edge], rtol=3e-4)
    np.testing.assert_allclose(kernel.edge, 2 / kernel.alternating, rtol=1e-9)


def test_the_edges_of_a_delay_and_of_a_plain_mean():
    delay = Kernel.from_weights(np.eye(20)[19])
    np.testing.assert_allclose(delay.edge, 2 * np.sin(np.pi / (2 * (2 * 19 + 1))), rtol=1e-9)
    np.testing.assert_allclose(Kernel.from_weights(np.full(39, 1 / 39)).edge, 0.1265, rtol=1e-3)


def test_the_half_life_of_one_beta_is_that_of_the_theory():
    for β in (0.3, 0.9, 0.999):
        kernel = Kernel.from_exponentials([(β, 2.0)])
        np.testing.assert_allclose(kernel.half_life, theory.half_life(β), rtol=1e-9)
    assert Kernel.from_exponentials([(0.0, 1.0)]).half_life == 0
    assert Kernel.from_weights(np.ones(64)).half_life == 32


@pytest.mark.parametrize(
    "kernel",
    [
        Kernel.from_exponentials(BI_MAXWELL),
        Kernel.from_weights([0.5, -0.2, 0.3, 0.1]),
        Kernel.from_weights([2.0]),
        memory.of(PIPELINES["twice"]),
    ],
    ids=["exponentials", "weights", "one weight", "equal betas"],
)
@pytest.mark.usefixtures("x64")
def test_the_transformation_responds_to_an_impulse_with_the_weights(kernel):
    tx, n = memory.method(kernel), 12
    g = {"a": jnp.zeros((n, 2)).at[0].set(jnp.array([1.0, -2.0])), "b": jnp.zeros((n, 1, 3))}

    def step(state, g):
        d, state = tx.update(g, state)
        return state, d

    state, d = jax.lax.scan(step, tx.init(jax.tree.map(lambda leaf: leaf[0], g)), g)
    assert isinstance(state, AggregatedState if kernel.exponentials else FilterState)
    np.testing.assert_allclose(d["a"], np.outer(kernel.weights(n), g["a"][0]), atol=1e-14)
    assert not d["b"].any()


def test_a_pipeline_without_one_kernel_is_refused():
    with pytest.raises(ValueError, match=r"tx has a period of 3 steps"):
        memory.of(optax.MultiSteps(optax.sgd(0.1), 3))
    with pytest.raises(ValueError, match=r"tx must forget old gradients.*by 1 per step"):
        memory.of(optax.chain(optax.trace(1.0)))
    with pytest.raises(ValueError, match=r"not linear"):
        memory.of(optax.adam(0.1))
    with pytest.raises(TypeError, match=r"tx must be a gradient transformation"):
        memory.of(momentax.heavy_ball)


def test_a_kernel_can_be_read_as_a_system_and_drawn():
    kernel = Kernel.from_exponentials(BI_MAXWELL)
    np.testing.assert_allclose(
        theory.impulse_response(kernel.state_space, 30), kernel.weights(30), rtol=1e-12
    )
    ax = kernel.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata()[:5], kernel.weights(5), rtol=1e-9)
    plt.close(ax.figure)


def test_the_kernel_of_an_optimizer_gives_the_optimizer_which_sgd_refuses():
    tx = memory.method(memory.of(optax.sgd(0.1, 0.9)))
    params, states = jnp.ones(3), {}
    for each, name in ((tx, "kernel"), (optax.sgd(0.1, 0.9), "optax")):
        u, state = each.update(params, each.init(params), params)
        states[name] = u, each.update(2 * params, state, params)[0]
    np.testing.assert_allclose(states["kernel"], states["optax"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"method must return directions, which follow the grad"):
        momentax.sgd(0.1, tx).init(params)
