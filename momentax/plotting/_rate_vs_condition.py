"""The best rates of methods against the condition number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike

from momentax._core.arguments import as_reals, describe, require_function
from momentax._core.typing import Reals
from momentax.plotting._axis_scale import NumberScale
from momentax.plotting._pipelines import line_style
from momentax.plotting._style import new_axes, require_axes
from momentax.theory import (
    gradient_descent_rate,
    heavy_ball_rate,
    nesterov_rate,
    triple_momentum,
)

_BOUND = "lower bound: no method is faster"
_MOST_TICKS = 9


def _triple_momentum_rate(kappa: Reals) -> Reals:
    """Return the rate of triple momentum; at κ = 1 plain descent needs one step."""
    strict = np.where(kappa > 1, kappa, 2)
    return np.where(kappa > 1, triple_momentum(1 / strict, 1.0).rate, 0.0)


def _certified_nesterov_rate(kappa: Reals) -> Reals:
    return np.sqrt(nesterov_rate(kappa))


# From the slowest to the fastest.
_METHODS: dict[str, Callable[[Reals], Any]] = {
    "gradient descent": gradient_descent_rate,
    "Nesterov, certified for convex functions": _certified_nesterov_rate,
    "triple momentum, certified for convex functions": _triple_momentum_rate,
    "Nesterov, tuned for quadratics": partial(nesterov_rate, quadratic=True),
    "heavy ball, on quadratics": heavy_ball_rate,
}


def rate_vs_condition(
    kappas: ArrayLike | None = None,
    methods: Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the best rates that methods reach against the condition number κ = L / μ.

    By default these are the closed forms of `theory`, from the slowest method to the fastest:

        gradient descent    ρ = (κ - 1) / (κ + 1)
        Nesterov            ρ = √(1 - 1/√κ), certified, and 1 - 2/√(3κ + 1) on quadratics
        triple momentum     ρ = 1 - 1/√κ, certified
        heavy ball          ρ = (√κ - 1) / (√κ + 1), on quadratics

    A certified rate holds for every smooth strongly convex function. Heavy ball's rate is the lower
    bound: below it, in the shaded region, no first-order method is on every quadratic of many
    dimensions. Rates are on a log scale of 1 - ρ. The right axis has the number of steps in which
    the error falls by a factor of ten, -1 / log₁₀ ρ: it grows with κ for gradient descent and with
    √κ for the others.

    Args:
        kappas: κ in [1, inf), 1-D; None spans 2 to a million.
        methods: A mapping from names to functions of κ that return the rate, such as
            {"heavy ball": momentax.theory.heavy_ball_rate}; None draws those above.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. The first lines are those of the methods, in order; their data are κ and ρ.

    Raises:
        ValueError: kappas lie outside of the interval or are not 1-D, methods is empty, or a
            function returns rates outside of [0, 1] or of another shape.
        TypeError: methods is not a mapping from names to functions, or ax is not matplotlib axes.

    Example:
        >>> ax = momentax.plotting.rate_vs_condition([10.0, 100.0, 1000.0])
        >>> round(float(ax.lines[0].get_ydata()[1]), 6)
        0.980198

    Source:
        Goh, Why momentum really works, Distill, 2017; Lessard, Recht and Packard, 2016,
        arXiv:1408.3595; the bound: Nesterov, Introductory lectures on convex optimization, 2004.
    """
    κ = np.geomspace(2, 1e6, 300) if kappas is None else _as_kappas(kappas)
    methods = _METHODS if methods is None else _as_methods(methods)
    require_axes(ax)
    rates = {name: _rates(name, rate, κ) for name, rate in methods.items()}
    ax = new_axes(ax, 7.5, 5)
    ax.set_yscale("function", functions=(_forward, _inverse))
    for i, (name, ρ) in enumerate(rates.items()):
        ax.plot(κ, ρ, label=name, **line_style(i))
    bound = heavy_ball_rate(κ)
    ax.fill_between(κ, 0, bound, color="0.9", linewidth=0, label=_BOUND, zorder=0)
    every = np.concatenate([bound, *rates.values()])
    low, high = float(every.min()), float(every[every < 1].max(initial=0.5))
    ax.set(xscale="log", xlabel="condition number κ = L / μ")
    ax.set(xlim=(κ[0], κ[-1]) if κ[0] < κ[-1] else None, ylim=_widened(low, high))
    ax.set_ylabel("rate ρ per step, on a log scale of 1 − ρ")
    positions, labels = NumberScale(
        "ρ", np.array([low, high]), "momentum", ticks_at_values=False
    ).ticks(_MOST_TICKS)
    ax.yaxis.set_major_locator(FixedLocator(_inverse(positions).tolist()))
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.yaxis.set_minor_locator(NullLocator())
    _draw_steps_per_digit(ax, low, high)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return ax


def _forward(ρ: Any) -> Any:
    return -np.log1p(-np.minimum(ρ, 1 - 1e-15))


def _inverse(position: Any) -> Any:
    return -np.expm1(-np.asarray(position))


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return limits a little beyond two rates, on the scale of the axis."""
    ends = np.asarray(_forward(np.array([low, high])))
    margin = 0.03 * (ends[1] - ends[0]) or 0.5
    return float(_inverse(max(ends[0] - margin, 0.0))), float(_inverse(ends[1] + margin))


def _as_kappas(kappas: ArrayLike) -> Reals:
    κ = as_reals("kappas", kappas, "[1, inf)")
    if κ.ndim != 1 or not κ.size:
        raise ValueError(f"kappas must be 1-D with at least one number, got shape {κ.shape}")
    return np.unique(κ)


def _as_methods(methods: Any) -> Mapping[str, Callable[[Reals], Any]]:
    if not isinstance(methods, Mapping) or not all(isinstance(name, str) for name in methods):
        raise TypeError(
            'methods must be a mapping from names to functions of κ, such as {"heavy ball": '
            f"momentax.theory.heavy_ball_rate}}, got {describe(methods)}"
        )
    if not methods:
        raise ValueError("methods must hold at least one function, got none")
    for name, rate in methods.items():
        require_function(f"methods[{name!r}]", rate, "of κ that returns the rate", 10.0)
    return methods


def _rates(name: str, rate: Callable[[Reals], Any], κ: Reals) -> Reals:
    ρ = as_reals(f"what methods[{name!r}] returns", rate(κ), "[0, 1]")
    if ρ.shape != κ.shape:
        raise ValueError(
            f"methods[{name!r}] must return a rate for each κ, of shape {κ.shape}, got {ρ.shape}"
        )
    return ρ


def _draw_steps_per_digit(ax: Axes, low: float, high: float) -> None:
    """Label the right side with the steps in which the error falls by a factor of ten."""
    right = ax.twinx()
    right.set_yscale("function", functions=(_forward, _inverse))
    right.set_ylim(ax.get_ylim())
    ax.callbacks.connect("ylim_changed", lambda left: right.set_ylim(left.get_ylim()))
    right.set_ylabel("steps per factor of ten")
    ladder = np.outer(10.0 ** np.arange(0, 12), (1, 2, 5)).ravel()
    rates = 10 ** (-1 / ladder)
    kept = (rates >= low) & (rates <= high)
    if kept.sum() > _MOST_TICKS:
        kept &= np.arange(len(ladder)) % 3 == 0
    right.set_yticks(rates[kept].tolist(), [f"{steps:,.0f}" for steps in ladder[kept]])
    right.yaxis.set_minor_locator(NullLocator())
    right.tick_params(labelsize=9)
    for side, spine in right.spines.items():
        spine.set_visible(side == "right")
