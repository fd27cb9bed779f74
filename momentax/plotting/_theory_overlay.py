"""The stability edge that the theory predicts, drawn over a heat map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.patheffects import withStroke

from momentax._core.arguments import (
    as_real,
    as_reals,
    describe,
    is_curvature,
    require_function,
    require_transformation,
)
from momentax.plotting._style import as_label, legend_below, zero_border
from momentax.theory import largest_learning_rate, stability_edge

_COUNT = 24


def theory_overlay(
    ax: Axes,
    pipeline: Callable[[Any, Any], optax.GradientTransformation],
    curvature: Any,
    *,
    betas: Any = None,
    label: str | None = None,
    color: Any = "black",
) -> Axes:
    """Draw the stability edge of a pipeline over a heat map.

    The edge at a β is the learning rate above which the pipeline is unstable on a quadratic of
    this curvature. `theory.largest_learning_rate` computes it from the code of the pipeline.
    The line has a gap where the pipeline is stable at every learning rate or at none. The
    limits of the map stay as they are.

    Args:
        ax: The axes of a `heatmap`.
        pipeline: A function of a learning rate and a β, in this order, that returns a whole
            optimizer which `theory.state_space` can read.
        curvature: λ in (0, inf), the largest eigenvalue of the Hessian, or the Curvature that
            `momentax.curvature` measured.
        betas: Where to compute the edge, 1-D, each in [0, 1); None means 24 values over
            the height of the map.
        label: The label of the line in the legend; None means "stability edge at
            curvature" and λ. If no part of the line is within the map, the legend says why.
        color: The colour of the line.

    Returns:
        The axes. The line is the last of ax.lines; its data are learning rates and 1 - β, with
        NaN where there is no edge.

    Raises:
        ValueError: The axes are not those of a heat map, an argument lies outside its
            interval, color is not a colour, or `theory.state_space` cannot read the pipeline.
        TypeError: ax is not matplotlib axes, pipeline is not a function, or what it returns is
            not a transformation.

    Example:
        >>> points = momentax.grid(learning_rate=[0.01, 0.1], beta=[0.0, 0.9])
        >>> ax = momentax.plotting.heatmap(points, [[1.0, 2.0], [3.0, 4.0]], label="loss")
        >>> heavy_ball = lambda α, β: momentax.sgd(α, momentax.heavy_ball(β))
        >>> ax = momentax.plotting.theory_overlay(ax, heavy_ball, curvature=20.0)
    """
    _require_heatmap(ax)
    label = as_label(label)
    if not _is_color(color):
        raise ValueError(f'color must be a colour of matplotlib, as "black", got {describe(color)}')
    require_function(
        "pipeline", pipeline, "of a learning rate and a β that returns a transformation", 0.1, 0.9
    )
    λ = as_curvature(curvature)
    β = _betas_over(ax) if betas is None else _as_betas(betas)
    α = largest_learning_rate(
        lambda learning_rate, beta: _make(pipeline, learning_rate, beta), λ, beta=β
    )
    return _draw_edge(ax, α, β, _edge_label(λ) if label is None else label, color)


def heavy_ball_overlay(ax: Axes, curvature: float) -> Axes:
    """Draw the stability edge of `sgd` with heavy ball, from its closed form."""
    β = _betas_over(ax)
    return _draw_edge(ax, stability_edge(β) / curvature, β, _edge_label(curvature), "black")


def _edge_label(curvature: float) -> str:
    return f"stability edge at curvature {curvature:.4g}"


def _draw_edge(ax: Axes, α: np.ndarray, β: np.ndarray, label: str, color: Any) -> Axes:
    """Draw the edge at each β, and say in the legend why no part of it is visible."""
    limits = ax.get_xlim(), ax.get_ylim()
    positive = max(min(limits[0]), zero_border(ax)), max(limits[0])
    if reason := _why_invisible(α, β, (positive, limits[1])):
        label = f"{label}\n({reason})"
    handles = list(legend.legend_handles) if (legend := ax.get_legend()) else []
    edge = np.where(_exists(α) & (α > zero_border(ax)), α, np.nan)
    (line,) = ax.plot(edge, 1 - β, color=color, linewidth=2, label=label, zorder=3.5)
    line.set_path_effects([withStroke(linewidth=4.5, foreground="white")])
    ax.set(xlim=limits[0], ylim=limits[1])
    legend_below(ax, [*handles, line])
    return ax


def as_curvature(curvature: Any) -> float:
    """Return the largest curvature, given as a number or as a Curvature."""
    λ = curvature.L if is_curvature(curvature) else curvature
    return as_real("curvature", λ, "(0, inf)")


def _is_color(color: Any) -> bool:
    try:
        return is_color_like(color)
    except Exception:  # A tuple of anything can make matplotlib fail.
        return False


def _make(pipeline: Any, learning_rate: Any, beta: Any) -> Any:
    """Return the transformation of a pipeline, checked."""
    tx = pipeline(learning_rate, beta)
    if not isinstance(tx, optax.MultiSteps):
        require_transformation("what pipeline returns", tx)
    return tx


def _require_heatmap(ax: Any) -> None:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be the axes that heatmap returned, got {describe(ax)}")
    if ax.get_xscale() != "log" or ax.get_yscale() != "log":
        raise ValueError("ax must be the axes of a heatmap, with a log scale on either side")


def _betas_over(ax: Axes) -> np.ndarray:
    """Return values of β over the height of a map whose vertical axis is 1 - β."""
    bottom, top = sorted(ax.get_ylim())
    if bottom > 1:
        raise ValueError(f"ax must be the axes of a heatmap of β, got 1 - β above {bottom:g}")
    return 1 - np.geomspace(min(top, 1.0), bottom, _COUNT)


def _as_betas(betas: Any) -> np.ndarray:
    β = as_reals("betas", betas, "[0, 1)")
    if β.ndim != 1 or not β.size:
        raise ValueError(f"betas must be 1-D with at least one β, got shape {β.shape}")
    return np.sort(β)


def _exists(α: np.ndarray) -> np.ndarray:
    """Return where there is an edge: stable below the learning rate α, unstable above."""
    return np.isfinite(α) & (α > 0)


def _why_invisible(
    α: np.ndarray, β: np.ndarray, limits: tuple[tuple[float, float], tuple[float, float]]
) -> str:
    """Return why no part of the line is within the map; nothing if a part is."""
    (left, right), (bottom, top) = map(sorted, limits)
    exists = _exists(α)
    if not exists.any():
        if (α == 0).all():
            return "stable nowhere"
        return "stable everywhere" if np.isposinf(α).all() else "none"
    visible = exists & (left <= α) & (α <= right) & (bottom <= 1 - β) & (1 - β <= top)
    if visible.any():
        return ""
    if (α[exists] < left).all():
        return "below the map's learning rates"
    return "above the map's learning rates" if (α[exists] > right).all() else "off the map"
