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
    gradient and a parameter for each: step t reads and writes those of t mod p
    alone, and the eigenvalues of A + λ B C are still factors per step.
    """

    A: _Reals
    B: _Reals
    C: _Reals


def _span(A: _Reals, X: _Reals) -> _Reals:
    """An orthonormal basis of what the columns of X reach under A."""
    size = np.linalg.norm(X, axis=0)
    new = X[:, size > 0] / size[size > 0]
    basis, scale = np.zeros((len(A), 0), np.float64), 1.0
    while new.size:
        for _ in range(2):
            new = new - basis @ (basis.T @ new)
        u, s, _ = np.linalg.svd(new, full_matrices=False)
        found = u[:, s > _RANK * scale]
        basis = np.concatenate([basis, found], axis=1)
        new, scale = A @ found, max(np.linalg.norm(A, 2), 1e-300)
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
    feedback = 1 / max(strengths) if max(strengths) > 0 else 1.0
    weight = np.abs(A) + feedback * np.abs(B) @ np.abs(C)
    np.fill_diagonal(weight, 0)
    scale = np.ones(len(A))
    for _ in range(20):
        for i in range(len(A)):
            row = (weight[i] * scale).sum() / scale[i]
            column = (weight[:, i] / scale).sum() * scale[i]
            if row > 0 and column > 0:
                scale[i] *= 2.0 ** np.round(np.log2(row / column) / 2)
    return scale, float(feedback)


def minimal(A: Any, B: Any, C: Any, start: Any) -> StateSpace:
    """The part that can be reached and seen, in coordinates where z_0 = (θ_0, 0, ..., 0)."""
    into = np.any(B != 0, axis=1) | (start != 0)
    keep = _closure(A != 0, into) & _closure(A.T != 0, np.any(C != 0, axis=0))
    A, B, C, start = A[np.ix_(keep, keep)], B[keep], C[:, keep], start[keep]
    scale, _ = balance(A, B, C)
    inner = A / scale[:, None] * scale
    reached = _span(inner, np.column_stack([start, B]) / scale[:, None])
    seen = _span((reached.T @ inner @ reached).T, (C * scale @ reached).T)
    if seen.shape[1] < len(A):
        basis = reached @ seen
        A, C = basis.T @ inner @ basis, C * scale @ basis
        B, start = basis.T @ (B / scale[:, None]), basis.T @ (start / scale)
    if np.any(start != np.eye(len(A))[0]) or np.any(C[0] != np.eye(len(A))[0]):
        kernel = np.linalg.svd(C[:1])[2][1:].T
        T = np.column_stack([start, kernel])
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
    return minimal(A.reshape(p * n, -1), B.reshape(p * n, -1), C.reshape(p, -1), first)
