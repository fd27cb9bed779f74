"""The pictures of the page. The name of each function is that of its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from docs.bake_off.record import CONTROL, Record
from momentax import plotting, theory
from momentax.bench import statistics
from momentax.bench._tasks import ridge

_LARGEST_RATIO = 4.0
# The weights (a, b) of gradient and velocity, as functions of β, whose stability edge is drawn.
_WEIGHTS: dict[str, Callable[[np.ndarray], Any]] = {
    "heavy_ball": lambda β: (0.0, np.ones_like(β)),
    CONTROL: lambda β: (1.0, β),
}


def speed_ups(record: Record) -> Any:
    """Draw the speed-up of each method on each task and over all tasks."""
    return record.results.plot().figure


def profile(record: Record) -> Any:
    """Draw the performance profile."""
    o, τ = record.overall, np.linspace(1, _LARGEST_RATIO, 1201)
    shares = statistics.performance_profile(o.speed_ups, τ)
    ax = plotting.profile(o.methods, τ, shares, areas=o.area, highlight=record.colored)
    return ax.figure


def expected_best(record: Record) -> Any:
    """Draw the expected best speed-up over all tasks after k trials."""
    means, defaults = record.expected_overall
    ax = plotting.expected_best(
        record.overall.methods,
        record.counts,
        means,
        defaults=defaults,
        highlight=record.colored,
        label="expected speed-up, mean over the tasks",
    )
    return ax.figure


def expected_best_tasks(record: Record) -> Any:
    """Draw the expected best speed-up on each task after k trials, with its band."""
    tasks, cells = record.results.speed_ups.tasks, record.results.cells
    axes = plotting.panels(2, -(-len(tasks) // 2), width=6.2, height=3.6)
    for ax, task in zip(axes, tasks, strict=False):
        methods = [name for name in record.overall.methods if (task, name) in cells]
        rows = [record.expected(task, name) for name in methods]
        means, bands, defaults = (np.stack(each) for each in zip(*rows, strict=True))
        plotting.expected_best(
            methods,
            record.counts,
            means,
            bands=bands.swapaxes(0, 1),
            defaults=defaults,
            highlight=[name for name in record.colored if name in methods],
            label="expected speed-up",
            ax=ax,
        )
        ax.set_title(task)
        if task != tasks[-1] and (legend := ax.get_legend()):
            legend.remove()
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    return axes[0].figure


def sensitivity_ridge(record: Record) -> Any:
    """Draw the trials of heavy ball and Nesterov on the quadratic, with their stability edges."""
    axes = plotting.panels(2, width=6.6, height=4.8)
    for ax, (method, weights) in zip(axes, _WEIGHTS.items(), strict=True):
        if ("ridge", method) in record.results.cells:
            _draw_trials(record, "ridge", method, ax, edge=stability_edge(weights))
            ax.set_title(f"{method} on ridge")
        else:
            ax.set_axis_off()
    return axes[0].figure


def stability_edge(weights: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Return the largest stable effective rates on ridge, α/(1 - β), and their β."""
    β = 1 - np.geomspace(1, 1e-3, 100)
    a, b = weights(β)
    α = theory.stability_edge(β, gradient_weight=a, velocity_weight=b) / ridge.curvatures()[1]
    return np.stack([α / (1 - β), β])


def sensitivity_tasks(record: Record) -> Any:
    """Draw the trials of Nesterov's momentum on each task."""
    cells = record.results.cells
    tasks = [task for task in record.results.speed_ups.tasks if (task, CONTROL) in cells]
    axes = plotting.panels(2, -(-len(tasks) // 2), width=5.6, height=3.5)
    for ax, task in zip(axes, tasks, strict=False):
        _draw_trials(record, task, CONTROL, ax)
        ax.set_title(task)
        if task != tasks[-1] and (legend := ax.get_legend()):
            legend.remove()
    for ax in axes[len(tasks) :]:
        ax.set_axis_off()
    return axes[0].figure


def _draw_trials(record: Record, task: str, method: str, ax: Any, edge: Any = None) -> None:
    found = record.results.sensitivity(task, method)
    plotting.sensitivity(
        found.hyperparameters["effective_rate"],
        found.hyperparameters["beta"],
        found.speed_ups,
        chosen=record.results.cells[task, method].chosen,
        edge=edge,
        ax=ax,
    )


ALL = (speed_ups, profile, expected_best, expected_best_tasks, sensitivity_ridge, sensitivity_tasks)
NAMES = frozenset(each.__name__ for each in ALL)


def drawn(record: Record) -> list[Callable[[Record], Any]]:
    """Return the pictures for which there are results."""
    cells, tasks = record.results.cells, record.results.speed_ups.tasks
    has = {
        expected_best: bool(record.common_tasks),
        sensitivity_ridge: "ridge" in tasks and any(("ridge", m) in cells for m in _WEIGHTS),
        sensitivity_tasks: any((task, CONTROL) in cells for task in tasks),
    }
    return [each for each in ALL if has.get(each, True)]
