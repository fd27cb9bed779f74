"""The result of a sweep: the values at every point, to rank, select and average."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from momentax._core import arguments, lazy
from momentax._core.metrics import require_mode
from momentax._core.typing import PyTree
from momentax.sweeps._points import SEED, Points, require_points
from momentax.sweeps._result import _file, _table
from momentax.sweeps._result._metrics import name_leaves
from momentax.sweeps._result._records import Best, Mean, Report
from momentax.sweeps._result._selection import UnknownNameError, find_axis, listed, select
from momentax.sweeps._result._statistics import (
    group_by_setting,
    group_by_value,
    mean_and_error,
    mean_of_groups,
)

if TYPE_CHECKING:
    import pandas
    import xarray


_MAP_AXES = ("learning_rate", "beta")


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False)
class SweepResult:
    """The values that `run` returned at every point of a sweep.

    points: the points.
    values: what `run` returns, with the points' shape on the leading axes of
        every leaf, NumPy arrays.
    diverged: which points diverged, bools of the points' shape.
    report: how the sweep ran; it is not part of the tree and not kept in a file.
    modes: "min" or "max" for a metric: whether its smallest or its largest value is best. An
        entry overrides what the name suggests.

    result["loss"] is the leaf of that name: a leaf in nested containers has its
    path as its name, "train.loss", and a bare array the name "value". A metric with
    one real number per point can be ranked, with `best` and `top`.

    Raises:
        TypeError: points is not of type Points, report is not a Report, or modes is not a
            dictionary.
        ValueError: An array has another shape than the points on its leading axes, diverged is
            not of bools of the points' shape, or a mode is another word.
    """

    points: Points
    values: PyTree
    diverged: np.ndarray
    report: Report | None = None
    modes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_points(self.points)
        if self.report is not None and not isinstance(self.report, Report):
            raise TypeError(f"report must be a Report, got {arguments.describe(self.report)}")
        if not isinstance(self.modes, Mapping):
            raise TypeError(
                'modes must be a dictionary, such as {"r2": "max"}, got '
                f"{arguments.describe(self.modes)}"
            )
        for metric, mode in self.modes.items():
            arguments.as_option(f"modes[{arguments.describe(metric)}]", mode, ("min", "max"))
        _file.require_shapes(self.points, self.values, self.diverged)

    @classmethod
    def _of_any(cls, modes: Mapping[str, str], **children: Any) -> Any:
        """Make a result of children of any kind, which JAX may put where arrays were."""
        result = object.__new__(cls)
        for name, child in {"report": None, "modes": dict(modes), **children}.items():
            object.__setattr__(result, name, child)
        return result

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Return the children by name, and the modes as structure."""
        names = ("points", "values", "diverged")
        children = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names]
        return children, tuple(sorted(self.modes.items()))

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> SweepResult:
        """Make a result of children of any kind, which JAX may put where arrays were."""
        points, values, diverged = children
        return cls._of_any(dict(aux), points=points, values=values, diverged=diverged)

    def metrics(self) -> dict[str, Any]:
        """Give every leaf of the values a name.

        Returns:
            A dictionary from name to array. If two paths gave one name, all names are
            written as in Python, "['train']['loss']".
        """
        return name_leaves(self.values)

    def __getitem__(self, metric: str) -> Any:
        metrics = self.metrics()
        if not isinstance(metric, str) or metric not in metrics:
            raise UnknownNameError(
                f"there is no metric {arguments.describe(metric)}; the metrics are: "
                f"{listed(metrics)}"
            )
        return metrics[metric]

    def mode_of(self, metric: str) -> str:
        """Return whether the smallest or the largest value of a metric is best, if that is known.

        Args:
            metric: The metric's name; any name is accepted.

        Returns:
            The entry of `modes`; without one, "min" for a loss, error, mse, rmse,
            mae, nll, perplexity or regret and "max" for an accuracy, acc, auc,
            auroc, f1, reward or return, also beside words that do not turn the
            direction around, as in "val_accuracy" or "train.loss".

        Raises:
            ValueError: The name says neither, as "score" or "neg_loss". `best`, `top`
                and the plots then need their argument mode.
            TypeError: metric is not a name.
        """
        if not isinstance(metric, str):
            raise TypeError(f"metric must be a name, got {arguments.describe(metric)}")
        return require_mode(metric, self.modes.get(metric))

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

    def top(self, metric: str, count: int, mode: str | None = None) -> list[Best]:
        """Rank the settings by a metric, the best first.

        Points that differ only by their position on a dimension "seed", as those that
        `repeat` makes, are one setting, ranked by the mean over its seeds. A point
        that diverged, or whose metric is not finite, is left out, and a setting
        with a seed left out comes after all complete settings. Of equal settings
        the first comes first.

        Args:
            metric: The name of a metric with one real number per point.
            count: How many settings to return, at least 1.
            mode: "min" where less is better, "max" where more is. None takes `mode_of`,
                which raises if the name does not tell.

        Returns:
            A list of Best(point, value, standard_error, index), shorter than count if
            fewer settings can be ranked.

        Raises:
            ValueError: The metric does not have one real number per point, no point can
                be ranked, mode is another word or None for a metric whose name does not
                say, or count is below 1.
            KeyError: There is no metric of this name.
            TypeError: count is not an integer.
        """
        count = arguments.as_count("count", count)
        leaf = np.asarray(self[metric])
        if not self._is_rankable(leaf):
            raise ValueError(
                f"{arguments.printable(metric)} cannot be ranked: it has shape {leaf.shape} and "
                f"dtype {leaf.dtype}, not one real number for each of the points of shape "
                f"{self.points.shape}; "
                f"reduce it in run, or rank what you compute from result[{metric!r}] yourself"
            )
        mode = self.mode_of(metric) if mode is None else require_mode(metric, mode)
        sign = -1 if mode == "max" else 1
        points, groups = group_by_setting(self.points)
        included = ~np.asarray(self.diverged) & np.isfinite(leaf.astype(np.float64))
        value, error, seeds = mean_and_error(leaf, included, groups, len(points))
        is_complete = seeds == len(self.points) // len(points)
        order = np.lexsort((sign * value, ~is_complete))  # By completeness first; stable.
        ranked = order[np.isfinite(value[order])]
        if not ranked.size:
            raise ValueError(
                f"there is no best {arguments.printable(metric)}: {self._why_unranked()}"
            )
        return [
            Best(
                points[int(i)],
                float(value[i]),
                float(error[i]),
                tuple(map(int, np.unravel_index(i, points.shape))),
            )
            for i in ranked[:count]
        ]

    def where(self, **conditions: Any) -> SweepResult:
        """Select the points that meet every condition.

        Args:
            **conditions: For each axis named: a value, compared in the axis' own dtype,
                so that 0.9 finds the float32 next to it; several values; or a function
                of a value that returns whether to keep it. On a static axis a condition
                that equals one of its values means this value, even if it is a function.

        Returns:
            A SweepResult with the same dimensions, reduced to the positions selected.

        Raises:
            ValueError: No point meets the conditions.
            TypeError: A condition that is a function fails.
            KeyError: There is no axis of this name.
        """
        points, selection = select(self.points, conditions)
        values = jax.tree.map(lambda leaf: np.asarray(leaf)[selection], self.values)
        return replace(
            self, points=points, values=values, diverged=np.asarray(self.diverged)[selection]
        )

    def over_seeds(self) -> Mean:
        """Average over the seeds that `repeat` gave every point.

        Returns:
            Mean(points, mean, standard_error, count), its points without the seed. A
            point that diverged is left out; a NaN at a point that did not diverge
            enters the mean.

        Raises:
            ValueError: The points have no dimension "seed".
        """
        if SEED not in self.points.dims:
            raise ValueError(
                "over_seeds needs points with a dimension seed, as momentax.sweeps.repeat(points, "
                f"5) makes them, got the dimensions {listed(self.points.dims)}"
            )
        return self._mean(*group_by_setting(self.points))

    def marginal(self, axis: str) -> Mean:
        """Average over everything but one axis.

        Args:
            axis: The name of the axis that remains.

        Returns:
            Mean(points, mean, standard_error, count), with a point for each distinct
            value of the axis in order of appearance. A point that diverged is left
            out; a NaN at a point that did not diverge enters the mean.

        Raises:
            KeyError: There is no axis of this name.
        """
        find_axis(self.points, axis)
        return self._mean(*group_by_value(self.points, axis))

    def to_xarray(self) -> xarray.Dataset:
        """Make an xarray.Dataset of the result.

        Returns:
            A Dataset with the points' dimensions, the axes as coordinates, a variable
            for each metric and one named diverged, the sweep's own even if a metric
            has that name. Further dimensions of a metric are called "history_dim_0"
            and so on. A static axis holds words, and names in place of functions,
            unless all its values are bools; bfloat16 and the like become float32.

        Raises:
            ValueError: A metric has the name of an axis or a dimension.
            ModuleNotFoundError: The extra "results" is not installed.
        """
        return _table.to_dataset(self.points, self.metrics(), self.diverged)

    def to_dataframe(self) -> pandas.DataFrame:
        """Make a pandas.DataFrame with a row for each point.

        Returns:
            A DataFrame whose columns are the axes, the metrics and diverged, as in
            `to_xarray`; a metric with several numbers per point is a column of arrays.

        Raises:
            ValueError: A metric has the name of an axis or a dimension.
            ModuleNotFoundError: The extra "results" is not installed.
        """
        return _table.to_dataframe(self.points, self.metrics(), self.diverged)

    def plot(self, metric: str | None = None, **options: Any) -> Any:
        """Draw a metric: its history, a map of learning rate and β, or parallel axes.

        `momentax.plotting.curves` draws a metric with several numbers per point,
        `momentax.plotting.heatmap` one on a grid in which only learning_rate, beta and seed
        have several values, and `momentax.plotting.parallel` any other.

        Args:
            metric: The metric's name; None takes the only one.
            **options: The keywords of that function.

        Returns:
            The matplotlib axes.

        Raises:
            ValueError: metric is None and there are several, or as that function.
            TypeError: As that function.
            KeyError: There is no metric of this name.
        """
        if metric is None:
            if len(self.metrics()) != 1:
                raise ValueError(f"give metric, since there are several: {listed(self.metrics())}")
            (metric,) = self.metrics()
        history = np.ndim(self[metric]) > len(self.points.shape)
        picture = "curves" if history else "heatmap" if self._is_map() else "parallel"
        return lazy.plot(picture, self, metric, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one file, which NumPy can read without momentax.

        np.load(path) gives the arrays "axes/beta", "values/loss" and so on and
        "diverged", and as "about" a JSON text with the rest. bfloat16 and the like
        are kept in float32. The report is left out, so that equal results give equal
        files. An existing file is replaced once the new one is complete, with its
        permissions and its owner, and stays unchanged if that fails. A link is
        followed, and a pipe is written to.

        Args:
            path: Where to write, such as "sweep.npz"; nothing is added to the name.

        Returns:
            None.

        Raises:
            OSError: The file cannot be written.
            TypeError: path is not a path.
        """
        path = arguments.as_path("path", path)
        _file.write(path, self.points, self.values, self.metrics(), self.diverged, self.modes)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SweepResult:
        """Read a result that `save` wrote, bit for bit.

        Args:
            path: The file.

        Returns:
            The result. Dictionaries, lists, tuples and None come back as they were;
            other containers, such as NamedTuples, as dictionaries by field. On a static
            axis words, bools, numbers and None come back as they were, and anything
            else as a string: a function as its name.

        Raises:
            ValueError: The file is damaged, holds something else, has a format newer than
                this version of momentax, or is compressed: no more than the size of the
                file is read into memory, so that a small file cannot fill it.
            OSError: The file cannot be read.
            TypeError: path is not a path.
        """
        path = arguments.as_path("path", path)
        points, values, diverged, modes = _file.read(path)
        return SweepResult(points, values, diverged, None, modes)

    def __repr__(self) -> str:
        return _table.to_text(self)

    def _repr_html_(self) -> str:
        return _table.to_html(self)

    def _mean(self, remaining: Points, groups: np.ndarray) -> Mean:
        return mean_of_groups(remaining, groups, self.values, ~np.asarray(self.diverged))

    def _is_map(self) -> bool:
        """Return whether the points are a grid of learning rates and β, up to seeds."""
        dims = self.points.dims
        own = [next((dim for dim in dims if name in dims[dim]), None) for name in _MAP_AXES]
        sizes = dict(zip(dims, self.points.shape, strict=True))
        others = [size for dim, size in sizes.items() if dim not in (*own, SEED)]
        return None not in own and own[0] != own[1] and all(size == 1 for size in others)

    def _is_rankable(self, leaf: Any) -> bool:
        """Whether a metric has one real number, or one bool, for each point."""
        return leaf.shape == self.points.shape and (leaf.dtype == bool or arguments.is_real(leaf))

    def _why_unranked(self) -> str:
        count, diverged = len(self.points), np.count_nonzero(self.diverged)
        if diverged == count:
            return f"all {count} points diverged"
        return f"of {count} points {diverged} diverged, and at the others it is not finite"
