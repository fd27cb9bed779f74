"""A linear rate proved for every smooth strongly convex function, with its proof."""

from __future__ import annotations

import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import NDArray

from momentax._core.arguments import as_curvature_range
from momentax._core.typing import Reals
from momentax.theory._printing import format_record
from momentax.theory._properties._noise import gramian
from momentax.theory._properties._rate import worst_rate
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, Phase, StateSpace

_Matrix = NDArray[Any]  # float64 too; the type stubs of linear algebra return NDArray[Any].

# A step that moves the parameters by less than this share of them leaves them as they are.
_ROUNDING = 1e-12
_TOLERANCE = 1e-6  # Where bisection stops, as a share of the interval it began with.


class Certificate(NamedTuple):
    """A rate and what proves it.

    rate: ρ in [0, 1), the worst factor by which an error shrinks per step.
    multiplier: the weights (σ, η) of the two inequalities on the gradients; for a period of
        p steps, each has shape (p,).
    P: positive definite and of trace 1, shape (n + p, n + p); after t steps
        xᵀ P x is at most ρ^{2t} of what it was, where x = (z, ξ).
    """

    rate: float
    multiplier: Reals
    P: Reals

    def __repr__(self) -> str:
        return format_record(self)


class _Proof(NamedTuple):
    """A rate and its proof: for each step of the period a P and the weights (σ, η)."""

    rate: float
    multiplier: _Matrix
    P: list[_Matrix]


class _Forms(NamedTuple):
    """The linear maps and quadratic forms of one step, in the coordinates (x, ξ, g)."""

    now: _Matrix  # Maps to (x, ξ).
    after: _Matrix  # Maps to (x, ξ) one step later.
    sector: _Matrix  # (g - μ θ)(L θ - g)
    off_by_one: _Matrix  # (g - μ θ) ξ

    @property
    def gradient_is_fixed(self) -> bool:
        """Return whether g is not a coordinate, since it is the previous gradient."""
        return self.now.shape[0] == self.now.shape[1]

    def in_coordinates(self, T: _Matrix, T_after: _Matrix) -> _Forms:
        """Transform to coordinates y with (x, ξ) = T y, and to units of g of their size."""
        after = np.linalg.solve(T_after, self.after)
        if not self.gradient_is_fixed:
            size = np.linalg.norm(after[:, -1])
            T = np.block([[T, np.zeros((len(T), 1))], [np.zeros(len(T)), 1 / size]])
        sector, off_by_one = T.T @ self.sector @ T, T.T @ self.off_by_one @ T
        return _Forms(self.now, after @ T, sector, off_by_one)

    def change(self, P: Any, P_after: Any, squared: Any, sector: Any, off_by_one: Any) -> Any:
        """Return the form that must be negative semidefinite, from arrays or CVXPY variables."""
        return (
            self.after.T @ P_after @ self.after
            - squared * (self.now.T @ P @ self.now)
            + sector * self.sector
            + off_by_one * self.off_by_one
        )


def _forms(phases: list[Phase], μ: float, L: float) -> list[_Forms]:
    def product(p: _Matrix, q: _Matrix) -> _Matrix:
        return (np.outer(p, q) + np.outer(q, p)) / 2

    forms = []
    for before, (A, B, C) in zip([phases[-1], *phases[:-1]], phases, strict=True):
        n = len(C)
        # If the previous step left the parameters as they were, g is its gradient: ξ = g - L θ.
        moved = np.append(C @ before.A - before.C, L * (C @ before.B))
        gradient_is_fixed = (
            len(phases) > 1 and np.abs(moved).max() <= _ROUNDING * np.abs(before.C).max()
        )
        coordinates = np.eye(n + 2 - gradient_is_fixed)
        x, ξ = coordinates[:n], coordinates[n]
        θ = C @ x
        g = ξ + L * θ if gradient_is_fixed else coordinates[-1]
        forms.append(
            _Forms(
                now=coordinates[: n + 1],
                after=np.vstack([A @ x + np.outer(B, g), g - L * θ]),
                sector=product(g - μ * θ, L * θ - g),
                off_by_one=product(g - μ * θ, ξ),
            )
        )
    return forms


