"""Points: the settings of a sweep, as named axes and the way they combine."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from momentax._core import arguments, hyperparameters

SEED, POINT = "seed", "point"  # The dimensions that bear no axis' own name.
_MOST_SEEDS = 2**31


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Points:
    """The settings of a sweep: every combination of the places on a few dimensions.

    dims: for each dimension, in order, the axes that run along it together:
        their names and values, 1-D and equally long. A `grid` has a dimension
        for each axis, `zipped` and `random_points` have one, "point", for all
        of theirs, and `repeat` adds "seed". Not to be changed.

    `len` counts the points, points[i] is the i-th one as a dictionary, the last
    dimension running fastest, and a loop goes over them all. An axis that holds
    anything but numbers is static: `sweep` compiles a program for each value.
    """

    dims: Mapping[str, Mapping[str, np.ndarray]]

    def __post_init__(self) -> None:
        frozen = {dim: MappingProxyType(dict(axes)) for dim, axes in self.dims.items()}
        object.__setattr__(self, "dims", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[Any, ...]:  # A proxy itself cannot be pickled.
        return Points, ({dim: dict(axes) for dim, axes in self.dims.items()},)

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """The values of each axis, along its dimension."""
        return {name: values for axes in self.dims.values() for name, values in axes.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension."""
        return tuple(len(next(iter(axes.values()))) for axes in self.dims.values())

    @property
    def static(self) -> tuple[str, ...]:
        """The axes that hold something other than numbers."""
        return tuple(name for name, values in self.axes.items() if _is_static(values))

    def columns(self) -> dict[str, np.ndarray]:
        """Each axis' value at every point, flat, the last dimension running fastest."""
        places = np.indices(self.shape).reshape(len(self.dims), -1)
        return {
            name: values[place]
            for place, axes in zip(places, self.dims.values(), strict=True)
            for name, values in axes.items()
        }

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} points, got index {index}")
        places = np.unravel_index(index % len(self), self.shape)
        return {
            name: values[place]
            for place, axes in zip(places, self.dims.values(), strict=True)
            for name, values in axes.items()
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        axes = ", ".join(
            f"{name}: {arguments.describe(values)}" for name, values in self.axes.items()
        )
        return f"Points({len(self)} of shape {self.shape}; {axes})"

    def tree_flatten(self) -> tuple[list[np.ndarray], Any]:
        """The numbers, and apart from them the names and what is static."""
        leaves = [values for values in self.axes.values() if not _is_static(values)]
        names = tuple(
            (
                dim,
                tuple((name, tuple(v) if _is_static(v) else None) for name, v in axes.items()),
            )
            for dim, axes in self.dims.items()
        )
        return leaves, names

    @classmethod
    def tree_unflatten(cls, names: Any, leaves: Any) -> Points:
        """Points of whatever stands in for the numbers."""
        rest = iter(leaves)
        return cls(
            {
                dim: {n: next(rest) if v is None else objects(v) for n, v in axes}
                for dim, axes in names
            }
        )


@dataclass(frozen=True)
class Distribution:
    """Where `random_points` draws the values of an axis.

    low: the least value.
    high: the greatest.
    scale: on which scale they are spread evenly: "linear", "log", or
        "momentum", on which 1 - β is logarithmic.
    """

    low: float
    high: float
    scale: str

    def at(self, share: np.ndarray) -> np.ndarray:
        """The values that a share in [0, 1] of the draws lies below."""
        to, back = SCALES[self.scale]
        low, high = to(self.low), to(self.high)
        return np.clip(back(low + share * (high - low)), self.low, self.high)

    def moved(self, values: np.ndarray, up: np.ndarray, factor: float) -> np.ndarray:
        """Values moved up (1) or down (-1) the scale, and inside the bounds."""
        to, back = SCALES[self.scale]
        step = (factor - 1) * (self.high - self.low) if self.scale == "linear" else np.log(factor)
        return np.clip(back(to(values.astype(np.float64)) + up * step), self.low, self.high)


# To the scale on which values are spread evenly, and back.
SCALES: Mapping[str, Any] = {
    "linear": (lambda x: np.asarray(x, np.float64), lambda y: y),
    "log": (np.log, np.exp),
    "momentum": (lambda x: -np.log1p(-np.asarray(x, np.float64)), lambda y: -np.expm1(-y)),
}


def _distribution(low: Any, high: Any, scale: str, interval: str) -> Distribution:
    low = arguments.as_real("low", low, interval)
    high = arguments.as_real("high", high, interval)
    if low >= high:
        raise ValueError(f"low must be below high, got low={low} and high={high}")
    return Distribution(low, high, scale)


def uniform(low: float, high: float) -> Distribution:
    """Draw an axis of `random_points` evenly between two numbers.

    Args:
        low: The least value, any real number.
        high: The greatest value, above low.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not finite, or low is not below high.
        TypeError: A bound is no number.
    """
    return _distribution(low, high, "linear", "(-inf, inf)")


def log_uniform(low: float, high: float) -> Distribution:
    """Draw an axis of `random_points` evenly on a log scale, as suits learning rates.

    Args:
        low: The least value, above 0.
        high: The greatest value, above low.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not in (0, inf), or low is not below high.
        TypeError: A bound is no number.
    """
    return _distribution(low, high, "log", "(0, inf)")


def momentum_uniform(low: float, high: float) -> Distribution:
    """Draw an axis of `random_points` so that 1 - β is even on a log scale, as suits β.

    Args:
        low: The least β, in [0, 1).
        high: The greatest β, above low and below 1.

    Returns:
        A distribution, for `random_points` and `mutate`.

    Raises:
        ValueError: A bound is not in [0, 1), or low is not below high.
        TypeError: A bound is no number.
    """
    return _distribution(low, high, "momentum", "[0, 1)")


def momentum_axis(low: float, high: float, count: int) -> np.ndarray:
    """Make an axis of β whose 1 - β lie evenly on a log scale.

        1 - β_i = (1 - low)^(1 - i/(count - 1)) (1 - high)^(i/(count - 1))

    Args:
        low: The first β, in [0, 1).
        high: The last β, above low and below 1.
        count: How many, at least 2.

    Returns:
        A float64 array of shape (count,), ascending, its ends exactly low and
        high: an axis for `grid`.

    Raises:
        ValueError: A bound is not in [0, 1), low is not below high, or count is
            below 2.
        TypeError: A bound is no number, or count no whole one.
    """
    count = arguments.as_count("count", count, 2)
    axis = momentum_uniform(low, high).at(np.linspace(0, 1, count))
    axis[[0, -1]] = low, high  # To the last digit.
    return axis


def grid(**axes: Any) -> Points:
    """Make the points of every combination of values on named axes.

    Args:
        **axes: A 1-D sequence of values for each axis. Numbers on axes named
            learning_rate, beta, nu, dampening or weight_decay are held to the
            intervals that momentax gives these words. Words, functions, bools,
            None, tuples, members of an Enum and dataclasses make a static axis.

    Returns:
        Points with a dimension for each axis, in the order given; floats are
        held in float32, or float64 where JAX keeps 64 bits.

    Raises:
        ValueError: There is no axis, an axis is empty or not 1-D, or a value is
            not finite, lies outside its interval or is there twice; the axis,
            the index and the value are named.
        TypeError: An axis holds what is neither a number nor hashable, or
            mixes numbers with words.
    """
    _require_axes("grid", axes)
    return Points({name: {name: checked_axis(name, values)} for name, values in axes.items()})


def zipped(**axes: Any) -> Points:
    """Make the points whose axes move together: the i-th point has each axis' i-th value.

    Args:
        **axes: A sequence of values for each axis, all equally long, as in
            `grid`; values may repeat.

    Returns:
        Points with the one dimension "point".

    Raises:
        ValueError: As in `grid`, or the axes differ in length.
        TypeError: As in `grid`.
    """
    _require_axes("zipped", axes)
    checked = {name: checked_axis(name, values, distinct=False) for name, values in axes.items()}
    lengths = {name: len(values) for name, values in checked.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"zipped axes must be equally long: {counts}")
    return Points({POINT: checked})


def random_points(key: jax.Array, count: int, **axes: Any) -> Points:
    """Draw points at random, each axis from a distribution of its own.

    An axis' values depend on the key, the count and the axis' name alone: another axis does
    not change them.

    Args:
        key: A random key, as jax.random.key(0).
        count: How many points, at least 1.
        **axes: For each axis `uniform`, `log_uniform` or `momentum_uniform`, or
            a sequence of values from which to choose with equal chances.

    Returns:
        Points with the one dimension "point".

    Raises:
        ValueError: There is no axis, count is below 1, or a value that could be
            drawn lies outside its axis' interval; the axis, the index and the
            value are named.
        TypeError: key is no random key, or count no whole number.
    """
    _require_axes("random_points", axes)
    count = arguments.as_count("count", count)
    drawn: dict[str, Any] = {}
    for name, values in axes.items():
        try:
            share = jax.random.uniform(jax.random.fold_in(key, zlib.crc32(name.encode())), (count,))
        except (TypeError, ValueError):
            raise TypeError(
                f"key must be a random key, as jax.random.key(0), got {arguments.describe(key)}"
            ) from None
        share = np.asarray(share, np.float64)
        if isinstance(values, Distribution):
            checked_axis(name, [values.low, values.high])
            drawn[name] = checked_axis(name, values.at(share), distinct=False)
        else:
            choices = checked_axis(name, values)
            drawn[name] = choices[np.minimum(share * len(choices), len(choices) - 1).astype(int)]
    return Points({POINT: drawn})


def repeat(points: Points, seeds: int | Sequence[int] = 5) -> Points:
    """Run every point with several seeds, over which a result's means are taken.

    Args:
        points: What to repeat.
        seeds: How many, counted from 0, or the seeds themselves: distinct whole
            numbers from 0 to 2³¹ - 1.

    Returns:
        The points with a last dimension and axis "seed", int32; `run` takes it
        as its argument seed, for jax.random.key(seed).

    Raises:
        ValueError: There are no seeds, one is there twice or out of its range, or the
            points have an axis "seed" already.
        TypeError: points is none, or a seed no whole number.
    """
    require_points(points)
    if SEED in points.axes:
        raise ValueError("the points have an axis seed already; repeat them once, with all seeds")
    listed: Any = seeds if hasattr(seeds, "__iter__") else range(arguments.as_count("seeds", seeds))
    each = [arguments.as_count(f"seeds[{i}]", seed, 0) for i, seed in enumerate(listed)]
    if each and max(each) >= _MOST_SEEDS:
        raise ValueError(f"a seed must be below 2**31, got {arguments.describe(max(each))}")
    return Points({**points.dims, SEED: {SEED: checked_axis(SEED, each).astype(np.int32)}})


def require_points(points: Any) -> None:
    """Refuse what are no points."""
    if not isinstance(points, Points):
        raise TypeError(
            "points must be points, as momentax.grid(beta=[0.0, 0.9]), got "
            f"{arguments.describe(points)}"
        )


def shown_value(value: Any) -> str:
    """A value on an axis, in words, the same ones in every process."""
    return getattr(value, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", str(value))


def described(point: Mapping[str, Any]) -> str:
    """A point as messages show it."""
    return ", ".join(f"{name}={shown_value(value)}" for name, value in point.items())


def objects(values: Sequence[Any]) -> np.ndarray:
    """A 1-D array of Python objects, whatever they are."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _is_static(values: Any) -> bool:
    """Whether an axis holds objects; in a tree of points anything may stand in for numbers."""
    return getattr(values, "dtype", None) == np.dtype(object)


def _require_axes(maker: str, axes: Mapping[str, Any]) -> None:
    if not axes:
        raise ValueError(f"{maker} needs at least one axis, such as beta=[0.0, 0.9]")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool | np.bool_) and arguments.is_real(value)


def checked_axis(name: str, values: Any, distinct: bool = True) -> np.ndarray:
    """The checked values of an axis: numbers in a dtype of JAX's, or objects."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise ValueError(
            f"axis {name} must be a sequence of at least one value, got "
            f"{arguments.describe(values)}; for a single value write {name}=[value]"
        )
    if isinstance(values, np.ndarray) and not arguments.is_real(values):
        values = values.tolist()  # Words and the like.
    if not isinstance(values, np.ndarray | jax.Array):
        values = list(values)
        if any(map(_is_choice, values)):
            return _static_axis(name, values, distinct)
    return _numbers(name, values, distinct)


def _is_choice(value: Any) -> bool:
    """Whether a value is one that a program is built for, and no number of another kind."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return True
        return False  # A number in quotes is a mistake.
    kinds = bool | np.bool_ | None | tuple | Enum
    return isinstance(value, kinds) or callable(value) or is_dataclass(value)


def _static_axis(name: str, values: list[Any], distinct: bool) -> np.ndarray:
    seen, numbers = set(), any(map(_is_number, values))
    for index, value in enumerate(values):
        wrong = f"axis {name} must hold numbers, got {arguments.describe(value)} at index {index}"
        if not _is_number(value) and (hyperparameters.is_listed(name) or not _is_choice(value)):
            raise TypeError(wrong)
        if isinstance(value, str) and numbers:
            raise TypeError(f"{wrong}; words and numbers do not mix on one axis")
        try:
            again = value in seen
            seen.add(value)
        except TypeError:
            raise TypeError(f"{wrong}, or what can be hashed, such as words or functions") from None
        if again and distinct:
            raise ValueError(
                f"axis {name} must not repeat a value, got "
                f"{arguments.describe(value)} again at {index}"
            )
    return objects(values)


def _numbers(name: str, values: Any, distinct: bool) -> np.ndarray:
    wrong = f"axis {name} must hold numbers, got {arguments.describe(values)}"
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # Rows of different lengths, or random keys.
        raise TypeError(wrong) from None
    if not arguments.is_real(array):
        raise TypeError(wrong)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"axis {name} must be a sequence of at least one value, got shape {array.shape}; "
            f"for a single value write {name}=[value]"
        )
    whole = array.dtype.kind in "iu"
    kept = (
        array.astype(arguments.dtype_of(array))
        if whole
        else hyperparameters.round_to_float_dtype(array)
    )
    if whole and not np.array_equal(kept, array):
        raise ValueError(
            f"axis {name} holds whole numbers that {kept.dtype} cannot, got "
            f"{arguments.describe(values)}"
        )
    interval = hyperparameters.interval_of(name)
    inside = arguments.is_within(interval, array) & arguments.is_within(interval, kept)
    if not inside.all():
        index = int(np.argmin(inside))
        given = arguments.describe(array[index])
        wrong = f"axis {name} must be in {interval}, got {given} at index {index}"
        if arguments.is_within(interval, array[index]):
            wrong = f"{wrong}, which {kept.dtype} rounds to {kept[index]}"
        raise ValueError(wrong)
    unique, first = np.unique(kept, return_index=True)
    if distinct and len(unique) < len(kept):
        index = int(np.setdiff1d(np.arange(len(kept)), first)[0])
        raise ValueError(
            f"axis {name} must not repeat a value, got {array[index]} again at {index}"
        )
    return kept
