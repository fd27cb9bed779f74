"""A result as others read it: in xarray, pandas, a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import jax
import numpy as np

from momentax._core import arguments
from momentax.sweeps import _file
from momentax.sweeps._groups import mean, settings
from momentax.sweeps._points import described, objects

if TYPE_CHECKING:
    import pandas
    import xarray

    from momentax.sweeps._result import SweepResult

_SHOWN = 10  # Settings in a notebook's table.


def dataset(result: SweepResult) -> xarray.Dataset:
    """The result as a Dataset of xarray's."""
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise _missing("xarray", error) from None
    points, variables = result.points, _variables(result)
    dims = tuple(points.dims)
    coordinates = {
        name: (dim, plain(np.asarray(values)))
        for dim, axes in points.dims.items()
        for name, values in axes.items()
    }
    data = {
        name: ((*dims, *(f"{name}_dim_{i}" for i in range(leaf.ndim - len(dims)))), leaf)
        for name, leaf in variables.items()
    }
    attributes = {"momentax": _file.version(), "format": _file.FORMAT}
    return xarray.Dataset(data, coordinates, attributes)


def dataframe(result: SweepResult) -> pandas.DataFrame:
    """The result as a DataFrame of pandas'."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _missing("pandas", error) from None
    points = result.points
    columns = {name: plain(np.asarray(column)) for name, column in points.columns().items()}
    for name, leaf in _variables(result).items():
        rows = leaf.reshape(len(points), *leaf.shape[len(points.shape) :])
        columns[name] = objects(list(rows)) if rows.ndim > 1 else rows
    return pandas.DataFrame(columns)


def text(result: SweepResult) -> str:
    """The result in a few lines."""
    if not _is_concrete(result):  # As what transformations carry in the place of arrays.
        return f"SweepResult(values={result.values!r}, diverged={result.diverged!r})"
    points = result.points
    sizes = " × ".join(f"{n} {dim}" for dim, n in zip(points.dims, points.shape, strict=True))
    metrics = (f"{name} {np.shape(leaf)}" for name, leaf in result.metrics().items())
    lines = [
        f"SweepResult of {len(points)} points, {sizes}",
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
    for name in _scalars(result)[:1]:
        try:
            best = result.best(name)
        except ValueError:  # None can be ranked.
            break
        at = f" at {described(best.point)}" if best.point else ""
        lines.append(f"best {name}: {_number(best.value, best.standard_error)}{at}")
    return "\n  ".join(lines)


def html(result: SweepResult) -> str:
    """The result's lines, and below them its best settings as a table."""
    lines = f"<pre>{escape(text(result))}</pre>"
    names = _scalars(result) if _is_concrete(result) else []
    try:
        ranked = result.top(names[0], _SHOWN) if names else []
    except ValueError:  # None can be ranked.
        ranked = []
    if not ranked:
        return lines
    scalars = {name: result[name] for name in names}
    means = mean(*settings(result.points), scalars, ~np.asarray(result.diverged))
    seeds = len(result.points) // len(means.points)
    rows = []
    for best in ranked:
        cells = [getattr(value, "__name__", str(value)) for value in best.point.values()]
        cells.append(_number(best.value, best.standard_error))
        for name in names[1:]:
            parts = means.mean[name][best.index], means.standard_error[name][best.index]
            cells.append(_number(*parts))
        cells += [f"{means.count[best.index]} of {seeds}"] * (seeds > 1)
        rows.append(_row("td", cells))
    head = _row("th", [*ranked[0].point, *names, *["seeds"] * (seeds > 1)])
    return f"{lines}<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _row(kind: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _number(value: float, standard_error: float) -> str:
    return f"{value:.6g} ± {standard_error:.2g}" if standard_error >= 0 else f"{value:.6g}"


def _is_concrete(result: SweepResult) -> bool:
    """Whether a result holds arrays of the shapes it should."""
    axes = list(result.points.axes.values())
    leaves = [result.diverged, *jax.tree.leaves(result.values)]
    for leaf in axes + leaves:
        if arguments.is_traced(leaf) or not isinstance(leaf, np.ndarray | jax.Array):
            return False
    if any(axis.ndim != 1 for axis in axes):
        return False
    shape = result.points.shape
    return all(leaf.shape[: len(shape)] == shape for leaf in leaves)


def _scalars(result: SweepResult) -> list[str]:
    """The metrics with one real number a point, those that count something last."""
    shape = result.points.shape
    scalars = {
        n: v for n, v in result.metrics().items() if v.shape == shape and arguments.is_real(v)
    }
    return sorted(scalars, key=lambda name: scalars[name].dtype.kind in "iu")


def plain(array: np.ndarray) -> np.ndarray:
    """An array of a dtype that others know."""
    if array.dtype != object:
        return _file.widened(array)
    named = _file.words(array)  # As objects, xarray and pandas would turn None into NaN.
    return named.astype(bool if all(isinstance(name, bool) for name in named) else str)


def _missing(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    name = error.name or name
    return ModuleNotFoundError(
        f"{name} is not installed; pip install 'momentax[results]'", name=name
    )


def _variables(result: SweepResult) -> dict[str, np.ndarray]:
    """The metrics and the divergence as arrays that others know."""
    points, metrics = result.points, result.metrics()
    for name in [*metrics, "diverged"]:
        if name in points.axes or name in points.dims:
            raise ValueError(
                f"the metric {name} bears the name of an axis or a dimension of the points; "
                "call one of them otherwise"
            )
    return {name: plain(np.asarray(leaf)) for name, leaf in metrics.items()} | {
        "diverged": np.asarray(result.diverged)
    }
