"""A kernel, the sum of exponentials that was fitted to it, and how both filter gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from momentax._core.arguments import describe
from momentax.memory import Fit
from momentax.plotting._frequency_response import label_frequencies
from momentax.plotting._style import COLORS, as_axes, label_log_axis, new_figure

_VISIBLE = (
    0.01  # The lags end where both kernels have fallen below this share of the largest weight.
)
_DEEPEST = 1e-3  # The share of the largest amplitude at which the picture ends.
_FEWEST = 10
_MOST_DOTS = 60  # More weights than this are a line without dots.


def kernel_fit(fit: Fit, *, ax: Any = None) -> np.ndarray:
    """Draw a kernel and its fit by exponentials: weights over lag, and responses over frequency.

    Left are the weights of both, right the amplitudes of their frequency responses |H(f)|. Thin
    lines are the exponentials of the fit, c (1 - β) βᵏ, of which it is the sum; they are left out
    where they are much larger than it.

    Args:
        fit: What `memory.fit` returns.
        ax: Two axes to draw on, an array or a list; None makes a new figure.

    Returns:
        The two axes, in an array. The first line of each is that of the target, the second that of
        the fit.

    Raises:
        TypeError: fit is not what `memory.fit` returns, or ax is not matplotlib axes.
        ValueError: ax does not hold two axes.

    Example:
        >>> found = momentax.memory.fit((1 + np.arange(500)) ** -1.5, buffers=3)
        >>> left, right = momentax.plotting.kernel_fit(found)
        >>> left.get_xlabel()
        'lag k, in steps'
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit must be what momentax.memory.fit returns, got {describe(fit)}")
    if ax is None:
        _, ax = new_figure(1, 2, 9.5, 3.8)
    left, right = as_axes(ax, 2)
    _draw_weights(left, fit)
    _draw_responses(right, fit)
    return np.array([left, right], object)


def _draw_weights(ax: Axes, fit: Fit) -> None:
    n = len(fit.target_weights)
    pairs = fit.kernel.exponentials or ()
    found = fit.kernel.weights(n)
    both = np.maximum(np.abs(fit.target_weights), np.abs(found))
    shown = min(n, max(_FEWEST, int(np.flatnonzero(both >= _VISIBLE * both.max())[-1]) + 1))
    k = np.arange(shown)
    dots = {} if shown > _MOST_DOTS else {"marker": ".", "markersize": 5}
    ax.plot(k, fit.target_weights[:shown], color="0.55", linewidth=3, label="target", **dots)
    label = f"{len(pairs)} exponential{'s' if len(pairs) > 1 else ''}, error {fit.error:.2g}"
    ax.plot(k, found[:shown], color=COLORS[0], label=label)
    low, high = ax.get_ylim()
    parts = [c * (1 - β) * β**k for β, c in pairs]
    # Exponentials of opposite signs may be so much larger that none of them is in the picture.
    if all(low <= part[0] <= high for part in parts):
        for i, part in enumerate(parts):
            name = None if i else "each exponential"
            ax.plot(k, part, color=COLORS[1], linewidth=0.8, zorder=1, label=name)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlabel="lag k, in steps", ylabel="weight of the gradient k steps ago")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)


def _draw_responses(ax: Axes, fit: Fit) -> None:
    f = fit.frequencies
    ax.plot(f, np.abs(fit.target_response), color="0.55", linewidth=3, label="target")
    ax.plot(f, np.abs(fit.response), color=COLORS[0], label="fit")
    ax.set(xscale="log", yscale="log", xlabel="frequency f, in cycles per step")
    ax.set(ylabel="amplitude |H|", xlim=(f.min(), max(f.max(), 0.5)))
    shown = np.concatenate([np.abs(fit.response), np.abs(fit.target_response)])
    largest = shown.max()  # A target may have zeros, at which the logarithm has no end.
    ax.set_ylim(max(shown.min(), _DEEPEST * largest) / 1.3, 1.3 * largest)
    label_frequencies(ax)
    label_log_axis(ax.yaxis)
    ax.legend(frameon=False)
