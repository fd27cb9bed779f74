"""The rate of a method at every learning rate and β, with its edge and its optimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke, withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike

from momentax._core.arguments import as_curvature_range, as_reals
from momentax._core.typing import Reals
from momentax._methods._heavy_ball import heavy_ball
from momentax.plotting._axis_scale import NumberScale, number_scale
from momentax.plotting._method_family import Systems, read_family
from momentax.plotting._style import figure_of, legend_below, new_axes, require_axes

_WIDTH, _HEIGHT = 220, 160  # The numbers of learning rates and of β.
_WIDEST = 1e6  # The largest factor between learning rates.
_COLOUR_RANGE = 1000  # The factor of 1 - ρ over which colours differ.
_UNSTABLE: Any = {"facecolor": "0.93", "hatch": "////", "edgecolor": "0.7", "linewidth": 0}
_EDGE: Any = {"color": "black", "linewidth": 2}
_CRITICAL: Any = {
    "μ": {"color": "white", "linestyle": "--", "linewidth": 1.6},
    "L": {"color": "white", "linestyle": ":", "linewidth": 1.8},
}
# Entries of the legend show white lines on a colour of the map.
_ON_THE_MAP: list[Any] = [
    Stroke(
        linewidth=9,
        foreground=mpl.colormaps["viridis"](0.5),
        capstyle="butt",
        dashes={"dash_offset": 0, "dash_list": None},
    ),
    Normal(),
]
_STAR: Any = {"color": "#D55E00", "marker": "*", "markeredgecolor": "white", "linestyle": "none"}


def spectral_map(
    mu: Any,
    L: float | None = None,
    method: Callable[[Any], optax.GradientTransformation] = heavy_ball,
    *,
    learning_rates: ArrayLike | None = None,
    betas: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the rate of a method on quadratics at every learning rate and β.

        ρ(α, β) = max over λ in [μ, L] of the spectral radius along λ

    ρ is the worst factor per step by which an error shrinks: brighter is faster. The hatched
    region is unstable, beyond the stability edge, which is the black line. A star marks the best
    learning rate and β of the map, and the legend has them with their rate. White lines mark
    critical damping: dashed where the two modes along μ, the slowest direction, meet, and dotted
    where those along L, the stiffest, do. There are none for a method with several velocities.
    Learning rates are on a log scale and β on a log scale of 1 - β, as in `heatmap`.

    Args:
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.
        method: A function of a β that returns a linear method, such as `momentax.nesterov` or
            `lambda beta: momentax.quasi_hyperbolic(beta, 0.7)`.
        learning_rates: α in (0, inf), 1-D; None spans the region around the optimum.
        betas: Each β in [0, 1), 1-D; None spans those from 0 to beyond the optimum.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The first of ax.collections holds the rates, masked where the method is
        unstable, with a row for each β, ascending.

    Raises:
        ValueError: mu is not positive or exceeds L, learning_rates or betas lie outside of their
            interval or are not 1-D, or the method is not linear, has a period, or does not
            return directions.
        TypeError: L is missing or given twice, method is not such a function, or ax is not
            matplotlib axes.

    Example:
        >>> ax = momentax.plotting.spectral_map(1.0, 100.0)
        >>> print(ax.get_legend().get_texts()[0].get_text())
        best: ρ = 0.8182 at α = 0.03306, β = 0.6694

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    μ, largest = as_curvature_range(mu, L)
    α = None if learning_rates is None else _as_axis("learning_rates", learning_rates, "(0, inf)")
    β = _default_betas(largest / μ) if betas is None else _as_axis("betas", betas, "[0, 1)")
    require_axes(ax)
    read = read_family(method)
    systems = read(β)
    edges = systems.edges() / largest
    if α is None:
        α = _default_learning_rates(edges, largest)
    best = find_optimum(read, systems, (μ, largest), (float(α[0]), float(α[-1])))
    ax = new_axes(ax, 8, 5.5)
    _draw_rates(ax, α, β, systems.rates(α, μ, largest), best.rate)
    (edge,) = ax.plot(np.where(np.isfinite(edges), edges, np.nan), 1 - β, **_EDGE, zorder=3)
    edge.set_path_effects([withStroke(linewidth=3.5, foreground="white")])
    critical = _draw_critical_damping(ax, systems, edges, μ, largest)
    ax.plot(best.learning_rate, 1 - best.beta, markersize=17, zorder=5, clip_on=False, **_STAR)
    label = f"best: ρ = {best.rate:.4g} at α = {best.learning_rate:.4g}, β = {best.beta:.4g}"
    star = Line2D([], [], label=label, markersize=13, **_STAR)
    line = Line2D([], [], label="stability edge", **_EDGE)
    legend_below(ax, [star, line, Patch(label="unstable", **_UNSTABLE), *critical])
    return ax


class Optimum(NamedTuple):
    """The best learning rate and β, and the rate that they reach."""

    learning_rate: float
    beta: float
    rate: float


def find_optimum(
    read: Callable[[Reals], Systems],
    systems: Systems,
    curvatures: tuple[float, float],
    limits: tuple[float, float],
) -> Optimum:
    """Find the best setting within the range of β of some systems and limits of α.

    Each search is of ever finer grids. Along α the worst rate has one valley, since the rate
    along each curvature has one.
    """
    closed = systems.coefficients is not None
    rounds, inner = (14, 14) if closed else (6, 6)
    best, at = _best_learning_rates(systems, curvatures, limits, inner)
    for _ in range(rounds):
        i = int(np.argmin(best))
        β = systems.betas[[max(i - 1, 0), min(i + 1, len(best) - 1)]]
        if β[0] == β[1]:
            break
        finer = 1 - np.geomspace(1 - β[0], 1 - β[1], 9)
        systems = read(np.clip(np.append(finer, systems.betas[i]), β[0], β[1]))
        order = np.argsort(systems.betas, kind="stable")
        systems = Systems(*(part[order] for part in systems))
        best, at = _best_learning_rates(systems, curvatures, limits, inner)
    i = int(np.argmin(best))
    return Optimum(float(at[i]), float(systems.betas[i]), float(best[i]))


def _best_learning_rates(
    systems: Systems, curvatures: tuple[float, float], limits: tuple[float, float], rounds: int
) -> tuple[Reals, Reals]:
    """Return the best rate at each β, and the learning rate that reaches it."""
    n = len(systems.betas)
    low, high = (np.full(n, np.log(limit)) for limit in limits)
    rows = np.arange(n)
    while True:
        grid = np.linspace(low, high, 25, axis=1)
        rates = systems.rates(np.exp(grid), *curvatures)
        i = rates.argmin(axis=1)
        if not rounds:
            return rates[rows, i], np.exp(grid[rows, i])
        low, high = grid[rows, np.maximum(i - 1, 0)], grid[rows, np.minimum(i + 1, 24)]
        rounds -= 1


def _as_axis(name: str, values: ArrayLike, interval: str) -> Reals:
    array = as_reals(name, values, interval)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{name} must be 1-D with at least two values, got shape {array.shape}")
    return np.unique(array)


def _default_betas(κ: float) -> Reals:
    """Return β from 0 to where 1 - β is a twentieth of its optimum for heavy ball."""
    optimum = 4 * np.sqrt(κ) / (1 + np.sqrt(κ)) ** 2
    return 1 - np.geomspace(1, min(max(optimum / 20, 1e-9), 0.02), _HEIGHT)


def _default_learning_rates(edges: Reals, L: float) -> Reals:
    """Return α from a hundredth of plain descent's edge to a little beyond all edges."""
    finite = edges[np.isfinite(edges)]
    high = 1.5 * float(finite.max(initial=2 / L))
    low = max(min(0.02 / L, float(finite.min(initial=2 / L)) / 100), high / _WIDEST)
    return np.geomspace(low, high, _WIDTH)


