"""What runs recorded, over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import as_option
from momentax._core.typing import Reals
from momentax._training._rollout import Rollout
from momentax.plotting._paths import draw_history, path_style
from momentax.plotting._runs import as_runs, losses_of, phrase, record_of, steps_of
from momentax.plotting._style import new_axes

_WIDE = 100  # Positive values that span this factor are drawn on a log scale.
_LARGEST = 1e300
_LABELS = {
    "loss": "loss",
    "angle": "angle between velocity and gradient, in degrees",
    "params": "norm of the params, ‖θ‖",
    "gradient": "norm of the gradient, ‖g‖",
    "velocity": "norm of the velocity, ‖v‖",
    "step": "norm of the step, ‖u‖",
}


def history(
    runs: Mapping[str, Rollout] | Rollout,
    record: str | None = None,
    *,
    every: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Draw what runs recorded over the steps: numbers as they are, trees as their norms.

    The norm is the Euclidean one over all leaves. The vertical axis is on a log scale if the
    values are positive and span a factor of 100, but not for angles.

    Args:
        runs: Runs by name, or one run: what `momentax.rollout` returns.
        record: The name of a record of all runs, such as "loss"; None is the loss, or the first
            record where no loss was recorded.
        every: The argument `every` of the rollouts, at least 1.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. Each run is a line of ax.lines, with its name as the label.

    Raises:
        ValueError: A run lacks the record or is several runs, or every is not that of the
            rollouts.
        TypeError: runs are not what `momentax.rollout` returns, or ax is not matplotlib axes.

    Example:
        >>> ravine = momentax.problems.ravine(10.0)
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(ravine.loss, ravine.start, tx, 20, record=("loss", "angle"))
        >>> ax = momentax.plotting.history(run, "angle")
    """
    given = as_runs(runs)
    record = _choose_record(given, record)
    values = {name: _numbers(phrase(name), run, record) for name, run in given.items()}
    steps = {
        name: steps_of(phrase(name), given[name], len(each), every) for name, each in values.items()
    }
    ax = new_axes(ax, 8, 4.5)
    ax.set_autoscaley_on(False)  # Matplotlib warns of values near the largest number.
    for i, (name, each) in enumerate(values.items()):
        draw_history(ax, steps[name], each, i, color=path_style(i).color, label=name or record)
    finite = np.concatenate(list(values.values()))
    finite = finite[np.isfinite(finite)]
    if record == "angle":
        ax.set(ylim=(-5, 185), yticks=range(0, 181, 30))
        ax.axhline(90, color="0.7", linewidth=1, zorder=1)
    elif finite.size and finite.min() > 0 and finite.max() > _WIDE * finite.min():
        ax.set(yscale="log", ylim=(finite.min() / 2, 2 * min(finite.max(), _LARGEST)))
    elif finite.size:
        low, high = np.clip([finite.min(), finite.max()], -_LARGEST, _LARGEST)
        margin = 0.05 * (high - low) or 0.5
        ax.set_ylim(low - margin, high + margin)
    ax.set(xlabel="step", ylabel=_LABELS[record])
    ax.set_xlim(0, max(int(each[-1]) for each in steps.values()) or 1)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    if next(iter(given)):
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        ax.legend(handles=list(ax.lines)[: len(given)], frameon=False, **place)
    return ax


def _choose_record(runs: dict[str, Rollout], record: Any) -> str:
    if record is not None:
        return as_option("record", record, _LABELS)
    first, run = next(iter(runs.items()))
    known = [name for name in run.history if name in _LABELS]
    if not known:
        raise ValueError(
            f"{phrase(first)} has an empty history: write momentax.rollout(..., record=...)"
        )
    return "loss" if "loss" in known else known[0]


def _numbers(name: str, run: Rollout, record: str) -> Reals:
    """Return one number for each row of a record."""
    if record == "loss":
        return losses_of(name, run)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(record_of(name, run, record))]
    if record == "angle":
        numbers = leaves[0].astype(np.float64) if leaves else np.zeros(0)
        if numbers.ndim != 1:
            raise ValueError(
                f"{name} must be a single run with one angle for each recorded step, got a record "
                f"of shape {numbers.shape}; pick a run of several with "
                "jax.tree.map(lambda leaf: leaf[0], runs)"
            )
        return numbers
    with np.errstate(over="ignore"):
        squares = [
            (np.abs(leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)) ** 2)
            .reshape(len(leaf), -1)
            .sum(axis=1)
            for leaf in leaves
        ]
        return np.sqrt(np.sum(squares, axis=0))
