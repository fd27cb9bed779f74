"""The weight of each past gradient in the updates of a linear pipeline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import as_count, as_flag
from momentax._core.typing import Reals
from momentax.memory import Kernel
from momentax.plotting._pipelines import Pipeline, line_style, read_pipelines, subject
from momentax.plotting._style import new_axes, require_axes
from momentax.theory import StateSpace

_VISIBLE = 0.01  # The curve ends where the weights have fallen below this share of the largest.
_FEWEST, _MOST = 10, 2**15
_MOST_DOTS = 60  # More weights than this are a line without dots.


def kernel(
    tx: optax.GradientTransformation
    | StateSpace
    | Kernel
    | Mapping[str, optax.GradientTransformation | StateSpace | Kernel],
    *,
    steps: int | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the weight of a past gradient in the update against its age.

        u_t = Σ_k h_k g_{t-k}

    h is the `theory.impulse_response` of the pipeline. A complete optimizer descends: its weights
    are drawn as -h, so that they are positive downhill, in parameters per gradient. Weight decay,
    which responds to the parameters, is left out. A circle marks the half-life, the age at which
    half of all weight is reached: log(1/2) / log β for heavy ball. A diamond marks the mean age:
    β / (1 - β) for heavy ball. The legend has both numbers, which are those of `memory.Kernel`.

    Args:
        tx: A linear Optax transformation, its StateSpace or a memory.Kernel, or a mapping from
            names to such.
        steps: The number of weights, at least 1; None ends where they have become small.
        normalize: Whether to divide the weights by their sum, to compare pipelines with
            different learning rates or gains.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The first lines are those of the pipelines, in order; their data are the lags
        and the weights.

    Raises:
        ValueError: A transformation is not linear, the mapping is empty, steps is below 1, or
            normalize is True and the weights have no sum or one of 0.
        TypeError: tx is not a transformation or such a mapping, steps is not a whole number,
            normalize is not a bool, or ax is not matplotlib axes.

    Example:
        >>> ax = momentax.plotting.kernel({"β = 0.9": momentax.heavy_ball(0.9)}, steps=30)
        >>> float(ax.lines[0].get_ydata()[0])
        1.0
    """
    count = None if steps is None else as_count("steps", steps, most=_MOST)
    normalize = as_flag("normalize", normalize)
    require_axes(ax)
    pipelines = read_pipelines(tx)
    if normalize:
        _require_sums(pipelines)
    ax = new_axes(ax, 6.5, 4)
    count = count or max(map(_visible_steps, pipelines))
    many, units = count > _MOST_DOTS, [p.total if normalize else 1.0 for p in pipelines]
    for i, (each, unit) in enumerate(zip(pipelines, units, strict=True)):
        dots = {} if many else {"marker": ".", "markersize": 5}
        ax.plot(np.arange(count), each.weights(count) / unit, **line_style(i), **dots)
    handles = [_mark_ages(ax, each, i) for i, each in enumerate(pipelines)]
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    share = "share of all weight" if normalize else "weight of the gradient"
    ax.set(xlabel="lag k, in steps", ylabel=f"{share} k steps ago\nin the {subject(pipelines)}")
    ax.set_xlim(-0.02 * count, count - 1 + 0.02 * count)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(handles=[*handles, *_mark_handles()], frameon=False)
    return ax


def _has_sum(pipeline: Pipeline) -> bool:
    size = np.abs(pipeline.weights(64)).max()
    return bool(np.isfinite(pipeline.total) and pipeline.total > 1e-9 * size)


def _require_sums(pipelines: list[Pipeline]) -> None:
    for each in pipelines:
        if not _has_sum(each):
            of = f" of {each.name!r}" if each.name else ""
            raise ValueError(
                f"normalize must be False, since the weights{of} have no positive sum to divide by"
            )


def _visible_steps(pipeline: Pipeline) -> int:
    """Return the number of steps after which the weights are small."""
    steps = 64
    while True:
        weights: Reals = np.abs(pipeline.weights(steps))
        visible = np.flatnonzero(weights >= _VISIBLE * weights.max())
        last = int(visible[-1]) if visible.size else 0
        if last < steps / 2 or steps >= _MOST:
            break
        steps *= 2
    return min(max(int(1.1 * last) + 2, _FEWEST), steps)


def _mark_ages(ax: Axes, pipeline: Pipeline, i: int) -> Line2D:
    """Mark the half-life and the mean age on the curve, and return its entry in the legend."""
    line, ages = ax.lines[i], {}
    if pipeline.kernel is not None and _has_sum(pipeline):
        ages = {"half-life": pipeline.kernel.half_life, "mean age": pipeline.kernel.mean_age}
    colour = line.get_color()
    lags, weights = (np.asarray(part, np.float64) for part in line.get_data())
    for marker, age in zip("oD", ages.values(), strict=False):
        if 0 <= age <= lags[-1]:
            height = float(np.interp(age, lags, weights))
            ax.vlines(age, 0, height, color=colour, linewidth=0.8, alpha=0.6)
            ax.plot(age, height, marker=marker, **_MARK, color=colour)
    numbers = ", ".join(f"{name} {age:.3g}" for name, age in ages.items() if np.isfinite(age))
    label = f"{pipeline.name}: {numbers}" if pipeline.name and numbers else pipeline.name or numbers
    style = {"color": colour, "linestyle": line.get_linestyle()}
    return Line2D([], [], label=label or "no half-life: the velocity does not decay", **style)


_MARK = {"markersize": 6.5, "markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 4}


def _mark_handles() -> list[Line2D]:
    style = {**_MARK, "color": "0.3", "linestyle": "none"}
    return [
        Line2D([], [], marker="o", label="half-life", **style),
        Line2D([], [], marker="D", label="mean age", **style),
    ]
