"""A linear optimizer as a system from gradients to parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from momentax._core.typing import Reals
from momentax.theory._printing import format_record

_RANK_TOLERANCE = 1e-10  # Relative size below which a direction of a balanced system is dependent.


class StateSpace(NamedTuple):
    """A linear optimizer as a system from gradients to parameters, all float64.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t,    g_t the gradient at θ_{t-1}

    A: shape (n, n).
    B: shape (n,).
    C: shape (n,).

    `state_space` returns a system with z_0 = (θ_0, 0, 0, ...) and C = (1, 0, 0, ...). For a
    transformation with a period of p steps, B has the shape (n, p) and C the shape (p, n).
    Step t takes the gradient at the parameter (t - 1) mod p of C z and adds it along the
    column (t - 1) mod p of B only. θ_t is entry t mod p of C z_t. The eigenvalues of
    A + λ B C are factors per step in this case too.
    """

    A: Reals
    B: Reals
    C: Reals

    def __repr__(self) -> str:
        return format_record(self)


class Phase(NamedTuple):
    """One step of a period: x⁺ = A x + B g and θ = C x, where A need not be square."""

    A: Reals
    B: Reals
    C: Reals


@dataclass(frozen=True, eq=False)
class LinearSystem:
    """A StateSpace whose period p is always an axis: A is (n, n), B is (n, p), C is (p, n).

    All functions of the theory work on this class; StateSpace is its public form. Whatever
    is derived from a system is computed once.
    """

    A: Reals
    B: Reals
    C: Reals

    @classmethod
    def from_state_space(cls, space: StateSpace) -> LinearSystem:
        A, B, C = (np.asarray(part, np.float64) for part in space)
        return cls(A, np.reshape(B, (len(A), -1)), np.reshape(C, (-1, len(A))))

    @property
    def period(self) -> int:
        return len(self.C)

    @cached_property
    def state_space(self) -> StateSpace:
        if self.period == 1:
            return StateSpace(self.A, self.B[:, 0], self.C[0])
        return StateSpace(self.A, self.B, self.C)

    @cached_property
    def _balance(self) -> tuple[Reals, float]:
        return _balance(self.A, self.B, self.C)

    @cached_property
    def balanced(self) -> LinearSystem:
        """Return the system in units of the state that make A's rows and columns equally large."""
        scale, _ = self._balance
        A = self.A / scale[:, None] * scale
        return LinearSystem(A, self.B / scale[:, None], self.C * scale)

    @cached_property
    def normalized(self) -> tuple[LinearSystem, float]:
        """Return the balanced system in units of the curvature where the loop has a gain of 1.

        The second value is that unit, by which curvatures must be divided.
        """
        unit = self._balance[1]
        return LinearSystem(self.balanced.A, unit * self.balanced.B, self.balanced.C), unit

    @cached_property
    def _split(self) -> tuple[list[Phase], Reals]:
        return _split_phases(self)

    @property
    def phases(self) -> list[Phase]:
        """Return the steps of the period: x_{i+1} = A_i x_i + B_i g, θ = C_i x_i, x_p = x_0."""
        return self._split[0]

    @property
    def phase_basis(self) -> Reals:
        """Return the matrix T of z = T (x_0, x_1, ...), where x_i is the state before step i."""
        return self._split[1]


def reachable_basis(A: Reals, X: Reals, phase: Any = 0) -> Reals:
    """Return an orthonormal basis of the space that the columns of X span under powers of A.

    `phase` numbers the step of a period that each entry of the state belongs to. Each column
    of X is then nonzero only in the entries of one phase, A maps the entries of one phase to
    those of the next, and so does the basis, exactly.
    """
    phase = np.broadcast_to(phase, len(A))
    size = np.linalg.norm(X, axis=0)
    new = X[:, size > 0] / size[size > 0]
    basis, scale = np.zeros((len(A), 0), np.float64), 1.0
    largest = max(np.linalg.norm(A, 2), 1e-300) if new.size else 0.0
    while new.size:
        for _ in range(2):  # The second projection removes what rounding left of the first.
            new = new - basis @ (basis.T @ new)
        found = []
        for rows in (phase == each for each in np.unique(phase)):
            part = new[np.ix_(rows, np.any(new[rows] != 0, axis=0))]
            u, s, _ = np.linalg.svd(part, full_matrices=False)
            independent = s > _RANK_TOLERANCE * scale
            found.append(np.zeros((len(A), len(s)))[:, independent])
            found[-1][rows] = u[:, independent]
        basis = np.concatenate([basis, *found], axis=1)
        new, scale = A @ np.concatenate(found, axis=1), largest
    return basis