def _borders(values: Reals) -> Reals:
    """Return the borders of cells around positive values, halfway on the log scale."""
    x = np.log(values)
    middles = (x[1:] + x[:-1]) / 2
    return np.exp(np.concatenate([[2 * x[0] - middles[0]], middles, [2 * x[-1] - middles[-1]]]))


def _draw_rates(ax: Axes, α: Reals, β: Reals, rates: Reals, best: float) -> None:
    """Draw the coloured cells, the colour bar and the labels of both axes."""
    x, y = _borders(α), _borders(1 - β)
    norm = _rate_norm(best)
    stable = np.ma.array(rates, mask=rates >= 1)
    mesh = ax.pcolormesh(x, y, stable, cmap=mpl.colormaps["viridis_r"], norm=norm, rasterized=True)
    ax.patch.set(**_UNSTABLE)
    ax.set(xscale="log", yscale="log", xlim=(α[0], α[-1]), ylim=(1 - β[0], 1 - β[-1]))
    scales = number_scale("learning_rate", α[[0, -1]]), number_scale("beta", β)
    ax.set(xlabel=scales[0].label, ylabel=scales[1].label)
    positions, labels = scales[1].ticks(8)
    ax.yaxis.set_major_locator(FixedLocator((1 - scales[1].values_at(positions)).tolist()))
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.yaxis.set_minor_locator(NullLocator())
    bar = figure_of(ax).colorbar(mesh, ax=ax, pad=0.02, extend="max")
    bar.set_label("rate ρ per step, on a log scale of 1 − ρ")
    ends = np.array([best, norm.vmax])
    ticks, names = NumberScale("ρ", ends, "momentum", ticks_at_values=False).ticks(12)
    bar.set_ticks((1 - np.exp(-ticks)).tolist(), labels=names)
    bar.minorticks_off()


