"""The error of a run along each eigenvector of a Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout
from momentax.plotting._eigenvectors import Basis, make_basis, origin_of
from momentax.plotting._paths import line_alpha
from momentax.plotting._runs import as_run, count_of, points_of, steps_of
from momentax.plotting._style import COLORS, new_axes, require_axes
from momentax.theory import StateSpace, rate_at

_MOST_IN_LEGEND = 7
_DEPTH = 1e-17  # The picture ends at this share of the largest value at the start.
_GROWTH = 1e3


def components(
    run: Rollout,
    hessian: Any,
    *,
    minimizer: PyTree = None,
    indices: Sequence[int] | None = None,
    tx: optax.GradientTransformation | StateSpace | None = None,
    every: int = 1,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error of a run along each eigenvector of a Hessian over the steps.

        y = |qᵢᵀ(θ_t - θ*)|,    H qᵢ = λᵢ qᵢ

    On a quadratic the eigenvectors qᵢ do not influence each other. In the long run each error
    shrinks by its own rate per step, which is the slope of its line on the log scale.

    Args:
        run: What `momentax.rollout` returns with the record "params".
        hessian: H, a symmetric matrix for the n entries of the params, or the tree that
            jax.hessian(loss)(params) returns.
        minimizer: θ*, shaped like the params; None is the origin, as for `problems.quadratic`.
        indices: The eigenvectors to draw, by their place in the ascending order of eigenvalues,
            each at least 0; None draws all.
        tx: The transformation of the run, if `theory.state_space` can read it, or its
            StateSpace: a dashed line from the first error of each eigenvector then shrinks by
            `theory.rate_at` per step. None draws no such lines.
        every: The argument `every` of the rollout, at least 1.
        ax: The axes to draw on; None makes a new figure.

    Returns:
        The axes. Each eigenvector is a line of ax.lines, with its eigenvalue as the label, and
        as data the steps and the errors. Dashed lines follow them.

    Raises:
        ValueError: The run has no record of params or is several runs, every is not that of the
            rollout, an argument does not fit the params, or tx cannot be read.
        TypeError: run is not what `momentax.rollout` returns, hessian is a Curvature, which
            has no eigenvectors, tx is not a transformation, or ax is not matplotlib axes.

    Example:
        >>> problem = momentax.problems.ravine(10.0)
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(problem.loss, problem.start, tx, 20, record="params")
        >>> hessian = jax.hessian(problem.loss)(problem.start)
        >>> ax = momentax.plotting.components(run, hessian)
    """
    run = as_run("run", run)
    require_axes(ax)
    points = points_of("run", run)
    rows = len(points.values) - 1
    steps = steps_of("run", run, rows, every)
    count = rows if every == 1 else count_of(run)
    values = points.values[:-1]
    if count is not None and count > steps[-1]:
        steps, values = np.append(steps, count), points.values
    basis = make_basis(hessian, indices, points)
    if basis.eigenvalues is None:
        raise TypeError("hessian must be a symmetric matrix, got None")
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.abs((values - origin_of(minimizer, points)) @ basis.vectors.T)
    rates = None if tx is None else rate_at(tx, basis.eigenvalues)
    ax = new_axes(ax, 8, 5)
    ax.set_yscale("log", nonpositive="mask")
    ax.set_autoscaley_on(False)  # Matplotlib warns of values near the largest number.
    colors = _colors(len(basis.labels))
    width, alpha = 0.6 + 0.7 * line_alpha(len(steps)), 0.3 + 0.7 * line_alpha(len(steps))
    for i, label in enumerate(basis.labels):
        rate = "" if rates is None else f", ρ = {rates[i]:.4g}"
        (line,) = ax.plot(steps, errors[:, i], color=colors[i], linewidth=width, alpha=alpha)
        line.set(label=f"{label}{rate}{_ending(steps, errors[:, i])}")
        line.set_zorder(2 - i / len(basis.labels))  # Steep directions oscillate most.
    handles = list(ax.lines)[-len(basis.labels) :]
    if rates is not None:
        handles.append(_draw_rates(ax, steps, errors[0], rates, colors))
    _limit_heights(ax, errors)
    position = "θ" if minimizer is None else "(θ − θ*)"
    ax.set(xlabel="step", ylabel=f"error along the eigenvector, |qᵀ{position}|")
    ax.set_xlim(0, steps[-1] or 1)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    _draw_legend(ax, handles, basis)
    return ax


def _ending(steps: Reals, errors: Reals) -> str:
    """Return what a legend adds to the name of a line that ends early."""
    is_finite = np.isfinite(errors)
    return "" if is_finite.all() else f" (not finite from step {steps[np.argmin(is_finite)]})"


def _colors(count: int) -> list[Any]:
    """Return one colour for each line: those of all plots, or a scale if there are many lines."""
    if count <= _MOST_IN_LEGEND:
        return list(COLORS[:count])
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, count)))


def _draw_rates(ax: Axes, steps: Reals, start: Reals, rates: Reals, colors: list[Any]) -> Line2D:
    """Draw a line for each rate and return their common entry of a legend."""
    for first, ρ, color in zip(start, rates, colors, strict=True):
        with np.errstate(over="ignore", under="ignore"):
            dark = 0.5 * np.array(to_rgb(color))
            ax.plot(steps, first * ρ**steps, color=dark, linewidth=1.2, linestyle="--", zorder=3)
    return Line2D([], [], color="0.2", linewidth=1.2, linestyle="--", label="ρᵗ, by the theory")


def _limit_heights(ax: Axes, errors: Reals) -> None:
    """Cut the picture far below the start, where errors are rounding, and far above it."""
    positive = errors[np.isfinite(errors) & (errors > 0)]
    if not positive.size:
        return  # A run that starts at the minimizer and stays there.
    start = errors[0].max() if errors[0].max() > 0 else positive.max()
    low = max(np.quantile(positive, 0.01), _DEPTH * start)  # Errors dip where they change sign.
    high = min(positive.max(), _GROWTH * start)
    ax.set_ylim(low / 2, 2 * max(high, low))


def _draw_legend(ax: Axes, handles: list[Line2D], basis: Basis) -> None:
    """Name the lines, of many only the first, the middle and the last."""
    count = len(basis.labels)
    if count > _MOST_IN_LEGEND:
        handles = [*(handles[i] for i in (0, count // 2, count - 1)), *handles[count:]]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    title = "eigenvalue" if count <= _MOST_IN_LEGEND else f"3 of {count} eigenvalues"
    ax.legend(handles=handles, title=title, frameon=False, **place)
