"""A linear rate proved for every smooth strongly convex function, with its proof."""

from __future__ import annotations

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._check import real_scalar
from momentax.theory._closed_loop import rate
from momentax.theory._noise import reach
from momentax.theory._rates import condition
from momentax.theory._state_space import system
from momentax.theory._system import StateSpace

_Reals = NDArray[np.float64]
_Matrix = NDArray[Any]  # float64 too, in words that the types of linear algebra have.

_TOLERANCE = 1e-6  # Where bisection stops, as a share of what lies between the two it began with.


class Certificate(NamedTuple):
    """A rate and what proves it.

    rate: ρ in [0, 1), the worst factor by which an error shrinks per step.
    multiplier: (σ, η), the weights of the two inequalities on the gradients.
    P: positive definite and of trace 1, shape (n + 1, n + 1); after t steps
        xᵀ P x is at most ρ^{2t} of what it was, where x = (z, ξ).
    """

    rate: float
    multiplier: _Reals
    P: _Reals


class _Forms(NamedTuple):
    """What the proof is made of, in the coordinates (z, ξ, g)."""

    now: _Matrix  # Gives (z, ξ).
    after: _Matrix  # Gives (z, ξ) one step later.
    sector: _Matrix  # (g - μ θ)(L θ - g)
    off_by_one: _Matrix  # (g - μ θ) ξ

    def within(self, T: _Matrix) -> _Forms:
        """The same in coordinates x with (z, ξ) = T x, and in units of g that suit them."""
        after = np.linalg.solve(T, self.after)
        size = np.linalg.norm(after[:, -1])
        T = np.block([[T, np.zeros((len(T), 1))], [np.zeros(len(T)), 1 / size]])
        sector, off_by_one = T.T @ self.sector @ T, T.T @ self.off_by_one @ T
        return _Forms(self.now, after @ T, sector, off_by_one)

    def change(self, P: Any, squared: Any, sector: Any, off_by_one: Any) -> Any:
        """What must not be positive, from arrays or from variables of a program."""
        return (
            self.after.T @ P @ self.after
            - squared * (self.now.T @ P @ self.now)
            + sector * self.sector
            + off_by_one * self.off_by_one
        )


def _forms(A: _Matrix, B: _Matrix, C: _Matrix, μ: float, L: float) -> _Forms:
    n = len(A)
    now = np.eye(n + 1, n + 2)
    ξ, g = np.eye(n + 2)[n:]
    θ = np.append(C, [0, 0])

    def product(p: _Matrix, q: _Matrix) -> _Matrix:
        return (np.outer(p, q) + np.outer(q, p)) / 2

    return _Forms(
        now=now,
        after=np.vstack([A @ now[:n] + np.outer(B, g), g - L * θ]),
        sector=product(g - μ * θ, L * θ - g),
        off_by_one=product(g - μ * θ, ξ),
    )


def _balanced(A: _Matrix, B: _Matrix, C: _Matrix, μ: float, L: float) -> _Matrix:
    """Coordinates of (z, ξ) in which gradients reach each part of z as far as θ shows it.

    They are those of the closed loop at the middle curvature and do not depend
    on the ones in which A, B and C came. A little is added to the Gramians, for
    a part that no gradient reaches or θ does not show.
    """
    from scipy.linalg import solve_discrete_lyapunov  # Not on importing momentax.

    n = len(A)
    M, B = A + (μ + L) / 2 * np.outer(B, C), L * B
    units = reach(M, B)
    M, B, C = M * units / units[:, None], B / units, C * units

    def factor(M: _Matrix, b: _Matrix) -> _Matrix:
        little = 1e-12 * (b @ b or 1) * np.eye(n)
        gramian = solve_discrete_lyapunov(M, np.outer(b, b) + little)
        return np.linalg.cholesky((gramian + gramian.T) / 2)

    reached, shown = factor(M, B), factor(M.T, C)
    U, sizes, _ = np.linalg.svd(reached.T @ shown)
    T = L * np.eye(n + 1)
    T[:n, :n] = units[:, None] * reached @ U / np.sqrt(sizes)
    return T


def _proved(forms: _Forms, P: _Matrix, multiplier: _Matrix, rate: float) -> float:
    """The smallest rate, from one on, that P and the multiplier prove: plain eigenvalues.

    With the gradient that is worst for each (z, ξ) put into the form at ρ, there
    is left a form S of (z, ξ), and S ⪯ δ P proves √(ρ² + δ). What float64 may
    have rounded away counts into δ.
    """
    Q = forms.change(P, rate**2, *multiplier)
    if Q[-1, -1] >= 0:
        return np.inf
    try:
        root = np.linalg.inv(np.linalg.cholesky(P))
    except np.linalg.LinAlgError:  # Not positive definite.
        return np.inf
    R = root @ np.column_stack([np.eye(len(P)), -Q[:-1, -1] / Q[-1, -1]])
    sizes = _Forms(*map(np.abs, forms)).change(np.abs(P), -(rate**2), *multiplier)
    rounding = len(Q) * np.finfo(np.float64).eps * np.linalg.norm(np.abs(R) @ sizes @ np.abs(R).T)
    excess = np.linalg.eigvalsh(R @ Q @ R.T)[-1] + rounding
    return float(np.sqrt(rate**2 + max(0, excess)))


