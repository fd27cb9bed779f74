"""The performance profile of methods: how often each is nearly the fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from momentax._core.arguments import as_reals
from momentax.plotting._methods import (
    as_highlight,
    as_known,
    as_names,
    line_styles,
    require_shape,
    scale_factors,
)
from momentax.plotting._style import new_axes


def profile(
    methods: Sequence[str],
    ratios: ArrayLike,
    shares: ArrayLike,
    *,
    areas: ArrayLike | None = None,
    highlight: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of the tasks on which each method is within a ratio of the fastest.

        ρ_m(τ) = #{t : max over m' of S_{m',t} / S_{m,t} ≤ τ} / tasks

    A curve that starts high belongs to a method that is often the fastest, and one that ends high
    to a method that is seldom slow. `bench.statistics.performance_profile` computes the shares, and
    `bench.statistics.profile_area` the areas.

    Args:
        methods: The names of the methods.
        ratios: τ in [1, inf), 1-D and ascending.
        shares: ρ in [0, 1] of each method at each ratio, shape (methods, ratios); ascending.
        areas: The mean height of each curve in [0, 1], shape (methods,), for the legend; None shows
            none.
        highlight: The names of the methods that are drawn in colours, in the order of these, at
            most seven; the others are grey. None means the five with the largest areas, or with the
            highest curves.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The curves are ax.lines, in the order of the methods.

    Raises:
        ValueError: An array has another shape, is not ascending, or has a number outside its
            interval, or a name is not one of the methods.
        TypeError: An argument has another type.

    Example:
        >>> S, ratios = [[1.0, 2.0], [2.0, 1.0]], np.linspace(1, 4, 301)
        >>> shares = momentax.bench.statistics.performance_profile(S, ratios)
        >>> ax = momentax.plotting.profile(["nesterov", "adam"], ratios, shares)

    Source:
        Dolan and Moré, Benchmarking optimization software with performance profiles, Mathematical
        Programming, 2002.
    """
    names = as_names("methods", methods)
    τ, ρ = _as_curves(ratios, shares, len(names))
    B = None if areas is None else as_known("areas", areas, "[0, 1]")
    if B is not None:
        require_shape("areas", B, (len(names),), "one for each method")
    merits = ρ.mean(1) if B is None else B
    highlighted = as_highlight(highlight, names, merits)
    ax = new_axes(ax, 8.5, 4.6)
    for name, style, share in zip(names, line_styles(names, highlighted), ρ, strict=True):
        ax.step(τ, share, where="post", label=name, **style)
    scale_factors(ax.xaxis, τ, low=1.0, high=float(τ[-1]))
    ax.set_xlim(τ[0], max(τ[-1], 1.01 * τ[0]))
    ax.set_ylim(-0.02, 1.03)
    ax.set_xlabel("τ, how many times slower than the fastest method of a task")
    ax.set_ylabel("share of the tasks on which it is within τ")
    _draw_legend(ax, names, merits, B)
    return ax


def _draw_legend(ax: Axes, names: list[str], merits: np.ndarray, areas: Any) -> None:
    """List all methods beside the axes, the one with the largest area first."""
    order = np.argsort(-np.nan_to_num(merits, nan=-1.0), kind="stable")
    labels = [names[i] if areas is None else f"{areas[i]:.2f}  {names[i]}" for i in order]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}
    title = None if areas is None else "area"
    ax.legend(
        [ax.lines[i] for i in order], labels, title=title, alignment="left", frameon=False,
        fontsize=9, title_fontsize=9, **place,
    )  # fmt: skip


def _as_curves(ratios: Any, shares: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    τ = as_reals("ratios", ratios, "[1, inf)")
    if τ.ndim != 1 or len(τ) < 2 or np.any(np.diff(τ) <= 0):
        raise ValueError(
            "ratios must be 1-D and ascending with at least two ratios, such as "
            f"np.linspace(1, 4, 301), got shape {τ.shape}"
        )
    ρ = as_reals("shares", shares, "[0, 1]")
    require_shape("shares", ρ, (count, len(τ)), "a row for each method and a column for each ratio")
    if np.any(np.diff(ρ, axis=1) < 0):
        raise ValueError(
            "shares must not fall along the ratios; give those of "
            "bench.statistics.performance_profile, not speed-ups"
        )
    return τ, ρ
