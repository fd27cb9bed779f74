"""The weights over lag and their ages, and the response over frequency, against closed forms."""

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax
from momentax import theory
from momentax.plotting import frequency_response, kernel


def state_space(α, a, b, β):
    """Return v⁺ = β v + g, θ⁺ = θ - α (a g + b v⁺); α = -1 is a method alone."""
    A = np.array([[1.0, -α * b * β], [0.0, β]])
    return theory.StateSpace(A, np.array([-α * (a + b), 1.0]), np.array([1.0, 0.0]))


BALL = state_space(-1.0, 0.0, 1.0, 0.9)
NESTEROV = state_space(-1.0, 1.0, 0.8, 0.8)
SGD = state_space(0.1, 0.0, 1.0, 0.9)


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks(ax):
    """Return the ages at the circles and the diamonds."""
    return [
        [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == marker]
        for marker in "oD"
    ]


def test_the_lines_are_the_weights_and_the_marks_their_ages():
    ax = kernel({"heavy ball": BALL, "Nesterov": NESTEROV}, steps=40)
    k = np.arange(40)
    for line, expected in zip(ax.lines[:2], (0.9**k, 0.8 ** (k + 1) + (k == 0) * 1.0), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), k)
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)
    half, mean = marks(ax)
    # Nesterov's first weight is 1.8 of 5 in all; those that follow fall by 0.8 a step.
    np.testing.assert_allclose(
        half, [np.log(0.5) / np.log(0.9), 1 + np.log(2.5 / 3.2) / np.log(0.8)]
    )
    np.testing.assert_allclose(mean, [9, 0.64 / 0.2])
    assert texts(ax)[0] == "heavy ball: half-life 6.58, mean age 9"
    assert ax.get_ylabel().endswith("in the direction")


def test_an_optimizer_has_positive_weights_downhill_and_its_decay_is_left_out():
    decayed = momentax.sgd(0.1, momentax.heavy_ball(0.9), weight_decay=0.01)
    ax = kernel({"plain": SGD, "decayed": decayed})
    for line in ax.lines[:2]:
        k = line.get_xdata()
        np.testing.assert_allclose(line.get_ydata(), 0.1 * 0.9**k, rtol=1e-6)
    assert 40 < len(k) < 60  # To where the weights are a hundredth of the first.
    assert ax.get_ylabel().endswith("in the step, positive downhill")
    np.testing.assert_allclose(marks(ax)[1], [9, 9], rtol=1e-6)
    assert "direction, or downhill" in kernel({"a": BALL, "b": SGD}).get_ylabel()


def test_weights_of_sum_1_a_long_memory_plain_descent_and_no_decay():
    ax = kernel({"a": BALL, "b": SGD}, normalize=True, steps=20)
    for line in ax.lines[:2]:
        np.testing.assert_allclose(line.get_ydata(), 0.1 * 0.9 ** np.arange(20), rtol=1e-9)
    assert ax.get_ylabel().startswith("share of all weight")
    ax = kernel(state_space(-1.0, 0.0, 1.0, 0.9995))
    np.testing.assert_allclose(marks(ax)[0], theory.half_life(0.9995), rtol=1e-9)
    assert len(ax.lines[0].get_xdata()) > 9000
    ax = kernel(theory.StateSpace(np.eye(1), -0.1 * np.ones(1), np.ones(1)))
    assert texts(ax)[0] == "half-life 0, mean age 0"
    summing = state_space(-1.0, 0.0, 1.0, 1.0)
    assert texts(kernel(summing))[0] == "no half-life: the velocity does not decay"
    with pytest.raises(ValueError, match="normalize must be False, since the weights of 'x' have"):
        kernel({"x": summing}, normalize=True)


def test_draws_on_given_axes_and_a_period_is_averaged():
    _, (left, right) = plt.subplots(1, 2)
    tx = optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation()
    assert kernel(tx, steps=4, ax=right) is right
    assert not left.lines
    expected = -theory.impulse_response(tx, 4)
    np.testing.assert_allclose(right.lines[0].get_ydata(), expected, atol=1e-12)


def test_the_response_over_frequency_has_its_closed_form():
    f = np.array([0.01, 0.1, 0.5])
    ax = frequency_response({"ball": BALL, "sgd": SGD}, frequencies=f)
    H = 1 / (1 - 0.9 * np.exp(-2j * np.pi * f))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.abs(H))
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 0.1 * np.abs(H))
    assert texts(ax) == [
        "ball: constant 10, alternating 0.526",
        "sgd: constant 1, alternating 0.0526",
    ]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    ax = frequency_response({"ball": BALL, "sgd": SGD}, part="phase", frequencies=f)
    for line in ax.lines[:2]:  # An optimizer that descends has the phase of its method.
        np.testing.assert_allclose(line.get_ydata(), np.rad2deg(np.angle(H)), atol=1e-9)
    ax = frequency_response({"ball": BALL, "sgd": SGD}, normalize=True)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ax.lines[1].get_ydata())
    assert ax.lines[0].get_ydata()[0] == pytest.approx(1, abs=0.01)
    assert ax.lines[0].get_xdata()[-1] == pytest.approx(0.5)
    assert [tick.get_text() for tick in ax.get_xticklabels()][-1] == "1/2"


@pytest.mark.parametrize("draw", [kernel, frequency_response])
def test_bad_pipelines(draw):
    with pytest.raises(ValueError, match="tx must be a transformation, or a mapping with at least"):
        draw({})
    with pytest.raises(TypeError, match=r"tx\['a'\] must be a gradient transformation .* got 0.9"):
        draw({"a": 0.9})
    with pytest.raises(TypeError, match="the names in tx must be text, got 1"):
        draw({1: BALL})


def test_bad_frequencies():
    with pytest.raises(ValueError, match=r"frequencies must be in \(0, 0.5\], got 0.7"):
        frequency_response(BALL, frequencies=[0.1, 0.7])
    with pytest.raises(ValueError, match="frequencies must be 1-D"):
        frequency_response(BALL, frequencies=0.1)
    with pytest.raises(ValueError, match="part must be one of 'amplitude', 'phase', got 'gain'"):
        frequency_response(BALL, part="gain")
    with pytest.raises(ValueError, match="normalize must be False, since the response to a const"):
        frequency_response(state_space(-1.0, 0.0, 1.0, 1.0), normalize=True)
