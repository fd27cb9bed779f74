"""`momentax sweep`: train at every learning rate and β, print the best points, write two files."""

from __future__ import annotations

import contextlib
import json
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import momentax
from momentax import plotting
from momentax._cli._output import print_error, print_lines, require_writable, succeeds
from momentax._cli._report import make_report, make_table
from momentax._cli._task import Task, make_task
from momentax._cli._usage import UsageError
from momentax._core.arguments import as_count, as_real, describe
from momentax._core.files import write_file
from momentax._core.sharding import count_cores
from momentax.sweeps import Points, SweepResult, grid, halve, repeat, sweep, use_all_cores


def run(options: Namespace) -> bool:
    """Run the command; return whether every result was written and printed."""
    try:
        points = _make_points(options)
        rungs = None if options.halving is None else _rungs(options.halving, options.epochs)
        if options.curvature is not None:
            as_real("curvature", options.curvature, "(0, inf)")
        _require_writable(options)
        mesh = _start_devices(options.devices)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    task = make_task(options, points[0])  # Errors of the user's own functions keep their traceback.
    if options.curvature is not None and task.method is None:
        raise UsageError(
            "--curvature needs the momentum method, whose stability edge it draws: give the "
            f"training function {options.model} an argument method and use it"
        )
    how = {"batch_size": options.batch_size, "mesh": mesh, "store": options.store}
    try:
        result = _train(task, points, rungs, how)
    except ValueError as error:
        if error.__cause__ is not None:  # The user's function failed at a point.
            raise
        raise UsageError(str(error)) from error
    except OSError as error:
        print_error(str(error))
        return False
    return _write(options, task, result, rungs)


def _make_points(options: Namespace) -> Points:
    for name, least in (("epochs", 1), ("seed", 0), ("seeds", 1)):
        as_count(name, getattr(options, name), least, np.inf)
    if options.seed >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {describe(options.seed)}")
    points = grid(learning_rate=options.learning_rates, beta=options.betas)
    if options.seeds == 1:
        return points
    return repeat(points, range(options.seed, options.seed + options.seeds))


def _rungs(halving: Sequence[int], epochs: int) -> list[int]:
    """Return the epochs after which only the best third continues, the last one included."""
    rungs = list(halving) or sorted({max(1, epochs // 9), max(1, epochs // 3), epochs})
    if rungs[0] < 1 or rungs != sorted(set(rungs)) or rungs[-1] != epochs:
        raise ValueError(
            f"--halving must be growing numbers of epochs that end with --epochs, {epochs}, "
            f"got {' '.join(map(str, rungs))}"
        )
    return rungs


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "sweep.json", folder / "sweep.png"


def _require_writable(options: Namespace) -> None:
    """Make the output folder, and refuse files that could not be written after the training."""
    require_writable(options.output, _files(options.output))
    if options.store is None:
        return
    existing = next(filter(Path.exists, (options.store, *options.store.absolute().parents)))
    if existing != options.store and not existing.is_dir():
        raise NotADirectoryError(f"{existing} is not a directory")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{existing} is not writable")


def _start_devices(count: int | None) -> Mesh | None:
    """Start JAX with at most `count` CPU devices; return a mesh of `count` if it has more.

    Without a count every core becomes a device, unless JAX has started already.
    """
    if count is None:
        with contextlib.suppress(RuntimeError):
            use_all_cores()
        return None
    as_count("devices", count)
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


def _train(task: Task, points: Points, rungs: list[int] | None, how: dict[str, Any]) -> SweepResult:
    if rungs is None or task.training is None:
        return sweep(task.run, points, **how)
    training = task.training
    return halve(
        training.init,
        training.advance,
        training.score,
        points,
        rungs=rungs,
        mode=task.mode,
        **how,
    )


def _write(options: Namespace, task: Task, result: SweepResult, rungs: list[int] | None) -> bool:
    """Write the files and print the table; return whether all of it succeeded."""
    json_path, picture_path = _files(options.output)
    report = json.dumps(make_report(options, task, result, rungs), indent=1, allow_nan=False)
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
    lines = make_table(options, task, result)
    if not written[json_path]:  # Print the report, so that the training is not lost.
        lines.append(report)
    if done := [str(path) for path, is_written in written.items() if is_written]:
        lines.append(f"wrote {' and '.join(done)}")
    return print_lines(*lines) and all(written.values())


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
