"""The result of `momentax sweep` as the table that it prints and the report that it writes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, NamedTuple

import jax
import numpy as np

import momentax
from momentax._cli._output import as_json
from momentax._cli._task import Task
from momentax.sweeps import SweepResult

_TABLE_ROWS = 10


def make_table(options: Namespace, task: Task, result: SweepResult) -> list[list[str]]:
    """Return the rows of the best points, the head first; none if all points diverged."""
    cells = [_cells(task, row) for row in _best_first(options, task, result)[:_TABLE_ROWS]]
    return [list(cells[0]), *(list(line.values()) for line in cells)] if cells else []


def make_notes(options: Namespace, result: SweepResult) -> list[str]:
    """Return the lines of the diverged points and of how the sweep ran."""
    return [*_diverged_lines(result), _execution_line(options, result)]


def make_report(
    options: Namespace, task: Task, result: SweepResult, rungs: list[int] | None
) -> dict[str, Any]:
    """Return the contents of sweep.json."""
    ran = result.report
    return {
        "momentax": momentax.__version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": ran and ran.devices,
        "batch_size": ran and ran.batch_size,
        "model": options.model,
        "data": options.data,
        "method": options.method,
        "epochs": options.epochs,
        "halving": rungs,
        "seed": options.seed,
        "seeds": options.seeds,
        "metric": task.metric,
        "mode": task.mode,
        "axes": {name: as_json(values) for name, values in result.points.axes.items()},
        "results": {
            name: as_json(values)
            for name, values in (result.metrics() | {"diverged": result.diverged}).items()
        },
        "best": _best(options, task, result),
    }


def _best(options: Namespace, task: Task, result: SweepResult) -> dict[str, Any] | None:
    rows = _best_first(options, task, result)
    if not rows:
        return None
    score = task.metric if options.halving is None else "score"
    value, error = rows[0].metrics[score]
    # A mean in float64 would show digits that the metric's own dtype does not have.
    dtype = np.result_type(result[score], np.float32).type
    best = {name: as_json(number) for name, number in rows[0].point.items()}
    best[task.metric] = as_json(dtype(value))
    if "seed" in result.points.axes:
        best["standard_error"] = as_json(dtype(error))
    return best


class _Row(NamedTuple):
    """A point that did not diverge, and its metrics: (mean, standard error) by name."""

    point: dict[str, Any]
    metrics: dict[str, tuple[float, float]]


def _best_first(options: Namespace, task: Task, result: SweepResult) -> list[_Row]:
    """Return the points that did not diverge, ranked by their means over the seeds."""
    modes = {task.metric: task.mode, **task.tie_breakers}
    if options.halving is not None:  # Scores after different numbers of epochs are not comparable.
        modes = {"advanced": "max", "score": task.mode}
    rows: dict[Any, _Row] = {}
    for name, mode in modes.items():
        if not np.isfinite(result[name][~result.diverged]).any():
            return []
        for best in result.top(name, len(result.points), mode):
            row = rows.setdefault(tuple(best.point.items()), _Row(best.point, {}))
            row.metrics[name] = best.value, best.standard_error
    signs = {name: -1 if mode == "max" else 1 for name, mode in modes.items()}
    return sorted(
        rows.values(), key=lambda row: [sign * row.metrics[name][0] for name, sign in signs.items()]
    )


def _cells(task: Task, row: _Row) -> dict[str, str]:
    """Return the cells of a row of the table, by the heads of their columns."""
    α, β = row.point["learning_rate"], row.point["beta"]
    cells = {"learning rate": f"{α:.4g}", "β": f"{β:.4g}"}
    if task.averages is not None:
        effective = α if task.averages else momentax.theory.effective_learning_rate(α, β)
        cells["effective"] = f"{effective:.4g}"
    heads = {"score": task.metric, "advanced": "epochs"}
    for name, (value, error) in row.metrics.items():
        spread = f" ± {error:.2g}" if np.isfinite(error) and error else ""
        cells[heads.get(name, name)] = f"{value:.4g}{spread}"
    return cells


def _diverged_lines(result: SweepResult) -> list[str]:
    """Return how many points diverged, and for each β the learning rates at which they did."""
    axes = result.points.axes
    α, β = axes["learning_rate"], axes["beta"]
    seeds = len(axes.get("seed", [0]))
    counts = result.diverged.reshape(len(α), len(β), seeds).sum(-1)
    lines = [f"{(counts > 0).sum()} of {counts.size} points diverged"]
    if seeds > 1 and counts.any():
        lines[0] += f", {counts.sum()} of {counts.size * seeds} runs with their seeds"
    for j in np.flatnonzero(counts.any(0)):
        places = [
            f"{α[i]:.4g}" + (f" ({counts[i, j]} of {seeds})" if counts[i, j] < seeds else "")
            for i in np.flatnonzero(counts[:, j])
        ]
        lines.append(f"{'✕':>13} {β[j]:7.4g}  at α = {', '.join(places)}")
    return lines


def _execution_line(options: Namespace, result: SweepResult) -> str:
    if (report := result.report) is None:
        return ""
    devices = f"{report.devices} devices" if report.devices > 1 else "one device"
    text = f"ran up to {report.batch_size} points at once on {devices} ({report.device_kind})"
    if report.resumed:
        source = options.store or f"an interrupted run in {options.output}"
        text += f"; {report.resumed} results were read from {source}"
    if report.damaged:
        text += f"; damaged files of the store, whose points ran again: {', '.join(report.damaged)}"
    return text
