"""A linear system as an algorithm of AutoLyap."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from momentax._core.typing import Reals
from momentax.theory._export._fixed_point import WITH_DECAY
from momentax.theory._system import LinearSystem, Phase

_Matrices = tuple[Reals, Reals, Reals, Reals]


def _one_period(phases: list[Phase]) -> _Matrices:
    """Return A, B, C and D of all steps of a period as one iteration, with p gradients."""
    p, n = len(phases), len(phases[0].C)
    state, driven = np.eye(n), np.zeros((n, p))
    C, D = np.zeros((p, n)), np.zeros((p, p))
    for i, phase in enumerate(phases):
        C[i], D[i] = phase.C @ state, phase.C @ driven
        state, driven = phase.A @ state, phase.A @ driven
        driven[:, i] += phase.B
    return state, driven, C, D


def _require_fixed_point(matrices: _Matrices) -> None:
    """Refuse a system that does not stay at a parameter where the gradient is zero."""
    A, _, C, _ = matrices
    equations = np.concatenate([A - np.eye(len(A)), C])
    right = np.concatenate([np.zeros(len(A)), np.ones(len(C))])
    rest = np.linalg.lstsq(equations, right)[0]
    if np.abs(equations @ rest - right).max() > 1e-9:
        raise ValueError(WITH_DECAY)


def to_autolyap(autolyap: Any, system: LinearSystem) -> Any:
    """Return an instance of a subclass of AutoLyap's Algorithm."""
    base = import_module(f"{autolyap.__name__}.algorithms").Algorithm
    matrices = _one_period(system.phases)
    _require_fixed_point(matrices)

    class Exported(base):
        """A transformation with constant coefficients."""

        def __init__(self) -> None:
            A, B, _, _ = matrices
            super().__init__(n=len(A), m=1, m_bar_is=[B.shape[1]], I_func=[1], I_op=[])

        def get_ABCD(self, k: int) -> _Matrices:  # noqa: N802  AutoLyap's name.
            del k
            A, B, C, D = matrices
            return A.copy(), B.copy(), C.copy(), D.copy()

    return Exported()
