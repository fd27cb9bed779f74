"""The first steps of a transformation, each with its own coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax

from momentax._core.typing import Reals
from momentax.theory._reading._reader import Reader, double_precision
from momentax.theory._reading._state_space import (
    EXAMPLE_PARAMS,
    as_system,
    read,
    require_readable,
)
from momentax.theory._system import StateSpace


def coefficients(tx: optax.GradientTransformation | StateSpace, steps: int) -> Reals:
    """Return how far each of (θ_0, g_1, ..., g_n) moves each of θ_0 .. θ_n.

    The result has the shape (n + 1, n + 1). A schedule counts from the first step; a StateSpace
    has the same coefficients at every step.
    """
    if isinstance(tx, StateSpace):
        return _of_system(as_system(tx).state_space, steps)
    tx = require_readable(tx, " or its StateSpace")
    with double_precision():
        reader = Reader(lambda: tx, EXAMPLE_PARAMS)
        read(reader, 0, False)  # Refuses what is not linear.
        return _of_steps(reader, steps)


def _of_system(space: StateSpace, steps: int) -> Reals:
    A, B, C = space
    B, C = np.reshape(B, (len(A), -1)), np.reshape(C, (-1, len(A)))
    p = len(C)
    z = np.zeros((len(A), steps + 1))
    z[0, 0] = 1
    rows = [C[0] @ z]
    for t in range(steps):
        z = A @ z
        z[:, t + 1] += B[:, t % p]
        rows.append(C[(t + 1) % p] @ z)
    return np.array(rows)


def _of_steps(reader: Reader, steps: int) -> Reals:
    """Step from θ_0 = 1 with no gradient, and from 0 with a gradient of 1 at one of the steps.

    One more run, from a random θ_0 with random gradients, must be the sum that linearity says.
    """
    slope, xs, histories = reader.history(0, 0.0, 0.0)
    discrete: list[Any] = [part[0] for part in histories]
    runs = steps + 2
    weights = np.vstack([np.eye(steps + 1), np.random.default_rng(0).normal(size=steps + 1)])
    x = xs[0] + weights[:, :1] * slope.sum(axis=1)
    paths = [x[:, 0]]
    for t in range(steps):
        g = np.broadcast_to(weights[:, t + 1 : t + 2], (runs, reader.num_params))
        y = np.concatenate([x, g], axis=1)
        new = reader.probe(y[:1], 0 * y[:1], discrete)[2]
        x, discrete = reader.values(y, discrete), [part[0] for part in new]
        paths.append(x[:, 0])
    rows, sums = np.array(paths)[:, :-1], np.array(paths)[:, -1]
    if not np.allclose(rows @ weights[-1], sums, rtol=1e-5, atol=1e-5 * np.abs(rows).max()):
        raise ValueError(
            f"tx is not linear over its first {steps} steps: its steps for a sum of gradients are "
            "not the sum of its steps"
        )
    return rows
