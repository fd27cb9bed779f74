"""The sum of few exponentials that is closest to a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares, nnls

from momentax._core import lazy
from momentax._core.arguments import as_count, as_flag, as_items, as_option, as_reals
from momentax._core.typing import Reals
from momentax.memory._kernel import Kernel, of
from momentax.memory._response import Exponentials, Taps

_LEAST_HORIZON, _MOST_HORIZON = 64, 16384
_FORGOTTEN = 1e-6  # The share of Σ w² behind the horizon of a kernel with infinitely many weights.
_EXACT = 1e6  # The weight of the equations that a fit fulfils exactly.
_SHORTEST = 1e-3  # Time constants are compared by their logarithms above this, in steps.
_TOLERANCES: Any = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-14}
_CANDIDATES = 48  # The β among which the first fit chooses.


class Fit(NamedTuple):
    """A sum of exponentials that approximates a kernel, and how well it does.

    kernel: the sum of exponentials.
    error: ‖w - target‖ / ‖target‖, over the lags that were compared.
    target_weights: the target's weights at these lags, 0 .. horizon - 1.
    frequencies: from 1 / (4 horizon) to 1/2, in cycles per step.
    response: the kernel's frequency response there.
    target_response: the target's.
    """

    kernel: Kernel
    error: float
    target_weights: Reals
    frequencies: Reals
    response: NDArray[np.complex128]
    target_response: NDArray[np.complex128]

    def __repr__(self) -> str:
        return f"Fit(kernel={self.kernel!r}, error={self.error:.3g})"

    def plot(self, **options: Any) -> Any:
        """Draw target and fit with `momentax.plotting.kernel_fit`, which takes the options."""
        return lazy.plot("kernel_fit", self, **options)


def fit(
    target: Kernel | ArrayLike | optax.GradientTransformation,
    buffers: int = 4,
    *,
    nonnegative: bool = True,
    match: Sequence[str] = (),
    horizon: int | None = None,
) -> Fit:
    """Find the sum of K exponentials that is closest to a kernel.

        minimize Σ_k (w_k - target_k)²,    w_k = Σᵢ cᵢ (1 - βᵢ) βᵢᵏ,    i = 1 .. K,    cᵢ ≥ 0

    The weights of many exponentials with fixed β, evenly spaced in the logarithm of their time
    constant, are found by nonnegative least squares. The best K of them are the start of a
    nonlinear least-squares problem in the β, at each of which the c are the best ones.

    A kernel that decreases as a power of the lag needs about 4 exponentials for each factor of
    100 of lags at an error of 1%. A kernel that ends abruptly, such as a mean of the last n
    gradients, or that starts with a delay, is no sum of exponentials: its error stays large for
    any K, which `Fit.error` shows.

    Args:
        target: A Kernel; the weights w_0 .. w_{n-1} of one, whose later weights are 0; or a linear
            pipeline that `memory.of` can read.
        buffers: K, the number of exponentials, at least 1.
        nonnegative: Whether all c have the sign of the target's total. Otherwise they may have
            any sign, which fits better, and removes less noise for its age.
        match: Quantities that are those of the target exactly: "total", "mean_age",
            "alternating", or several. They are fewer than `buffers`.
        horizon: The lags that are compared, at least 2. None compares the lags that hold all
            but 10⁻⁶ of Σ w², and four times as many as a kernel of finitely many weights has.

    Returns:
        Fit(kernel, error, target_weights, frequencies, response, target_response), whose method
        `plot` draws it. The kernel may have fewer than K exponentials where more would not help.

    Raises:
        ValueError: buffers or horizon is too small, match has an unknown name or too many, or
            the target's weights are all 0.
        TypeError: target is neither a Kernel, nor weights, nor a transformation.

    Example:
        >>> found = momentax.memory.fit((1 + np.arange(2000)) ** -1.5, buffers=4)
        >>> found.error < 0.01
        True

    Source:
        The poles: Ruhe, Fitting empirical data by positive sums of exponentials, SIAM J. Sci.
        Stat. Comput. 1, 1980; the nonlinear problem: Golub and Pereyra, The differentiation of
        pseudo-inverses and nonlinear least squares problems, SIAM J. Numer. Anal. 10, 1973.
    """
    kernel = as_kernel("target", target)
    K = as_count("buffers", buffers)
    sign_fixed = as_flag("nonnegative", nonnegative)
    names = (match,) if isinstance(match, str) else as_items("match", match, "names")
    names = tuple(as_option("match", name, tuple(_QUANTITIES)) for name in names)
    if len(set(names)) >= max(K, 2):
        raise ValueError(
            f"match must name fewer quantities than there are buffers, got {len(names)} of {K}"
        )
    n = _horizon(kernel) if horizon is None else as_count("horizon", horizon, least=2)
    w = kernel.weights(n)
    if not w.any():
        raise ValueError("target must have a weight that is not 0 within the horizon, got none")
    problem = _Problem(w, kernel, names, sign_fixed)
    β = problem.refine(problem.start(K))
    β, c = problem.shares(β)
    kept = c != 0
    found = Kernel(Exponentials(β[kept], c[kept]))
    frequencies = np.geomspace(0.25 / n, 0.5, 256)
    return Fit(
        found,
        float(np.linalg.norm(found.weights(n) - w) / np.linalg.norm(w)),
        w,
        frequencies,
        found.frequency_response(frequencies),
        kernel.frequency_response(frequencies),
    )


def as_kernel(name: str, value: Any) -> Kernel:
    """Return a kernel that is given itself, by its weights, or as a linear pipeline."""
    if isinstance(value, Kernel):
        return value
    if isinstance(value, optax.GradientTransformation | optax.MultiSteps):
        return of(value)
    kinds = "a Kernel, a linear transformation or weights, which are real numbers"
    w = as_reals(name, value, expected=kinds)
    if w.ndim != 1 or not w.size:
        raise ValueError(f"{name} must be 1-D weights, at least one, got shape {w.shape}")
    return Kernel.from_weights(w)


def _horizon(kernel: Kernel) -> int:
    """Return the lags after which nearly nothing of a kernel is left."""
    if isinstance(kernel._response, Taps):
        return max(4 * len(kernel._response.values), _LEAST_HORIZON)
    n, energy = _LEAST_HORIZON, kernel.noise_gain
    while n < _MOST_HORIZON and energy - np.sum(kernel.weights(n) ** 2) > _FORGOTTEN * energy:
        n *= 2
    return n


# The quantities that a fit can match: the sums over lag that they compare, as rows over β of
# averages with a share of 1.
_QUANTITIES = {
    "total": lambda β, kernel: (np.ones_like(β), kernel.total),
    "mean_age": lambda β, kernel: (β / (1 - β), kernel.mean_age * kernel.total),
    "alternating": lambda β, kernel: ((1 - β) / (1 + β), kernel.alternating),
}


class _Problem:
    """The least-squares problem of a fit, in the logarithms of the time constants."""

    def __init__(self, w: Reals, kernel: Kernel, names: tuple[str, ...], sign_fixed: bool) -> None:
        self.w, self.kernel, self.names, self.sign_fixed = w, kernel, names, sign_fixed
        self.sign = -1.0 if w.sum() < 0 else 1.0
        self.lags = np.arange(len(w))

    def _equations(self, β: Reals) -> tuple[Reals, Reals]:
        """Return the matrix and the right-hand side of the equations for the shares."""
        rows, values = [(β ** self.lags[:, None]) * (1 - β)], [self.w]
        for name in self.names:
            row, value = _QUANTITIES[name](β, self.kernel)
            scale = _EXACT * np.linalg.norm(self.w) / max(abs(value), 1e-12)
            rows.append(scale * row[None])
            values.append(np.array([scale * value]))
        return np.concatenate(rows), np.concatenate(values)

    def shares(self, β: Reals) -> tuple[Reals, Reals]:
        """Return β in order and the best shares."""
        β = np.sort(β)
        A, b = self._equations(β)
        scale = np.linalg.norm(A, axis=0)
        Q, R = np.linalg.qr(A / scale)
        if self.sign_fixed:
            return β, self.sign * nnls(R, self.sign * (Q.T @ b))[0] / scale
        return β, np.linalg.lstsq(R, Q.T @ b, rcond=1e-12)[0] / scale

    def _residual(self, x: Reals) -> Reals:
        β, c = self.shares(_beta(x))
        A, b = self._equations(β)
        return A @ c - b

    def start(self, K: int) -> Reals:
        """Return K β: the best of several log-spaced sets, and of a choice among many."""
        longest = 4.0 * len(self.w)
        sets = [
            np.geomspace(low, high, K) if K > 1 else np.array([high])
            for low in (0.02, 0.2, 1.0, 4.0)
            for high in np.geomspace(8 * low, longest, 8)
        ]
        sets += [np.append(0.0, each[1:]) for each in sets if K > 1]
        sets += [self._chosen(K, longest)]
        errors = [np.linalg.norm(self._residual(_coordinate(each))) for each in sets]
        return sets[int(np.argmin(np.array(errors)))]

    def _chosen(self, K: int, longest: float) -> Reals:
        """Return the time constants of the K largest groups of a nonnegative fit of many."""
        τ = np.append(0.0, np.geomspace(0.1, longest, _CANDIDATES))
        A, b = self._equations(_beta(_coordinate(τ)))
        scale = np.linalg.norm(A, axis=0)
        Q, R = np.linalg.qr(A / scale)
        share = nnls(R, self.sign * (Q.T @ b))[0] / scale
        active = np.flatnonzero(share)
        if not active.size:
            return np.geomspace(0.5, longest, K)
        groups = np.split(active, np.flatnonzero(np.diff(active) > 1) + 1)
        means = np.array([np.average(τ[g], weights=share[g]) for g in groups])
        sizes = np.array([share[g].sum() for g in groups])
        kept = means[np.argsort(sizes)[::-1][:K]]
        more = np.geomspace(0.5, longest, K)[: K - len(kept)]
        return np.sort(np.append(kept, more))

    def refine(self, τ: Reals) -> Reals:
        """Return β that are a local minimum of the error near some time constants."""
        start, (low, high) = _coordinate(τ), _coordinate(np.array([0.0, 64.0 * len(self.w)]))
        # The solver needs a start within the bounds; the coordinate of β = 0 is a bound.
        x = np.clip(start, low + 1e-9, high - 1e-9)
        found = least_squares(self._residual, x, bounds=(low, high), max_nfev=60, **_TOLERANCES)
        tried = [start, found.x, np.where(found.x < low + 1e-3, low, found.x)]
        errors = [np.linalg.norm(self._residual(each)) for each in tried]
        return _beta(tried[int(np.argmin(np.array(errors)))])


def _coordinate(τ: Reals) -> Reals:
    """Return the coordinate of a time constant, its logarithm but for the shortest ones."""
    return np.log(τ + _SHORTEST)


def _beta(coordinate: Reals) -> Reals:
    """Return β = τ / (1 + τ) for the coordinate of a time constant τ, the mean age."""
    τ = np.maximum(np.exp(coordinate) - _SHORTEST, 0)
    return τ / (1 + τ)
