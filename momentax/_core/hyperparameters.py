"""Hyperparameters: one table of what is known of each by its name, and their checks.

A hyperparameter is a number, a 0-d array (traced or not) or an Optax schedule. Its
interval says where it may lie. Its scale says on which axis equal steps have equal
effect; sweeps, searches and plots use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core.arguments import (
    ANY_REAL,
    describe,
    dtype_of,
    is_real,
    is_traced,
    require_function,
)
from momentax._core.typing import Scalar, ScalarOrSchedule, Schedule
from momentax._core.without_jax import is_within


class Scale(NamedTuple):
    """A change of variable, in NumPy, from a hyperparameter's value and back."""

    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]


SCALES = {
    "linear": Scale(lambda value: value, lambda x: x),
    "log": Scale(np.log, np.exp),
    "momentum": Scale(lambda value: -np.log1p(-value), lambda x: -np.expm1(-x)),  # -log(1 - β).
}


class Hyperparameter(NamedTuple):
    """What is known of a hyperparameter: where it may lie, and the name of its scale."""

    interval: str
    scale: str


_RATE = Hyperparameter("[0, inf)", "log")
_SHARE_KEPT = Hyperparameter("[0, 1)", "momentum")
_TABLE = {
    **dict.fromkeys(("learning_rate", "lr"), _RATE),
    **dict.fromkeys(("beta", "b1", "b2", "momentum"), _SHARE_KEPT),
    "nu": Hyperparameter("[0, 1]", "linear"),
    "dampening": _SHARE_KEPT,
    "weight_decay": Hyperparameter("[0, inf)", "linear"),
}
_OTHER = Hyperparameter(ANY_REAL, "linear")


def _row_of(name: str) -> Hyperparameter | None:
    """Return the row of a hyperparameter; beta1, beta2 and so on share that of beta."""
    return _TABLE.get("beta" if re.match("beta[0-9]", name) else name)


def is_listed(name: str) -> bool:
    """Return whether the table has a row for a hyperparameter."""
    return _row_of(name) is not None


def interval_of(name: str) -> str:
    """Return where a hyperparameter may lie; one that is not listed may be any real number."""
    return (_row_of(name) or _OTHER).interval


def scale_of(name: str) -> str:
    """Return the name of a hyperparameter's scale; one that is not listed has the linear one."""
    return (_row_of(name) or _OTHER).scale


def float_dtype() -> Any:
    """Return the dtype of hyperparameters: float32, or float64 where JAX keeps 64 bits."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def round_to_float_dtype(value: Any) -> Any:
    """Return concrete numbers in the dtype of hyperparameters; too large a number is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(float_dtype())[()]


def _flush_to_zero(kept: Any) -> Any:
    """Return what XLA computes with: on CPUs and TPUs it takes subnormal numbers as 0."""
    return kept * 0 if abs(kept) < np.finfo(kept.dtype).tiny else kept


def concrete_value(value: ScalarOrSchedule) -> np.float64 | None:
    """Return a hyperparameter in float64, or None if it is a schedule or traced."""
    if callable(value) or is_traced(value):
        return None
    return _as_float64(value, describe(value))


def is_always_zero(value: ScalarOrSchedule) -> bool:
    """Return whether a hyperparameter is the number 0, so that a state may omit what it needs.

    A schedule is not, and neither is a JAX array: `optax.inject_hyperparams` passes one, and
    it may have another value at the next update.
    """
    is_number = not callable(value) and not isinstance(value, jax.Array)
    return is_number and bool(round_to_float_dtype(value) == 0)


def as_constant(name: str, value: Scalar, interval: str | None = None) -> Schedule:
    """Return a hyperparameter as `as_schedule` does, but refuse a schedule."""
    if callable(value):
        raise TypeError(f"{name} must be a number or a 0-d array, got {describe(value)}")
    return _as_number(name, value, interval or interval_of(name), "give a number or a 0-d array")


