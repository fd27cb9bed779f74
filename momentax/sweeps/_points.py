"""Points: the settings of a sweep, as named axes and the way in which they combine."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from momentax._core import arguments
from momentax.sweeps._axes import (
    as_axis,
    as_objects,
    describe_value,
    is_static,
    require_axes,
    with_named_axes,
)
from momentax.sweeps._distributions import Distribution

SEED, POINT = "seed", "point"  # The dimensions that are not named after one of their axes.
_SEED_LIMIT = 2**31


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Points:
    """The settings of a sweep: every combination of the positions on a few dimensions.

    dims: for each dimension, in order, the names and values of the axes that
        vary along it together; the values are 1-D and equally long. A `grid` has
        a dimension for each axis, `zipped` and `random_points` have the one
        dimension "point", and `repeat` adds "seed". It cannot be changed.

    `len` is the number of points. points[i] is the i-th point as a dictionary,
    the last dimension varying fastest, and points can be iterated. An axis that
    holds anything but numbers is static: `sweep` compiles a program for each
    value.

    Raises:
        TypeError: dims is not a dictionary of dictionaries of arrays.
        ValueError: An axis is not 1-D, the axes of a dimension differ in length, or two axes
            have one name.
    """

    dims: Mapping[str, Mapping[str, np.ndarray]]

    def __post_init__(self) -> None:
        _require_dims(self.dims)
        self._freeze(self.dims)

    def _freeze(self, dims: Mapping[str, Mapping[str, Any]]) -> Points:
        frozen = {
            dim: MappingProxyType({name: _frozen(values) for name, values in axes.items()})
            for dim, axes in dims.items()
        }
        object.__setattr__(self, "dims", MappingProxyType(frozen))
        return self

    @classmethod
    def _of_any(cls, dims: Mapping[str, Mapping[str, Any]]) -> Points:
        """Make points of leaves of any kind, which JAX may put where numbers were."""
        return object.__new__(cls)._freeze(dims)

    def __reduce__(self) -> tuple[Any, ...]:  # A mapping proxy cannot be pickled.
        return Points._of_any, ({dim: dict(axes) for dim, axes in self.dims.items()},)

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
        """The names of the axes that hold something other than numbers."""
        return tuple(name for name, values in self.axes.items() if is_static(values))

    def columns(self) -> dict[str, np.ndarray]:
        """Return each axis' value at every point, flat, the last dimension varying fastest."""
        positions = np.indices(self.shape).reshape(len(self.dims), -1)
        return {
            name: values[position]
            for position, axes in zip(positions, self.dims.values(), strict=True)
            for name, values in axes.items()
        }

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise TypeError(
                "index points with an integer, as in points[0], got "
                f"{arguments.describe(index)}; points.axes holds the axes by name"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} points, got index {index}")
        positions = np.unravel_index(index % len(self), self.shape)
        return {
            name: values[position]
            for position, axes in zip(positions, self.dims.values(), strict=True)
            for name, values in axes.items()
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        axes = ", ".join(
            f"{arguments.printable(name)}: {_describe_axis(values)}"
            for name, values in self.axes.items()
        )
        return f"Points({len(self)} of shape {self.shape}; {axes})"

    def tree_flatten(self) -> tuple[list[np.ndarray], Any]:
        """Return the numeric axes as leaves, and the names and the static axes as structure."""
        leaves = [values for values in self.axes.values() if not is_static(values)]
        structure = tuple(
            (
                dim,
                tuple((name, tuple(v) if is_static(v) else None) for name, v in axes.items()),
            )
            for dim, axes in self.dims.items()
        )
        return leaves, structure

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: Any) -> Points:
        """Make points of leaves of any kind, which JAX may put where numbers were."""
        remaining = iter(leaves)
        return cls._of_any(
            {
                dim: {n: next(remaining) if v is None else as_objects(v) for n, v in axes}
                for dim, axes in structure
            }
        )


@with_named_axes
def grid(**axes: Any) -> Points:
    """Make the points of every combination of values on named axes.

    Args:
        **axes: A 1-D sequence of values for each axis. On an axis named after a
            hyperparameter, such as learning_rate, beta, nu, dampening or
            weight_decay, they must be numbers in its interval. On other axes
            words, functions, bools, None, tuples, members of an Enum and
            dataclasses make a static axis.

    Returns:
        Points with a dimension for each axis, in the order given; floats are
        kept in float32, or in float64 where JAX keeps 64 bits.

    Raises:
        ValueError: There is no axis, an axis is empty or not 1-D, or a value is
            not finite, lies outside its interval or is repeated; the message
            names the axis, the index and the value.
        TypeError: An axis has no name, holds something that is neither a number
            nor hashable, or mixes numbers with words.

    Example:
        >>> len(momentax.grid(learning_rate=[0.01, 0.1], beta=[0.0, 0.9, 0.99]))
        6
    """
    require_axes("grid", axes)
    return Points({name: {name: as_axis(name, values)} for name, values in axes.items()})


