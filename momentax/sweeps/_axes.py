"""The values on an axis of points: numbers in a dtype of JAX's, or static Python objects."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, TypeVar, cast

import jax
import numpy as np

from momentax._core import arguments, hyperparameters

_Maker = TypeVar("_Maker", bound=Callable[..., Any])


def as_axis(name: str, values: Any, distinct: bool = True) -> np.ndarray:
    """Return the checked values of an axis: a 1-D array of numbers, or of objects if static."""
    name = arguments.printable(name)
    unordered = isinstance(values, str | bytes | Mapping | Set)
    if unordered or not hasattr(values, "__iter__"):
        raise ValueError(
            f"axis {name} must be a sequence of at least one value, got "
            f"{arguments.describe(values)}; for a single value write {name}=[value]"
        )
    if isinstance(values, np.ndarray) and not arguments.is_real(values):
        values = values.tolist() if values.ndim else values.item()  # Words and the like.
        if isinstance(values, str | bytes):
            values = [[values]]  # A single word is no axis.
    if not isinstance(values, np.ndarray | jax.Array):
        values = list(values)
        if any(map(_is_choice, values)):
            return _as_static_axis(name, values, distinct)
    return _as_numeric_axis(name, values, distinct)


def with_named_axes(maker: _Maker) -> _Maker:
    """Make a maker of points explain that an axis needs a name, if one is given by position."""

    @functools.wraps(maker)
    def make(*unnamed: Any, **axes: Any) -> Any:
        if unnamed:
            raise TypeError(
                f"{maker.__name__} takes each axis by its name, got "
                f"{arguments.describe(unnamed[0])} without one; write "
                f"{maker.__name__}(beta=[0.0, 0.9])"
            )
        return maker(**axes)

    return cast(_Maker, make)


def require_axes(function: str, axes: Mapping[str, Any]) -> None:
    """Raise if a function that makes points was given no axis."""
    if not axes:
        raise ValueError(f"{function} needs at least one axis, such as beta=[0.0, 0.9]")


def is_static(values: Any) -> bool:
    """Whether an axis holds objects; in a tree of points anything may replace the numbers."""
    return getattr(values, "dtype", None) == np.dtype(object)


def as_objects(values: Sequence[Any]) -> np.ndarray:
    """Return a 1-D array of Python objects of any kind."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def describe_value(value: Any) -> str:
    """Describe a value of an axis in the same words in every process, without an address."""
    name = getattr(value, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", str(value))
    return arguments.printable(str(name))


def describe_point(point: Mapping[str, Any]) -> str:
    """Describe a point as messages show it, such as "learning_rate=0.1, beta=0.9"."""
    return ", ".join(
        f"{arguments.printable(name)}={describe_value(value)}" for name, value in point.items()
    )


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool | np.bool_) and arguments.is_real(value)


def _is_choice(value: Any) -> bool:
    """Return whether a value is not a number, so that a program is compiled for it."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return True
        return False  # A number in quotes is a mistake.
    kinds = bool | np.bool_ | None | tuple | Enum
    return isinstance(value, kinds) or callable(value) or is_dataclass(value)


def _as_static_axis(name: str, values: list[Any], distinct: bool) -> np.ndarray:
    seen, has_numbers = set(), any(map(_is_number, values))
    for index, value in enumerate(values):
        wrong = f"axis {name} must hold numbers, got {arguments.describe(value)} at index {index}"
        if not _is_number(value) and (hyperparameters.is_listed(name) or not _is_choice(value)):
            raise TypeError(wrong)
        if isinstance(value, str) and has_numbers:
            raise TypeError(f"{wrong}; one axis cannot hold both words and numbers")
        try:
            is_repeated = value in seen
            seen.add(value)
        except TypeError:
            raise TypeError(f"{wrong}, or hashable values, such as words or functions") from None
        if is_repeated and distinct:
            raise ValueError(
                f"axis {name} must not repeat a value, got {arguments.describe(value)} again at "
                f"{index}"
            )
    return as_objects(values)


def _as_numeric_axis(name: str, values: Any, distinct: bool) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # Rows of different lengths, or random keys.
        array = None
    if array is None or not arguments.is_real(array):
        raise TypeError(f"axis {name} must hold numbers, got {arguments.describe(values)}")
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"axis {name} must be a sequence of at least one value, got shape {array.shape}; "
            f"for a single value write {name}=[value]"
        )
    is_integer = array.dtype.kind in "iu"
    kept = (
        array.astype(arguments.dtype_of(array))
        if is_integer
        else hyperparameters.round_to_float_dtype(array)
    )
    if is_integer and not np.array_equal(kept, array):
        raise ValueError(
            f"axis {name} holds integers that {kept.dtype} cannot represent, got "
            f"{arguments.describe(values)}"
        )
    _require_interval(name, array, kept)
    unique, first = np.unique(kept, return_index=True)
    if distinct and len(unique) < len(kept):
        index = int(np.setdiff1d(np.arange(len(kept)), first)[0])
        raise ValueError(
            f"axis {name} must not repeat a value, got {array[index]} again at {index}"
        )
    return kept


def _require_interval(name: str, given: np.ndarray, kept: np.ndarray) -> None:
    """Raise if a number, as given or as it is kept, lies outside of its axis' interval."""
    interval = hyperparameters.interval_of(name)
    inside = arguments.is_within(interval, given) & arguments.is_within(interval, kept)
    if hyperparameters.scale_of(name) == "log":  # On which 0 is far from any other number.
        inside &= (kept != 0) | (given == 0)
    if inside.all():
        return
    index = int(np.argmin(inside))
    value = arguments.describe(given[index])
    wrong = f"axis {name} must be in {interval}, got {value} at index {index}"
    if arguments.is_within(interval, given[index]):
        wrong = f"{wrong}, which {kept.dtype} rounds to {kept[index]}"
    raise ValueError(wrong)
