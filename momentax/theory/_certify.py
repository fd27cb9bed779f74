"""A linear rate proved for every smooth strongly convex function, with its proof."""

from __future__ import annotations

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core.arguments import as_real
from momentax.theory._closed_loop import rate
from momentax.theory._noise import gramian
from momentax.theory._rates import condition
from momentax.theory._state_space import read
from momentax.theory._system import StateSpace, by_phase, phases

_Reals = NDArray[np.float64]
_Matrix = NDArray[Any]  # float64 too, in words that the types of linear algebra have.

_ROUNDING = 1e-12  # Of the parameters: a step that moves them by no more leaves them.
_TOLERANCE = 1e-6  # Where bisection stops, as a share of what lies between the two it began with.


class Certificate(NamedTuple):
    """A rate and what proves it.

    rate: ρ in [0, 1), the worst factor by which an error shrinks per step.
    multiplier: (σ, η), the weights of the two inequalities on the gradients; where
        there is a period of p steps, each of shape (p,).
    P: positive definite and of trace 1, shape (n + p, n + p); after t steps
        xᵀ P x is at most ρ^{2t} of what it was, where x = (z, ξ).
    """

    rate: float
    multiplier: _Reals
    P: _Reals


class _Proof(NamedTuple):
    """The same with a P and a multiplier for each step of the period."""

    rate: float
    multiplier: _Matrix
    P: list[_Matrix]


class _Forms(NamedTuple):
    """What the proof is made of at one step, in the coordinates (x, ξ, g)."""

    now: _Matrix  # Gives (x, ξ).
    after: _Matrix  # Gives (x, ξ) one step later.
    sector: _Matrix  # (g - μ θ)(L θ - g)
    off_by_one: _Matrix  # (g - μ θ) ξ

    @property
    def held(self) -> bool:
        """Whether g is no coordinate, since it is the last one again."""
        return self.now.shape[0] == self.now.shape[1]

    def within(self, T: _Matrix, T_after: _Matrix) -> _Forms:
        """The same in coordinates with (x, ξ) = T y, and in units of g that suit them."""
        after = np.linalg.solve(T_after, self.after)
        if not self.held:
            size = np.linalg.norm(after[:, -1])
            T = np.block([[T, np.zeros((len(T), 1))], [np.zeros(len(T)), 1 / size]])
        sector, off_by_one = T.T @ self.sector @ T, T.T @ self.off_by_one @ T
        return _Forms(self.now, after @ T, sector, off_by_one)

    def change(self, P: Any, P_after: Any, squared: Any, sector: Any, off_by_one: Any) -> Any:
        """What must not be positive, from arrays or from variables of a program."""
        return (
            self.after.T @ P_after @ self.after
            - squared * (self.now.T @ P @ self.now)
            + sector * self.sector
            + off_by_one * self.off_by_one
        )


def _forms(steps: list[StateSpace], μ: float, L: float) -> list[_Forms]:
    def product(p: _Matrix, q: _Matrix) -> _Matrix:
        return (np.outer(p, q) + np.outer(q, p)) / 2

    forms = []
    for before, (A, B, C) in zip([steps[-1], *steps[:-1]], steps, strict=True):
        n = len(C)
        # Where the last step has left the parameters, g is what it was: ξ = g - L θ.
        moved = np.append(C @ before.A - before.C, L * (C @ before.B))
        held = len(steps) > 1 and np.abs(moved).max() <= _ROUNDING * np.abs(before.C).max()
        coordinates = np.eye(n + 2 - held)
        x, ξ = coordinates[:n], coordinates[n]
        θ = C @ x
        g = ξ + L * θ if held else coordinates[-1]
        forms.append(
            _Forms(
                now=coordinates[: n + 1],
                after=np.vstack([A @ x + np.outer(B, g), g - L * θ]),
                sector=product(g - μ * θ, L * θ - g),
                off_by_one=product(g - μ * θ, ξ),
            )
        )
    return forms


