"""A linear system from gradients to parameters, and its least part that does the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Reals = NDArray[np.float64]

_RANK = 1e-10  # What counts as dependent, after balancing.


class StateSpace(NamedTuple):
    """A linear optimizer as a system from gradients to parameters, all float64.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t,    g_t the gradient at θ_{t-1}

    A: shape (n, n).
    B: shape (n,).
    C: shape (n,).

    From `state_space`, z_0 = (θ_0, 0, 0, ...) and C = (1, 0, 0, ...). Of a
    transformation with a period of p steps B has the shape (n, p) and C (p, n), a
    gradient and a parameter for each: step t takes the gradient at row (t - 1) mod p
    of C and adds it along that column of B alone. θ_t is row t mod p, and the
    eigenvalues of A + λ B C are still factors per step.
    """

    A: _Reals
    B: _Reals
    C: _Reals


def by_phase(system: StateSpace) -> StateSpace:
    """The same with B of shape (n, p) and C of (p, n) where p is 1 too."""
    A, B, C = system
    return StateSpace(A, np.reshape(B, (len(A), -1)), np.reshape(C, (-1, len(A))))


def span(A: _Reals, X: _Reals, phase: Any = 0) -> _Reals:
    """An orthonormal basis of what the columns of X reach under A, phase by phase.

    Each entry of the state may belong to one phase of a period, each column of X
    to the entries of one phase, and A take those on to the next: exactly.
    """
    phase = np.broadcast_to(phase, len(A))
    size = np.linalg.norm(X, axis=0)
    new = X[:, size > 0] / size[size > 0]
    basis, scale = np.zeros((len(A), 0), np.float64), 1.0
    while new.size:
        for _ in range(2):
            new = new - basis @ (basis.T @ new)
        found = []
        for rows in (phase == each for each in np.unique(phase)):
            part = new[np.ix_(rows, np.any(new[rows] != 0, axis=0))]
            u, s, _ = np.linalg.svd(part, full_matrices=False)
            found.append(np.zeros((len(A), len(s)))[:, s > _RANK * scale])
            found[-1][rows] = u[:, s > _RANK * scale]
        basis = np.concatenate([basis, *found], axis=1)
        new, scale = A @ np.concatenate(found, axis=1), max(np.linalg.norm(A, 2), 1e-300)
    return basis


def _closure(pattern: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    while np.any(more := pattern[:, inside].any(axis=1) & ~inside):
        inside = inside | more
    return inside


def balance(A: _Reals, B: _Reals, C: _Reals) -> tuple[_Reals, float]:
    """Scales of the state, powers of 2, and of the gradient, that leave nothing to its units."""
    strengths, moved = [], B
    for _ in range(len(A)):
        strengths.append(np.abs(C @ moved).max())
        moved = A @ moved
    if np.abs(np.linalg.eigvals(A)).max(initial=0) < 1 + 1e-6:  # A slow filter answers late.
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


def minimal(A: Any, B: Any, C: Any, start: Any, phase: Any) -> StateSpace:
    """The part that can be reached and seen, in coordinates where z_0 = (θ_0, 0, ..., 0)."""
    into = np.any(B != 0, axis=1) | (start != 0)
    keep = _closure(A != 0, into) & _closure(A.T != 0, np.any(C != 0, axis=0))
    A, B, C, start, phase = A[np.ix_(keep, keep)], B[keep], C[:, keep], start[keep], phase[keep]
    scale, _ = balance(A, B, C)
    inner = A / scale[:, None] * scale
    reached = span(inner, np.column_stack([start, B]) / scale[:, None], phase)
    phase_of = phase[np.argmax(reached != 0, axis=0)]
    seen = span((reached.T @ inner @ reached).T, (C * scale @ reached).T, phase_of)
    if seen.shape[1] < len(A):
        basis = reached @ seen
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
    return StateSpace(A, B[:, 0], C[0]) if len(C) == 1 else StateSpace(A, B, C)


def lifted(steps: list[tuple[_Reals, _Reals]], start: _Reals, seen: int) -> StateSpace:
    """The steps of a period as one system on a copy of the state for each, of which one is seen."""
    p, n = len(steps), len(start)
    A, B, C = np.zeros((p, n, p, n)), np.zeros((p, n, p)), np.zeros((p, p, n))
    for i, (each, gain) in enumerate(steps):
        A[(i + 1) % p, :, i], B[(i + 1) % p, :, i], C[i, i, seen] = each, gain, 1
    first = np.concatenate([start, np.zeros((p - 1) * n)])
    A, B, C = A.reshape(p * n, -1), B.reshape(p * n, -1), C.reshape(p, -1)
    return minimal(A, B, C, first, np.repeat(np.arange(p), n))


def phases(system: StateSpace) -> tuple[list[StateSpace], _Reals]:
    """The steps of a period one by one, and z = T (x_0, x_1, ...) from the state x before each.

    x_{i+1} = A_i x_i + B_i g,    θ = C_i x_i,    x_p = x_0
    """
    A, B, C = by_phase(system)
    p = len(C)
    if p == 1:
        return [StateSpace(A, B[:, 0], C[0])], np.eye(len(A))
    scale, _ = balance(A, B, C)
    A, B, C = A / scale[:, None] * scale, B / scale[:, None], C * scale
    unit = np.linalg.norm(B, axis=0).max() or 1.0
    bases, known = [np.eye(len(A), 1), *[np.zeros((len(A), 0))] * (p - 1)], 0
    while known < (known := sum(basis.shape[1] for basis in bases)):
        for i in range(p):
            j = (i + 1) % p
            moved = np.column_stack([bases[j], A @ bases[i], B[:, i] / unit])
            u, s, _ = np.linalg.svd(moved, full_matrices=False)
            bases[j] = u[:, : np.sum(s > _RANK * s[0])]
    if known != len(A):
        raise ValueError(
            f"a StateSpace with a period of {p} steps must hold the states before each of them "
            "and no others, as that of state_space does"
        )
    steps = [
        StateSpace(after.T @ A @ basis, after.T @ B[:, i], C[i] @ basis)
        for i, (basis, after) in enumerate(zip(bases, [*bases[1:], bases[0]], strict=True))
    ]
    return steps, scale[:, None] * np.concatenate(bases, axis=1)