def _balanced_coordinates(
    system: LinearSystem, parts: list[slice], μ: float, L: float
) -> list[_Matrix]:
    """Return coordinates of (x, ξ) in which each part of x is as reachable as observable.

    They balance the Gramians of the closed loop at the middle curvature, and do not depend on
    the coordinates in which A, B and C came. A small multiple of 1 is added to the Gramians, for
    parts that are not reachable or not observable.
    """
    T = system.phase_basis
    M = np.linalg.solve(T, (system.A + (μ + L) / 2 * (system.B @ system.C)) @ T)
    B, C = np.linalg.solve(T, L * system.B), system.C @ T
    moved = [B]
    for _ in B[1:]:
        moved.append(M @ moved[-1])
    units = np.linalg.norm(np.concatenate(moved, axis=1), axis=1)
    units[units == 0] = 1
    M, B, C = M * units / units[:, None], B / units[:, None], C * units

    def factors(M: _Matrix, b: _Matrix) -> list[_Matrix]:
        regularization = 1e-12 * (np.sum(b * b) or 1) * np.eye(len(M))
        Σ = gramian(M - np.eye(len(M)), b @ b.T + regularization)
        found = [np.linalg.eigh(Σ[part, part]) for part in parts]
        return [  # Rounding may make a size negative.
            axes * np.sqrt(np.maximum(sizes, 1e-15 * sizes[-1])) for sizes, axes in found
        ]

    found = []
    for part, reached, observed in zip(parts, factors(M, B), factors(M.T, C.T), strict=True):
        U, sizes, _ = np.linalg.svd(reached.T @ observed)
        found.append(L * np.eye(len(reached) + 1))
        found[-1][:-1, :-1] = units[part, None] * reached @ U / np.sqrt(sizes)
    return found


def _smallest_proved_rate(
    forms: list[_Forms], P: list[_Matrix], multiplier: _Matrix, rate: float
) -> float:
    """Return the smallest rate, not below a given one, that P and the weights (σ, η) prove.

    Eigenvalues decide. Inserting the gradient that is worst for each (x, ξ) into the form at ρ
    leaves a form S of (x, ξ), and S ⪯ δ P proves √(ρ² + δ). δ includes a bound of the rounding
    errors of float64.
    """
    excess = 0.0
    for form, now, after, weights in zip(forms, P, [*P[1:], P[0]], multiplier.T, strict=True):
        Q = form.change(now, after, rate**2, *weights)
        try:
            root = np.linalg.inv(np.linalg.cholesky(now))
        except np.linalg.LinAlgError:  # Not positive definite.
            return np.inf
        R = root
        if not form.gradient_is_fixed:
            if Q[-1, -1] >= 0:
                return np.inf
            R = root @ np.column_stack([np.eye(len(now)), -Q[:-1, -1] / Q[-1, -1]])
        sizes = _Forms(*map(np.abs, form)).change(np.abs(now), np.abs(after), -(rate**2), *weights)
        size = np.linalg.norm(np.abs(R) @ sizes @ np.abs(R).T)
        rounding = len(Q) * np.finfo(np.float64).eps * size
        excess = max(excess, np.linalg.eigvalsh(R @ Q @ R.T)[-1] + rounding)
    return float(np.sqrt(rate**2 + excess))