def _balanced(system: StateSpace, T: _Matrix, cuts: Any, μ: float, L: float) -> list[_Matrix]:
    """Coordinates of (x, ξ) in which gradients reach each part of x as far as θ shows it.

    They are those of the closed loop at the middle curvature and do not depend
    on the ones in which A, B and C came. A little is added to the Gramians, for
    a part that no gradient reaches or θ does not show.
    """
    A, B, C = by_phase(system)
    M, B, C = np.linalg.solve(T, (A + (μ + L) / 2 * (B @ C)) @ T), np.linalg.solve(T, L * B), C @ T
    moved = [B]
    for _ in B[1:]:
        moved.append(M @ moved[-1])
    units = np.linalg.norm(np.concatenate(moved, axis=1), axis=1)
    units[units == 0] = 1
    M, B, C = M * units / units[:, None], B / units[:, None], C * units

    def factors(M: _Matrix, b: _Matrix) -> list[_Matrix]:
        little = 1e-12 * (np.sum(b * b) or 1) * np.eye(len(M))
        Σ = gramian(M - np.eye(len(M)), b @ b.T + little)
        found = [np.linalg.eigh(Σ[part, part]) for part in cuts]
        return [  # Rounding may leave a size negative.
            axes * np.sqrt(np.maximum(sizes, 1e-15 * sizes[-1])) for sizes, axes in found
        ]

    found = []
    for part, reached, shown in zip(cuts, factors(M, B), factors(M.T, C.T), strict=True):
        U, sizes, _ = np.linalg.svd(reached.T @ shown)
        found.append(L * np.eye(len(reached) + 1))
        found[-1][:-1, :-1] = units[part, None] * reached @ U / np.sqrt(sizes)
    return found


def _proved(forms: list[_Forms], P: list[_Matrix], multiplier: _Matrix, rate: float) -> float:
    """The smallest rate, from one on, that P and the multiplier prove: plain eigenvalues.

    With the gradient that is worst for each (x, ξ) put into the form at ρ, there
    is left a form S of (x, ξ), and S ⪯ δ P proves √(ρ² + δ). What float64 may
    have rounded away counts into δ.
    """
    excess = 0.0
    for form, now, after, weights in zip(forms, P, [*P[1:], P[0]], multiplier.T, strict=True):
        Q = form.change(now, after, rate**2, *weights)
        try:
            root = np.linalg.inv(np.linalg.cholesky(now))
        except np.linalg.LinAlgError:  # Not positive definite.
            return np.inf
        R = root
        if not form.held:
            if Q[-1, -1] >= 0:
                return np.inf
            R = root @ np.column_stack([np.eye(len(now)), -Q[:-1, -1] / Q[-1, -1]])
        sizes = _Forms(*map(np.abs, form)).change(np.abs(now), np.abs(after), -(rate**2), *weights)
        size = np.linalg.norm(np.abs(R) @ sizes @ np.abs(R).T)
        rounding = len(Q) * np.finfo(np.float64).eps * size
        excess = max(excess, np.linalg.eigvalsh(R @ Q @ R.T)[-1] + rounding)
    return float(np.sqrt(rate**2 + excess))


def _search(forms: list[_Forms], T: list[_Matrix], low: float, high: float) -> _Proof | None:
    """The best proof that bisection finds, solved for in the coordinates T, checked in x's own.

    Its rate may be 1 or more: then it proves nothing, but may lead to one that does.
    """
    import cvxpy as cp

    after = [*T[1:], T[0]]
    within = [form.within(*each) for form, *each in zip(forms, T, after, strict=True)]
    unit = max(-1 / each.sector[-1, -1] for each in within if not each.held)
    squared, largest = cp.Parameter(nonneg=True), cp.Variable()
    alone, both = cp.Variable(len(T), nonneg=True), cp.Variable(len(T), nonneg=True)
    P = [cp.Variable((len(each), len(each)), symmetric=True) for each in T]
    constraints: Any = [sum(cp.trace(each) for each in P) == 1]
    for i, form in enumerate(within):
        then = (i + 1) % len(P)
        σ, η = alone[i] + both[then], squared * both[i]
        change = form.change(P[i], P[then], squared, unit * σ, unit * η)
        constraints += [
            P[i] >> 1e-7 * np.eye(len(T[i])),
            change << largest * np.eye(change.shape[0]),
            *([η <= σ] if then != i else []),
        ]
    program = cp.Problem(cp.Minimize(largest), constraints)
    best = None
    tolerance = _TOLERANCE * (1 - low)
    while high - low > tolerance:
        rate = (low + high) / 2
        squared.value = rate**2
        proved = np.inf
        with warnings.catch_warnings(), suppress(cp.SolverError):
            warnings.simplefilter("ignore", UserWarning)  # Of inaccuracy; the proof is checked.
            program.solve(solver=cp.CLARABEL)
            if alone.value is not None and both.value is not None:
                found = [_back(of.value, each) for of, each in zip(P, T, strict=True)]
                trace = sum(np.trace(each) for each in found)
                found = [each / trace for each in found]
                first, second = np.maximum([alone.value, both.value], 0) * (unit / trace)
                σ = first + np.roll(second, -1)
                multiplier = np.array([σ, np.minimum(rate**2 * second, σ)])
                proved = _proved(forms, found, multiplier, rate)
                if best is None or proved < best.rate:
                    best = _Proof(proved, multiplier, found)
        low, high = (low, rate) if proved <= rate else (rate, min(high, proved))
    return best


