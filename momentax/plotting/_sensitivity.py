"""The trials of a method: how good each learning rate and β is."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from momentax._core.arguments import as_count, as_real, as_reals, as_text
from momentax.plotting._methods import as_known, require_shape
from momentax.plotting._style import figure_of, label_log_axis, legend_below, new_axes

_LEAST_SHARE = 1 / 16  # Of the best value, below which the colours do not differ.
_NARROW = 10.0  # The largest factor between the ends of a colour bar with many ticks.


def sensitivity(
    rates: ArrayLike,
    betas: ArrayLike,
    values: ArrayLike,
    *,
    chosen: int | None = None,
    edge: ArrayLike | None = None,
    good: float = 0.7,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how good each trial of a tuning is, at its learning rate and its β.

    The learning rate is on a log scale, β on a log scale of 1 - β, and the colours are on a log
    scale, brighter for larger values. Trials with at least `good` times the largest value have a
    black border: they are the good region, and the wider it is, the less tuning is needed. A cross
    is a trial without a value, such as one that diverged. Other hyperparameters that the trials
    have are not shown, so that neighbours may differ.

    Args:
        rates: The learning rate of each trial in (0, inf), shape (trials,). For methods with a
            velocity use the effective rate α Σ w, which depends less on β.
        betas: β of each trial in [0, 1), shape (trials,).
        values: The speed-up of each trial in (0, inf), or another number of which more is better;
            NaN where there is none; shape (trials,).
        chosen: The index of the trial that was chosen, at least 0, which is a star; None marks
            none.
        edge: The largest stable learning rates in (0, inf) and the β in [0, 1) that they belong to,
            shape (2, points), with NaN where the line has a gap; None draws no line.
        good: The share of the largest value, in (0, 1].
        label: The label of the colour bar; None says that the values are speed-ups.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The vertical coordinates are 1 - β, and the line of the edge is the last of
        ax.lines.

    Raises:
        ValueError: An array has another shape or a number outside its interval, no trial has a
            value, or chosen is not the index of a trial that has one.
        TypeError: An argument has another type.

    Example:
        >>> rates, betas, S = [0.01, 0.1, 1.0], [0.5, 0.9, 0.99], [0.3, 1.0, np.nan]
        >>> β = np.linspace(0, 0.99, 50)
        >>> limits = momentax.theory.stability_edge(β) / (1 - β)
        >>> ax = momentax.plotting.sensitivity(rates, betas, S, chosen=1, edge=[limits, β])
    """
    α, β, y = _as_trials(rates, betas, values)
    best = None if chosen is None else as_count("chosen", chosen, least=0, most=len(α) - 1)
    line = None if edge is None else _as_edge(edge)
    share = as_real("good", good, "(0, 1]")
    label = as_text("label", "speed-up S" if label is None else label, "'speed-up'")
    known = np.isfinite(y)
    if best is not None and not known[best]:
        raise ValueError(f"chosen must be the index of a trial with a value, and {best} has none")
    ax = new_axes(ax, 7, 4.8)
    low, high = np.min(y[known]), np.max(y[known])
    floor = max(low, high * _LEAST_SHARE)
    norm = LogNorm(floor, high if high > floor else 1.01 * floor)
    ticks = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / floor < _NARROW else (1.0, 2.0, 5.0)
    is_good = known & (y >= share * high * (1 - 1e-9))
    ax.plot(
        α[~known], 1 - β[~known], "x", color="0.6", markersize=7, markeredgewidth=1.5,
        label="_" if known.all() else "no value: it diverged",
    )  # fmt: skip
    star = known & (np.arange(len(α)) == best)
    colors: dict[str, Any] = {"norm": norm, "cmap": "viridis", "linewidths": 1.4, "zorder": 2.5}
    for which, border, marker, size, name in (
        (known & ~is_good & ~star, "none", "o", 70, "_"),
        (is_good & ~star, "black", "o", 70, f"good: at least {share:g} of the best"),
        (star, "black", "*", 320, "chosen"),
    ):
        ax.scatter(
            α[which], 1 - β[which], size, y[which], marker=marker, edgecolors=border,
            label=name if which.any() else "_", **colors,
        )  # fmt: skip
    _scale_axes(ax, α, β)
    if line is not None:
        _draw_edge(ax, line)
    bar = figure_of(ax).colorbar(
        ScalarMappable(norm, "viridis"), ax=ax, pad=0.02, label=label,
        extend="min" if low < floor else "neither",
    )  # fmt: skip
    bar.locator = LogLocator(subs=ticks)
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.minorticks_off()
    bar.update_ticks()
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _draw_edge(ax: Axes, edge: np.ndarray) -> None:
    limits = ax.get_xlim(), ax.get_ylim()
    (line,) = ax.plot(edge[0], 1 - edge[1], color="black", linewidth=2, label="stability edge")
    line.set_path_effects([withStroke(linewidth=4.5, foreground="white")])
    ax.set(xlim=limits[0], ylim=limits[1])


def _scale_axes(ax: Axes, α: np.ndarray, β: np.ndarray) -> None:
    ax.set(xscale="log", yscale="log")
    for axis, values in ((ax.xaxis, α), (ax.yaxis, 1 - β)):
        low, high = float(values.min()), float(values.max())
        room = (high / low) ** 0.06 if high > low else 2.0
        ends = low / room, high * room
        axis.axes.set(**{"xlim" if axis is ax.xaxis else "ylim": ends})
    label_log_axis(ax.xaxis)
    ax.set(xlabel="effective learning rate α Σ w", ylabel="β, on a log scale of 1 − β")
    ax.invert_yaxis()
    _label_betas(ax.yaxis)


def _label_betas(axis: Axis) -> None:
    """Label an axis of 1 - β with β at round values."""
    low, high = np.sort(axis.get_view_interval())
    ladder = np.sort(np.outer((1, 2, 5), 10.0 ** np.arange(-8, 1)).ravel())
    ticks = ladder[(low <= ladder) & (ladder <= min(high, 1))]
    axis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(1 - value, 12):g}"))
    axis.set_minor_locator(NullLocator())


def _as_trials(rates: Any, betas: Any, values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    α = as_reals("rates", rates, "(0, inf)")
    if α.ndim != 1 or not α.size:
        raise ValueError(f"rates must be 1-D with a rate for each trial, got shape {α.shape}")
    β, y = as_reals("betas", betas, "[0, 1)"), as_known("values", values, "(0, inf)")
    for name, array in (("betas", β), ("values", y)):
        require_shape(name, array, α.shape, "a number for each of rates")
    if not np.isfinite(y).any():
        raise ValueError("values must hold a number for at least one trial, got only NaN")
    return α, β, y


def _as_edge(edge: Any) -> np.ndarray:
    line = as_known("edge", edge)
    if line.ndim != 2 or len(line) != 2:
        raise ValueError(
            "edge must hold the learning rates of the edge and their β, shape (2, points), got "
            f"shape {line.shape}"
        )
    as_known("edge[0]", line[0], "(0, inf)")
    as_known("edge[1]", line[1], "[0, 1)")
    return line