class _Program:
    """The semidefinite program that looks for P and the weights (σ, η) at one rate."""

    def __init__(self, forms: list[_Forms], T: list[_Matrix]):
        import cvxpy as cp

        self.forms, self.T, self.solver = forms, T, cp.CLARABEL
        after = [*T[1:], T[0]]
        inner = [form.in_coordinates(*each) for form, *each in zip(forms, T, after, strict=True)]
        self.unit = max(-1 / each.sector[-1, -1] for each in inner if not each.gradient_is_fixed)
        self.squared_rate, largest = cp.Parameter(nonneg=True), cp.Variable()
        # σ of step i bounds η of step i + 1: σ_i = rest_i + shared_{i+1}, η_i = ρ² shared_i.
        self.rest = cp.Variable(len(T), nonneg=True)
        self.shared = cp.Variable(len(T), nonneg=True)
        self.P = [cp.Variable((len(each), len(each)), symmetric=True) for each in T]
        constraints: Any = [sum(cp.trace(each) for each in self.P) == 1]
        for i, form in enumerate(inner):
            then = (i + 1) % len(self.P)
            σ, η = self.rest[i] + self.shared[then], self.squared_rate * self.shared[i]
            change = form.change(
                self.P[i], self.P[then], self.squared_rate, self.unit * σ, self.unit * η
            )
            constraints += [
                self.P[i] >> 1e-7 * np.eye(len(T[i])),
                change << largest * np.eye(change.shape[0]),
                *([η <= σ] if then != i else []),
            ]
        self.problem = cp.Problem(cp.Minimize(largest), constraints)

    def prove(self, rate: float) -> _Proof | None:
        """Solve at a rate, and return the rate that the solution proves, which may be larger."""
        import cvxpy as cp

        self.squared_rate.value = rate**2
        with warnings.catch_warnings(), suppress(cp.SolverError):
            # The solver warns of inaccuracy; the proof does not depend on its accuracy.
            warnings.simplefilter("ignore", UserWarning)
            self.problem.solve(solver=self.solver)
            if self.rest.value is not None and self.shared.value is not None:
                P = [
                    _transform_to_x(of.value, each) for of, each in zip(self.P, self.T, strict=True)
                ]
                trace = sum(np.trace(each) for each in P)
                P = [each / trace for each in P]
                scale = self.unit / trace
                first, second = np.maximum([self.rest.value, self.shared.value], 0) * scale
                σ = first + np.roll(second, -1)
                multiplier = np.array([σ, np.minimum(rate**2 * second, σ)])
                return _Proof(_smallest_proved_rate(self.forms, P, multiplier, rate), multiplier, P)
        return None


def _transform_to_x(P: Any, T: _Matrix) -> _Matrix:
    """Transform P from the coordinates y to x, where x = T y."""
    inverse = np.linalg.inv(T)
    P = inverse.T @ P @ inverse
    return (P + P.T) / 2


def _bisect(forms: list[_Forms], T: list[_Matrix], low: float, high: float) -> _Proof | None:
    """Return the best proof that bisection finds, solved for in the coordinates T.

    Its rate may be 1 or more, which proves nothing but may lead to a better proof.
    """
    program, best = _Program(forms, T), None
    tolerance = _TOLERANCE * (1 - low)
    while high - low > tolerance:
        rate = (low + high) / 2
        proof = program.prove(rate)
        if proof is not None and (best is None or proof.rate < best.rate):
            best = proof
        proved = np.inf if proof is None else proof.rate
        low, high = (low, rate) if proved <= rate else (rate, min(high, proved))
    return best


def _certificate(proof: _Proof, basis: _Matrix, parts: list[slice]) -> Certificate:
    """Join the P of all steps to one form of (z, ξ)."""
    n, p = len(basis), len(parts)
    P, inverse = np.zeros((n + p, n + p)), np.linalg.inv(basis)
    for i, (part, of) in enumerate(zip(parts, proof.P, strict=True)):
        from_z = np.zeros((len(of), n + p))
        from_z[:-1, :n], from_z[-1, n + i] = inverse[part], 1
        P += from_z.T @ of @ from_z
    trace = np.trace(P)
    multiplier = proof.multiplier if p > 1 else proof.multiplier[:, 0]
    return Certificate(proof.rate, multiplier / trace, P / trace)


