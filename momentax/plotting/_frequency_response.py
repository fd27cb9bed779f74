"""The gain and the phase of a linear pipeline over the frequency of the gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter
from numpy.typing import ArrayLike

from momentax._core.arguments import as_flag, as_option, as_reals
from momentax._core.typing import Reals
from momentax.memory import Kernel
from momentax.plotting._pipelines import Pipeline, line_style, read_pipelines, subject
from momentax.plotting._style import new_axes, require_axes
from momentax.theory import StateSpace
from momentax.theory import frequency_response as response

_COUNT = 400
_HALF = 0.5  # The highest frequency: the gradient changes its sign at each step.
_LOWEST = 1e-6


def frequency_response(
    tx: optax.GradientTransformation
    | StateSpace
    | Kernel
    | Mapping[str, optax.GradientTransformation | StateSpace | Kernel],
    *,
    part: str = "amplitude",
    frequencies: ArrayLike | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw what a linear pipeline makes of gradients that oscillate, over their frequency.

        g_t = e^{2πi f t}    →    u_t = H(f) g_t

    H is the `theory.frequency_response`. A frequency of 1/2 cycle per step is a gradient that
    changes its sign at each step, and its period is two steps. The sign of a complete optimizer
    is turned, so that it descends at phase 0. Weight decay, which responds to the parameters, is
    left out. The legend has the amplitude for constant and for alternating gradients:
    1 / (1 - β) and 1 / (1 + β) for heavy ball.

    Args:
        tx: A linear Optax transformation, its StateSpace or a memory.Kernel, or a mapping from
            names to such.
        part: "amplitude" for |H| on a log scale, or "phase" for the angle of H in degrees, by
            which the updates run ahead of the gradients; they lag where it is negative.
        frequencies: f in (0, 0.5] cycles per step, 1-D; None spans those at which H changes.
        normalize: Whether to divide by the response to a constant gradient, to compare
            pipelines with different learning rates or gains.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes, with a line for each pipeline, in order.

    Raises:
        ValueError: A transformation is not linear, the mapping is empty, part is another word,
            frequencies lie outside of the interval or are not 1-D, or normalize is True and the
            response to a constant gradient is 0 or infinite.
        TypeError: tx is not a transformation or such a mapping, normalize is not a bool, or ax
            is not matplotlib axes.

    Example:
        >>> ax = momentax.plotting.frequency_response(momentax.heavy_ball(0.9))
        >>> round(float(ax.lines[0].get_ydata()[-1]), 6)
        0.526316
    """
    part = as_option("part", part, ("amplitude", "phase"))
    normalize = as_flag("normalize", normalize)
    f = None if frequencies is None else _as_frequencies(frequencies)
    require_axes(ax)
    pipelines = read_pipelines(tx)
    if normalize:
        _require_constant(pipelines)
    ax = new_axes(ax, 6.5, 4)
    f = np.geomspace(min(map(_lowest, pipelines)), _HALF, _COUNT) if f is None else f
    for i, each in enumerate(pipelines):
        unit = each.sign * (each.total if normalize else 1.0)
        H = response(each.system, f) / unit
        values = np.abs(H) if part == "amplitude" else _phase(H)
        ax.plot(f, values, label=_label(each, part, unit), **line_style(i))
    ax.set(xscale="log", xlabel="frequency f, in cycles per step")
    ax.set_xlim(f.min(), max(f.max(), _HALF))
    label_frequencies(ax)
    if part == "amplitude":
        what = f"in the {subject(pipelines)}"
        relative = "relative to a constant gradient" if normalize else what
        ax.set(yscale="log", ylabel=f"amplitude |H|\n{relative}")
    else:
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set(ylabel="phase of H, in degrees\n(negative: the updates lag)")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    return ax


def _as_frequencies(frequencies: ArrayLike) -> Reals:
    f = as_reals("frequencies", frequencies, "(0, 0.5]")
    if f.ndim != 1 or not f.size:
        raise ValueError(f"frequencies must be 1-D with at least one, got shape {f.shape}")
    return np.sort(f)


def _require_constant(pipelines: list[Pipeline]) -> None:
    for each in pipelines:
        if not (np.isfinite(each.total) and abs(each.total) > 1e-12):
            of = f" of {each.name!r}" if each.name else ""
            raise ValueError(
                f"normalize must be False, since the response{of} to a constant gradient is "
                f"{abs(each.total):.4g}"
            )


def _lowest(pipeline: Pipeline) -> float:
    """Return a frequency below which the response does not change much."""
    age = 1e3 if pipeline.kernel is None else abs(pipeline.kernel.mean_age)
    return max(0.01 / (1 + age), _LOWEST) if np.isfinite(age) else 1e-4


def _phase(H: np.ndarray) -> Reals:
    """Return the angle in degrees without jumps by a turn, between ±180 at the first frequency."""
    return np.rad2deg(np.unwrap(np.angle(H)))


def _label(pipeline: Pipeline, part: str, unit: float) -> str | None:
    if part == "phase":
        return pipeline.name or None
    constant, alternating = np.abs(response(pipeline.system, np.array([0, _HALF])) / unit)
    numbers = f"constant {constant:.3g}, alternating {alternating:.3g}"
    return f"{pipeline.name}: {numbers}" if pipeline.name else numbers


def label_frequencies(ax: Axes) -> None:
    """Put ticks at powers of ten and at 1/2."""
    low, high = ax.get_xlim()
    powers = 10.0 ** np.arange(np.ceil(np.log10(low) - 1e-9), np.log10(high))
    ticks = [*powers[powers < 0.3], _HALF]
    ax.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks[:-1]] + ["1/2"]))
    ax.xaxis.set_minor_formatter(NullFormatter())
