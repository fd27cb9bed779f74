"""Whether a step is linear, and the same for every entry of a parameter: what fails, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from momentax.theory._reader import Reader

_Reals = NDArray[np.float64]

_SCALES = 10.0 ** np.arange(-11, 7)


def require_linear(
    reader: Reader, J: _Reals, x: _Reals, still: list[Any], reached: Any, rng: Any
) -> None:
    """Superposition at random states, from tiny to large."""
    num = reader.num_params
    inputs = np.concatenate([reached, np.ones(num, bool)])
    rest = np.where(inputs, 0.0, np.concatenate([x, np.zeros(num)]))
    tolerance = max(1e-11, 4 * reader.eps[reached].max())

    def values(y: _Reals) -> _Reals:
        return reader.values(rest + y, still)[:, reached]

    def same(value: _Reals, expected: _Reals, size: _Reals) -> NDArray[np.bool_]:
        return np.asarray(np.abs(value - expected) <= tolerance * size)  # And so not of NaN.

    def follows(y: _Reals) -> NDArray[np.bool_]:
        return np.all(same(values(y), y @ J[reached].T, np.abs(y) @ np.abs(J[reached]).T), axis=1)

    # Now the state is the larger and now the gradient, so that each has its say in a condition.
    groups = np.repeat(np.arange(3), [reader.held, reader.size - reader.held, num])
    # At last one of the three far above the others, but no more than what cancels may bear.
    sizes = 10.0 ** np.concatenate([rng.uniform(-1, 1, size=(12, 3)), -3 * (1 - np.eye(3))])
    directions = inputs * sizes[:, groups] * rng.normal(size=(len(sizes), len(inputs)))
    points = _SCALES[:, None, None] * directions
    linear = follows(points.reshape(-1, len(inputs))).reshape(points.shape[:2])
    if linear.all():
        return
    at, which = np.argwhere(~linear)[0]
    broken = _broken(values, same, points[at, which], points[at])
    broken = broken.format(np.asarray(reader.names)[reached])
    remedy = "give around=(θ, g) to linearise it at a point"
    if at == 0:
        raise ValueError(f"tx is not linear: {broken}; {remedy}")
    alone = np.zeros(len(inputs))
    alone[reader.size] = 1
    low, high, where = _SCALES[at - 1], 100 * _SCALES[-1], "gradients from rest"
    if follows(high * alone[None]).all():
        where = "states and gradients"
    else:
        for _ in range(5):
            sizes = np.geomspace(low, high, 40)
            beyond = int(np.argmin(follows(sizes[:, None] * alone)))
            low, high = sizes[max(beyond - 1, 0)], sizes[beyond]
    raise ValueError(
        f"tx is linear only within a range, as clipping makes it: for {where} up to about "
        f"{low:.4g}. Beyond, {broken}; leave the clipping out for the system within the range, "
        f"or {remedy}"
    )


def _broken(values: Any, same: Any, u: _Reals, others: _Reals) -> str:
    """Which half of superposition fails at u, and for what, by its index in braces."""
    everything = "the parameters, the state and the gradient"
    zero, one, twice, minus = values(np.stack([0 * u, u, 2 * u, -u]))
    other, both = values(others), values(u + others)
    size = np.abs(one) + np.abs(other).max(axis=0) + 1e-300
    for right, text in (
        (same(zero, 0 * one, size), f"homogeneity fails: {{}} should be 0 where {everything} are"),
        (same(minus, -one, size), f"homogeneity fails: {{}} should change sign with {everything}"),
        (same(twice, 2 * one, size), f"homogeneity fails: {{}} should double with {everything}"),
        (
            same(both, one + other, size).all(axis=0),
            f"additivity fails: {{}} after a step from the sum of two of {everything} should be "
            "the sum of what they are after each",
        ),
    ):
        if not right.all():
            return text.format(f"{{0[{np.argmin(right)}]}}")
    return "superposition fails"


def require_alike(
    reader: Reader, start: _Reals, steps: list[tuple[_Reals, _Reals]], chosen: int | None
) -> None:
    """No entry of a parameter moves another, and all entries of one move in the same way.

    And those of every other one move so too, where none of them was chosen.
    """
    num = reader.num_params
    for first in range(len(steps)):
        moved = np.concatenate([start, steps[first - 1][1]], axis=1)
        for k in range(2 * reader.size // num * len(steps)):
            seen = moved[:num].reshape(num, 2, num)
            tolerance = 1e-9 * np.abs(seen).max(initial=0)
            for each in (seen[:, 0], seen[:, 1]):
                own = np.diag(each)
                if np.any(np.abs(each - np.diag(own)) > tolerance):
                    raise ValueError(
                        "tx couples the entries of a parameter: the gradient of one moves "
                        "another, so no one system describes each"
                    )
                if np.any(np.abs(own - own[reader.first[reader.owner]]) > tolerance):
                    raise ValueError(
                        "tx moves the entries of one parameter in different ways, so no one "
                        "system describes each"
                    )
                other = np.abs(own - own[0]) > tolerance
                if chosen is None and np.any(other):
                    path = reader.paths[reader.owner[np.argmax(other)]]
                    raise ValueError(
                        f"tx treats the parameters at {reader.paths[0]} and {path} differently, "
                        "as a mask makes it; give theory.state_space params and the path of one"
                    )
            moved = steps[(first + k) % len(steps)][0] @ moved
