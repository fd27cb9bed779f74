"""The progress bar."""

import sys

import jax
import numpy as np
import pytest
from tqdm import tqdm

from momentax import grid, sweep
from momentax._core.display import Display
from momentax.sweeps._run import _progress
from momentax.sweeps._run._progress import ProgressBar


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


class Recorder(Display):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def open(self, total, done):
        self.told.append(("open", total, done))

    def compiling(self, is_compiling, seconds):
        self.told.append(("compiling", is_compiling, seconds))

    def update(self, done, seconds_left, best):
        self.told.append(("update", done, seconds_left, best))

    def close(self):
        self.told.append(("close",))


def test_the_time_that_is_left_does_not_count_compilation(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: now[0])
    display, shape = Recorder(), jax.ShapeDtypeStruct((), np.float32)
    with ProgressBar(display, 9, 1, {"loss": shape}) as bar:
        bar.compare({"loss": np.array([0.3], np.float32)}, np.array([False]))  # Of a store.
        with bar.compiling():
            now[0] = 100.0
        now[0] = 104.0  # Two points in 4 seconds.
        bar.update({"loss": np.array([0.5, 0.75], np.float32)}, np.array([False, False]))
        with bar.compiling():
            now[0] = 150.0
        now[0] = 151.0
        bar.update({"loss": np.array([0.2, 0.1], np.float32)}, np.array([False, True]))
    assert display.told == [
        ("open", 9, 1),
        ("compiling", True, 0.0),
        ("compiling", False, 100.0),
        ("update", 3, 12.0, "best loss 0.3"),
        ("compiling", True, 0.0),
        ("compiling", False, 46.0),
        ("update", 5, 5.0, "best loss 0.2"),
        ("close",),
    ]


@pytest.mark.parametrize("batch_size", [2, "auto"])
def test_a_sweep_compiles_before_its_first_points_and_says_so(batch_size):
    display = Recorder()
    sweep(lambda x: {"loss": x}, grid(x=np.arange(4.0)), batch_size=batch_size, progress=display)
    names = [each[0] for each in display.told]
    assert names[:3] == ["open", "compiling", "compiling"]
    assert names.count("compiling") == 2  # It starts and ends once.
    assert names[3:] == ["update"] * (2 if batch_size == 2 else 1) + ["close"]
    assert display.told[-2][1] == 4


def test_the_rate_of_the_bar_does_not_count_compilation():
    """The clock of tqdm starts later by the time of compilation."""
    display = _progress._TqdmDisplay(tqdm)
    display.open(8, 0)
    start = display._bar.start_t
    display.compiling(False, 100.0)
    assert display._bar.start_t == start + 100.0
    display.close()
