"""What schedules share: their constants, the count that they are given, and the dtype of β."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from momentax._core import arguments, hyperparameters
from momentax._core.typing import Scalar, ScalarOrSchedule, Schedule


def as_constant(
    name: str, value: Scalar, interval: str = hyperparameters.interval_of("beta")
) -> Schedule:
    """Return a constant as a function of the count, checked to lie in its interval."""
    return hyperparameters.as_constant(name, value, interval)


def as_learning_rate(value: ScalarOrSchedule) -> Schedule:
    """Return a learning rate: a constant is not 0; a schedule may return 0, as a warm-up does."""
    interval = "[0, inf)" if callable(value) else "(0, inf)"
    return hyperparameters.as_schedule("learning_rate_schedule", value, interval)


def as_integer(count: ArrayLike) -> jax.Array:
    """Return a count in int32; one that is not a whole number is refused."""
    if not arguments.is_a(jnp.integer, count):
        raise TypeError(f"count must be a whole number, got {arguments.describe(count)}")
    if isinstance(count, int | np.integer):
        return jnp.asarray(arguments.as_count("count", count, least=0), jnp.int32)
    return jnp.asarray(count, jnp.int32)


def as_float(value: ArrayLike) -> jax.Array:
    """Return a number in the dtype of hyperparameters."""
    return jnp.asarray(value, hyperparameters.float_dtype())


def below_one(β: jax.Array) -> jax.Array:
    """Return β, or the largest number below 1 where the dtype rounded β to 1."""
    return jnp.minimum(β, 1 - jnp.finfo(β.dtype).epsneg)
