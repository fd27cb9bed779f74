"""What a linear system does on a quadratic: the loop through the gradient closed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_real, as_reals
from momentax.theory._memory import half_life
from momentax.theory._state_space import read
from momentax.theory._system import StateSpace, balance, by_phase, phases

_Reals = NDArray[np.float64]
_System = optax.GradientTransformation | StateSpace

MARGINAL = 1 - 1e-14  # From here on a factor per step is 1 but for rounding.

_STABLE = 1 - 1e-13  # Of the largest root; one on the circle may come out inside by rounding.


class Damping(NamedTuple):
    """How an error along one curvature dies out.

    kind: "over", "critical" or "under".
    period: steps of one oscillation; infinite unless "under".
    half_life: steps in which the slowest mode halves; infinite where none decays.
    """

    kind: str
    period: float
    half_life: float


def halving(ρ: float) -> float:
    """Steps in which an error that shrinks by ρ a step halves, infinite where none does."""
    return float(half_life(ρ)) if ρ < MARGINAL else np.inf


def closed_loop(system: _System, curvature: ArrayLike) -> _Reals:
    """Give the matrix of one step on a quadratic: z_t = M z_{t-1}.

        M = A + λ B C

    where the gradient is λ θ, counted from a minimizer at 0.

    Args:
        system: A transformation that is linear, or its StateSpace.
        curvature: λ, an eigenvalue of the Hessian; any shape.

    Returns:
        M, float64, of shape (*curvature.shape, n, n).

    Raises:
        ValueError: curvature is not finite, or as `state_space`.
        TypeError: As `state_space`.
    """
    A, B, C = by_phase(read(system))
    λ = as_reals("curvature", curvature)
    return A + λ[..., None, None] * (B @ C)


def loops(steps: list[StateSpace], λ: ArrayLike) -> list[_Reals]:
    """The matrix of each step of a period on a quadratic."""
    λ = np.asarray(λ, np.float64)[..., None, None]
    return [A + λ * np.outer(B, C) for A, B, C in steps]


def _roots(steps: list[StateSpace], λ: ArrayLike) -> tuple[NDArray[Any], _Reals]:
    """The eigenvalues z of all of them, one after the other, and the unit of |z|^(1/p)."""
    whole, exponent = np.eye(len(steps[0].C)), 0
    for M in loops(steps, λ):
        whole = M @ whole
        _, size = np.frexp(np.abs(whole).max(axis=(-2, -1), keepdims=True, initial=0))
        whole, exponent = np.ldexp(whole, -size), exponent + size  # It may leave float64's range.
    return np.linalg.eigvals(whole), np.exp2(exponent / len(steps))[..., 0]


def radius(system: StateSpace, λ: ArrayLike) -> _Reals:
    """The largest |eigenvalue| of the closed loop."""
    return _largest(phases(system)[0], λ)[0]


def _largest(steps: list[StateSpace], λ: ArrayLike) -> tuple[_Reals, _Reals]:
    """The size per step of the largest of `_roots`, and the cosine of its angle.

    Two that meet, as at critical damping, come out half of the digits apart; their mean has all.
    """
    roots, unit = _roots(steps, λ)
    top = np.take_along_axis(roots, np.abs(roots).argmax(axis=-1, keepdims=True), axis=-1)
    near = np.abs(roots - top) <= 2e-7 * np.abs(top)
    mean = np.abs((roots * near).sum(axis=-1) / near.sum(axis=-1))
    size = unit[..., 0] * mean ** (1 / len(steps))
    return np.asarray(size, np.float64), np.cos(np.angle(top))[..., 0]


def _normal(system: StateSpace) -> tuple[StateSpace, float]:
    """The system in a balanced state and a unit of curvature in which the loop has gain 1."""
    A, B, C = system
    scale, unit = balance(*by_phase(system))
    column = scale if B.ndim == 1 else scale[:, None]
    return StateSpace(A / scale[:, None] * scale, unit * B / column, C * scale), unit


def _crossings(system: StateSpace, r: float) -> _Reals:
    """Every curvature at which a root of the closed loop may lie on |z| = r, in order.

    z is a root at λ = 1 / G(z), G(z) = C (z - A)⁻¹ B. On the circle λ is real
    where G(z) = G(r² / z): those z are the generalised eigenvalues of a pencil.
    Points off the circle by rounding are put there, so curvatures may be listed
    at which no root lies, but none is missing.
    """
    A, B, C = system
    n = len(A)
    if not any(C @ np.linalg.matrix_power(A, k) @ B for k in range(n)):
        return np.zeros(0)  # No gradient reaches the parameters.
    M, N = np.zeros((2, 2 * n + 1, 2 * n + 1))
    M[:n, :n], M[n:-1, n:-1], M[:n, -1] = -A, r**2 * np.eye(n), -B
    M[-1, :-1] = np.concatenate([C, -C])
    N[:n, :n], N[n:-1, n:-1], N[n:-1, -1] = -np.eye(n), A, B
    shift = 0.6180339887 * r  # Any number inside the circle that is no eigenvalue.
    try:
        inverse = np.linalg.eigvals(np.linalg.solve(M - shift * N, N))
    except np.linalg.LinAlgError:  # λ is real on all of the circle.
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


def _middles(edges: _Reals) -> _Reals:
    return (edges[1:] + edges[:-1]) / 2


def _sought(steps: list[StateSpace], points: _Reals) -> tuple[_Reals, _Reals]:
    """Curvatures with ever more around each where the radius may peak, and the radii there.

    A peak may be narrow only where two complex roots meet, on the real axis.
    """
    furthest = np.abs(points).max()
    for height in (lambda λ: np.abs(_largest(steps, λ)[1]), lambda λ: _largest(steps, λ)[0]):
        at = points
        while True:
            heights = height(at)
            rise = np.diff(heights, prepend=-np.inf, append=-np.inf)
            tops = np.flatnonzero((rise[:-1] >= 0) & (rise[1:] <= 0) & (rise[:-1] > rise[1:]))
            tops = tops[np.argsort(heights[tops])][-64:]
            low, high = at[np.maximum(tops - 1, 0)], at[np.minimum(tops + 1, len(at) - 1)]
            if np.all(high - low <= 1e-13 * np.maximum(np.abs(high), 1e-12 * furthest)):
                break
            at = np.unique(np.linspace(low, high, 9))
            points = np.unique(np.concatenate([points, at]))
    return points, _largest(steps, points)[0]


def rate(tx: _System, mu: float, L: float) -> float:
    """Give the worst factor per step by which an error shrinks on a quadratic.

        ρ = max over λ in [μ, L] of the spectral radius of A + λ B C

    It is the maximum over the whole interval: at a level r all curvatures at
    which a root crosses |z| = r are known, and r rises until there is none.
    Of a transformation with a period, ρᵖ is the factor over its p steps, and
    the maximum is sought from a few hundred curvatures on.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.
        mu: μ, the smallest curvature; any real number.
        L: The largest curvature, not below μ.

    Returns:
        ρ, to 1e-10; two roots that differ by less than 2e-7 of their size count as one.

    Raises:
        ValueError: mu exceeds L, or as `state_space`.
        TypeError: As `state_space`.

    Source:
        Boyd and Balakrishnan, A regularity result for the singular values of a
        transfer matrix and a quadratically convergent algorithm for computing
        its L∞-norm, Systems & Control Letters 15, 1990, for such levels.
    """
    low, high = (as_real(name, value, "(-inf, inf)") for name, value in (("mu", mu), ("L", L)))
    if low > high:
        raise ValueError(f"mu must not exceed L, got mu={low} and L={high}; are they swapped?")
    system, unit = _normal(read(tx))
    low, high = low / unit, high / unit
    if system.B.ndim > 1:
        steps, _ = phases(system)
        count = 128 + 32 * len(steps)
        points = np.linspace(low, high, count)
        if low > 0:
            points = np.concatenate([points, np.geomspace(low, high, count)])
        return float(_sought(steps, np.unique(points))[1].max())
    best = radius(system, [low, high]).max()
    while low < high:
        inner = _crossings(system, best * (1 + 1e-13) + 1e-15)
        inner = inner[(low < inner) & (inner < high)]
        higher = radius(system, _middles(np.concatenate([[low], inner, [high]]))).max()
        if higher <= best * (1 + 1e-12) + 1e-14:
            return float(max(best, higher))
        best = higher
    return float(best)


def edge(system: StateSpace) -> _Reals:
    """The largest curvature up to which the closed loop is stable."""
    system, unit = _normal(system)
    if system.B.ndim > 1:
        steps, _ = phases(system)
        points, radii = _sought(steps, np.geomspace(1e-6, 1e6, 1024 + 256 * len(steps)))
        unstable = radii >= _STABLE
        if unstable[0] or not unstable.any():
            return np.asarray(0.0 if unstable[0] else np.inf)
        first = int(np.argmax(unstable))
        low, high = points[first - 1], points[first]
        while low < (middle := (low + high) / 2) < high:
            beyond = _largest(steps, middle)[0] >= _STABLE
            low, high = (low, middle) if beyond else (middle, high)
        return np.asarray(unit * high)
    λ = _crossings(system, 1.0)
    λ = λ[λ > 1e-9]
    λ = λ[np.diff(λ, prepend=0) > 1e-9 * λ]  # One of each pair z and its conjugate.
    between = np.concatenate([[0], λ, [2 * λ[-1] if λ.size else 1.0]])
    unstable = radius(system, _middles(between)) >= _STABLE
    if not unstable.any():
        return np.asarray(np.inf)
    return np.asarray(unit * between[int(np.argmax(unstable))])


def damping(tx: _System, curvature: float) -> Damping:
    """Tell whether an error along a curvature oscillates as it dies out, and how fast.

    The slowest mode, the largest root z of the closed loop, decides: a positive
    one is "over", two that meet are "critical", a complex or negative one is
    "under" and turns by arg z a step. Half-life: |z|ⁿ = 1/2. Of a
    transformation with a period of p steps it is zᵖ, the factor over all of
    them, that tells.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.
        curvature: λ, one eigenvalue of the Hessian; any real number.

    Returns:
        Damping(kind, period, half_life), in steps. Roots that agree to 1e-6 are
        said to meet: closer than that float64 cannot tell. An error that is
        gone in finitely many steps is critical, with a half-life of 0.

    Raises:
        ValueError: curvature is not finite or not one number, or as
            `state_space`.

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    λ = as_real("curvature", curvature, "(-inf, inf)")
    system, unit = _normal(read(tx))
    steps, _ = phases(system)
    p = len(steps)
    roots, scale = _roots(steps, λ / unit)
    size = scale * np.abs(roots) ** (1 / p)
    ρ = float(size.max())
    if ρ < 1e-6:
        return Damping("critical", np.inf, 0.0)
    slowest = roots[size >= ρ * (1 - 1e-6)]
    angle = float(np.abs(np.angle(slowest)).max()) / p
    if angle > 1e-6:
        return Damping("under", 2 * np.pi / angle, halving(ρ))
    return Damping("critical" if len(slowest) > 1 else "over", np.inf, halving(ρ))