def certify_system(system: LinearSystem, μ: float, L: float) -> Certificate | None:
    """Certify a system as `certify` does."""
    if find_spec("cvxpy") is None:
        raise ImportError(
            "certify needs cvxpy, which is not installed; pip install 'momentax[certify]'"
        )
    if (low := worst_rate(system, μ, L)) >= 1:
        return None
    ends = np.cumsum([len(phase.C) for phase in system.phases])
    parts = [slice(end - len(each.C), end) for end, each in zip(ends, system.phases, strict=True)]
    forms, T = _forms(system.phases, μ, L), _balanced_coordinates(system, parts, μ, L)
    best, bound = None, np.inf
    for _ in range(3):
        found = _bisect(forms, T, low, min(bound, 1.0))
        if found is None or found.rate >= bound:
            break
        best, bound = found, found.rate
        # Again in coordinates in which the P that was found is 1: there the solver errs less.
        T = [np.linalg.inv(np.linalg.cholesky(P)).T for P in found.P]
    if best is None or bound >= 1:
        return None
    return _certificate(best, system.phase_basis, parts)


def certify(
    tx: optax.GradientTransformation | StateSpace, mu: Any, L: float | None = None
) -> Certificate | None:
    """Prove a linear rate for every μ-strongly convex, L-smooth function, if one can be proved.

        z_t = A z_{t-1} + B g_t,    ξ_t = g_t - L θ_{t-1},    ξ_0 = 0

        V(z_t, ξ_t) - ρ² V(z_{t-1}, ξ_{t-1})
            + σ (g_t - μ θ_{t-1}) (L θ_{t-1} - g_t) + η (g_t - μ θ_{t-1}) ξ_{t-1} ≤ 0

    for all z, ξ and g, with V(x) = xᵀ P x, P ≻ 0 and 0 ≤ η ≤ ρ² σ. Everything is counted from
    the fixed point of the transformation, which is the minimizer unless there is weight decay.
    The terms with σ and η are the weighted off-by-one constraint: for the gradients of such a
    function, their sum with weights ρ^{-2t} is never negative. So
    V(z_t, ξ_t) ≤ ρ^{2t} V(z_0, 0), in any number of dimensions.

    In a period, every step has a θ, ξ, g, σ and η of its own, with η ≤ σ, and ρ² times the σ of
    a step bounds the η of the next. Where a step leaves the parameters as they are, the next
    gradient is not free but L θ + ξ. So the rate of `optax.MultiSteps` over k steps is the
    k-th root of the rate of what it wraps.

    The rate is the smallest for which such a proof is found, by bisection between the rate on
    quadratics and 1. A method may be faster than this constraint can prove.

    Args:
        tx: A linear Optax transformation from gradients to steps, such as `sgd`, or its
            StateSpace.
        mu: μ in (0, L], the smallest curvature; or a Curvature, which gives L too.
        L: L in [μ, inf), the largest.

    Returns:
        Certificate(rate, multiplier, P), where multiplier is the weights (σ, η); or None where
        no rate below 1 is proved, as for heavy ball with its quadratic tuning at κ = 100. The
        result has been checked by eigenvalues and does not depend on the solver.

    Raises:
        ValueError: mu is not positive or exceeds L, or tx is not linear.
        TypeError: tx is not a transformation, or L is missing or given twice.
        ImportError: cvxpy is missing; it comes with the extra "certify".

    Example:
        >>> round(momentax.theory.certify(optax.sgd(0.1), 1.0, 10.0).rate, 4)
        0.9

    Source:
        Lessard, Recht and Packard, Analysis and design of optimization
        algorithms via integral quadratic constraints, SIAM Journal on
        Optimization 26(1), 2016, arXiv:1408.3595.
    """
    μ, largest = as_curvature_range(mu, L)
    return certify_system(as_system(tx), μ, largest)