def as_schedule(name: str, value: ScalarOrSchedule, interval: str | None = None) -> Schedule:
    """Return a hyperparameter as a schedule `count -> scalar` in float32 or wider.

    A number becomes a constant and is checked now. It stays a NumPy scalar, so that a
    coefficient of exactly 0 removes its term from the compiled program (see
    `arithmetic.combine`). Of a traced array only the shape and dtype can be checked. What
    a schedule returns is checked in the same way when the schedule is called: at `init` for
    count 0 (see `first_count`), and at each update.
    """
    interval = interval or interval_of(name)
    if callable(value):
        if isinstance(value, CheckedSchedule):  # It states its interval itself.
            return replace(value, name=value.name or name)
        require_function(name, value, "of the count, if it is a schedule", 0)
        return CheckedSchedule(name, value, interval)
    return _as_number(name, value, interval, "give a number, a 0-d array or a schedule")


def _as_number(name: str, value: Any, interval: str, remedy: str) -> Schedule:
    """Return a number as the schedule that always returns it; `as_schedule` says how."""
    wrong = f"{name} must be in {interval}, got {describe(value)}"
    _require_scalar(value, wrong, remedy)
    if is_traced(value):
        return lambda _: _to_float_dtype(value)
    exact = _as_float64(value, wrong)
    if not is_within(interval, exact):
        narrow = dtype_of(value) in (jnp.bfloat16, jnp.float16)
        raise ValueError(f"{wrong} in {dtype_of(value)}; keep it in float32" if narrow else wrong)
    if not is_within(interval, kept := _flush_to_zero(round_to_float_dtype(exact))):
        raise ValueError(f"{wrong}, which {kept.dtype} rounds to {kept}")
    return lambda _: _to_float_dtype(exact)  # Cast at each call: JAX's precision may change.


@dataclass(frozen=True, eq=False)
class CheckedSchedule:
    """A schedule whose values are checked at each call.

    A value that is traced passes. One that is known must lie in the interval. Where it is an
    array of JAX, reading it waits for its device; a jitted step never does.
    """

    name: str
    schedule: Schedule
    interval: str

    def __call__(self, count: Any) -> Any:
        scalar, name = self.schedule(count), self.name or "the schedule"
        if not isinstance(scalar, jax.Array) or scalar.ndim or not is_real(scalar):
            wrong = f"{name} must be a schedule of scalars, got one that returns {describe(scalar)}"
            _require_scalar(scalar, wrong, "return a number or a 0-d array")
            kept = round_to_float_dtype(exact := _as_float64(scalar, wrong))
            if np.isinf(kept) and not np.isinf(exact):
                raise ValueError(f"{wrong}, which {kept.dtype} rounds to {kept}")
        elif is_traced(kept := jnp.asarray(scalar, float_dtype())):
            return kept
        known = _flush_to_zero(np.asarray(kept))
        if not is_within(self.interval, known):
            at = "" if is_traced(count) else f" at count {count}"
            raise ValueError(
                f"{name} must be in {self.interval}, got a schedule that returns "
                f"{describe(scalar)}{at}"
            )
        return kept


def with_interval(interval: str, schedule: Schedule) -> Schedule:
    """Return a schedule whose values may lie in an interval, in place of that of its name."""
    return CheckedSchedule("", schedule, interval)


def first_count(*schedules: Schedule) -> jax.Array:
    """Return the count of a new state, 0, after checking what each schedule returns for it."""
    count = jnp.zeros((), jnp.int32)
    for schedule in schedules:
        schedule(count)
    return count


def _require_scalar(value: Any, wrong: str, remedy: str) -> None:
    many = "to try several values use jax.vmap or momentax.sweep"
    vector = isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))
    vector = vector and not isinstance(value, optax.GradientTransformation)  # A tuple as well.
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"{wrong}; {many if vector else remedy}")
    if not is_real(value):
        raise TypeError(f"{wrong}; {remedy}")
    if vector:
        raise ValueError(f"{wrong}; {many}")


def _as_float64(value: Any, wrong: str) -> Any:
    try:
        return np.asarray(value).astype(np.float64)[()]
    except OverflowError:  # An integer that is too large for float64.
        raise ValueError(wrong) from None


def _to_float_dtype(value: Any) -> Any:
    """Cast a scalar to the dtype of hyperparameters; it stays NumPy's unless it is JAX's.

    A value that a caller traces is a JAX array here, even if it was a NumPy scalar when it
    was given: Equinox, for one, traces the NumPy scalars that a function closes over.
    """
    if isinstance(value, jax.Array):
        return jnp.asarray(value, float_dtype())
    return round_to_float_dtype(value)
