"""The first steps of a transformation as a performance estimation problem of PEPit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from momentax._core.typing import Reals
from momentax.theory._export._fixed_point import WITH_DECAY

MEASURES = ("distance", "value", "gradient")


def to_pepit(PEPit: Any, rows: Reals, μ: float, L: float, measure: str) -> Any:
    """Return the problem of the worst case after the last of some steps.

    Row t of `rows` says how far each of (θ_0, g_1, g_2, ...) moves θ_t.
    """
    if np.abs(rows[:, 0] - 1).max() > 1e-9:
        raise ValueError(WITH_DECAY)
    functions = import_module(f"{PEPit.__name__}.functions")
    problem = PEPit.PEP()
    f = problem.declare_function(functions.SmoothStronglyConvexFunction, mu=μ, L=L)
    minimizer, θ = f.stationary_point(), problem.set_initial_point()
    problem.set_initial_condition((θ - minimizer) ** 2 <= 1)
    start, gradients = θ, []
    for row in rows[1:]:
        gradients.append(f.gradient(θ))
        weights = row[1 : len(gradients) + 1]
        moved = (float(w) * g for w, g in zip(weights, gradients, strict=True) if w)
        θ = sum(moved, start)
    if measure == "distance":
        problem.set_performance_metric((θ - minimizer) ** 2)
    elif measure == "value":
        problem.set_performance_metric(f(θ) - f(minimizer))
    else:
        problem.set_performance_metric(f.gradient(θ) ** 2)
    return problem
