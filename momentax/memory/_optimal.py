"""The kernel that estimates the current gradient best, and the measurements that it needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_toeplitz
from scipy.optimize import nnls

from momentax._core.arguments import as_count, as_real, as_reals, describe
from momentax._core.typing import PyTree, Reals
from momentax.memory._kernel import Kernel

_CANDIDATES = 64  # The β among which the fit of the autocorrelation chooses.


class Autocorrelation(NamedTuple):
    """How the gradients of a run depend on earlier ones, as `measure` estimates it.

    signal: r_0 .. r_n, the autocorrelation of the signal, in squared units of the gradient per
        entry of the parameters: a sum of exponentials that was fitted to `measured`.
    noise: N, the variance of the noise in one entry, in the same units.
    measured: the mean of g_t g_{t+k} over all t and entries, k = 0 .. n. At lag 0 it is r_0 + N.
    samples: the steps T that it was measured on.
    """

    signal: Reals
    noise: float
    measured: Reals
    samples: int

    def __repr__(self) -> str:
        ratio = self.noise / self.signal[0] if self.signal[0] else np.inf
        return (
            f"Autocorrelation(signal={self.signal[0]:.4g} at lag 0 and {self.signal[-1]:.4g} at "
            f"lag {len(self.signal) - 1}, noise={self.noise:.4g} ({ratio:.3g} times the signal), "
            f"samples={self.samples})"
        )


def optimal(
    signal: ArrayLike | Autocorrelation, noise: float | None = None, *, ahead: int = 0
) -> Kernel:
    """Compute the weights of past gradients that estimate the present signal best.

        g_t = s_t + n_t,    r_k = E s_t s_{t+k},    E n_t² = N
        minimize E (s_{t+d} - Σ_k w_k g_{t-k})²
        Σ_j r_{|k-j|} w_j + N w_k = r_{k+d},    k = 0 .. K - 1

    This is the Wiener filter with as many weights as the autocorrelation has lags, less d. The
    noise is independent from step to step. If r is a sum of p exponentials, then so is w, up to
    the end effects of finitely many lags, and `memory.fit` finds it: for r_k = S ρᵏ the optimal
    kernel is one exponential with a β below ρ. The weights sum to less than 1, since an
    estimate of the least squared error is smaller than the signal.

    The autocorrelation of the gradients of a run depends on the optimizer that made the run. So
    the result is optimal for gradients that behave as the measured ones.

    Args:
        signal: r_0, r_1, ..., the autocorrelation of the signal, 1-D, with r_0 in (0, inf); or
            what `memory.measure` returned, which contains the noise too.
        noise: N in (0, inf), the variance of the noise, in the units of r.
        ahead: d, at least 0: how many steps ahead the signal is estimated.

    Returns:
        The Kernel of the weights w_0 .. w_{K-1}.

    Raises:
        ValueError: A number lies outside its interval, signal is not 1-D or has no more than
            `ahead` lags, or it is no autocorrelation.
        TypeError: noise is missing, or given beside a measurement.

    Example:
        >>> kernel = momentax.memory.optimal(0.9 ** np.arange(400), noise=1.0)
        >>> momentax.memory.fit(kernel, buffers=1).kernel
        Kernel.from_exponentials([(0.62678..., 0.8133...)])

    Source:
        Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, 1949;
        solved by the recursion of Levinson.
    """
    if isinstance(signal, Autocorrelation):
        if noise is not None:
            raise TypeError(
                "noise must be left out where signal is a measurement, which contains it, got "
                f"noise={describe(noise)}"
            )
        signal, noise = signal.signal, signal.noise
    elif noise is None:
        raise TypeError("noise is missing: give N, the variance of the noise, in the units of r")
    r = as_reals("signal", signal)
    N = as_real("noise", noise, "(0, inf)")
    d = as_count("ahead", ahead, least=0)
    if r.ndim != 1 or len(r) <= d:
        raise ValueError(
            f"signal must be 1-D and have more than ahead={d} lags, got shape {r.shape}"
        )
    if not r[0] > 0 or np.any(np.abs(r) > r[0] * (1 + 1e-9)):
        raise ValueError(
            "signal must be an autocorrelation, whose first entry is positive and the largest in "
            f"absolute value, got {r[0]:g} first and {np.abs(r).max():g} as the largest"
        )
    K = len(r) - d
    column = r[:K] + N * np.eye(1, K)[0]
    try:
        w = solve_toeplitz(column, r[d:])
    except np.linalg.LinAlgError:
        raise ValueError("signal must be an autocorrelation, got a singular one") from None
    return Kernel.from_weights(w)


def measure(gradients: PyTree, lags: int = 64) -> Autocorrelation:
    """Estimate the autocorrelation of the gradients of a run, and their noise.

        c_k = mean over t and entries of g_t g_{t+k},    k = 0 .. n
        c_k ≈ r_k = Σᵢ aᵢ ρᵢᵏ for k ≥ 1, aᵢ ≥ 0,    N = c_0 - r_0

    Noise that is independent from step to step adds N to c_0 and nothing to the other c_k. So a
    sum of exponentials is fitted to these by nonnegative least squares, and its value at lag 0
    separates signal from noise. The mean gradient belongs to the signal. A c_k has a random error
    of about c_0 / √(T × entries), and more if entries depend on each other.

    Args:
        gradients: The gradients of T steps, in one of three forms: a pytree of real arrays with
            the steps on their leading axes, such as history["gradient"] of `rollout`; a list of T
            gradients, one for each step; or a list of the T states of an optimizer with a
            `monitor` whose every is 1, one from after each step. A monitor keeps up to 4096
            entries of each leaf of the last gradient. If steps are donated, as by `train_step`,
            record copies: states.append(jax.device_get(state)).
        lags: n, at least 2 and below T.

    Returns:
        Autocorrelation(signal, noise, measured, samples). noise is 0 where the fitted signal
        explains all of c_0.

    Raises:
        ValueError: There are not more than `lags` steps, the gradients of a list differ in their
            shapes, a list may be meant in two ways, a gradient is not finite, or a monitor has
            another every.
        TypeError: A leaf is not a real array, or gradients is one state of a monitor, or its
            measurements, which do not contain the gradients of several steps.

    Example:
        >>> loss, start, *_ = momentax.problems.ravine()
        >>> run = momentax.rollout(loss, start, momentax.sgd(1e-3), 200, record="gradient")
        >>> momentax.memory.measure(run.history["gradient"], lags=20).signal.shape
        (21,)
    """
    n = as_count("lags", lags, least=2)
    g = _rows(_stacked(gradients, n), n)
    T = len(g)
    c = np.array([np.vdot(g[: T - k], g[k:]) / ((T - k) * g.shape[1]) for k in range(n + 1)])
    ρ = np.exp(-1 / np.geomspace(0.3, 16 * n, _CANDIDATES))
    A = np.column_stack([ρ ** np.arange(n + 1)[:, None], np.ones(n + 1)])  # And a constant.
    scale = np.linalg.norm(A[1:], axis=0)
    share = nnls(A[1:] / scale, c[1:])[0] / scale
    signal = A @ share
    signal *= min(1.0, c[0] / signal[0]) if signal[0] > 0 else 1.0
    return Autocorrelation(signal, float(max(c[0] - signal[0], 0)), c, T)


def _stacked(gradients: Any, lags: int) -> PyTree:
    """Return gradients with the steps on their leading axes, from a list of them by step."""
    is_list = isinstance(gradients, list | tuple) and not hasattr(gradients, "_fields")
    states = [_monitor_state(each) for each in gradients] if is_list else []
    if states and all(state is not None for state in states):
        gradients = [_sample_of(state, i) for i, state in enumerate(states)]
    elif _monitor_state(gradients) is not None or type(gradients).__name__ == "Measurements":
        raise TypeError(
            "gradients must be a list with the state of each step where a monitor recorded them, "
            f"got {describe(gradients)}, which holds the last gradient at most; record the states "
            "of all steps with states.append(jax.device_get(state))"
        )
    elif not is_list or len(gradients) <= lags or not _are_alike(gradients):
        return gradients  # A tree, whose outermost node may be a list.
    elif _has_steps(gradients, lags):
        raise ValueError(
            f"gradients is a list of {len(gradients)} arrays or trees of one shape, and their "
            "leading axes are long enough to be steps too, so that it may be meant in two ways; "
            "for a gradient in each entry give jax.tree.map(lambda *g: np.stack(g), *gradients), "
            "and for the steps on the leading axes a dict of the entries"
        )
    return jax.tree.map(lambda *g: np.stack(g), *gradients)


def _monitor_state(tree: Any) -> Any:
    """Return the state of a monitor in the state of an optimizer, or None."""

    def is_monitor(node: Any) -> bool:
        return type(node).__name__ == "MonitorState" and hasattr(node, "previous")

    return next(filter(is_monitor, jax.tree.leaves(tree, is_leaf=is_monitor)), None)


def _sample_of(state: Any, step: int) -> PyTree:
    leaves = jax.tree.leaves((state.every, state.previous.gradient))
    if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves):
        raise ValueError(
            f"gradients[{step}] has been deleted, since the next step was written over it; record "
            "copies with states.append(jax.device_get(state))"
        )
    if int(state.every) != 1:
        raise ValueError(
            f"gradients[{step}] must be the state of a monitor with every=1, which keeps the "
            f"gradient of each step, got every={int(state.every)}"
        )
    return state.previous.gradient


def _are_alike(trees: Any) -> bool:
    """Return whether trees have the same structure and shapes."""
    kinds = [
        (jax.tree.structure(each), tuple(map(np.shape, jax.tree.leaves(each)))) for each in trees
    ]
    return bool(kinds[0][1]) and all(kind == kinds[0] for kind in kinds)


def _has_steps(tree: PyTree, lags: int) -> bool:
    """Return whether all leaves have one leading axis that is longer than the lags."""
    shapes = list(map(np.shape, jax.tree.leaves(tree)))
    lengths = {shape[0] for shape in shapes if shape}
    return all(shapes) and len(lengths) == 1 and lengths.pop() > lags


def _rows(gradients: PyTree, lags: int) -> Reals:
    """Return gradients over time as a float64 matrix with one row for each step."""
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    if not leaves:
        raise ValueError("gradients must hold at least one array, got none")
    rows = []
    for path, leaf in leaves:
        name = f"gradients{jax.tree_util.keystr(path)}"
        array = as_reals(name, leaf)
        if array.ndim < 1 or len(array) <= lags:
            steps = len(array) if array.ndim else 0
            raise ValueError(
                f"{name} must have more than lags={lags} steps on its leading axis, got {steps}; "
                "give the gradients of all steps of a run, or fewer lags"
            )
        rows.append(array.reshape(len(array), -1))
    lengths = sorted({len(each) for each in rows})
    if len(lengths) > 1:
        raise ValueError(f"gradients must have one number of steps in all leaves, got {lengths}")
    return np.concatenate(rows, axis=1)
