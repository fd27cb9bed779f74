"""Targets that a method reaches, and runs that are stuck on a plateau."""

import numpy as np
import pytest

from momentax import bench
from momentax.bench import Protocol, tasks
from momentax.bench._runs import PLATEAUS
from tests.bench import reference
from tests.bench.results import cell, of_cells


@pytest.fixture(autouse=True)
def curves(monkeypatch):
    reference.install(monkeypatch, "one")


def test_a_target_is_passed_beyond_chance():
    """Sixteen runs pass a target of -2 with σ = 0.1 below -2 - 3.09 · 0.1 / 4 = -2.07725."""
    found = of_cells({("one", "a"): cell(-2.078), ("one", "b"): cell(-2.076)})
    assert found.passes("one", "a")
    assert not found.passes("one", "b")


def test_the_steps_to_the_target_are_those_of_the_first_checkpoint():
    """The mean falls by 2.5 / 40 at each of 40 checkpoints and passes -2.07725 at the 34th."""
    cells = {("one", "a"): cell(-2.5), ("one", "b"): cell(-2.05)}
    assert of_cells(cells).steps_to_target("one", "a") == 34
    assert of_cells(cells).steps_to_target("one", "b") is None
    half = of_cells(cells, protocol=Protocol(length=0.5))  # Of 20 steps, with two rows for each.
    assert half.steps_to_target("one", "a") == 17


def test_a_target_of_another_version_is_not_used():
    found = of_cells({("one", "a"): cell(-2.5)}, hashes={"one": "other"})
    with pytest.raises(ValueError, match="the target of the task 'one' is of another version"):
        found.passes("one", "a")
    with pytest.raises(ValueError, match="the target of the task 'one' is of another version"):
        found.steps_to_target("one", "a")


def test_targets_are_public(monkeypatch):
    assert bench.target("one") == bench.Target(-2.0, 0.1, "adam")
    with pytest.raises(ValueError, match="no target of the task 'tow'; it has those of 'one'"):
        bench.target("tow")
    reference.install(monkeypatch)
    with pytest.raises(ValueError, match="this version has no recorded targets yet"):
        bench.target("one")


def test_stuck_runs_are_counted():
    y = np.where(np.arange(16) % 8 == 3, -0.5, -2.0)
    found = of_cells({("one", "a"): cell(-2.0, evaluation=y)})
    stuck = found.stuck("one", "a", -1.0)
    assert stuck.share.value == 2 / 16
    assert (stuck.median, stuck.median_of_others) == (-2.0, -2.0)
    with pytest.raises(ValueError, match="plateau must be given for the task 'one'"):
        found.stuck("one", "a")
    with pytest.raises(ValueError, match=r"plateau must be a score y.* below that of the start, 0"):
        found.stuck("one", "a", 35)


def test_the_plateau_of_the_autoencoder_is_an_output_that_does_not_depend_on_the_image():
    task = tasks["curves_ae"]
    images = task.load()["images"][:1536] / 255.0
    mean = images.mean(0)

    def entropy(p):
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(-1)

    constant = entropy(mean) - entropy(images).mean()
    assert constant == pytest.approx(58.28, abs=0.01)
    assert 0.97 * constant < PLATEAUS["curves_ae"] < 0.98 * constant
    y = np.array(task.measure(np.resize([58.31, 21.0], 16)))
    start = task.measure([150.0])
    found = of_cells({("curves_ae", "a"): cell(1.0, evaluation=y, checkpoints=start)})
    assert found.stuck("curves_ae", "a").share.value == 0.5
