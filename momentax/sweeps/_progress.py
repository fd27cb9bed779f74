"""How far a sweep has come, for somebody who watches."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.typing import PyTree
from momentax.sweeps._metrics import direction, metrics

_DELAY = 1.0  # Seconds; what is done by then needs no bar.


class Bar(Protocol):
    """What is told of each finished batch."""

    def update(self, points: int, best: str) -> None:
        """So many more points are done; the best so far."""

    def close(self) -> None:
        """Nothing more comes."""


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class _Quiet:
    def update(self, points: int, best: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Shown:
    def __init__(self, total: int, done: int):
        if _in_notebook() and find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:  # tqdm.auto would warn of missing widgets.
            from tqdm import tqdm

        self._bar: Any = tqdm(
            total=total, initial=done, unit="point", desc="sweep", delay=_DELAY, dynamic_ncols=True
        )

    def update(self, points: int, best: str) -> None:
        if best:
            self._bar.set_postfix_str(best, refresh=False)
        self._bar.update(points)

    def close(self) -> None:
        self._bar.close()


def bar(wanted: bool, total: int, done: int = 0) -> Bar:
    """A bar on a terminal or in a notebook, where tqdm is installed; otherwise nothing."""
    if wanted and (sys.stderr.isatty() or _in_notebook()):
        try:
            return _Shown(total, done)
        except ModuleNotFoundError:  # Of the extra "flax" or "results"; a sweep needs none.
            pass
    return _Quiet()


class Watched:
    """The bar of a sweep, with the best of the first metric that has one number a point."""

    def __init__(self, wanted: bool, total: int, done: int, out: PyTree, mode: str | None = None):
        self._bar = bar(wanted and not jax.process_index(), total, done)
        self._metric = next(
            (
                (place, name)
                for place, (name, leaf) in enumerate(metrics(out).items())
                if leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.floating)
            ),
            None,
        )
        self._mode = mode
        self._best = -np.inf

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, values: PyTree, diverged: np.ndarray) -> None:
        """A batch is done."""
        best = ""
        if self._metric:
            place, name = self._metric
            sign = 1 if (self._mode or direction(name)) == "max" else -1
            kept = sign * np.asarray(jax.tree.leaves(values)[place], np.float64)[~diverged]
            self._best = max([self._best, *kept[np.isfinite(kept)]])
            best = f"best {name} {sign * self._best:.4g}" if np.isfinite(self._best) else ""
        self._bar.update(len(diverged), best)