def _search(forms: _Forms, T: _Matrix, low: float, high: float) -> Certificate | None:
    """The best proof that bisection finds, solved for in the coordinates T, checked in z's own.

    Its rate may be 1 or more: then it proves nothing, but may lead to one that does.
    """
    import cvxpy as cp

    size = len(T)
    within = forms.within(T)
    unit = -1 / within.sector[-1, -1]
    squared, weights = cp.Parameter(nonneg=True), cp.Variable(2, nonneg=True)
    largest = cp.Variable()
    P = cp.Variable((size, size), symmetric=True)
    change = within.change(P, squared, unit * cp.sum(weights), unit * (squared * weights[1]))
    constraints: Any = [
        P >> 1e-7 * np.eye(size),
        cp.trace(P) == 1,
        change << largest * np.eye(size + 1),
    ]
    program = cp.Problem(cp.Minimize(largest), constraints)
    back = np.linalg.inv(T)
    best = None
    tolerance = _TOLERANCE * (1 - low)
    while high - low > tolerance:
        rate = (low + high) / 2
        squared.value = rate**2
        proved = np.inf
        with warnings.catch_warnings(), suppress(cp.SolverError):
            warnings.simplefilter("ignore", UserWarning)  # Of inaccuracy; the proof is checked.
            program.solve(solver=cp.CLARABEL)
            if P.value is not None and weights.value is not None:
                found = back.T @ P.value @ back
                found = (found + found.T) / 2
                alone, both = np.maximum(weights.value, 0) * (unit / np.trace(found))
                multiplier = np.array([alone + both, rate**2 * both])
                found /= np.trace(found)
                proved = _proved(forms, found, multiplier, rate)
                if best is None or proved < best.rate:
                    best = Certificate(proved, multiplier, found)
        low, high = (low, rate) if proved <= rate else (rate, min(high, proved))
    return best


def certify(
    tx: optax.GradientTransformation | StateSpace, mu: float, L: float
) -> Certificate | None:
    """Prove a linear rate for every μ-strongly convex, L-smooth function, if one can be proved.

        z_t = A z_{t-1} + B g_t,    ξ_t = g_t - L θ_{t-1},    ξ_0 = 0

        V(z_t, ξ_t) - ρ² V(z_{t-1}, ξ_{t-1})
            + σ (g_t - μ θ_{t-1}) (L θ_{t-1} - g_t) + η (g_t - μ θ_{t-1}) ξ_{t-1} ≤ 0

    for all z, ξ and g, with V(x) = xᵀ P x, P ≻ 0 and 0 ≤ η ≤ ρ² σ, everything
    counted from the minimizer. The terms with σ and η are the weighted
    off-by-one constraint: for the gradients of such a function their sum,
    weighted by ρ^{-2t}, is never negative. So V(z_t, ξ_t) ≤ ρ^{2t} V(z_0, 0), in
    any number of dimensions.

    The rate is the smallest for which such a proof is found, by bisection between
    the rate on quadratics and 1. A method may be faster than this constraint can
    prove.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as
            `sgd`, or its StateSpace.
        mu: μ in (0, L], the smallest curvature.
        L: L in [μ, inf), the largest.

    Returns:
        Certificate(rate, multiplier, P), with (σ, η) the multiplier; or None
        where no rate below 1 is proved, as for heavy ball with its quadratic
        tuning at κ = 100. What is returned has been checked by eigenvalues, and
        does not rest on the solver.

    Raises:
        ValueError: mu is not positive or exceeds L, or tx is not linear.
        TypeError: tx is no transformation.
        ImportError: cvxpy is missing; it comes with the extra `certify`.

    Source:
        Lessard, Recht and Packard, Analysis and design of optimization
        algorithms via integral quadratic constraints, SIAM Journal on
        Optimization 26(1), 2016, arXiv:1408.3595.
    """
    A, B, C = read = system(tx)
    μ, L = real_scalar("mu", mu, "(0, inf)"), real_scalar("L", L, "(0, inf)")
    condition(μ, L)
    if find_spec("cvxpy") is None:
        raise ImportError(
            "certify needs cvxpy, which is not installed; pip install 'momentax[certify]'"
        )
    if (low := rate(read, μ, L)) >= 1:
        return None
    forms, T = _forms(A, B, C, μ, L), _balanced(A, B, C, μ, L)
    best, bound = None, np.inf
    for _ in range(3):
        found = _search(forms, T, low, min(bound, 1.0))
        if found is None or found.rate >= bound:
            break
        best, bound = found, found.rate
        # Again in coordinates in which what was found is the identity: there the solver errs less.
        T = np.linalg.inv(np.linalg.cholesky(found.P)).T
    return best if bound < 1 else None