def _rate_norm(best: float) -> FuncNorm:
    """Colour rates on a log scale of 1 - ρ, from the best one on."""
    functions = (lambda ρ: -np.log1p(-np.minimum(ρ, 1 - 1e-15)), lambda p: -np.expm1(-p))
    return FuncNorm(functions, vmin=best, vmax=1 - (1 - best) / _COLOUR_RANGE)


def _draw_critical_damping(
    ax: Axes, systems: Systems, edges: Reals, μ: float, L: float
) -> list[Line2D]:
    """Draw where the modes along μ and along L meet, and return the legend's entries."""
    if (found := systems.coefficients) is None:
        return []
    handles = []
    curvatures = {"μ": μ, "L": L} if μ < L else {"L": L}
    dark: list[Any] = [withStroke(linewidth=3, foreground="black", alpha=0.55)]
    for name, λ in curvatures.items():
        for x in critical_products(**found):
            learning_rates = np.where(x / λ < edges, x / λ, np.nan)
            (line,) = ax.plot(learning_rates, 1 - systems.betas, zorder=2.5, **_CRITICAL[name])
            line.set_path_effects(dark)
        label = f"critical damping along {name if μ < L else 'μ = L'}"
        handles.append(Line2D([], [], label=label, path_effects=_ON_THE_MAP, **_CRITICAL[name]))
    return handles


def critical_products(
    beta: Reals, gradient_weight: Reals, velocity_weight: Reals
) -> tuple[Reals, Reals]:
    """Return the two values of α λ at which the roots of z² - T z + D = 0 meet.

        T² = 4 D,    T = 1 + β - x (a + b),    D = β (1 - x a)

    They are (1 - √β)² and (1 + √β)² for heavy ball, and NaN where the roots never meet.
    """
    β, a, s = beta, gradient_weight, gradient_weight + velocity_weight
    half = (1 + β) * s - 2 * β * a
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(half**2 - (s * (1 - β)) ** 2)
        large = (half + root) / s**2
        small = (1 - β) ** 2 / (half + root)
    return np.where(large > 0, small, np.nan), np.where(large > 0, large, np.nan)
