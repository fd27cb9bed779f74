"""The measured spectrum of a Hessian, with its extremes and the stability edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator, FixedLocator, ScalarFormatter

from momentax._core.arguments import as_real, describe
from momentax._core.typing import Reals
from momentax.diagnostics import Curvature, Spectrum
from momentax.plotting._style import COLORS, label_log_axis, legend_below, new_axes, require_axes
from momentax.theory import StateSpace, sharpness_limit

_WIDE = 100  # Curvatures that span this factor are on a log scale.
_LINEAR_SHARE = 1e-4  # The share of the largest curvature around 0 that is on a linear scale.
_GRID = 800
_DENSITY_FLOOR = 1e-5  # The share of the largest density below which the curve ends.


def spectrum(
    curvature: Curvature | Spectrum,
    *,
    tx: optax.GradientTransformation | StateSpace | None = None,
    width: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how the curvatures of a loss are distributed, as `momentax.curvature` measured it.

    A stem at each Ritz value λ shows about how many of the n curvatures lie near it: n times its
    weight, the mean over the random starts. Weights are estimates: with one start, that of a single
    curvature may be off by several times. Vertical lines mark μ and L, in bands of their errors.
    Curvatures are on a log scale where all are positive and span a factor of 100, on a log scale to
    either side of 0 where there are small ones, and on a linear scale otherwise.

    Args:
        curvature: What `momentax.curvature` returns, or its spectrum.
        tx: The optimizer whose stability edge is marked: the largest curvature at which it is
            stable, `theory.sharpness_limit`. None marks none.
        width: The standard deviation in (0, inf) of the Gaussians to which stems are blurred, on
            a linear scale: the curve shows n times the density per unit of curvature. None draws
            stems.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The first line holds the Ritz values and the numbers near them, or the blurred
        curve.

    Raises:
        ValueError: width lies outside its interval, or tx is not linear.
        TypeError: curvature is neither, tx is not a transformation, or ax is not matplotlib axes.

    Example:
        >>> nodes, weights = np.array([[0.5, 2.0, 8.0]]), np.array([[0.5, 0.25, 0.25]])
        >>> found = momentax.diagnostics.Spectrum(nodes, weights, 4)
        >>> ax = momentax.plotting.spectrum(found, tx=optax.sgd(0.1))
        >>> ax.lines[0].get_ydata()
        array([2., 1., 1.])
    """
    found, extremes = _read(curvature)
    σ = None if width is None else as_real("width", width, "(0, inf)")
    require_axes(ax)
    edge = None if tx is None else sharpness_limit(tx)
    ax = new_axes(ax, 7, 4)
    if σ is None:
        λ, numbers = _stems(found)
        ax.plot(λ, numbers, linestyle="none", marker=".", markersize=6, color=COLORS[0], zorder=3)
        floor = _floor(numbers, found.size)
        ax.vlines(λ, floor, numbers, color=COLORS[0], linewidth=1, alpha=0.7)
        ax.set(yscale="log", ylim=(floor, 2 * max(numbers.max(), floor)))
        ax.set_ylabel(f"curvatures near λ, of {found.size:,}")
        label_log_axis(ax.yaxis)
        _scale(ax, λ, extremes, edge)
    else:
        λ = np.linspace(found.nodes.min() - 4 * σ, found.nodes.max() + 4 * σ, _GRID)
        density = found.size * found.density(λ, σ)
        ax.plot(λ, density, color=COLORS[0])
        ax.set(yscale="log", ylim=(_DENSITY_FLOOR * density.max(), 2 * density.max()))
        ax.set_ylabel(f"density of the {found.size:,} curvatures")
    ax.set_xlabel("curvature λ, an eigenvalue of the Hessian")
    _mark_extremes(ax, extremes)
    if edge is not None:
        _mark_edge(ax, edge, extremes["L"][0])
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _read(curvature: Any) -> tuple[Spectrum, dict[str, tuple[float, float]]]:
    """Return the spectrum, and the extremes with their errors, NaN where these are not known."""
    if isinstance(curvature, Spectrum):
        found = _as_spectrum(curvature)
        ends = {"μ": found.nodes.min(), "L": found.nodes.max()}
        return found, {name: (float(end), np.nan) for name, end in ends.items()}
    if not isinstance(curvature, Curvature):
        raise TypeError(
            "curvature must be what momentax.curvature returns, or its spectrum, got "
            f"{describe(curvature)}"
        )
    found, extremes = _as_spectrum(curvature.spectrum), {}
    for name, label in (("mu", "μ"), ("L", "L")):
        extreme = as_real(f"curvature.{name}", getattr(curvature, name), "(-inf, inf)")
        errors = curvature.history.get(f"{name}_error", [np.nan])
        extremes[label] = extreme, float(errors[-1])
    return found, extremes


