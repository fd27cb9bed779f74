"""Aggregated momentum: its special cases, annealed mixtures, and the forms of betas and weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import aggregated
from momentax.states import AggregatedState
from tests.methods.runs import draw, follow


@pytest.mark.usefixtures("x64")
def test_one_velocity_is_heavy_ball():
    g = draw(40, 3)
    for β in (0.7, lambda t: t / 50):
        d, state = follow(aggregated([β]), g)
        expected, single = follow(momentax.heavy_ball(β), g)
        np.testing.assert_allclose(d, expected, rtol=1e-14)
        np.testing.assert_allclose(state.velocity[0], single.velocity, rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_two_velocities_with_one_beta_of_zero_are_the_kernel_with_equal_weights():
    g, β = draw(300, 3), 0.95
    d, state = follow(aggregated((0.0, β)), g)
    expected, single = follow(momentax.linear(0.5, 0.5, β), g)
    np.testing.assert_allclose(d, expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(state.velocity, [g[-1], single.velocity], rtol=1e-13)


@pytest.mark.parametrize("betas", [(0.0, 0.9), (0.0, 0.9, 0.99)])
@pytest.mark.usefixtures("x64")
def test_it_is_stable_up_to_the_harmonic_mean_of_the_edges_of_heavy_ball(betas):
    """α λ < 2 / meanᵢ(1 / (1 + βᵢ)): 2.620690 and 2.957372."""
    tx, zero = aggregated(betas), jnp.zeros(1 + len(betas))

    def step(z, α):
        θ, v = z[0], z[1:]
        d, state = tx.update(θ, tx.init(θ)._replace(velocity=v))
        return jnp.concatenate([(θ - α * d)[None], state.velocity])

    def rate(α):
        return np.abs(np.linalg.eigvals(jax.jacobian(step)(zero, α))).max()

    edge = 2 / np.mean(1 / (1 + np.array(betas)))
    assert round(edge, 6) in (2.620690, 2.957372)
    assert rate(0.9999 * edge) < 1 < rate(1.0001 * edge)


def test_each_velocity_decays_by_its_own_beta_on_bfloat16_parameters():
    tx = aggregated((0.0, 0.9, 0.99, 0.999))
    g = jnp.ones(3, jnp.bfloat16)
    _, first = tx.update(g, tx.init(g))
    _, state = tx.update(jnp.zeros_like(g), first)
    assert isinstance(state, AggregatedState)
    ratios = np.asarray(state.velocity / first.velocity)
    np.testing.assert_allclose(ratios[:, 0], [0, 0.9, 0.99, 0.999], rtol=1e-6)


def test_betas_are_a_sequence_an_array_or_traced():
    g = draw(10, 3).astype(np.float32)
    betas = [0.1, 0.9, 0.99]

    def run(betas):
        tx = aggregated(betas)
        state = tx.init(g[0])
        for each in g:
            d, state = tx.update(each, state)
        return d, state

    expected = run(betas)
    for given in (tuple(betas), np.array(betas), jnp.array(betas), [jnp.float32(β) for β in betas]):
        chex.assert_trees_all_close(run(given), expected, rtol=1e-6)
    chex.assert_trees_all_close(jax.jit(run)(jnp.array(betas)), expected, rtol=1e-5)
    chex.assert_trees_all_close(jax.jit(run)(betas), expected, rtol=1e-5)

    many = jnp.array([betas, [0.0, 0.5, 0.7]])
    loop = [run(row) for row in many]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop)
    chex.assert_trees_all_close(jax.vmap(run)(many), stacked, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_one_average_is_the_average_without_debiasing():
    g = draw(40, 3)
    for β in (0.7, lambda t: t / 50):
        d, state = follow(aggregated([β], [1.0], gain="average"), g)
        expected, single = follow(momentax.average(β, debias=False), g)
        np.testing.assert_allclose(d, expected, rtol=1e-13)
        np.testing.assert_allclose(state.velocity[0], single.velocity, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_sums_are_averages_with_other_weights():
    g, β = draw(60, 3), np.array([0.5, 0.9, 0.99])
    d, _ = follow(aggregated(β), g)
    expected, _ = follow(aggregated(β, 1 / (3 * (1 - β)), gain="average"), g)
    np.testing.assert_allclose(d, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_an_annealed_mixture_is_the_sum_over_all_gradients_with_the_weights_of_each_step():
    """d_t = Σ_s g_s Σᵢ wᵢ(t) (1 - βᵢ(s)) Π_{s < r ≤ t} βᵢ(r)."""
    g, T = draw(50, 3), 50
    β = [lambda t: 0.5 + 0.4 * share(t), lambda t: 0.98]
    w = [lambda t: 1 - share(t), lambda t: share(t)]

    def share(t):
        return jnp.asarray(t, float) / T

    tx = aggregated(β, w, gain="average")
    state, got = tx.init(jnp.asarray(g[0])), []
    for each in g:
        d, state = tx.update(jnp.asarray(each), state)
        got.append(d)
    b, shares = (np.array([[float(f(t)) for t in range(T)] for f in each]) for each in (β, w))
    for t in range(T):
        kept = [[np.prod(b[i, s + 1 : t + 1]) for s in range(t + 1)] for i in (0, 1)]
        weights = sum(shares[i, t] * (1 - b[i, : t + 1]) * kept[i] for i in (0, 1))
        np.testing.assert_allclose(got[t], weights @ g[: t + 1], rtol=1e-12)


@pytest.mark.parametrize("betas", [0.9, "0.9", None, np.zeros((2, 2)), jnp.float32(0.9)], ids=str)
def test_betas_that_are_not_a_sequence_are_refused(betas):
    with pytest.raises(TypeError, match=r"^betas must be a sequence of numbers in"):
        aggregated(betas)


def test_the_error_names_an_empty_sequence_and_a_bad_entry():
    with pytest.raises(ValueError, match=r"^betas must be a sequence of numbers .*, got \(\)"):
        aggregated(())
    with pytest.raises(ValueError, match=r"^betas\[1\] must be in \[0, 1\), got 1.5$"):
        aggregated((0.0, 1.5, True))
    with pytest.raises(ValueError, match=r"^betas\[2\] must be in \[0, 1\), got -0.5$"):
        aggregated(np.array([0.0, 0.5, -0.5]))


def test_the_error_names_bad_weights_and_a_bad_gain():
    with pytest.raises(TypeError, match=r"^weights must be a sequence of numbers, .*, got 0.5$"):
        aggregated((0.0, 0.9), 0.5)
    with pytest.raises(ValueError, match=r"^weights must have one number for each of the 2 betas"):
        aggregated((0.0, 0.9), (1.0,))
    with pytest.raises(ValueError, match=r"^weights\[1\] must be in \(-inf, inf\), got inf$"):
        aggregated((0.0, 0.9), (1.0, np.inf))
    with pytest.raises(ValueError, match=r"^gain must be one of 'sum', 'average', got 'mean'"):
        aggregated((0.0, 0.9), gain="mean")


def test_reset_and_norms_include_all_velocities():
    _, state = follow(aggregated(), {"a": np.ones((5, 2), np.float32)})
    norms = momentax.velocity_norms(state)
    np.testing.assert_allclose(norms["a"], np.linalg.norm(state.velocity["a"]), rtol=1e-6)
    assert not jnp.any(momentax.reset_velocity(state).velocity["a"])