def _back(P: Any, T: _Matrix) -> _Matrix:
    back = np.linalg.inv(T)
    P = back.T @ P @ back
    return (P + P.T) / 2


def certify(
    tx: optax.GradientTransformation | StateSpace, mu: float, L: float
) -> Certificate | None:
    """Prove a linear rate for every μ-strongly convex, L-smooth function, if one can be proved.

        z_t = A z_{t-1} + B g_t,    ξ_t = g_t - L θ_{t-1},    ξ_0 = 0

        V(z_t, ξ_t) - ρ² V(z_{t-1}, ξ_{t-1})
            + σ (g_t - μ θ_{t-1}) (L θ_{t-1} - g_t) + η (g_t - μ θ_{t-1}) ξ_{t-1} ≤ 0

    for all z, ξ and g, with V(x) = xᵀ P x, P ≻ 0 and 0 ≤ η ≤ ρ² σ, everything
    counted from where the transformation comes to rest: the minimizer, but for
    weight decay. The terms with σ and η are the weighted off-by-one constraint:
    for the gradients of such a function their sum, weighted by ρ^{-2t}, is never
    negative. So V(z_t, ξ_t) ≤ ρ^{2t} V(z_0, 0), in any number of dimensions.

    Of a transformation with a period every step has a θ, ξ, g, σ and η of its
    own, with η ≤ σ, and ρ² times a step's σ bounds the next one's η. Where a step
    leaves the parameters as they are, g is not free in the next, but L θ + ξ: so the
    rate of `optax.MultiSteps` over k steps is the k-th root of that of what it wraps.

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
    system = read(tx)
    μ, L = as_real("mu", mu, "(0, inf)"), as_real("L", L, "(0, inf)")
    condition(μ, L)
    if find_spec("cvxpy") is None:
        raise ImportError(
            "certify needs cvxpy, which is not installed; pip install 'momentax[certify]'"
        )
    if (low := rate(system, μ, L)) >= 1:
        return None
    steps, own = phases(system)
    ends = np.cumsum([len(step.C) for step in steps])
    cuts = [slice(end - len(step.C), end) for end, step in zip(ends, steps, strict=True)]
    forms, T = _forms(steps, μ, L), _balanced(system, own, cuts, μ, L)
    best, bound = None, np.inf
    for _ in range(3):
        found = _search(forms, T, low, min(bound, 1.0))
        if found is None or found.rate >= bound:
            break
        best, bound = found, found.rate
        # Again in coordinates in which what was found is the identity: there the solver errs less.
        T = [np.linalg.inv(np.linalg.cholesky(P)).T for P in found.P]
    if best is None or bound >= 1:
        return None
    n, p = len(own), len(steps)
    P = np.zeros((n + p, n + p))
    back = np.linalg.inv(own)
    for i, (part, of) in enumerate(zip(cuts, best.P, strict=True)):
        from_z = np.zeros((len(of), n + p))
        from_z[:-1, :n], from_z[-1, n + i] = back[part], 1
        P += from_z.T @ of @ from_z
    trace = np.trace(P)
    multiplier = best.multiplier if p > 1 else best.multiplier[:, 0]
    return Certificate(bound, multiplier / trace, P / trace)
