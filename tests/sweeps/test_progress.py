"""The progress bar."""

import sys

import numpy as np
import pytest

from momentax import grid, sweep


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_only_on_a_terminal(is_terminal, monkeypatch, capsys):
    monkeypatch.setattr("momentax.sweeps._run._progress._DELAY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    points = grid(x=np.linspace(1, 2, 10))
    sweep(lambda x: {"accuracy": x, "loss": 1 / x}, points, batch_size=2)
    shown = capsys.readouterr().err
    assert ("10/10" in shown) == is_terminal
    assert ("best accuracy 2" in shown) == is_terminal
    sweep(lambda x: x, points, progress=False)
    assert capsys.readouterr().err == ""


def test_progress_is_silent_without_tqdm(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    sweep(lambda x: x, grid(x=[1.0, 2.0]))
    assert capsys.readouterr().err == ""
