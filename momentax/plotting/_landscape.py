"""The loss over a plane of parameters, and the paths of runs in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core.arguments import (
    as_hashable,
    as_items,
    as_reals,
    describe,
    require_function,
    require_loss,
)
from momentax._core.typing import PyTree, Reals
from momentax._training._rollout import Rollout
from momentax.plotting._runs import Points, phrase, points_of

_MARGIN = 0.08  # Of the range on either side.
_MOST_CLIMB = 5  # A run is shown up to this many times the height of its start.
_ESCAPE = 20  # A run that goes this many times farther than its median distance escapes.
_WIDEST = 2.5  # The ratio of the sides of a picture of equal aspect.
_MOST_UNEQUAL = 8  # Ranges that differ by more have no equal aspect.


class Path(NamedTuple):
    """The path of a run in the plane of a picture.

    name: that of the run.
    points: its coordinates before each recorded step and after the last, shape (rows + 1, 2).
    losses: the loss there.
    """

    name: str
    points: Reals
    losses: Reals

    @property
    def finite(self) -> int:
        """The number of points before the first one that is not finite."""
        is_finite = np.isfinite(self.points).all(axis=1)
        return int(np.argmin(np.append(is_finite, False)))

    def is_inside(self, box: Reals) -> np.ndarray:
        """Return which points lie in a box, and before the first one that is not finite."""
        inside = ((self.points >= box[0]) & (self.points <= box[1])).all(axis=1)
        return inside & (np.arange(len(inside)) < self.finite)

    def visible(self, box: Reals) -> int:
        """Return the number of points up to the last one in a box, and one more beyond it."""
        inside = np.flatnonzero(self.is_inside(box))
        return min(int(inside[-1]) + 2, self.finite) if inside.size else 0

    def label(self, box: Reals) -> str:
        """Return the name for a legend, which says whether the run does not end in a box."""
        return f"{self.name or 'run'}{self._ending(box)}"

    def _ending(self, box: Reals) -> str:
        if self.finite < len(self.points):
            return " (diverged)"
        if self.is_inside(box)[-1]:
            return ""
        rises = not self.losses[-1] <= self.losses[0]
        return " (diverged)" if rises else " (leaves the picture)"


class Landscape(NamedTuple):
    """A loss over a rectangle, and the paths of runs in it.

    x, y: the coordinates of the grid, 1-D.
    losses: the loss on the grid, shape (len(y), len(x)).
    paths: the paths of the runs.
    box: the lower and the upper corner of the rectangle.
    labels: the names of the two coordinates.
    minimizer: the coordinates of the minimizer, if it was given.
    lowest: the loss at the minimizer if it was given, else the lowest loss in the picture.
    """

    x: Reals
    y: Reals
    losses: Reals
    paths: list[Path]
    box: Reals
    labels: tuple[str, str]
    minimizer: Reals | None
    lowest: float

    @property
    def is_equal(self) -> bool:
        """Whether the two ranges are similar enough for an equal aspect."""
        width, height = self.box[1] - self.box[0]
        return max(width, height) <= 1.001 * _WIDEST * min(width, height)


class _Plane(NamedTuple):
    """The plane that a picture shows: origin and two orthonormal vectors, shape (2, n)."""

    origin: Reals
    basis: Reals
    labels: tuple[str, str]
    rebuild: Callable[[Reals], PyTree]

    def coordinates(self, values: Reals) -> Reals:
        with np.errstate(over="ignore", invalid="ignore"):
            return (values - self.origin) @ self.basis.T

    def values(self, coordinates: Reals) -> Reals:
        return self.origin + coordinates @ self.basis


def make_landscape(
    runs: dict[str, Rollout],
    loss: Any,
    minimizer: Any,
    directions: Any,
    limits: Any,
    resolution: int,
) -> Landscape:
    """Check the arguments of a picture of a loss and compute what it shows."""
    names = [phrase(name) for name in runs]
    points = [points_of(at, run) for at, run in zip(names, runs.values(), strict=True)]
    first, params = points[0], next(iter(runs.values())).params
    for at, each in zip(names[1:], points[1:], strict=True):
        if each.labels != first.labels:
            raise ValueError(
                f"runs must have the same parameters, but those of {names[0]} are "
                f"{', '.join(first.labels[:6])} and those of {at} {', '.join(each.labels[:6])}"
            )
    given_box = None if limits is None else _as_box(limits)
    plane = _make_plane(first, directions)
    target = None if minimizer is None else as_point("minimizer", minimizer, first)
    require_function("loss", loss, "from params to a scalar", params)
    require_loss(loss, params)
    best = None if target is None else plane.coordinates(target)
    values = [each.values for each in points]
    heights = _evaluate(loss, first.rebuild, values)
    paths = [
        Path(name, plane.coordinates(θ), f)
        for name, θ, f in zip(runs, values, heights, strict=True)
    ]
    box = _choose_box(paths, best) if given_box is None else given_box
    x, y = (np.linspace(low, high, resolution) for low, high in box.T)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    extra = [] if target is None else [target[None]]
    losses, *at_minimizer = _evaluate(loss, first.rebuild, [plane.values(grid), *extra])
    shown = [losses, *(path.losses[path.is_inside(box)] for path in paths)]
    lowest = float(at_minimizer[0][0]) if extra else _lowest(np.concatenate(shown))
    losses = losses.reshape(resolution, resolution)
    return Landscape(x, y, losses, paths, box, plane.labels, best, lowest)


def as_point(name: str, value: Any, points: Points) -> Reals:
    """Return parameters, a tree like those of the run or a vector of all entries, as a vector."""
    leaves, structure = jax.tree.flatten(value)
    if structure == points.structure:
        parts = [as_reals(name, leaf) for leaf in leaves]
        shapes = tuple(part.shape for part in parts)
    else:
        parts = [as_reals(name, value, expected="params like those of the run, of real numbers")]
        shapes = ()
    n = len(points.labels)
    if shapes != points.shapes and (len(parts) > 1 or parts[0].shape != (n,)):
        raise ValueError(
            f"{name} must be shaped like the params of the run, which have {n} entries, got "
            f"{describe(value)}"
        )
    return np.concatenate([np.ravel(part) for part in parts])


def _lowest(losses: Reals) -> float:
    finite = losses[np.isfinite(losses)]
    return float(finite.min()) if finite.size else 0.0


@partial(jax.jit, static_argnums=0)
def _values(loss: Callable[[PyTree], jax.Array], rows: PyTree) -> jax.Array:
    return jax.lax.map(loss, rows, batch_size=4096)


def _evaluate(loss: Any, rebuild: Callable[[Reals], PyTree], values: Sequence[Reals]) -> list[Any]:
    """Return the loss at several sets of parameters, from one compiled program."""
    rows = rebuild(np.concatenate(values))
    with np.errstate(over="ignore"):  # A run that diverges may leave the range of float32.
        losses = np.asarray(_values(as_hashable(loss), rows), np.float64)
    return np.split(losses, np.cumsum([len(each) for each in values])[:-1])


def _make_plane(points: Points, directions: Any) -> _Plane:
    """Return the plane of the two parameters, or that of two directions through the last params."""
    n = len(points.labels)
    if directions is None:
        if n != 2:
            raise ValueError(
                f"runs must have two parameters, got {n}: give directions=(first, second), two "
                "trees shaped like the params, such as two eigenvectors of the Hessian, to draw "
                "the plane through the last params of the first run"
            )
        labels = (points.labels[0], points.labels[1])
        return _Plane(np.zeros(2), np.eye(2), labels, points.rebuild)
    pair = as_items("directions", directions, "two trees shaped like the params")
    if len(pair) != 2:
        raise ValueError(f"directions must be two, got {len(pair)}")
    vectors = np.stack([as_point("directions", each, points) for each in pair])
    basis, size = np.linalg.qr(vectors.T)
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(np.diag(size)).min() <= 1e-9 * lengths.max():
        raise ValueError(
            "directions must be two independent directions, got one that is zero or a multiple "
            "of the other"
        )
    basis = basis.T * np.sign(np.diag(size))[:, None]
    if not np.isfinite(points.values[-1]).all():
        raise ValueError(
            "directions need a run that ends at finite params, through which the plane is drawn; "
            "put such a run first in runs"
        )
    labels = ("distance along the first direction", "distance along the second direction")
    return _Plane(points.values[-1], basis, labels, points.rebuild)


def _as_box(limits: Any) -> Reals:
    """Return the corners of a rectangle that is given as ((left, right), (bottom, top))."""
    box = as_reals("limits", limits)
    if box.shape != (2, 2) or not np.all(box[:, 0] < box[:, 1]):
        raise ValueError(
            "limits must be ((left, right), (bottom, top)) with left < right and bottom < top, "
            f"got {describe(limits)}"
        )
    return box.T


def _choose_box(paths: list[Path], minimizer: Reals | None) -> Reals:
    """Return the corners of a rectangle around the paths, which cuts those that diverge."""
    lowest = _lowest(np.concatenate([path.losses for path in paths]))
    shown = [path.points[_is_shown(path, lowest)] for path in paths]
    if sum(map(len, shown)) <= len(paths):  # All diverge at once: show at least how.
        shown += [path.points[: min(3, path.finite)] for path in paths]
    if minimizer is not None:
        shown.append(minimizer[None])
    points = np.concatenate(shown)
    if not len(points):
        raise ValueError("runs must start at finite params")
    low, high = points.min(axis=0), points.max(axis=0)
    middle, size = (low + high) / 2, (1 + 2 * _MARGIN) * (high - low)
    widest = size.max()
    if widest <= 1e-9 * np.abs(middle).max():
        size = np.full(2, max(1.0, np.abs(middle).max()))
    elif size.min() * _MOST_UNEQUAL >= widest or size.min() <= 1e-6 * widest:
        size = np.maximum(size, widest / _WIDEST)
    return np.stack([middle - size / 2, middle + size / 2])


def _is_shown(path: Path, lowest: float) -> np.ndarray:
    """Return which points the limits of a picture follow, as a mask.

    These are all points of a run that settles or stays near its start. A run that climbs far
    above its start, or that gets exponentially farther away, is followed for its beginning.
    """
    shown = np.arange(len(path.points)) < path.finite
    if not shown[0]:
        return shown
    start = path.losses[0]
    if np.isfinite(start):
        height = start - lowest or abs(start) or np.inf
        shown &= np.nan_to_num(path.losses, nan=np.inf) - start <= (_MOST_CLIMB - 1) * height
    shown[0] = True
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm(path.points - path.points[0], axis=1)
    reached = distance[shown]
    if reached.max() > _ESCAPE * np.median(reached) > 0:
        shown &= distance <= 4 * np.quantile(reached, 0.25)
    return shown
