"""A result in other forms: for xarray, pandas, a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.metrics import known_mode
from momentax._core.typing import PyTree
from momentax._core.version import momentax_version
from momentax.sweeps._axes import as_objects, describe_point, describe_value
from momentax.sweeps._points import Points
from momentax.sweeps._result import _file
from momentax.sweeps._result._records import Best, Report
from momentax.sweeps._result._statistics import group_by_setting, mean_of_groups

if TYPE_CHECKING:
    import pandas
    import xarray

_MOST_ROWS = 10  # In a notebook's table.


class Result(Protocol):
    """The part of a result that texts and tables read."""

    @property
    def points(self) -> Points: ...
    @property
    def values(self) -> PyTree: ...
    @property
    def diverged(self) -> Any: ...
    @property
    def report(self) -> Report | None: ...
    @property
    def modes(self) -> Mapping[str, str]: ...
    def metrics(self) -> dict[str, Any]:
        """Return the leaves of the values by name."""
        ...

    def top(self, metric: str, count: int) -> list[Best]:
        """Return the best settings by a metric."""
        ...


def to_dataset(points: Points, metrics: Mapping[str, Any], diverged: Any) -> xarray.Dataset:
    """Return the parts of a result as a Dataset of xarray's."""
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise _missing_package("xarray", error) from None
    variables = _variables(points, metrics, diverged)
    dims = tuple(points.dims)
    coordinates = {
        name: (dim, as_common_dtype(np.array(values)))
        for dim, axes in points.dims.items()
        for name, values in axes.items()
    }
    data = {
        name: ((*dims, *(f"{name}_dim_{i}" for i in range(leaf.ndim - len(dims)))), leaf)
        for name, leaf in variables.items()
    }
    attributes = {"momentax": momentax_version(), "format": _file.FORMAT}
    return xarray.Dataset(data, coordinates, attributes)


def to_dataframe(points: Points, metrics: Mapping[str, Any], diverged: Any) -> pandas.DataFrame:
    """Return the parts of a result as a DataFrame of pandas'."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _missing_package("pandas", error) from None
    columns = {
        name: as_common_dtype(np.asarray(column)) for name, column in points.columns().items()
    }
    for name, leaf in _variables(points, metrics, diverged).items():
        rows = leaf.reshape(len(points), *leaf.shape[len(points.shape) :])
        columns[name] = as_objects(list(rows)) if rows.ndim > 1 else rows
    return pandas.DataFrame(columns)


def to_text(result: Result) -> str:
    """Describe a result in a few lines."""
    name = type(result).__name__
    if not _is_concrete(result):  # jax.tree.map may put anything where arrays were.
        return f"{name}(values={result.values!r}, diverged={result.diverged!r})"
    points = result.points
    names = map(arguments.printable, points.dims)
    sizes = " × ".join(f"{n} {dim}" for dim, n in zip(names, points.shape, strict=True))
    metrics = (
        f"{arguments.printable(name)} {np.shape(leaf)}" for name, leaf in result.metrics().items()
    )
    lines = [
        f"{name} of {len(points)} points, {sizes}",
        f"metrics: {', '.join(metrics) or 'none'}",
        f"diverged: {np.count_nonzero(result.diverged)}",
    ]
    if report := result.report:
        lines.append(
            f"ran in batches of {report.batch_size} on {report.devices} × {report.device_kind}, "
            f"programs: {report.programs}"
        )
        if report.resumed:
            lines[-1] += f", points from the store: {report.resumed}"
        if report.damaged:
            lines[-1] += f", damaged files: {len(report.damaged)}"
    for best in _ranked(result, 1):
        at = f" at {describe_point(best.point)}" if best.point else ""
        metric = arguments.printable(_rankable_metrics(result)[0])
        lines.append(f"best {metric}: {_with_error(best.value, best.standard_error)}{at}")
    return "\n  ".join(lines)


def to_html(result: Result) -> str:
    """Return the lines of `to_text`, and below them a table of the best settings."""
    lines = f"<pre>{escape(to_text(result))}</pre>"
    ranked = _ranked(result, _MOST_ROWS) if _is_concrete(result) else []
    if not ranked:
        return lines
    names = _rankable_metrics(result)
    scalars = {name: leaf for name, leaf in result.metrics().items() if name in names}
    means = mean_of_groups(*group_by_setting(result.points), scalars, ~np.asarray(result.diverged))
    seeds = len(result.points) // len(means.points)
    rows = []
    for best in ranked:
        cells = [describe_value(value) for value in best.point.values()]
        cells.append(_with_error(best.value, best.standard_error))
        for name in names[1:]:
            value, error = means.mean[name][best.index], means.standard_error[name][best.index]
            cells.append(_with_error(value, error))
        cells += [f"{means.count[best.index]} of {seeds}"] * (seeds > 1)
        rows.append(_row("td", cells))
    head = _row(
        "th", map(arguments.printable, [*ranked[0].point, *names, *["seeds"] * (seeds > 1)])
    )
    return f"{lines}<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def as_common_dtype(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype that xarray and pandas know."""
    if array.dtype != object:
        return _file.upcast_to_numpy(array)
    named = _file.name_objects(array)  # Of objects, xarray and pandas turn None into NaN.
    return named.astype(bool if all(isinstance(name, bool) for name in named) else str)


def _row(kind: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _with_error(value: float, standard_error: float) -> str:
    return f"{value:.6g} ± {standard_error:.2g}" if standard_error >= 0 else f"{value:.6g}"


def _is_concrete(result: Result) -> bool:
    """Whether a result holds arrays, with the points' shape on their leading axes."""
    axes = list(result.points.axes.values())
    leaves = [result.diverged, *jax.tree.leaves(result.values)]
    for leaf in axes + leaves:
        if arguments.is_traced(leaf) or not isinstance(leaf, np.ndarray | jax.Array):
            return False
    if any(axis.ndim != 1 for axis in axes):
        return False
    shape = result.points.shape
    return all(leaf.shape[: len(shape)] == shape for leaf in leaves)


def _rankable_metrics(result: Result) -> list[str]:
    """Return the metrics with one real number per point.

    Those whose best end is known come first, and integers, such as counts, last of each kind.
    """
    shape = result.points.shape
    scalars = {
        n: v for n, v in result.metrics().items() if v.shape == shape and arguments.is_real(v)
    }

    def place(name: str) -> tuple[bool, bool]:
        return known_mode(name, result.modes) is None, scalars[name].dtype.kind in "iu"

    return sorted(scalars, key=place)


def _ranked(result: Result, count: int) -> list[Best]:
    """Return the best settings by the first rankable metric; none if its best end is unknown."""
    metrics = _rankable_metrics(result)
    if not metrics or known_mode(metrics[0], result.modes) is None:
        return []
    try:
        return result.top(metrics[0], count)
    except ValueError:  # No point can be ranked.
        return []


def _missing_package(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    name = error.name or name
    return ModuleNotFoundError(
        f"{name} is not installed; pip install 'momentax[results]'", name=name
    )


def _variables(points: Points, metrics: Mapping[str, Any], diverged: Any) -> dict[str, np.ndarray]:
    """Return the metrics and the divergence in dtypes that xarray and pandas know."""
    for name in [*metrics, "diverged"]:
        if name in points.axes or name in points.dims:
            raise ValueError(
                f"the metric {name} has the name of an axis or a dimension of the points; "
                "rename one of them"
            )
    return {name: as_common_dtype(np.array(leaf)) for name, leaf in metrics.items()} | {
        "diverged": np.array(diverged)
    }