def _as_spectrum(found: Any) -> Spectrum:
    parts = [np.asarray(getattr(found, name, None)) for name in ("nodes", "weights")]
    if not all(part.ndim == 2 and part.size and part.dtype.kind == "f" for part in parts):
        raise TypeError(
            "curvature must hold a Spectrum with nodes and weights of the shape (starts, "
            f"iterations), got {describe(found)}"
        )
    return found


def _stems(found: Spectrum) -> tuple[Reals, Reals]:
    """Return the Ritz values in order, and about how many curvatures lie near each of them."""
    λ, weights = found.nodes.ravel(), found.weights.ravel() / len(found.nodes)
    order = np.argsort(λ, kind="stable")
    order = order[weights[order] > 0]
    return λ[order], found.size * weights[order]


def _floor(numbers: Reals, size: int) -> float:
    """Return where stems begin; much less than one curvature is an accident of the start."""
    return float(10.0 ** np.floor(np.log10(max(numbers.min(), min(0.01, 0.01 * size)) / 2)))


def _scale(
    ax: Axes, λ: Reals, extremes: dict[str, tuple[float, float]], edge: float | None
) -> None:
    """Choose the scale of the horizontal axis and its limits."""
    every = np.concatenate([λ, [extreme for extreme, _ in extremes.values()]])
    shown = every if edge is None or not np.isfinite(edge) else np.append(every, edge)
    largest = float(np.abs(shown).max())
    if every.min() > 0 and largest / every.min() >= _WIDE:
        ax.set(xscale="log", xlim=(every.min() / 1.5, 1.5 * shown.max()))
        label_log_axis(ax.xaxis)
    elif every.min() <= 0 and np.quantile(np.abs(every), 0.5) < largest / _WIDE:
        unit = 10.0 ** np.round(np.log10(_LINEAR_SHARE * largest))
        ax.set_xscale("symlog", linthresh=unit, linscale=0.5)
        low = 1.5 * every.min() if every.min() < -unit else -2 * unit
        ax.set_xlim(low, 1.5 * shown.max() if shown.max() > unit else 2 * unit)
        ax.xaxis.set_major_locator(FixedLocator(_symlog_ticks(low, 1.5 * largest, unit)))
    else:
        margin = 0.06 * float(np.ptp(shown)) or 0.5 * largest or 1.0
        ax.set_xlim(shown.min() - margin, shown.max() + margin)
        ax.xaxis.set_major_locator(AutoLocator())
        ax.xaxis.set_major_formatter(ScalarFormatter())


def _symlog_ticks(low: float, high: float, unit: float) -> list[float]:
    """Return 0 and powers of ten to either side, at most about nine."""
    powers = unit * 10.0 ** np.arange(0, np.ceil(np.log10(max(high, -low) / unit)) + 1)
    step = -(-len(powers) // 5)
    powers = powers[::-1][::step][::-1]
    ticks = [*(-powers[powers <= -low])[::-1], 0.0, *powers[powers <= high]]
    return [float(tick) for tick in ticks]


def _mark_extremes(ax: Axes, extremes: dict[str, tuple[float, float]]) -> None:
    for (name, (extreme, error)), colour in zip(extremes.items(), COLORS[2:4], strict=True):
        known = np.isfinite(error)
        label = f"{name} = {extreme:.4g}" + (f" ± {error:.1g}" if known else "")
        ax.axvline(extreme, color=colour, linewidth=1.4, linestyle="--", label=label, zorder=2)
        if known:
            ends = extreme - error, extreme + error
            ax.axvspan(*ends, color=colour, alpha=0.2, linewidth=0, zorder=1)


def _mark_edge(ax: Axes, edge: float, L: float) -> None:
    if not np.isfinite(edge):
        ax.plot([], [], color="black", linewidth=2, label="stable at every curvature")
        return
    share = f", {edge / L:.3g} L" if L > 0 else ""
    label = f"stability edge {edge:.4g}{share}"
    ax.axvline(edge, color="black", linewidth=2, label=label, zorder=2)
