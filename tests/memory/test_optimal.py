"""The Wiener filter against the normal equations, its closed form and a simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import memory


@pytest.mark.parametrize("ahead", [0, 3])
def test_the_weights_solve_the_normal_equations(ahead):
    r, N = 0.5 * (0.8 ** np.arange(60) + 0.99 ** np.arange(60)), 20.0
    K = 60 - ahead
    R = r[np.abs(np.subtract.outer(np.arange(K), np.arange(K)))]
    expected = np.linalg.solve(R + N * np.eye(K), r[ahead : ahead + K])
    got = memory.optimal(r, N, ahead=ahead).weights(K)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("ρ", "noise", "gain", "beta"),
    [(0.9, 1, 0.303568, 0.626789), (0.99, 10, 0.035256, 0.955097), (0.99, 100, 0.007301, 0.982772)],
)
def test_for_a_signal_of_one_exponential_the_kernel_is_one_exponential(ρ, noise, gain, beta):
    kernel = memory.optimal(ρ ** np.arange(1000), noise)
    ((β, c),) = memory.fit(kernel, 1, horizon=300).kernel.exponentials
    np.testing.assert_allclose([β, c * (1 - β)], [beta, gain], atol=1e-6)


def simulate(ρ, noise, steps, entries, seed=0):
    rng = np.random.default_rng(seed)
    s = np.zeros((steps, entries))
    s[0] = rng.normal(size=entries)
    for t in range(1, steps):
        s[t] = ρ * s[t - 1] + np.sqrt(1 - ρ**2) * rng.normal(size=entries)
    return s, s + np.sqrt(noise) * rng.normal(size=s.shape)


def test_no_other_average_estimates_a_simulated_signal_better():
    s, g = simulate(0.95, 4.0, 4000, 40)
    w = memory.optimal(0.95 ** np.arange(200), 4.0).weights(200)

    def error(w):
        estimate = np.stack([np.convolve(column, w)[: len(g)] for column in g.T], axis=1)
        return np.mean((estimate - s)[300:] ** 2)

    lag = np.arange(200)
    averages = [error((1 - β) * β**lag) for β in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95)]
    assert error(w) < min(averages)
    np.testing.assert_allclose(error(w), 1 - w @ 0.95**lag, rtol=0.05)  # The theory's error.


def test_measure_separates_signal_and_noise():
    _, g = simulate(0.95, 4.0, 4000, 60)
    found = memory.measure({"a": g[:, :20].reshape(-1, 4, 5), "b": g[:, 20:]}, lags=60)
    np.testing.assert_allclose(found.noise, 4.0, rtol=0.05)
    np.testing.assert_allclose(found.signal, 0.95 ** np.arange(61), atol=0.06)
    np.testing.assert_allclose(found.measured[0], np.mean(g**2), rtol=1e-12)
    np.testing.assert_allclose(found.measured[5], np.mean(g[:-5] * g[5:]), rtol=1e-12)
    same = memory.optimal(found.signal, found.noise).weights(61)
    np.testing.assert_array_equal(memory.optimal(found).weights(61), same)


def test_measure_takes_a_list_of_gradients_by_step():
    _, g = simulate(0.9, 1.0, 300, 24)
    stacked = {"a": g[:, :20].reshape(-1, 4, 5), "b": g[:, 20:]}
    listed = [{"a": stacked["a"][t], "b": stacked["b"][t]} for t in range(300)]
    expected = memory.measure(stacked, lags=20)
    for given in (listed, tuple(listed)):
        found = memory.measure(given, lags=20)
        np.testing.assert_array_equal(found.measured, expected.measured)
        assert found.samples == 300
    np.testing.assert_array_equal(
        memory.measure(list(g), 30).measured, memory.measure(g, 30).measured
    )
    layers = memory.measure([stacked["a"], stacked["b"]], lags=20)  # Two leaves, not two steps.
    np.testing.assert_array_equal(layers.measured, expected.measured)
    with pytest.raises(ValueError, match=r"list of 300 .* may be meant in two ways; for a gr"):
        memory.measure(list(g), lags=20)


def test_measure_takes_the_states_that_a_monitor_left_after_each_step():
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.normal(size=(60, 12)), jnp.float32)

    def loss(θ, noise):
        return jnp.sum(θ["w"] ** 2) / 2 + noise @ θ["w"]

    tx = momentax.monitor(momentax.sgd(0.05))
    θ = {"w": jnp.ones(12)}
    state, states, g = tx.init(θ), [], []
    step = momentax.train_step(loss, tx)
    for t in range(60):
        g.append(np.asarray(θ["w"] + noise[t]))
        θ, state, _ = step(θ, state, noise[t])
        states.append((jax.device_get(state),))  # As a part of a larger state.
    found = memory.measure(states, lags=10)
    np.testing.assert_allclose(found.measured, memory.measure(np.stack(g), 10).measured, rtol=1e-5)
    with pytest.raises(
        TypeError, match=r"a list with the state of each step where a monitor recor"
    ):
        memory.measure(state, lags=10)
    with pytest.raises(
        TypeError, match=r"a list with the state of each step where a monitor recor"
    ):
        memory.measure(momentax.measurements(state), lags=10)
    coarse = momentax.monitor(momentax.sgd(0.05), every=2).init(θ)
    with pytest.raises(ValueError, match=r"gradients\[0\] must be the state of a monitor with ev"):
        memory.measure([coarse] * 20, lags=10)
    θ, kept, _ = step(θ, state, noise[0])
    step(θ, kept, noise[0])
    with pytest.raises(ValueError, match=r"gradients\[0\] has been deleted, .*jax.device_get"):
        memory.measure([kept] * 20, lags=10)


def test_measure_of_noise_alone_finds_no_signal_and_of_a_constant_no_noise():
    g = np.random.default_rng(1).normal(size=(5000, 50))
    found = memory.measure(g, lags=20)
    assert found.signal[0] < 0.01 < 0.98 < found.noise
    found = memory.measure(np.ones((100, 3)), lags=20)
    np.testing.assert_allclose(found.signal, 1.0, rtol=1e-6)
    assert found.noise < 1e-6


def test_errors_say_what_to_write():
    r = 0.9 ** np.arange(10)
    with pytest.raises(TypeError, match=r"noise is missing: give N"):
        memory.optimal(r)
    with pytest.raises(ValueError, match=r"noise must be in \(0, inf\), got 0"):
        memory.optimal(r, 0.0)
    with pytest.raises(ValueError, match=r"signal must be an autocorrelation, whose first entry"):
        memory.optimal(r[::-1], 1.0)
    with pytest.raises(ValueError, match=r"must have more than lags=64 steps on its leading axis"):
        memory.measure(np.ones((10, 3)))
    with pytest.raises(TypeError, match=r"noise must be left out where signal is a measurement"):
        memory.optimal(memory.measure(np.ones((10, 3)), lags=3), 1.0)
