"""What an optimizer does along every curvature, from its analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from momentax._core.arguments import describe
from momentax._core.typing import Reals
from momentax.plotting._style import COLORS, label_log_axis, legend_below, new_axes
from momentax.theory import Analysis, closed_loop, rate_at

_COUNT = 600
_WIDE = 20  # Curvatures that span this factor are on a log scale.


def analysis(analysis: Analysis, *, ax: Axes | None = None) -> Axes:
    """Draw the factor per step by which an error shrinks or grows along every curvature.

    The line is solid where the error oscillates as it decays and dashed where it does not. The
    shaded curvatures are those from mu to L that were analysed, and the horizontal line is their
    rate, the worst factor of the positive ones. Beyond the stability edge the factor exceeds 1.

    Args:
        analysis: What `theory.analyze` returns.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The first two lines hold the factors, NaN where the other one does.

    Raises:
        TypeError: analysis is not what `theory.analyze` returns, or ax is not matplotlib axes.

    Example:
        >>> found = momentax.theory.analyze(momentax.sgd(0.1), 0.5, 20.0)
        >>> momentax.plotting.analysis(found).get_xlabel()
        'curvature λ'
    """
    if not isinstance(analysis, Analysis):
        raise TypeError(
            f"analysis must be what momentax.theory.analyze returns, got {describe(analysis)}"
        )
    ax = new_axes(ax, 7, 4.2)
    λ, is_log = _curvatures(analysis)
    ρ, oscillates = rate_at(analysis.system, λ), _oscillates(analysis, λ)
    for shown, dash, label in (
        (oscillates, "-", "oscillates"),
        (~oscillates, "--", "does not oscillate"),
    ):
        # One point more joins the two lines.
        shown = shown | np.append(shown[1:], False) if dash == "-" else shown
        ax.plot(λ, np.where(shown, ρ, np.nan), dash, color=COLORS[0], label=label)
    ax.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    _mark(ax, analysis)
    ax.set(xscale="log" if is_log else "linear", xlim=(λ[0], λ[-1]))
    if is_log:
        label_log_axis(ax.xaxis)
        ax.xaxis.set_minor_formatter(NullFormatter())
    finite = ρ[np.isfinite(ρ)]
    low = float(min(finite.min(), 1.0))
    top = min(float(finite.max()), 1 + max(0.5 * (1 - low), 0.05))
    ax.set(xlabel="curvature λ", ylabel="factor per step of an error")
    ax.set_ylim(low - 0.05 * (top - low), top + 0.05 * (top - low))
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _curvatures(found: Analysis) -> tuple[Reals, bool]:
    """Return the curvatures to draw, and whether they are on a log scale."""
    high = 1.25 * max(found.L, found.edge if 0 < found.edge <= 100 * found.L else found.L)
    if found.mu > 0 and high > _WIDE * found.mu:
        return np.geomspace(found.mu / 2, high, _COUNT), True
    low = min(found.mu, 0.0)
    return np.linspace(low - 0.05 * (high - low), high, _COUNT), False


def _oscillates(found: Analysis, λ: Reals) -> np.ndarray:
    """Return whether the largest root of the closed loop is complex or negative."""
    roots = np.linalg.eigvals(closed_loop(found.system, λ))
    if found.period > 1:
        roots = roots**found.period
    largest = np.take_along_axis(roots, np.abs(roots).argmax(axis=-1, keepdims=True), axis=-1)
    return np.abs(np.angle(largest[:, 0])) > 1e-6


def _mark(ax: Axes, found: Analysis) -> None:
    half = f", half-life {found.half_life:.3g} steps" if np.isfinite(found.half_life) else ""
    ax.axvspan(
        found.mu, found.L, color="0.88", zorder=0, label=f"from μ = {found.mu:.4g} to {found.L:.4g}"
    )
    rate = f"rate {found.rate:.4g}{half}"
    line: dict[str, Any] = {"color": COLORS[1], "linewidth": 1.2, "zorder": 1}
    ends = (max(found.mu, 0.0), found.L)
    ax.plot(ends, [found.rate, found.rate], linestyle="-.", label=rate, **line)
    if 0 < found.edge < np.inf:
        label = f"stability edge {found.edge:.4g}, {found.margin:.3g} L"
        ax.axvline(found.edge, color="black", linewidth=2, label=label)
