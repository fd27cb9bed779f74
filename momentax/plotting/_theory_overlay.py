"""The theory's stability edge over a measured map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from momentax._core import arguments
from momentax.plotting._legend import legend_below
from momentax.theory import largest_learning_rate

_COUNT = 24


def theory_overlay(
    ax: Axes,
    pipeline: Callable[[Any, Any], optax.GradientTransformation],
    curvature: float,
    *,
    betas: Any = None,
    label: str | None = None,
    color: Any = "black",
) -> Axes:
    """Draw the stability edge of a pipeline over a heat map.

    At each β the learning rate at which the pipeline stops being stable at a
    curvature, as `theory.largest_learning_rate` reads it off the pipeline's own
    code: to the right of the line a quadratic of that curvature diverges. The
    line has a gap where the pipeline is stable at any learning rate or at none,
    and ends with the map, which stays as it is.

    Args:
        ax: The axes of a `heatmap`.
        pipeline: A function of a learning rate and a β, in this order, that
            returns a whole optimizer that `theory.state_space` can read, such as
            lambda learning_rate, beta: momentax.sgd(learning_rate,
            momentax.heavy_ball(beta)).
        curvature: λ in (0, inf), the largest eigenvalue of the Hessian, as
            `momentax.curvature` measures it.
        betas: Where to compute it, 1-D, each in [0, 1); None is 24 places over
            the map's height.
        label: What the key calls the line; None is "stability edge at curvature"
            and λ. Where no part of the line is within the map, the key says why.
        color: The line's colour.

    Returns:
        The axes drawn on. The line is the last of ax.lines, learning rates and
        1 - β its data, NaN where there is no edge.

    Raises:
        ValueError: The axes are not those of a heat map, an argument lies outside
            its interval, or as `theory.state_space`.
        TypeError: ax is no Axes, pipeline no function or what it returns no
            transformation.
    """
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be the axes that heatmap returned, got {arguments.describe(ax)}")
    if ax.get_xscale() != "log" or ax.get_yscale() != "log":
        raise ValueError("ax must be the axes of a heatmap, with a log scale on either side")
    if not callable(pipeline) or isinstance(pipeline, optax.GradientTransformation):
        raise TypeError(
            "pipeline must be a function of a learning rate and a β that returns a "
            f"transformation, got {arguments.describe(pipeline)}"
        )
    λ = arguments.as_real("curvature", curvature, "(0, inf)")
    left, right = sorted(ax.get_xlim())
    bottom, top = sorted(ax.get_ylim())  # Of 1 - β.
    if betas is None:
        if bottom > 1:
            raise ValueError(f"ax must be the axes of a heatmap of β, got 1 - β above {bottom:g}")
        β = 1 - np.geomspace(min(top, 1.0), bottom, _COUNT)
    else:
        β = arguments.as_reals("betas", betas, "[0, 1)")
        if β.ndim != 1 or not β.size:
            raise ValueError(f"betas must be 1-D with at least one β, got shape {β.shape}")
        β = np.sort(β)
    α = largest_learning_rate(lambda learning_rate, beta: pipeline(learning_rate, beta), λ, beta=β)
    there = np.isfinite(α) & (α > 0)
    within = there & (left <= α) & (α <= right) & (bottom <= 1 - β) & (1 - β <= top)
    label = f"stability edge at curvature {λ:.4g}" if label is None else label
    if not there.any():
        found = {0.0: "stable nowhere", np.inf: "stable everywhere"}
        label = f"{label}\n({found.get(float(α[0]), 'none') if len(set(α)) == 1 else 'none'})"
    elif not within.any():
        below, above = (α[there] < left).all(), (α[there] > right).all()
        beyond = "below" if below else "above"
        where = f"{beyond} the map's learning rates" if below or above else "off the map"
        label = f"{label}\n({where})"
    key = list(old.legend_handles) if (old := ax.get_legend()) else []
    limits = ax.get_xlim(), ax.get_ylim()
    (line,) = ax.plot(
        np.where(there, α, np.nan), 1 - β, color=color, linewidth=2, label=label, zorder=3.5
    )
    line.set_path_effects([withStroke(linewidth=4.5, foreground="white")])
    ax.set(xlim=limits[0], ylim=limits[1])
    legend_below(ax, [*key, line])
    return ax