def _closure(depends: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add to a set of entries all that depend on it, directly or through others."""
    while np.any(more := depends[:, inside].any(axis=1) & ~inside):
        inside = inside | more
    return inside


def _balance(A: Reals, B: Reals, C: Reals) -> tuple[Reals, float]:
    """Return scales of the state, powers of 2, and a unit of the curvature that balance a system.

    The result does not depend on the units in which the system came.
    """
    strengths, moved = [], B
    for _ in range(len(A)):
        strengths.append(np.abs(C @ moved).max())
        moved = A @ moved
    if np.abs(np.linalg.eigvals(A)).max(initial=0) < 1 + 1e-6:  # A slow filter responds late.
        power = np.linalg.matrix_power(A, len(A))
        for _ in range(24):
            strengths.append(np.abs(C @ power @ B).max())
            power = power @ power
    feedback = 1 / max(strengths) if max(strengths) > 0 else 1.0
    weight = np.abs(A) + feedback * np.abs(B) @ np.abs(C)
    np.fill_diagonal(weight, 0)
    scale = np.ones(len(A))
    for _ in range(20):
        before = scale.copy()
        for i in range(len(A)):
            row = (weight[i] * scale).sum() / scale[i]
            column = (weight[:, i] / scale).sum() * scale[i]
            if row > 0 and column > 0:
                scale[i] *= 2.0 ** np.round(np.log2(row / column) / 2)
        if np.array_equal(scale, before):
            break
    return scale, float(feedback)


def minimal_realization(A: Any, B: Any, C: Any, start: Any, phase: Any) -> LinearSystem:
    """Return the reachable and observable part, in coordinates where z_0 = (θ_0, 0, ..., 0)."""
    driven = np.any(B != 0, axis=1) | (start != 0)
    keep = _closure(A != 0, driven) & _closure(A.T != 0, np.any(C != 0, axis=0))
    A, B, C, start, phase = A[np.ix_(keep, keep)], B[keep], C[:, keep], start[keep], phase[keep]
    scale, _ = _balance(A, B, C)
    inner = A / scale[:, None] * scale
    reached = reachable_basis(inner, np.column_stack([start, B]) / scale[:, None], phase)
    phase_of = phase[np.argmax(reached != 0, axis=0)]
    observed = reachable_basis((reached.T @ inner @ reached).T, (C * scale @ reached).T, phase_of)
    if observed.shape[1] < len(A):
        basis = reached @ observed
        phase = phase[np.argmax(basis != 0, axis=0)]
        A, C = basis.T @ inner @ basis, C * scale @ basis
        B, start = basis.T @ (B / scale[:, None]), basis.T @ (start / scale)
    first = np.argsort(phase, kind="stable")
    A, B, C, start = A[np.ix_(first, first)], B[first], C[:, first], start[first]
    if np.any(start != np.eye(len(A))[0]) or np.any(C[0] != np.eye(len(A))[0]):
        n = np.sum(phase == 0)
        T = np.eye(len(A))
        T[:n, :n] = np.column_stack([start[:n], np.linalg.svd(C[:1, :n])[2][1:].T])
        A, B, C = np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T
        C[0] = np.eye(len(A))[0]
    return LinearSystem(A, B, C)


def lift(steps: list[tuple[Reals, Reals]], start: Reals, output: int) -> LinearSystem:
    """Join the steps of a period to one system, on a copy of the state for each step.

    `output` is the entry of the state that the parameter is.
    """
    p, n = len(steps), len(start)
    A, B, C = np.zeros((p, n, p, n)), np.zeros((p, n, p)), np.zeros((p, p, n))
    for i, (each, gain) in enumerate(steps):
        A[(i + 1) % p, :, i], B[(i + 1) % p, :, i], C[i, i, output] = each, gain, 1
    first = np.concatenate([start, np.zeros((p - 1) * n)])
    A, B, C = A.reshape(p * n, -1), B.reshape(p * n, -1), C.reshape(p, -1)
    return minimal_realization(A, B, C, first, np.repeat(np.arange(p), n))


def _split_phases(system: LinearSystem) -> tuple[list[Phase], Reals]:
    """Split a system into the steps of its period: the phases, and the basis of their states."""
    p = system.period
    if p == 1:
        return [Phase(system.A, system.B[:, 0], system.C[0])], np.eye(len(system.A))
    scale, _ = system._balance
    A, B, C = system.balanced.A, system.balanced.B, system.balanced.C
    unit = np.linalg.norm(B, axis=0).max() or 1.0
    bases, rank = [np.eye(len(A), 1), *[np.zeros((len(A), 0))] * (p - 1)], 0
    while rank < (rank := sum(basis.shape[1] for basis in bases)):
        for i in range(p):
            j = (i + 1) % p
            moved = np.column_stack([bases[j], A @ bases[i], B[:, i] / unit])
            u, s, _ = np.linalg.svd(moved, full_matrices=False)
            bases[j] = u[:, : np.sum(s > _RANK_TOLERANCE * s[0])]
    if rank != len(A):
        raise ValueError(
            f"a StateSpace with a period of {p} steps must hold the states before each of them "
            "and no others, as the one that state_space returns does"
        )
    phases = [
        Phase(after.T @ A @ basis, after.T @ B[:, i], C[i] @ basis)
        for i, (basis, after) in enumerate(zip(bases, [*bases[1:], bases[0]], strict=True))
    ]
    return phases, scale[:, None] * np.concatenate(bases, axis=1)
