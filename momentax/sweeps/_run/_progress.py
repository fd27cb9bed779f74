"""The progress of a sweep, for a person at a terminal or in a notebook."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.arguments import printable
from momentax._core.metrics import mode_in_name
from momentax._core.typing import PyTree
from momentax.sweeps._result._metrics import name_leaves

_DELAY = 1.0  # Seconds; a sweep that ends before shows no bar.


class ProgressBar:
    """A bar of the finished points, with the best value of the first metric that has one.

    It is shown on a terminal or in a notebook, in the first process, if tqdm is
    installed; otherwise nothing is shown.
    """

    def __init__(self, wanted: bool, total: int, done: int, out: PyTree, mode: str | None = None):
        self._bar = _open_bar(total, done) if wanted and not jax.process_index() else None
        self._metric = _first_metric(out, mode)
        self._best = -np.inf

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, values: PyTree, diverged: np.ndarray) -> None:
        """Count a finished batch, and compare its values with the best so far."""
        if self._bar is None:
            return
        if self._metric is not None:
            position, name, sign = self._metric
            kept = sign * np.asarray(jax.tree.leaves(values)[position], np.float64)[~diverged]
            self._best = max([self._best, *kept[np.isfinite(kept)]])
            if np.isfinite(self._best):
                self._bar.set_postfix_str(f"best {name} {sign * self._best:.4g}", refresh=False)
        self._bar.update(len(diverged))


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


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _open_bar(total: int, done: int) -> Any:
    """Return a bar of tqdm's, or None without a terminal or notebook, or without tqdm."""
    if not (sys.stderr.isatty() or _in_notebook()):
        return None
    try:
        if _in_notebook() and find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:  # tqdm.auto warns if ipywidgets is not installed.
            from tqdm import tqdm
    except ModuleNotFoundError:  # A sweep does not need tqdm, which comes with an extra.
        return None
    return tqdm(
        total=total, initial=done, unit="point", desc="sweep", delay=_DELAY, dynamic_ncols=True
    )
