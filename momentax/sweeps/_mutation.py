"""Mutations: how population-based training changes the settings of runs."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from momentax._core import arguments, hyperparameters
from momentax.sweeps._axes import as_axis
from momentax.sweeps._distributions import Distribution
from momentax.sweeps._points import Points, require_points

Columns = dict[str, np.ndarray]


class Resample(Protocol):
    """How population-based training changes the settings of runs that start from the best."""

    def __call__(self, rung: int, settings: Columns, points: Points) -> Columns:
        """Return new values for each axis of some settings, after a rung counted from 0."""
        ...


@dataclass(frozen=True)
class Mutation:
    """The result of `mutate`: each axis moves up or down its scale and stays inside its range.

    seed: the seed of the choices between up and down.
    factor: the size of a move.
    ranges: the distribution of each axis that changes; None means all axes of
        floating numbers, each between the least and the greatest value of the points. On a log
        scale 0 then stays 0, and the others stay above it.

    Raises:
        ValueError: factor is not above 1.
        TypeError: seed is not a tuple of whole numbers, or a range is not a distribution.
    """

    seed: tuple[int, ...]
    factor: float
    ranges: Mapping[str, Distribution] | None

    def __post_init__(self) -> None:
        if not isinstance(self.seed, tuple) or not self.seed:
            raise TypeError(
                f"seed must be a tuple of whole numbers, got {arguments.describe(self.seed)}"
            )
        seed = tuple(
            arguments.as_count(f"seed[{i}]", n, 0, 2**32 - 1) for i, n in enumerate(self.seed)
        )
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "factor", arguments.as_real("factor", self.factor, "(1, inf)"))
        if self.ranges is not None and not isinstance(self.ranges, Mapping):
            raise TypeError(
                "ranges must be a dictionary of distributions by the names of axes, got "
                f"{arguments.describe(self.ranges)}"
            )
        for name, distribution in (self.ranges or {}).items():
            if not isinstance(distribution, Distribution):
                raise TypeError(
                    f"{name} must be a distribution, such as momentax.sweeps.log_uniform(1e-3, 1), "
                    f"got {arguments.describe(distribution)} in ranges"
                )
            as_axis(name, [distribution.low, distribution.high])

    def __call__(self, rung: int, settings: Columns, points: Points) -> Columns:
        """Return the changed settings."""
        rung = arguments.as_count("rung", rung, 0)
        if not isinstance(settings, Mapping):
            raise TypeError(
                "settings must be a dictionary from each axis to an array, got "
                f"{arguments.describe(settings)}"
            )
        changed = dict(settings)
        self.require_axes(points)
        for name, distribution in (self.ranges or _ranges_of(points)).items():
            rng = np.random.default_rng([*self.seed, rung, zlib.crc32(name.encode())])
            direction = rng.choice([-1.0, 1.0], len(settings[name]))
            moved = distribution.step(settings[name], direction, self.factor)
            stays = self.ranges is None and distribution.scale == "log"
            changed[name] = np.where(settings[name] == 0, 0, moved) if stays else moved
        return changed

    def require_axes(self, points: Points) -> None:
        """Raise if a range belongs to no axis of floating numbers."""
        require_points(points)
        axes = [name for name, values in points.axes.items() if values.dtype.kind == "f"]
        for name in self.ranges or ():
            if name not in axes:
                raise ValueError(
                    f"mutate has a range for {name}, and the axes of floating numbers are {axes}"
                )


def mutate(
    key: jax.Array | None = None, *, factor: float = 1.25, **ranges: Distribution
) -> Mutation:
    """Make the `resample` of `halve`: settings change a little and stay inside their ranges.

        log scale        α ← α · factor  or  α / factor
        momentum scale   1 - β ← (1 - β) · factor  or  (1 - β) / factor
        linear scale     x ← x ± (factor - 1) · (high - low)

    Args:
        key: A random key, by which one of the two is chosen; None means
            jax.random.key(0).
        factor: The size of a change, above 1.
        **ranges: For each axis that changes a distribution, such as
            learning_rate=log_uniform(1e-3, 1), whose bounds clip the values.
            Without any, every axis of floating numbers changes between the
            least and the greatest value of the points, on the scale of the
            hyperparameter after which it is named: learning_rate on the log
            scale, beta on the momentum scale, most others on the linear one.

    Returns:
        A Mutation, which gives the same settings for the same key, rung and settings.

    Raises:
        ValueError: factor is not above 1.
        TypeError: key is not a random key, or a range is not a distribution.

    Example:
        >>> momentax.sweeps.mutate(factor=1.5).factor
        1.5
    """
    key = jax.random.key(0) if key is None else key
    arguments.require_key("key", key)
    seed = np.ravel(jax.random.key_data(jax.random.fold_in(key, 0))).tolist()
    return Mutation(tuple(seed), factor, ranges or None)


def _ranges_of(points: Points) -> dict[str, Distribution]:
    """Return the range of each axis of at least two floating numbers that are on its scale."""
    ranges = {}
    for name, values in points.axes.items():
        if values.dtype.kind != "f":
            continue
        scale = hyperparameters.scale_of(name)
        values = values[values > 0] if scale == "log" else values
        if values.size and values.min() < values.max():
            ranges[name] = Distribution(float(values.min()), float(values.max()), scale)
    return ranges
