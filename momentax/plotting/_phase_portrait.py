"""Position against velocity, along each eigenvector of a Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout
from momentax.plotting._eigenvectors import make_basis, origin_of
from momentax.plotting._paths import (
    count_columns,
    dot_interval,
    draw_path,
    end_mark,
    mark_handles,
    moving_length,
    path_style,
)
from momentax.plotting._runs import as_run, points_of, steps_of, tree_rows
from momentax.plotting._style import legend_below, new_axes

_MOST = 7  # The curves that can be told apart.
_FARTHEST = 10  # The picture ends at this many times the largest position at the start.


def phase_portrait(
    run: Rollout,
    hessian: Any = None,
    *,
    minimizer: PyTree = None,
    indices: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the velocity of a run against its position, one curve for each eigenvector.

        x = qᵢᵀ(θ_t - θ*),    y = qᵢᵀ v_t,    t = 0 .. T

    On a quadratic the eigenvectors qᵢ do not influence each other, and each curve is that of a
    damped oscillator, which spirals around the origin or falls into it. A white circle marks the
    start, where v_0 = 0, a large mark the end, and arrows the direction. A run that diverges is
    cut, and the legend says so.

    Args:
        run: What `momentax.rollout` returns with record=("params", "velocity") and every=1. The
            velocity must be shaped like the params.
        hessian: H, a symmetric matrix for the n entries of the params, or the tree that
            jax.hessian(loss)(params) returns. None draws the single entries of the params.
        minimizer: θ*, shaped like the params; None is the origin.
        indices: The eigenvectors to draw, by their place in the ascending order of eigenvalues,
            each at least 0; None draws all of up to seven.
        ax: The axes to draw on; None makes a new figure. With one of the indices on each of
            several axes, each curve has a scale of its own.

    Returns:
        The axes. Each eigenvector is a line of ax.lines, with its eigenvalue as the label and
        as data the positions and the velocities after steps 0 .. T.

    Raises:
        ValueError: A record is missing or is that of several runs, not every step was recorded,
            there are more than seven directions, or an argument does not fit the params.
        TypeError: run is not what `momentax.rollout` returns, hessian is a Curvature, which
            has no eigenvectors, or ax is not matplotlib axes.

    Example:
        >>> problem, record = momentax.problems.ravine(10.0), ("params", "velocity")
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(problem.loss, problem.start, tx, 20, record=record)
        >>> ax = momentax.plotting.phase_portrait(run, jax.hessian(problem.loss)(problem.start))
    """
    run = as_run("run", run)
    points, v = points_of("run", run), tree_rows("run", run, "velocity")
    steps_of("run", run, len(v), 1)
    basis = make_basis(hessian, indices, points)
    if len(basis.vectors) > _MOST:
        raise ValueError(
            f"indices must choose at most {_MOST} of the {len(basis.vectors)} directions of the "
            "run, such as indices=[0, 1]"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        x = (points.values - origin_of(minimizer, points)) @ basis.vectors.T
        y = np.concatenate([np.zeros((1, v.shape[1])), v]) @ basis.vectors.T
    if not (shown := _count_shown(x, y)):
        raise ValueError("run must start at finite params")
    ax = new_axes(ax, 7, 5.5)
    ax.axhline(0, color="0.85", linewidth=1, zorder=0)
    ax.axvline(0, color="0.85", linewidth=1, zorder=0)
    size = np.array([np.ptp(x[:shown]) or 1.0, np.ptp(y[:shown]) or 1.0])
    curves = np.stack([x[:shown], y[:shown]], axis=-1).swapaxes(0, 1)
    moving = max(moving_length(curve, size) for curve in curves)
    ending, every = " (diverged)" if shown < len(x) else "", dot_interval(moving)
    look: dict[str, Any] = {"moving": moving, "every": every, "is_thin": True}
    handles = []
    for i, label in enumerate(basis.labels):
        look["label"] = f"{label}{ending}"
        handles.append(draw_path(ax, curves[i], i, size, shares=(0.1, 0.35), **look))
        if not ending:
            ax.plot(*curves[i, -1], zorder=3.1, **end_mark(*path_style(i)))
    ax.set(xlabel=_position_label(hessian, minimizer), ylabel=_velocity_label(hessian))
    handles += mark_handles(f"dots {every} steps apart" if every > 1 else "")
    legend_below(ax, handles, columns=count_columns(ax, handles))
    return ax


def _count_shown(x: Reals, y: Reals) -> int:
    """Return the number of points before a run diverges: far beyond its start, or not finite.

    A run that diverges at once has three points, if these are finite.
    """
    limit = _FARTHEST * np.abs(x[0]).max() or np.inf
    with np.errstate(invalid="ignore"):
        is_finite = np.isfinite(x + y).all(axis=1)
        is_near = (np.abs(x) <= limit).all(axis=1) & is_finite
    near, finite = (int(np.argmin(np.append(each, False))) for each in (is_near, is_finite))
    return max(near, min(3, finite))


def _position_label(hessian: Any, minimizer: Any) -> str:
    position = "θ" if minimizer is None else "θ − θ*"
    if hessian is None:
        return f"position, an entry of {position}"
    return f"position along the eigenvector, qᵀ{position if minimizer is None else f'({position})'}"


def _velocity_label(hessian: Any) -> str:
    return "velocity, an entry of v" if hessian is None else "velocity along the eigenvector, qᵀv"
