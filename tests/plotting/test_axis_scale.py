"""The scales of axes: those of the hyperparameters, and their ticks."""

import numpy as np
import pytest

from momentax.plotting._axis_scale import axis_scale, metric_scale


@pytest.mark.parametrize(
    ("name", "values", "label", "positions"),
    [
        ("learning_rate", [0.1, 1.0], "learning rate α", np.log([0.1, 1.0])),
        ("beta", [0.0, 0.9], "β, on a log scale of 1 − β", -np.log([1.0, 0.1])),
        ("beta1", [0.0, 0.9], "beta1, on a log scale of 1 − beta1", -np.log([1.0, 0.1])),
        ("beta1", [0.9, 1.9], "beta1", [0.9, 1.9]),  # Outside of the interval of a β.
        ("nu", [0.0, 0.7], "nu", [0.0, 0.7]),
        ("weight_decay", [1e-4, 0.1], "weight_decay, on a log scale", np.log([1e-4, 0.1])),
        ("weight_decay", [0.0, 0.1], "weight_decay", [0.0, 0.1]),
        ("width", [16, 64], "width", [16, 64]),
    ],
)
def test_a_hyperparameter_has_its_own_scale(name, values, label, positions):
    scale = axis_scale(name, np.array(values))
    assert scale.label == label
    np.testing.assert_allclose(scale.positions(values), positions, atol=1e-12)


def test_words_that_look_alike_are_numbered():
    values = np.array(["a", np.tanh, "tanh", "a" * 30], object)
    scale = axis_scale("method", values)
    np.testing.assert_array_equal(scale.positions(values[::-1]), [3, 2, 1, 0])
    positions, labels = scale.ticks(1)
    np.testing.assert_array_equal(positions, np.arange(4))
    assert labels == ["a", "tanh (1)", "tanh (2)", "a" * 23 + "…"]


def test_a_metric_has_ticks_at_round_numbers():
    _, labels = metric_scale("loss", np.array([0.003, 0.7, 31.0]), log=True).ticks(4)
    assert labels == ["0.01", "0.1", "1", "10"]
    _, labels = metric_scale("loss", np.array([0.31, 0.62]), log=False).ticks(4)
    assert labels == ["0.32", "0.4", "0.48", "0.56"]
