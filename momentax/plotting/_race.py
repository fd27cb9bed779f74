"""The losses of several methods on one problem, ranked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import as_real
from momentax._training._ranking import Racer, rank
from momentax._training._rollout import Rollout
from momentax.plotting._paths import count_columns, draw_history, path_style
from momentax.plotting._runs import as_runs, losses_of, phrase, steps_of
from momentax.plotting._style import legend_below, new_axes

_DEPTH = 1e-14  # The picture ends at this share of the largest start.


def race(
    runs: Mapping[str, Rollout] | Rollout,
    *,
    minimum: float | None = None,
    fraction: float = 1e-3,
    every: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Draw the losses of several methods on one problem, ranked by the steps to a target.

        target = f* + fraction · (f(θ_0) - f*)

    The vertical axis is the loss above the minimum f* on a log scale, and a dotted line is the
    target. A mark shows from which step on each run stays at or below it, so that a method that
    only passes by does not count. The legend lists the runs in the order of these steps. Those
    that do not reach the target follow in the order of their last losses, and then those that
    diverge: their losses are not finite or end above the start.

    Args:
        runs: Runs by name, or one run: what `momentax.rollout` returns with the record "loss",
            all with the same loss and start.
        minimum: f*, the lowest value of the loss, any real number. None is 0, or the lowest
            recorded loss if that is negative.
        fraction: The share of the loss above the minimum at the target, in (0, 1).
        every: The argument `every` of the rollouts, at least 1.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The lines of the runs are the first of ax.lines, in the order of the ranking,
        and their data are the steps and the losses above the minimum. If the starts differ, the
        target is that of the highest.

    Raises:
        ValueError: A run has no record of a loss or is several runs, a recorded loss lies below
            the minimum, a number lies outside its interval, or every is not that of the rollouts.
        TypeError: runs are not what `momentax.rollout` returns, or ax is not matplotlib axes.

    Example:
        >>> ravine = momentax.problems.ravine(10.0)
        >>> methods = {"heavy ball": momentax.heavy_ball(0.8), "Nesterov": momentax.nesterov(0.8)}
        >>> runs = {
        ...     name: momentax.rollout(ravine.loss, ravine.start, momentax.sgd(0.02, method), 50)
        ...     for name, method in methods.items()
        ... }
        >>> ax = momentax.plotting.race(runs, minimum=0.0)
    """
    fraction = as_real("fraction", fraction, "(0, 1)")
    racers, level, lowest = _rank(as_runs(runs), minimum, fraction, every)
    ax = new_axes(ax, 8, 5.5)
    ax.set_yscale("log", nonpositive="mask")
    ax.set_autoscaley_on(False)  # Matplotlib warns of values near the largest number.
    handles = [_draw_racer(ax, racer, place) for place, racer in enumerate(racers, start=1)]
    if level > 0:
        handles.append(_draw_target(ax, racers, level, fraction))
        _limit_heights(ax, racers, level)
    ax.set(xlabel="step", ylabel=_label(lowest))
    ax.set_xlim(0, max(int(racer.steps[-1]) for racer in racers) or 1)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    legend_below(ax, handles, columns=count_columns(ax, handles))
    return ax


def _label(lowest: float) -> str:
    """Return the label of the loss above its lowest value."""
    if not lowest:
        return "loss"
    return f"loss {'−' if lowest > 0 else '+'} {abs(lowest):.6g}"


def _rank(
    runs: Mapping[str, Rollout], minimum: Any, fraction: float, every: Any
) -> tuple[list[Racer], float, float]:
    """Return the runs in the order of their ranks, the target above f*, and f*."""
    losses = {name: losses_of(phrase(name), run) for name, run in runs.items()}
    recorded = np.concatenate(list(losses.values()))
    recorded = recorded[np.isfinite(recorded)]
    least = float(recorded.min(initial=np.inf))
    lowest = min(0.0, least) if minimum is None else as_real("minimum", minimum, "(-inf, inf)")
    start = max((f[0] - lowest for f in losses.values() if np.isfinite(f[0])), default=0.0)
    if least < lowest - 1e-5 * (start + abs(lowest)):
        raise ValueError(
            f"minimum must not exceed the recorded losses, the lowest of which is {least:.6g}, "
            f"got {lowest:.6g}"
        )
    steps = {name: steps_of(phrase(name), runs[name], len(f), every) for name, f in losses.items()}
    return *rank(losses, steps, lowest, fraction), lowest


def _draw_racer(ax: Axes, racer: Racer, place: int) -> Line2D:
    """Draw the loss of a run and return its entry of the legend."""
    color, marker = path_style(racer.position)
    if racer.diverged is not None:
        outcome = f"diverged from step {racer.diverged}"
    else:
        steps = "1 step" if racer.reached == 1 else f"{racer.reached} steps"
        outcome = "not reached" if racer.reached is None else steps
    label = f"{place}. {racer.name}: {outcome}"
    style: dict[str, Any] = {
        "color": color,
        "label": label,
    }
    draw_history(ax, racer.steps, racer.excess, racer.position, **style)
    return Line2D([], [], marker=marker, markeredgecolor="black", markersize=6, **style)


def _draw_target(ax: Axes, racers: list[Racer], level: float, fraction: float) -> Line2D:
    """Draw the target and where each run stays below it, and return an entry of the legend."""
    for racer in racers:
        if racer.reached is not None and racer.diverged is None:
            color, marker = path_style(racer.position)
            first = int(np.flatnonzero(racer.steps == racer.reached)[0])
            ax.plot(
                racer.reached,
                racer.excess[first] if racer.excess[first] > 0 else level,
                color=color,
                marker=marker,
                markeredgecolor="black",
                markersize=8,
                zorder=3,
                clip_on=False,
            )
    label = f"target: {fraction:g} of the start, and the steps until below it"
    return ax.axhline(level, color="0.3", linewidth=1, linestyle=":", zorder=1, label=label)


def _limit_heights(ax: Axes, racers: list[Racer], level: float) -> None:
    """Cut the picture far below the starts, where losses are rounding, and far above them."""
    values = np.concatenate([racer.excess for racer in racers if racer.diverged is None] or [[]])
    values = values[np.isfinite(values) & (values > 0)]
    start = max(racer.excess[0] for racer in racers if np.isfinite(racer.excess[0]))
    low = max(values.min(initial=level), _DEPTH * start)
    ax.set_ylim(low / 2, 3 * values.max(initial=start))
