"""What a sweep found: the values at every point, ranked, selected and averaged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.typing import PyTree
from momentax.sweeps import _file, _table
from momentax.sweeps._groups import Mean, averaged, distinct, mean, meets, settings
from momentax.sweeps._metrics import direction, metrics
from momentax.sweeps._points import SEED, Points

if TYPE_CHECKING:
    import pandas
    import xarray


class Report(NamedTuple):
    """How a sweep ran.

    batch_size: the points in one call of a compiled program.
    devices: how many devices shared them.
    device_kind: what these are.
    programs: how many programs ran, one per batch shape and static value.
    tried: the batch sizes that were measured, with seconds a point.
    resumed: the points that were read from the store.
    damaged: the files of the store that were damaged, so that their points ran again.
    """

    batch_size: int
    devices: int
    device_kind: str
    programs: int
    tried: tuple[tuple[int, float], ...] = ()
    resumed: int = 0
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Best:
    """A setting that a metric ranks, and what the metric is there; best["beta"] is its β.

    point: the setting's axes, without the seed.
    value: the metric, over seeds its mean.
    standard_error: that of the mean, NaN with fewer than two seeds.
    index: the setting's place in the arrays of `over_seeds`. As `repeat` puts the
        seeds last, result[metric][index] are its values with each seed.
    """

    point: dict[str, Any]
    value: float
    standard_error: float
    index: tuple[int, ...]

    def __getitem__(self, axis: str) -> Any:
        return self.point[axis]


class _UnknownNameError(KeyError):
    """A name that is not there, as a sentence; KeyError alone would print its quotes."""

    def __str__(self) -> str:
        return self.args[0]


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `run` returned at every point of a sweep.

    points: the points.
    values: what `run` returns, with the points' shape on the leading axes of
        every leaf, NumPy arrays.
    diverged: which points diverged, bools of the points' shape.
    report: how the sweep ran; no part of the tree, nor of a file.
    modes: which end of a metric is best, "min" or "max", where its name does not say.

    result["loss"] is the leaf of that name: a leaf in nested containers is called as
    its path, "train.loss", and a bare array "value". A metric with one real number
    a point can be ranked, with `best` and `top`.
    """

    points: Points
    values: PyTree
    diverged: np.ndarray
    report: Report | None = None
    modes: Mapping[str, str] = field(default_factory=dict)

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """The children by name."""
        names = ("points", "values", "diverged")
        children = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names]
        return children, tuple(sorted(self.modes.items()))

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> SweepResult:
        """A result of whatever stands in for the arrays."""
        points, values, diverged = children
        return cls(points, values, diverged, None, dict(aux))

    def metrics(self) -> dict[str, Any]:
        """Give every leaf of the values a name.

        Returns:
            A dictionary from name to array. Where two paths would read alike, all are
            written as in Python, "['train']['loss']".
        """
        return metrics(self.values)

    def __getitem__(self, metric: str) -> Any:
        found = self.metrics()
        if metric not in found:
            names = ", ".join(found) or "none"
            raise _UnknownNameError(f"there is no metric {metric!r}; the metrics are: {names}")
        return found[metric]

    def mode_of(self, metric: str) -> str:
        """Tell which end of a metric is best.

        Args:
            metric: The metric's name.

        Returns:
            What `modes` says of it, and of others "max" for a metric with one of the
            words accuracy, acc, auc, f1, reward or return in its name, as
            "val_accuracy" has, else "min".

        Raises:
            Nothing: any name is taken.
        """
        return self.modes.get(metric) or direction(str(metric))

    def best(self, metric: str, mode: str | None = None) -> Best:
        """Find the setting that is best by a metric: the first of `top`.

        Args:
            metric: The metric's name, as in `metrics`.
            mode: "min", "max" or None, as in `top`.

        Returns:
            Best(point, value, standard_error, index).

        Raises:
            ValueError: As in `top`.
            KeyError: As in `top`.
        """
        return self.top(metric, 1, mode)[0]

    def top(self, metric: str, k: int, mode: str | None = None) -> list[Best]:
        """Rank the settings by a metric, the best first.

        Points that differ by their place on a dimension "seed" alone, as `repeat`
        makes them, are one setting, ranked by the mean over its seeds. A point
        that diverged, or whose metric is not finite, is left out, and a setting
        of which a seed is left out comes after all that are complete. Of equal
        settings the first comes first.

        Args:
            metric: The name of a metric with one real number a point.
            k: How many settings, at least 1.
            mode: "min" where less is better, "max" where more is; None takes `mode_of`.

        Returns:
            A list of k Best(point, value, standard_error, index), of fewer where
            fewer can be ranked.

        Raises:
            ValueError: The metric has not one real number a point, no point can be
                ranked, or mode or k is not one.
            KeyError: No metric is called so.
            TypeError: k is no whole number.
        """
        k = arguments.as_count("k", k)
        mode = self.mode_of(metric) if mode is None else mode
        sign = -1 if arguments.as_option("mode", mode, ("min", "max")) == "max" else 1
        leaf = np.asarray(self[metric])
        if not self._ranks(leaf):
            raise ValueError(
                f"{metric} cannot be ranked: it has shape {leaf.shape} and dtype {leaf.dtype}, not "
                f"one real number for each of the points of shape {self.points.shape}; "
                f"reduce it in run, or rank what you make of result[{metric!r}] yourself"
            )
        points, groups = settings(self.points)
        entered = ~np.asarray(self.diverged) & np.isfinite(leaf.astype(np.float64))
        value, error, count = averaged(leaf, entered, groups, len(points))
        complete = count == len(self.points) // len(points)
        order = np.lexsort((sign * value, ~complete))  # By completeness first; stable.
        ranked = order[np.isfinite(value[order])]
        if not ranked.size:
            lost, number = np.count_nonzero(self.diverged), len(self.points)
            why = f"of {number} points {lost} diverged, and at the others it is not finite"
            why = f"all {number} points diverged" if lost == number else why
            raise ValueError(f"there is no best {metric}: {why}")
        return [
            Best(
                points[int(i)],
                float(value[i]),
                float(error[i]),
                tuple(map(int, np.unravel_index(i, points.shape))),
            )
            for i in ranked[:k]
        ]

    def where(self, **conditions: Any) -> SweepResult:
        """Select the points that fulfil every condition.

        Args:
            **conditions: For each axis named: a value, compared in the axis' own dtype,
                so that 0.9 finds the float32 next to it; several values; or a function
                of a value that says whether to keep it. On a static axis what
                equals one of its values stands for this value, a function too.

        Returns:
            A SweepResult with the same dimensions, shorter ones where places fell away.

        Raises:
            ValueError: No point fulfils the conditions.
            KeyError: No axis is called so.
        """
        kept = {
            dim: np.full(n, True)
            for dim, n in zip(self.points.dims, self.points.shape, strict=True)
        }
        for name, asked in conditions.items():
            values, dim = self._axis(name)
            fulfilled = meets(values, asked)
            if not fulfilled.any():
                raise ValueError(
                    f"no point has {name}={arguments.describe(asked)}: "
                    f"the axis holds {arguments.describe(_table.plain(values))}"
                )
            kept[dim] &= fulfilled
            if not kept[dim].any():
                raise ValueError(
                    f"each condition is fulfilled by a point, but none fulfils all on the "
                    f"dimension {dim}: {', '.join(self.points.dims[dim])}"
                )
        places = np.ix_(*(np.flatnonzero(keep) for keep in kept.values()))
        points = Points(
            {
                dim: {name: np.asarray(values)[kept[dim]] for name, values in axes.items()}
                for dim, axes in self.points.dims.items()
            }
        )
        values = jax.tree.map(lambda leaf: np.asarray(leaf)[places], self.values)
        return replace(
            self, points=points, values=values, diverged=np.asarray(self.diverged)[places]
        )

    def over_seeds(self) -> Mean:
        """Average over the seeds that `repeat` gave every point.

        Returns:
            Mean(points, mean, standard_error, count), its points without the seed. A
            point that diverged is left out; a NaN at one that did not shows.

        Raises:
            ValueError: The points have no dimension "seed".
        """
        if SEED not in self.points.dims:
            raise ValueError(
                "over_seeds needs points with a dimension seed, as "
                f"momentax.sweeps.repeat(points, 5) makes them, got the dimensions "
                f"{', '.join(self.points.dims)}"
            )
        return self._mean(*settings(self.points))

    def marginal(self, axis: str) -> Mean:
        """Average over everything but one axis.

        Args:
            axis: The name of the axis that remains.

        Returns:
            Mean(points, mean, standard_error, count), a point for each distinct value of
            the axis in the order in which they appear. A point that diverged is
            left out; a NaN at one that did not shows.

        Raises:
            KeyError: No axis is called so.
        """
        self._axis(axis)
        return self._mean(*distinct(self.points, axis))

    def to_xarray(self) -> xarray.Dataset:
        """Make an xarray.Dataset of the result.

        Returns:
            A Dataset with the points' dimensions, the axes as coordinates, a variable
            for each metric and one named diverged, the sweep's own in the
            place of any metric of that name. Further dimensions of a metric
            are called "history_dim_0" and so on. A static axis holds
            words, for functions their names, unless all are bools; bfloat16
            and its like become float32.

        Raises:
            ValueError: A metric bears the name of an axis or a dimension.
            ModuleNotFoundError: The extra `results` is not installed.
        """
        return _table.dataset(self)

    def to_dataframe(self) -> pandas.DataFrame:
        """Make a pandas.DataFrame with a row for each point.

        Returns:
            A DataFrame whose columns are the axes, the metrics and diverged, as in
            `to_xarray`; a metric with more than a number a point is a column of arrays.

        Raises:
            ValueError: A metric bears the name of an axis or a dimension.
            ModuleNotFoundError: The extra `results` is not installed.
        """
        return _table.dataframe(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one file, which NumPy alone can read.

        np.load(path) gives the arrays "axes/beta", "values/loss" and so on and
        "diverged", and as "about" a JSON text with the rest. bfloat16 and its like
        are stored in float32. The report is left out: equal results are equal files.
        A file that is there is replaced once the new one is complete, and stays as
        it is if that fails.

        Args:
            path: Where to write, such as "sweep.npz"; nothing is added to the name.

        Returns:
            None.

        Raises:
            OSError: The file cannot be written.
        """
        _file.write(path, self.points, self.values, self.metrics(), self.diverged, self.modes)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SweepResult:
        """Read a result that `save` wrote, bit for bit.

        Args:
            path: The file.

        Returns:
            The result. Dictionaries, lists, tuples and None are again what they were,
            other containers, such as NamedTuples, dictionaries by field. On a
            static axis words, bools, numbers and None are again what they were,
            and whatever else is a string: a function its name.

        Raises:
            ValueError: The file is damaged, holds something else, or has a format newer
                than this version of momentax.
            OSError: The file cannot be read.
        """
        points, values, diverged, modes = _file.read(path)
        return SweepResult(points, values, diverged, None, modes)

    def __repr__(self) -> str:
        return _table.text(self)

    def _repr_html_(self) -> str:
        return _table.html(self)

    def _mean(self, remaining: Points, groups: np.ndarray) -> Mean:
        return mean(remaining, groups, self.values, ~np.asarray(self.diverged))

    def _ranks(self, leaf: Any) -> bool:
        """Whether a metric has one real number, or one bool, for each point."""
        return leaf.shape == self.points.shape and (leaf.dtype == bool or arguments.is_real(leaf))

    def _axis(self, name: str) -> tuple[np.ndarray, str]:
        """An axis' values, and the dimension along which it runs."""
        for dim, axes in self.points.dims.items():
            if name in axes:
                return np.asarray(axes[name]), dim
        raise _UnknownNameError(
            f"there is no axis {name!r}; the axes are: {', '.join(self.points.axes)}"
        )
