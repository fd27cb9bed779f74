"""The optimizer as a filter: geometric weights, sums, and the discrete Fourier transform."""

import re

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import theory
from momentax.theory import StateSpace
from tests.theory.systems import linear, lookahead_steps


def average(β):
    """m⁺ = β m + (1 - β) g, which is added to the parameters."""
    return StateSpace(
        np.array([[1.0, β], [0.0, β]]), np.array([1 - β, 1 - β]), np.array([1.0, 0.0])
    )


def test_the_weights_of_heavy_ball_are_geometric():
    response = theory.impulse_response(linear(0.3, 0.0, 1.0, 0.9), 50)
    np.testing.assert_allclose(response, -0.3 * theory.weights(0.9, 50), rtol=1e-13)


@pytest.mark.parametrize(
    ("tx", "scale"),
    [
        (optax.trace(0.9), 1.0),
        (momentax.heavy_ball(0.9), 1.0),
        (optax.ema(0.9, debias=False), 0.1),
        (optax.sgd(0.3, momentum=0.9), -0.3),
    ],
    ids=["trace", "heavy ball", "average", "sgd"],
)
def test_impulse_responses_of_transformations(tx, scale):
    response = theory.impulse_response(tx, 20)
    np.testing.assert_allclose(response, scale * theory.weights(0.9, 20), rtol=1e-6)


def test_nesterov_and_plain_descent():
    response = theory.impulse_response(linear(0.3, 1.0, 0.9, 0.9), 4)
    np.testing.assert_allclose(response, -0.3 * np.array([1.9, 0.81, 0.729, 0.6561]), rtol=1e-13)
    descent = StateSpace(np.eye(1), np.array([-0.3]), np.ones(1))
    np.testing.assert_array_equal(theory.impulse_response(descent, 3), [-0.3, 0, 0])
    np.testing.assert_array_equal(theory.frequency_response(descent, [0.0, 0.3]), [-0.3, -0.3])
    assert theory.signal_to_noise_gain(descent) == 1


@given(β=st.floats(0, 0.99))
def test_a_moving_average_does_not_change_a_constant_gradient(β):
    np.testing.assert_allclose(theory.frequency_response(average(β), 0.0), 1.0, rtol=1e-12)
    steps = 1 + int(np.ceil(np.log(1e-13) / np.log(max(β, 1e-9))))
    np.testing.assert_allclose(theory.impulse_response(average(β), steps).sum(), 1, rtol=1e-12)


