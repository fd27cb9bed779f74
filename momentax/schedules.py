"""β over time: schedules `count -> β`, the first count being 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from momentax import _check
from momentax._typing import Scalar, Schedule

__all__ = ["warmup"]


def warmup(start: Scalar = 0.5, end: Scalar = 0.9, steps: int = 1000) -> Schedule:
    """Raise β on a line from one value to another and keep it there.

        β_t = start + (end - start) min(t / steps, 1),    t = 0, 1, ...

    Args:
        start: β at count 0, in [0, 1).
        end: β from count `steps` on, in [0, 1).
        steps: The number of steps that the line takes, at least 1.

    Returns:
        A schedule from an integer count to a 0-d array in float32 or wider.

    Raises:
        ValueError: start or end lies outside its interval, or steps below 1.
        TypeError: start or end is no number, or steps no whole one.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization
        and momentum in deep learning, ICML 2013, raise β during training; the
        line is the plainest way to.
    """
    for name, value in (("start", start), ("end", end)):
        if callable(value):
            raise TypeError(f"{name} must be a number or a 0-d array, got {value!r}")
    first = _check.scheduled("start", start, _check.INTERVALS["beta"])
    last = _check.scheduled("end", end, _check.INTERVALS["beta"])
    steps = _check.whole("steps", steps)

    def schedule(count: ArrayLike) -> jax.Array:
        share = jnp.minimum(jnp.asarray(count, _check.float_dtype()) / steps, 1)
        return first(count) * (1 - share) + last(count) * share

    return schedule
