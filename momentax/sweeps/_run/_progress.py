"""The progress of a sweep, for a person at a terminal or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.arguments import as_flag, printable
from momentax._core.display import Display
from momentax._core.metrics import mode_in_name
from momentax._core.typing import PyTree
from momentax.sweeps._result._metrics import name_leaves

_DELAY = 1.0  # Seconds; a sweep that ends before shows no bar.


def as_progress(progress: Any) -> bool | Display:
    """Return the argument `progress`: a bool, or the display of the command line."""
    return progress if isinstance(progress, Display) else as_flag("progress", progress)


class ProgressBar:
    """The progress of the finished points, with the best value of the first metric that has one.

    Without a display of its own it is a bar of tqdm's, which is shown on a terminal or in a
    notebook, in the first process, if tqdm is installed; otherwise nothing is shown. Compilation
    does not count in the remaining time.
    """

    def __init__(
        self, progress: bool | Display, total: int, done: int, out: PyTree, mode: str | None = None
    ):
        self._display = progress if isinstance(progress, Display) else _open_display(progress)
        self._metric = _first_metric(out, mode)
        self._best = -np.inf
        self._total, self._initial, self._done = total, done, done
        self._start, self._compiled = time.perf_counter(), 0.0
        self._display.open(total, done)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Say that XLA compiles, and leave the time out of that which a point takes."""
        self._display.compiling(True, 0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._compiled += seconds
            self._display.compiling(False, seconds)

    def compare(self, values: PyTree, diverged: np.ndarray) -> None:
        """Compare values with the best so far."""
        if self._metric is not None:
            position, _, sign = self._metric
            kept = sign * np.asarray(jax.tree.leaves(values)[position], np.float64)[~diverged]
            self._best = max([self._best, *kept[np.isfinite(kept)]])

    def update(self, values: PyTree, diverged: np.ndarray) -> None:
        """Count a finished batch, and compare its values with the best so far."""
        self.compare(values, diverged)
        best = ""
        if self._metric is not None and np.isfinite(self._best):
            best = f"best {self._metric.name} {self._metric.sign * self._best:.4g}"
        self._done += len(diverged)
        seconds = time.perf_counter() - self._start - self._compiled
        left = max(self._total - self._done, 0)
        seconds_left = left * seconds / max(self._done - self._initial, 1)
        self._display.update(self._done, seconds_left, best)


class _Metric(NamedTuple):
    """A metric by its position among the leaves, its name, and 1 if greater is better, else -1."""

    position: int
    name: str
    sign: int


def _first_metric(out: PyTree, mode: str | None) -> _Metric | None:
    """Return the first metric of one floating number per point whose best end is known."""
    for position, (name, leaf) in enumerate(name_leaves(out).items()):
        end = mode or mode_in_name(name)
        if end and leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.floating):
            return _Metric(position, printable(name), 1 if end == "max" else -1)
    return None


class _TqdmDisplay(Display):
    """A bar of tqdm's."""

    def __init__(self, tqdm: Any):
        self._tqdm = tqdm

    def open(self, total: int, done: int) -> None:
        # Without smoothing the rate is that since the start.
        how = {"delay": _DELAY, "dynamic_ncols": True, "smoothing": 0}
        self._bar = self._tqdm(total=total, initial=done, unit="point", desc="sweep", **how)

    def compiling(self, is_compiling: bool, seconds: float) -> None:
        del is_compiling
        self._bar.start_t += seconds
        self._bar.last_print_t += seconds  # Or close takes the bar for one that was never shown.

    def update(self, done: int, seconds_left: float, best: str) -> None:
        del seconds_left  # The bar has its own, which starts with it.
        if best:
            self._bar.set_postfix_str(best, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _open_display(wanted: bool) -> Display:
    """Return a bar of tqdm's, or nothing without a terminal or notebook, or without tqdm."""
    if not wanted or jax.process_index() or not (sys.stderr.isatty() or _in_notebook()):
        return Display()
    try:
        if _in_notebook() and find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:  # tqdm.auto warns if ipywidgets is not installed.
            from tqdm import tqdm
    except ModuleNotFoundError:  # A sweep does not need tqdm, which comes with an extra.
        return Display()
    return _TqdmDisplay(tqdm)