@given(β=st.floats(0, 0.99), α=st.floats(1e-6, 10))
def test_a_constant_gradient_moves_by_the_effective_learning_rate(β, α):
    response = theory.frequency_response(linear(α, 0.0, 1.0, β), [0.0, 0.5])
    expected = -theory.effective_learning_rate(α, β), -α / (1 + β)
    np.testing.assert_allclose(response, expected, rtol=1e-11)


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.9), (0.3, 0.07)])
def test_the_frequency_response_is_the_transform_of_the_impulse_response(weights, decay):
    system = linear(0.3, *weights, 0.9, decay)
    response = theory.impulse_response(system, 1024)
    frequencies = np.fft.fftfreq(1024)
    np.testing.assert_allclose(
        theory.frequency_response(system, frequencies), np.fft.fft(response), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_impulse_response_is_what_one_gradient_does_to_the_parameters(decay):
    A, B, C = system = linear(0.3, 1.0, 0.9, 0.9, decay)
    z, path = np.zeros(2), [0.0]
    for t in range(30):
        z = A @ z + B * (t == 0)
        path.append(C @ z)
    np.testing.assert_allclose(
        theory.impulse_response(system, 30), np.diff(path), rtol=0, atol=1e-15
    )


def test_the_response_does_not_depend_on_the_coordinates():
    A, B, C = system = linear(0.3, 1.0, 0.9, 0.9)
    T = np.array([[2.0, -1.0], [0.5, 3.0]])
    turned = StateSpace(T @ A @ np.linalg.inv(T), T @ B, C @ np.linalg.inv(T))
    for of in (
        lambda each: theory.impulse_response(each, 20),
        lambda each: theory.frequency_response(each, np.linspace(0, 0.5, 7)),
        theory.signal_to_noise_gain,
    ):
        np.testing.assert_allclose(of(turned), of(system), rtol=1e-12)


def test_a_velocity_that_never_decays_has_a_pole():
    response = theory.frequency_response(linear(1.0, 0.0, 1.0, 1.0), [[0.0], [0.5]])
    assert response.shape == (2, 1)
    assert np.isinf(response[0, 0])
    np.testing.assert_allclose(response[1, 0], -0.5, rtol=1e-15)


@given(β=st.floats(0, 0.999), α=st.floats(1e-6, 10))
def test_the_signal_to_noise_gain_of_heavy_ball(β, α):
    gain = theory.signal_to_noise_gain(linear(α, 0.0, 1.0, β))
    np.testing.assert_allclose(gain, (1 + β) / (1 - β), rtol=1e-9)


def test_the_signal_to_noise_gain_follows_from_the_response():
    system = linear(0.3, 1.0, 0.9, 0.9)
    response = theory.impulse_response(system, 1000)
    expected = response.sum() ** 2 / np.sum(response**2)
    np.testing.assert_allclose(theory.signal_to_noise_gain(system), expected, rtol=1e-12)
    np.testing.assert_allclose(
        theory.signal_to_noise_gain(linear(0.3, 1.0, 0.9, 0.9, decay=0.01)), 0, atol=1e-20
    )


def test_a_filter_without_updates_has_no_gain():
    nothing = linear(1.0, 0.0, 0.0, 0.9)
    np.testing.assert_array_equal(theory.impulse_response(nothing, 5), np.zeros(5))
    assert np.isnan(theory.signal_to_noise_gain(nothing))


def updates(steps, gradients):
    """The updates that follow from gradients, by the steps of a period in turn."""
    z, out = 0 * steps[0][1], []
    for t, g in enumerate(gradients):
        A, B = steps[t % len(steps)]
        before, z = z, A @ z + B * g
        out.append(z[0] - before[0])
    return np.array(out)


@pytest.mark.parametrize("period", [2, 5])
def test_over_a_period_the_response_is_the_mean_over_its_steps(period):
    tx, steps = (make(0.1, 0.8, period, 0.4) for make in (lookahead, lookahead_steps))
    each = [updates(steps, np.arange(30 + period) == k)[k : k + 30] for k in range(period)]
    assert np.ptp(each, axis=0).max() > 0.01
    np.testing.assert_allclose(
        theory.impulse_response(tx, 30), np.mean(each, axis=0), rtol=0, atol=1e-14
    )


def lookahead(α, β, period, slow):
    return theory.state_space(optax.lookahead(optax.sgd(α, β), period, slow))


def test_over_a_period_the_response_is_that_at_the_same_frequency():
    tx, steps = (make(0.1, 0.5, 3, 0.4) for make in (lookahead, lookahead_steps))
    frequencies = np.array([0.0, 1, 7, 40, 60]) / 120
    response = np.fft.fft(theory.impulse_response(tx, 120))
    found = theory.frequency_response(tx, frequencies)
    np.testing.assert_allclose(found, response[[0, 1, 7, 40, 60]], rtol=0, atol=1e-13)
    wave = np.exp(2j * np.pi * 7 / 120 * np.arange(480))
    spectrum = np.fft.fft(updates(steps, wave)[-120:]) / 120
    np.testing.assert_allclose(spectrum[7], found[2], rtol=0, atol=1e-13)
    # The response has no other frequencies than those that the period adds.
    spectrum[[7, 47, 87]] = 0
    np.testing.assert_allclose(spectrum, 0, atol=1e-13)


@pytest.mark.parametrize("every", [2, 4, 8])
def test_accumulation_multiplies_the_signal_to_noise_gain(every):
    tx = theory.state_space(optax.MultiSteps(optax.sgd(0.3, 0.9), every))  # Means are float32.
    lags = np.arange(40)
    expected = -0.3 * 0.9 ** (lags // every) / every**2
    np.testing.assert_allclose(theory.impulse_response(tx, 40), expected, rtol=1e-6)
    np.testing.assert_allclose(theory.signal_to_noise_gain(tx), every * 19, rtol=1e-6)
    summed = theory.state_space(optax.chain(optax.apply_every(every), optax.sgd(0.3)))
    np.testing.assert_allclose(theory.signal_to_noise_gain(summed), every, rtol=1e-12)
    np.testing.assert_allclose(theory.frequency_response(summed, 0.0), -0.3, rtol=1e-12)


def test_over_a_period_signal_and_noise_are_those_of_all_updates():
    tx, steps = (make(0.1, 0.6, 4, 0.3) for make in (lookahead, lookahead_steps))
    last = range(396, 400)
    each = [updates(steps, np.arange(400) == k) for k in range(400)]
    signal, noise = (np.sum(of, axis=0)[last] for of in (each, np.square(each)))
    expected = np.sum(signal**2) / np.sum(noise)
    np.testing.assert_allclose(theory.signal_to_noise_gain(tx), expected, rtol=1e-11)


def test_a_pole_is_infinite_at_every_equivalent_frequency():
    keeps = theory.frequency_response(linear(0.1, 0.0, 1.0, 1.0), [-1.0, 0.0, 1.0, 7.0])
    assert np.isinf(keeps).all()
    flips = StateSpace(np.array([[1.0, 0.1], [0.0, -1.0]]), np.array([0.0, 1.0]), np.eye(2)[0])
    assert np.isinf(theory.frequency_response(flips, [0.5, -0.5, 1.5])).all()


def test_a_system_with_equal_steps_may_be_given_with_a_period():
    twice = StateSpace(
        np.kron([[0, 1], [1, 0]], linear(0.3, 1.0, 0.9, 0.9).A),
        np.kron([[0, 1], [1, 0]], linear(0.3, 1.0, 0.9, 0.9).B[:, None]),
        np.kron(np.eye(2), [[1.0, 0.0]]),
    )
    once = linear(0.3, 1.0, 0.9, 0.9)
    for of in (
        lambda each: theory.impulse_response(each, 20),
        lambda each: theory.frequency_response(each, np.linspace(0, 0.5, 7)),
        theory.signal_to_noise_gain,
        lambda each: theory.stationary_variance(each, [0.1, 1.0, 4.0], 1.0),
        lambda each: theory.rate_at(each, np.linspace(-1, 9, 9)),
        theory.sharpness_limit,
        lambda each: theory.damping(each, 1.0)[1:],
    ):
        np.testing.assert_allclose(of(twice), of(once), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda tx: theory.impulse_response(tx, 0), "steps must be a whole number, at least 1"),
        (lambda tx: theory.frequency_response(tx, np.inf), "frequencies must be in (-inf, inf)"),
        (
            lambda _: theory.signal_to_noise_gain(linear(1.0, 0.0, 1.0, 1.0)),
            "tx must be a stable filter, got one that multiplies its state by 1 per step",
        ),
    ],
)
def test_errors_of_bad_arguments(call, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        call(linear(0.1, 0.0, 1.0, 0.9))


def test_the_mean_age_is_that_of_the_impulse_response():
    β = 0.8
    ball = theory.StateSpace(np.array([[1, -β], [0, β]]), np.array([-1.0, 1]), np.array([1.0, 0]))
    nesterov = theory.StateSpace(
        np.array([[1, -(β**2)], [0, β]]), np.array([-1 - β, 1]), np.array([1.0, 0])
    )
    np.testing.assert_allclose(theory.mean_age(ball), β / (1 - β), rtol=1e-12)
    np.testing.assert_allclose(theory.mean_age(nesterov), β**2 / (1 - β), rtol=1e-12)
    h = theory.impulse_response(nesterov, 400)
    np.testing.assert_allclose(theory.mean_age(nesterov), h @ np.arange(400) / h.sum(), rtol=1e-12)
    decayed = theory.StateSpace(np.array([[0.99]]), np.array([-0.1]), np.ones(1))
    assert np.isnan(theory.mean_age(decayed))
    summing = theory.StateSpace(np.array([[1, -1.0], [0, 1]]), np.array([-1.0, 1]), ball.C)
    with pytest.raises(ValueError, match="tx must be a stable filter"):
        theory.mean_age(summing)
