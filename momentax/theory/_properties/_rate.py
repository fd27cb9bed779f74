"""The worst rate on an interval of curvatures, and where stability ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core.typing import Reals
from momentax.theory._curvature import real_range
from momentax.theory._properties._closed_loop import largest_root, radius
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, Phase, StateSpace

# A system is stable if its largest root is below this, since rounding may move a root from the unit
# circle into it.
_STABLE = 1 - 1e-13

_STEEPER = 8


def _crossings(system: LinearSystem, r: float) -> Reals:
    """Return every curvature at which a root of the closed loop may lie on |z| = r, in order.

    z is a root at λ = 1 / G(z), with G(z) = C (z - A)⁻¹ B. On the circle, λ is real where
    G(z) = G(r² / z), and those z are the generalised eigenvalues of a pencil. Points that
    rounding puts off the circle are moved onto it. So there may be curvatures in the list at
    which no root lies on the circle, but it contains every one at which a root does.
    """
    A, B, C = system.state_space
    n = len(A)
    if not any(C @ np.linalg.matrix_power(A, k) @ B for k in range(n)):
        return np.zeros(0)  # No gradient reaches the parameters.
    M, N = np.zeros((2, 2 * n + 1, 2 * n + 1))
    M[:n, :n], M[n:-1, n:-1], M[:n, -1] = -A, r**2 * np.eye(n), -B
    M[-1, :-1] = np.concatenate([C, -C])
    N[:n, :n], N[n:-1, n:-1], N[n:-1, -1] = -np.eye(n), A, B
    shift = 0.6180339887 * r  # Any number inside the circle that is not an eigenvalue.
    try:
        inverse = np.linalg.eigvals(np.linalg.solve(M - shift * N, N))
    except np.linalg.LinAlgError:  # λ is real at every point of the circle.
        inverse = np.zeros(0)
    z = shift + 1 / inverse[np.abs(inverse) > 1e-14]
    z = np.concatenate([r * np.exp(1j * np.angle(z)), [r, -r]])
    # λ solves (z - A) x = λ B, C x = 1.
    bordered = np.zeros((len(z), n + 1, n + 1), complex)
    bordered[:, :n, :n] = z[:, None, None] * np.eye(n) - A
    bordered[:, :n, n], bordered[:, n, :n] = -B, C
    bordered = bordered[np.linalg.det(bordered) != 0]
    λ = np.linalg.solve(bordered, np.eye(n + 1)[:, n:])[:, n, 0].real
    return np.sort(λ[np.isfinite(λ)]).astype(np.float64)


def _middles(edges: Reals) -> Reals:
    return (edges[1:] + edges[:-1]) / 2


class _Samples(NamedTuple):
    """Curvatures in order, the size of the largest root at each, and the |cos| of its angle."""

    at: Reals
    size: Reals
    turn: Reals

    @classmethod
    def take(cls, phases: list[Phase], at: Reals) -> _Samples:
        at = np.unique(at)
        size, cosine = largest_root(phases, at)
        return cls(at, size, np.abs(cosine))

    def join(self, other: _Samples) -> _Samples:
        _, kept = np.unique(np.concatenate([self.at, other.at]), return_index=True)
        return _Samples(*(np.concatenate(pair)[kept] for pair in zip(self, other, strict=True)))


def _peaks(heights: Reals, level: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the samples on both sides of each peak that may reach a level.

    Next to a sample that is higher than its neighbors, a peak is taken to rise at most _STEEPER
    times as far above the sample as the sample rises above the lower neighbor.
    """
    rise = np.diff(heights, prepend=-np.inf, append=-np.inf)
    tops = np.flatnonzero((rise[:-1] >= 0) & (rise[1:] <= 0) & (rise[:-1] > rise[1:]))
    left, right = np.maximum(tops - 1, 0), np.minimum(tops + 1, len(heights) - 1)
    rises = heights[tops] - np.minimum(heights[left], heights[right])
    may_reach = (rises > 0) & (heights[tops] + _STEEPER * rises >= level)
    chosen = np.flatnonzero(may_reach)
    chosen = chosen[np.argsort(heights[tops[chosen]])][-64:]
    return left[chosen], right[chosen]


def _refine_peaks(phases: list[Phase], points: Reals, level: float | None = None) -> _Samples:
    """Add samples around each place where the radius may peak, and return all.

    A peak can be narrow only where two complex roots meet, on the real axis. Only peaks that may
    reach the level are refined; without a level, those that may exceed the highest sample.
    """
    samples, furthest = _Samples.take(phases, points), np.abs(points).max()

    def height(samples: _Samples) -> tuple[Reals, float]:
        if level is None:
            return samples.size, samples.size.max() * (1 + 1e-13)
        return np.minimum(samples.size, level), level

    goals: tuple[Callable[[_Samples], tuple[Reals, float]], ...] = (
        lambda samples: (samples.turn, 1.0),
        height,
    )
    for goal in goals:
        while True:
            left, right = _peaks(*goal(samples))
            low, high = samples.at[left], samples.at[right]
            wide = high - low > 1e-13 * np.maximum(np.abs(high), 1e-12 * furthest)
            if not np.any(wide):
                break
            between = np.linspace(low[wide], high[wide], 33)
            samples = samples.join(_Samples.take(phases, between))
    return samples