def escape_rate(tx: _System, negative_curvature: ArrayLike) -> _Reals:
    """Give the factor per step by which the distance to a saddle grows.

    It is the spectral radius at a negative curvature: above 1 unless weight
    decay holds it back, and for a velocity far above plain descent's 1 + α |λ|.
    From an exact saddle, at rest, nothing moves.

    Args:
        tx: A transformation that is linear, its learning rate included, or its
            StateSpace.
        negative_curvature: λ in (-inf, 0), an eigenvalue of the Hessian; any shape.

    Returns:
        ρ, float64, of the curvature's shape.

    Raises:
        ValueError: A curvature is not negative, or as `state_space`.
        TypeError: As `state_space`.

    Source:
        O'Neill and Wright, Behavior of accelerated gradient methods near
        critical points of nonconvex functions, 2019, arXiv:1706.07993.
    """
    λ = as_reals("negative_curvature", negative_curvature, "(-inf, 0)")
    return radius(read(tx), λ)


def path(system: StateSpace, λ: _Reals, start: _Reals, minimizer: _Reals, steps: int) -> _Reals:
    """The parameters at steps 0 .. T along each curvature, shape (T + 1, n)."""
    A, B, C = by_phase(system)
    period = len(C)
    # θ* enters by the gradient λ (θ - θ*): a 1 goes round the phases, after z, and carries it.
    whole = np.zeros((len(λ), len(A) + period, len(A) + period))
    whole[:, : len(A), : len(A)] = closed_loop(system, λ)
    whole[:, : len(A), len(A) :] = -(λ * minimizer)[:, None, None] * B
    whole[:, len(A) :, len(A) :] = np.roll(np.eye(period), 1, axis=0)
    z = np.zeros((len(λ), len(whole[0]), 1))
    z[:, 0, 0], z[:, len(A), 0] = start, 1
    with np.errstate(over="ignore", invalid="ignore"):  # Divergence may leave float64's range.
        while z.shape[-1] <= steps:  # z_0 .. z_{k-1}, then Mᵏ on all of them.
            z = np.concatenate([z, whole @ z], axis=-1)
            whole = whole @ whole
        seen = C @ z[:, : len(A), : steps + 1]
    phase = np.arange(steps + 1) % period
    return seen[:, phase, np.arange(steps + 1)].T
