"""Whether a step is linear, and the same for every entry of a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentax._core.typing import Reals
from momentax.theory._reading._reader import Reader

_SCALES = 10.0 ** np.arange(-11, 7)


class _LinearStep:
    """A step, compared with the linear map J that its derivative is."""

    def __init__(self, reader: Reader, J: Reals, x: Reals, discrete: list[Any], reached: Any):
        self.reader, self.discrete, self.reached = reader, discrete, reached
        self.J = J[reached]
        self.inputs = np.concatenate([reached, np.ones(reader.num_params, bool)])
        self.rest = np.where(self.inputs, 0.0, np.concatenate([x, np.zeros(reader.num_params)]))
        self.tolerance = max(1e-11, 4 * reader.eps[reached].max())

    def values(self, y: Reals) -> Reals:
        return self.reader.values(self.rest + y, self.discrete)[:, self.reached]

    def agrees(self, value: Reals, expected: Reals, size: Reals) -> NDArray[np.bool_]:
        # With <= NaN does not agree.
        return np.asarray(np.abs(value - expected) <= self.tolerance * size)

    def is_linear_at(self, y: Reals) -> NDArray[np.bool_]:
        """Return for each row of y whether the step from there is the linear map."""
        size = np.abs(y) @ np.abs(self.J).T
        return np.all(self.agrees(self.values(y), y @ self.J.T, size), axis=1)


def require_linear(
    reader: Reader, J: Reals, x: Reals, discrete: list[Any], reached: Any, rng: Any
) -> None:
    """Require superposition at random states and gradients, from tiny to large ones."""
    step = _LinearStep(reader, J, x, discrete, reached)
    groups = [reader.num_param_entries, reader.size - reader.num_param_entries, reader.num_params]
    # Each of the parameters, the state and the gradient is the largest in some tests, since a
    # condition may compare them. In the last three tests it is larger by a factor of 1000, at which
    # rounding does not yet hide a cancellation.
    sizes = 10.0 ** np.concatenate([rng.uniform(-1, 1, size=(12, 3)), -3 * (1 - np.eye(3))])
    directions = step.inputs * np.repeat(sizes, groups, axis=1)
    directions = directions * rng.normal(size=directions.shape)
    points = _SCALES[:, None, None] * directions
    linear = step.is_linear_at(points.reshape(-1, directions.shape[1])).reshape(points.shape[:2])
    if linear.all():
        return
    at, which = np.argwhere(~linear)[0]
    reason = _failure(step, points[at, which], points[at])
    remedy = "give around=(θ, g) to theory.state_space, which linearises it at a point"
    if at == 0:
        raise ValueError(f"tx is not linear: {reason}; {remedy}")
    where, limit = _linear_range(step, float(_SCALES[at - 1]))
    raise ValueError(
        f"tx is linear only within a range, as clipping makes it: for {where} up to about "
        f"{limit:.4g}. Beyond it, {reason}; leave the clipping out to read the system within the "
        f"range, or {remedy}"
    )


def _linear_range(step: _LinearStep, low: float) -> tuple[str, float]:
    """Return which inputs have a range of linearity, and its end; the step is linear at `low`."""
    gradient = np.zeros(len(step.inputs))
    gradient[step.reader.size] = 1
    high = 100 * _SCALES[-1]
    if step.is_linear_at(high * gradient[None]).all():
        return "states and gradients", low
    for _ in range(5):
        sizes = np.geomspace(low, high, 40)
        beyond = int(np.argmin(step.is_linear_at(sizes[:, None] * gradient)))
        low, high = sizes[max(beyond - 1, 0)], sizes[beyond]
    return "gradients from rest", low


def _failure(step: _LinearStep, u: Reals, others: Reals) -> str:
    """Say which half of superposition fails at u, and for which part of the state."""
    zero, one, twice, minus = step.values(np.stack([0 * u, u, 2 * u, -u]))
    other, both = step.values(others), step.values(u + others)
    size = np.abs(one) + np.abs(other).max(axis=0) + 1e-300
    everything = "parameters, state and gradient"
    for holds, text in (
        (
            step.agrees(zero, 0 * one, size),
            f"a step from zero {everything} does not leave {{}} at zero",
        ),
        (
            step.agrees(minus, -one, size),
            f"a step from the negated {everything} does not negate {{}}",
        ),
        (
            step.agrees(twice, 2 * one, size),
            f"a step from twice the {everything} does not give twice {{}}",
        ),
        (
            step.agrees(both, one + other, size).all(axis=0),
            f"a step from the sum of two sets of {everything} does not give the sum of {{}} after "
            "each of them",
        ),
    ):
        if not holds.all():
            return text.format(np.asarray(step.reader.names)[step.reached][np.argmin(holds)])
    return "superposition fails"


def require_uniform(
    reader: Reader, start: Reals, steps: list[tuple[Reals, Reals]], chosen: int | None
) -> None:
    """Require that no entry of a parameter moves another, and that all entries move alike.

    If a parameter was chosen, the entries of others may move in other ways.
    """
    for first in range(len(steps)):
        moved = np.concatenate([start, steps[first - 1][1]], axis=1)
        for k in range(2 * reader.size // reader.num_params * len(steps)):
            _require_uniform_entries(reader, moved, chosen)
            moved = steps[(first + k) % len(steps)][0] @ moved


def _require_uniform_entries(reader: Reader, moved: Reals, chosen: int | None) -> None:
    num = reader.num_params
    responses = moved[:num].reshape(num, 2, num)
    tolerance = 1e-9 * np.abs(responses).max(initial=0)
    for response in (responses[:, 0], responses[:, 1]):
        own = np.diag(response)
        if np.any(np.abs(response - np.diag(own)) > tolerance):
            raise ValueError(
                "tx couples the entries of a parameter: the gradient of one moves another, so no "
                "single system describes each of them"
            )
        if np.any(np.abs(own - own[reader.first_entry[reader.owner]]) > tolerance):
            raise ValueError(
                "tx moves the entries of one parameter in different ways, so no single system "
                "describes each of them"
            )
        other = np.abs(own - own[0]) > tolerance
        if chosen is None and np.any(other):
            path = reader.paths[reader.owner[np.argmax(other)]]
            raise ValueError(
                f"tx treats the parameters at {reader.paths[0]} and {path} differently, as a mask "
                "does; give theory.state_space params and the path of one of them"
            )