def worst_rate(system: LinearSystem, μ: float, L: float) -> float:
    """Compute `rate` for a system."""
    normal, unit = system.normalized
    low, high = μ / unit, L / unit
    if normal.period > 1:
        count = 128 + 32 * normal.period
        points = np.linspace(low, high, count)
        if low > 0:
            points = np.concatenate([points, np.geomspace(low, high, count)])
        return float(_refine_peaks(normal.phases, points).size.max())
    best = radius(normal, [low, high]).max()
    while low < high:
        inner = _crossings(normal, best * (1 + 1e-13) + 1e-15)
        inner = inner[(low < inner) & (inner < high)]
        higher = radius(normal, _middles(np.concatenate([[low], inner, [high]]))).max()
        if higher <= best * (1 + 1e-12) + 1e-14:
            return float(max(best, higher))
        best = higher
    return float(best)


def _periodic_edge(system: LinearSystem) -> float:
    """Find the edge of a normalized system with a period, by search and bisection."""
    grid = np.geomspace(1e-6, 1e6, 1024 + 256 * system.period)
    points, radii, _ = _refine_peaks(system.phases, grid, _STABLE)
    unstable = radii >= _STABLE
    if unstable[0] or not unstable.any():
        return 0.0 if unstable[0] else np.inf
    first = int(np.argmax(unstable))
    low, high = points[first - 1], points[first]
    while low < (middle := (low + high) / 2) < high:
        beyond = radius(system, middle) >= _STABLE
        low, high = (low, middle) if beyond else (middle, high)
    return float(high)


def edge(system: LinearSystem) -> float:
    """Compute `sharpness_limit` for a system."""
    normal, unit = system.normalized
    if normal.period > 1:
        return unit * _periodic_edge(normal)
    λ = _crossings(normal, 1.0)
    λ = λ[λ > 1e-9]
    λ = λ[np.diff(λ, prepend=0) > 1e-9 * λ]  # One of each pair z and its conjugate.
    between = np.concatenate([[0], λ, [2 * λ[-1] if λ.size else 1.0]])
    unstable = radius(normal, _middles(between)) >= _STABLE
    if not unstable.any():
        return np.inf
    return float(unit * between[int(np.argmax(unstable))])


def rate(tx: optax.GradientTransformation | StateSpace, mu: Any, L: float | None = None) -> float:
    """Return the worst factor per step by which an error shrinks on a quadratic.

        ρ = max over λ in [μ, L] of the spectral radius of A + λ B C

    The maximum is that over the whole interval, and not over a grid of curvatures. For a level r,
    one eigenvalue problem finds all curvatures at which a root crosses the circle |z| = r. The
    level is raised until no root crosses it. For a transformation with a period, ρᵖ is the factor
    over its p steps, and the maximum is sought from a few hundred curvatures.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        mu: μ, the smallest curvature, any real number; or a Curvature, which gives L too.
        L: The largest curvature, not below μ.

    Returns:
        ρ, to 1e-10; two roots that differ by less than 2e-7 of their size count as one.

    Raises:
        ValueError: mu exceeds L, or as `state_space`.
        TypeError: L is missing or given twice, or as `state_space`.

    Example:
        >>> round(momentax.theory.rate(optax.sgd(0.1, 0.81), 1.0, 10.0), 6)
        0.9

    Source:
        Boyd and Balakrishnan, A regularity result for the singular values of a
        transfer matrix and a quadratically convergent algorithm for computing
        its L∞-norm, Systems & Control Letters 15, 1990, for such levels.
    """
    μ, largest = real_range(mu, L)
    return worst_rate(as_system(tx), μ, largest)


def sharpness_limit(tx: optax.GradientTransformation | StateSpace) -> float:
    """Return the sharpness at which a transformation is at its edge of stability.

    It is 2 / α for plain descent and 2 (1 + β) / α for heavy ball. Full-batch training of
    neural networks often raises the largest curvature to about this number and holds it there:
    an observation, not a law. `stability_edge` is the closed form for hyperparameters.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.

    Returns:
        The largest λ up to which all curvatures in (0, λ) are stable; infinite where all are,
        0 where none is, or where the transformation is unstable without a gradient.

    Raises:
        ValueError: As `state_space`.
        TypeError: As `state_space`.

    Example:
        >>> round(momentax.theory.sharpness_limit(optax.sgd(0.1, momentum=0.9)), 6)
        38.0

    Source:
        Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural
        networks typically occurs at the edge of stability, 2021, arXiv:2103.00065.
    """
    return edge(as_system(tx))
