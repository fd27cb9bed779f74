"""`momentax sweep`: train at every learning rate and β, print the best points, write two files."""

from __future__ import annotations

import contextlib
import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import momentax
from momentax import plotting
from momentax._cli._output import print_error, print_lines, succeeds
from momentax._cli._plan import Plan, files
from momentax._cli._report import make_notes, make_report, make_table
from momentax._cli._table import aligned
from momentax._cli._task import Task, make_task
from momentax._cli._usage import UsageError
from momentax._core.display import Display
from momentax._core.files import write_file
from momentax._core.stores import CannotKeepError, OtherSweepError, count_kept
from momentax._core.without_jax import count_cores
from momentax.sweeps import Points, SweepResult, grid, halve, repeat, sweep, use_all_cores


def run(options: Namespace, plan: Plan, display: Display) -> bool:
    """Run the command; return whether every result was written and printed."""
    try:
        points = _make_points(options)
        mesh = _start_devices(options.devices)
    except ValueError as error:
        raise UsageError(str(error)) from error
    task = make_task(options, points[0])  # Errors of the user's own functions keep their traceback.
    if options.curvature is not None and task.method is None:
        raise UsageError(
            "--curvature needs the momentum method, whose stability edge it draws: give the "
            f"training function {options.model} an argument method and use it"
        )
    if task.data:
        print_error(task.data)
    how = {"batch_size": options.batch_size, "mesh": mesh, "progress": display}
    try:
        with _tidy(plan):
            result = _train(task, points, plan, how)
    except ValueError as error:
        if error.__cause__ is not None:  # The user's function failed at a point.
            raise
        raise UsageError(str(error)) from error
    except OSError as error:
        print_error(error.strerror or str(error))
        return False
    finally:
        display.close()
    return _write(options, task, result, plan)


def _make_points(options: Namespace) -> Points:
    points = grid(learning_rate=options.learning_rates, beta=options.betas)
    if options.seeds == 1:
        return points
    return repeat(points, range(options.seed, options.seed + options.seeds))


def _start_devices(count: int | None) -> Mesh | None:
    """Start JAX with at most `count` CPU devices; return a mesh of `count` if it has more.

    Without a count every core becomes a device, unless JAX has started already.
    """
    if count is None:
        with contextlib.suppress(RuntimeError):
            use_all_cores()
        return None
    try:
        use_all_cores(min(count, count_cores()))
    except RuntimeError as error:
        raise ValueError(f"--devices {count}: {error}") from None
    devices = jax.devices()
    if count > len(devices):
        raise ValueError(
            f"--devices must be at most {len(devices)}, the {devices[0].device_kind} devices "
            f"there are, got {count}"
        )
    return None if count == len(devices) else Mesh(np.array(devices[:count]), ("points",))


def _train(task: Task, points: Points, plan: Plan, how: dict[str, Any]) -> SweepResult:
    """Run all points, and keep each finished batch in the store of the plan.

    Unless the user asked for the store, results of another function in it are deleted, and a
    function whose content cannot be compared runs without it.
    """
    kept: dict[str, Any] = {**how, "store": plan.store}
    try:
        return _run_points(task, points, plan, kept)
    except OtherSweepError:
        if plan.is_own:
            raise
        print_error(
            f"the points kept in {plan.store} are not used, since they are of another version of "
            "the function, of momentax or of JAX"
        )
        shutil.rmtree(plan.store)
        return _run_points(task, points, plan, kept)
    except CannotKeepError as error:
        if plan.is_own:
            raise UsageError(str(error)) from error
        return _run_points(task, points, plan, {**how, "store": None})


@contextlib.contextmanager
def _tidy(plan: Plan) -> Iterator[None]:
    """Delete a store in the output that holds nothing, if the sweep fails."""
    try:
        yield
    except OSError:  # Another process may use it.
        raise
    except BaseException:  # The user's functions can raise anything.
        if not plan.is_own and not count_kept(plan.store):
            shutil.rmtree(plan.store, ignore_errors=True)
        raise


def _run_points(task: Task, points: Points, plan: Plan, how: dict[str, Any]) -> SweepResult:
    if plan.rungs is None or task.training is None:
        return sweep(task.run, points, **how)
    training = task.training
    return halve(
        training.init,
        training.advance,
        training.score,
        points,
        rungs=plan.rungs,
        mode=task.mode,
        **how,
    )


def _write(options: Namespace, task: Task, result: SweepResult, plan: Plan) -> bool:
    """Write the files and print the table; return whether all of it succeeded."""
    json_path, picture_path = files(options.output)
    report = json.dumps(make_report(options, task, result, plan.rungs), indent=1, allow_nan=False)
    written = {
        json_path: succeeds(
            lambda: write_file(json_path, lambda file: file.write(f"{report}\n".encode())),
            f"{json_path} was not written",
        ),
        picture_path: succeeds(
            lambda: _draw(options, task, result, picture_path),
            f"{picture_path} was not written",
        ),
    }
    lines = make_notes(options, result)
    if not written[json_path]:  # Print the report, so that the training is not lost.
        lines.append(report)
    elif not plan.is_own:
        shutil.rmtree(plan.store, ignore_errors=True)
    if done := [str(path) for path, is_written in written.items() if is_written]:
        lines.append(f"wrote {' and '.join(done)}")
    is_printed = print_lines(*lines, table=aligned(make_table(options, task, result)))
    return is_printed and all(written.values())


def _draw(options: Namespace, task: Task, result: SweepResult, path: Path) -> None:
    label, halved = task.metric.replace("_", " "), options.halving is not None
    edge: dict[str, Any] = {}
    if options.curvature is not None and (method := task.method) is not None:
        edge = {
            "curvature": options.curvature,
            "pipeline": lambda learning_rate, beta: momentax.sgd(learning_rate, method(beta)),
        }
    ax = plotting.heatmap(
        result,
        "score" if halved else task.metric,
        mode=task.mode,
        label=f"{label}, last value of each point" if halved else label,
        effective=task.averages is False,
        resolution=task.resolution,
        **edge,
    )
    ax.set_title(task.title)
    figure = ax.figure.get_figure(root=True)
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=150))
