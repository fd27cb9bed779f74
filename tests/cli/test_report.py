"""The table and the file sweep.json that `momentax sweep` makes of a result."""

import numpy as np
import pytest

from momentax._cli import _sweep
from tests.cli.results import RESULTS, returns


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch):
    monkeypatch.setattr(_sweep, "_draw", lambda *arguments: None)


def test_diverged_points_are_left_out_and_nan_becomes_null(monkeypatch, sweep):
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    for method, effective in (("nesterov", "1"), ("average", "0.1")):
        rows, report = sweep("--method", method)
        assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
        best = report["best"]  # By accuracy, then by loss.
        assert best == {"learning_rate": 0.2, "beta": 0.0, "test_accuracy": 0.95}
        assert rows[1] == ["0.2", "0", "0.2", "0.95", "0.3"]
        assert rows[2] == ["0.1", "0.9", effective, "0.95", "0.4"]
    rows, report = sweep("--metric", "test_accuracy", "--mode", "min")
    assert report["best"] == {"learning_rate": 0.1, "beta": 0.0, "test_accuracy": 0.9}
    rows, report = sweep("--metric", "test_loss")
    assert report["best"] == {"learning_rate": 0.2, "beta": 0.0, "test_loss": 0.3}
    assert (report["metric"], report["mode"]) == ("test_loss", "min")
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS | {"diverged": np.ones((2, 2), bool)}))
    rows, report = sweep()
    assert report["best"] is None
    assert rows[0] == ["4", "of", "4", "points", "diverged"]


def test_numbers_have_the_fewest_digits_that_identify_them(monkeypatch, sweep):
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    _, report = sweep()
    assert report["axes"] == {"learning_rate": [0.1, 0.2], "beta": [0.0, 0.9]}
    assert report["results"]["test_accuracy"] == [[0.9, 0.95], [0.95, 0.99]]
    assert report["results"]["test_loss"] == [[0.5, 0.4], [0.3, None]]
    assert report["results"]["diverged"] == [[False, False], [False, True]]


def test_seeds_are_averaged_and_the_standard_error_is_printed(monkeypatch, sweep):
    accuracy = np.array([[[0.8, 0.9], [0.95, 0.2]], [[0.86, 0.88], [0.1, 0.1]]], np.float32)
    diverged = np.array([[[False, False], [False, True]], [[False, False], [True, True]]])
    values = {"test_accuracy": accuracy, "test_loss": 1 - accuracy, "diverged": diverged}
    monkeypatch.setattr(_sweep, "sweep", returns(values))
    rows, report = sweep("--seeds", "2", "--seed", "5")
    assert rows[1][:2] == ["0.1", "0.9"]  # One of its seeds diverged, and enters no mean.
    assert rows[1][3:5] == ["0.95", "0.05"]
    assert rows[2][:6] == ["0.2", "0", "0.2", "0.87", "±", "0.01"]
    assert rows[3][3:6] == ["0.85", "±", "0.05"]
    text = "\n".join(map(" ".join, rows))
    assert "2 of 4 points diverged, 3 of 8 runs with their seeds" in text
    assert "✕ 0.9 at α = 0.1 (1 of 2), 0.2" in text
    assert report["axes"]["seed"] == [5, 6]
    assert (report["seed"], report["seeds"]) == (5, 2)
    assert report["best"]["standard_error"] is None  # A single number has none.
    np.testing.assert_array_equal(np.array(report["results"]["diverged"]), diverged)