@with_named_axes
def zipped(**axes: Any) -> Points:
    """Make the points whose axes vary together: the i-th point has each axis' i-th value.

    Args:
        **axes: A sequence of values for each axis, all equally long, as in
            `grid`; values may repeat.

    Returns:
        Points with the one dimension "point".

    Raises:
        ValueError: As in `grid`, or the axes differ in length.
        TypeError: As in `grid`.

    Example:
        >>> len(momentax.sweeps.zipped(learning_rate=[0.1, 0.01], beta=[0.0, 0.9]))
        2
    """
    require_axes("zipped", axes)
    checked = {name: as_axis(name, values, distinct=False) for name, values in axes.items()}
    lengths = {name: len(values) for name, values in checked.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(
            f"{arguments.printable(name)} has {length}" for name, length in lengths.items()
        )
        raise ValueError(f"zipped axes must be equally long: {counts}")
    return Points({POINT: checked})


def random_points(key: jax.Array, count: int, **axes: Any) -> Points:
    """Draw points at random, each axis from its own distribution.

    The values of an axis depend only on the key, the count and the name of the
    axis: adding another axis does not change them.

    Args:
        key: A random key, as jax.random.key(0).
        count: The number of points, at least 1.
        **axes: For each axis `uniform`, `log_uniform` or `momentum_uniform`, or
            a sequence of values, of which each has an equal chance.

    Returns:
        Points with the one dimension "point".

    Raises:
        ValueError: There is no axis, count is below 1, or a value that could be
            drawn lies outside its axis' interval; the message names the axis,
            the index and the value.
        TypeError: key is not a random key, or count is not an integer.

    Example:
        >>> rates = momentax.sweeps.log_uniform(1e-3, 1)
        >>> len(momentax.sweeps.random_points(jax.random.key(0), 20, learning_rate=rates))
        20
    """
    arguments.require_key("key", key)
    require_axes("random_points", axes)
    count = arguments.as_count("count", count)
    drawn: dict[str, Any] = {}
    for name, values in axes.items():
        axis_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        share = np.asarray(jax.random.uniform(axis_key, (count,)), np.float64)
        if isinstance(values, Distribution):
            as_axis(name, [values.low, values.high])  # Both ends can be drawn.
            drawn[name] = as_axis(name, values.quantile(share), distinct=False)
        else:
            choices = as_axis(name, values)
            drawn[name] = choices[np.minimum(share * len(choices), len(choices) - 1).astype(int)]
    return Points({POINT: drawn})


def repeat(points: Points, seeds: int | Sequence[int] = 5) -> Points:
    """Repeat every point with several seeds, over which a result can be averaged.

    Args:
        points: The points to repeat.
        seeds: The number of seeds, which then count from 0, or the seeds
            themselves: distinct integers from 0 to 2³¹ - 1.

    Returns:
        The points with a last dimension and axis "seed", int32; `run` takes it
        as its argument seed, for jax.random.key(seed).

    Raises:
        ValueError: There are no seeds, a seed is repeated or out of its range,
            or the points have an axis "seed" already.
        TypeError: points is not of type Points, or a seed is not an integer.

    Example:
        >>> momentax.sweeps.repeat(momentax.grid(beta=[0.0, 0.9]), 3).shape
        (2, 3)
    """
    require_points(points)
    if SEED in points.axes:
        raise ValueError("the points already have an axis seed; call repeat once, with all seeds")
    if isinstance(seeds, int | float | np.generic) or not hasattr(seeds, "__iter__"):
        seeds = range(arguments.as_count("seeds", seeds))
    listed = arguments.as_items("seeds", seeds, "seeds")
    if not listed:
        raise ValueError(f"seeds must hold at least one seed, got {arguments.describe(seeds)}")
    checked = [arguments.as_count(f"seeds[{i}]", seed, 0, np.inf) for i, seed in enumerate(listed)]
    if checked and max(checked) >= _SEED_LIMIT:
        raise ValueError(f"a seed must be below 2**31, got {arguments.describe(max(checked))}")
    return Points({**points.dims, SEED: {SEED: as_axis(SEED, checked).astype(np.int32)}})


def require_points(points: Any) -> None:
    """Raise if an argument is not of type Points."""
    if not isinstance(points, Points):
        raise TypeError(
            "points must be momentax.sweeps.Points, such as momentax.grid(beta=[0.0, 0.9]), got "
            f"{arguments.describe(points)}"
        )
    for name, values in points.axes.items():
        if arguments.is_traced(values) or not isinstance(values, np.ndarray | jax.Array):
            raise TypeError(
                "points must hold arrays whose numbers are known, and axis "
                f"{arguments.printable(name)} is {arguments.describe(values)}"
            )


def _require_dims(dims: Any) -> None:
    """Raise if an argument is not a dictionary of dimensions, each a dictionary of its axes."""
    if not isinstance(dims, Mapping) or not all(isinstance(d, Mapping) for d in dims.values()):
        raise TypeError(
            "dims must be a dictionary from each dimension to the dictionary of its axes, as "
            f"momentax.grid(beta=[0.0, 0.9]).dims, got {arguments.describe(dims)}"
        )
    names: set[str] = set()
    for dim, axes in dims.items():
        for name, values in axes.items():
            what = f"dims[{arguments.describe(dim)}][{arguments.describe(name)}]"
            if not isinstance(dim, str) or not isinstance(name, str):
                raise TypeError(f"dimensions and axes must have text as names, got {what}")
            if not isinstance(values, np.ndarray | jax.Array):
                raise TypeError(f"{what} must be an array, got {arguments.describe(values)}")
            if name in names:
                raise ValueError(f"{what} has the name of another axis; give it a name of its own")
            names.add(name)
        shapes = {values.shape for values in axes.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(
                f"dims[{arguments.describe(dim)}] must hold at least one axis, all 1-D and equally "
                f"long, got the shapes {sorted(shapes)}"
            )


def _frozen(values: Any) -> Any:
    """Return the values of an axis as a copy that cannot be written to.

    In a tree of points anything may replace the numbers; it is returned as it is.
    """
    if isinstance(values, np.ndarray):
        values = values.copy()
        values.setflags(write=False)
    return values


def _describe_axis(values: Any) -> str:
    """Describe an axis on one line; objects are named, so that no address is shown."""
    if not is_static(values):
        return arguments.describe(values)
    names = [describe_value(value) for value in values]
    shown = names if len(names) <= 6 else [*names[:3], "...", *names[-3:]]
    return f"[{', '.join(shown)}] of shape {values.shape}"
