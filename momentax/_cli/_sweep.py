"""`momentax sweep`: train at every learning rate and β, print the best points, write two files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

import momentax
from momentax._cli import _model
from momentax._cli._command import METHODS, Mistake, attempted, plain, printed
from momentax._cli._model import EPOCHS, METHOD, SEED, Task
from momentax._core import arguments

_LEARNING_RATES = (0.003, 0.007, 0.016, 0.036, 0.08, 0.19, 0.44, 1.0)
_BETAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SHOWN = 10  # Rows in the table of the best points.


def add(commands: Any) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "sweep",
        help="train a network, yours or one for handwritten digits, at every learning rate and β",
        description="Train a small convolutional Flax network on scikit-learn's 1,797 handwritten "
        "digits at every point of a learning rate × β grid, on every core or device there is; "
        "print the best points and write sweep.json and sweep.png. --model and --data train what "
        "is yours.",
    )
    option: Any = parser.add_argument

    def numbers(values: tuple[float, ...]) -> str:
        return f"of the grid (default: {' '.join(map(str, values))})"

    rates: dict[str, Any] = {"type": float, "nargs": "+", "default": _LEARNING_RATES}
    option("--learning-rates", metavar="α", help=numbers(_LEARNING_RATES), **rates)
    betas = rates | {"default": _BETAS}
    option("--betas", metavar="β", help=numbers(_BETAS), **betas)
    option("--method", choices=METHODS, help=f"what takes β (default: {METHOD})")
    option("--epochs", type=int, metavar="N", help=f"passes over the data (default: {EPOCHS})")
    option("--seed", type=int, metavar="N", help=f"of network and batches (default: {SEED})")
    option("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds, from --seed on")
    option(
        "--model",
        metavar="MODULE:FUNCTION",
        help="called with flax.nnx.Rngs it returns a flax.nnx module from inputs to logits; or a "
        "training function of your own, traced by JAX: it takes learning_rate and beta, also "
        "seed, data, epochs and method if it has them, and returns a dictionary of numbers",
    )
    option(
        "--data",
        metavar="MODULE:FUNCTION",
        help="called without arguments it returns (train, test), each a pair of inputs and whole "
        "labels (default: the digits)",
    )
    option(
        "--metric",
        metavar="NAME",
        help="what points are ranked by (default: test_accuracy, with --halving the finer "
        "test_loss; the first number of a training function)",
    )
    option(
        "--mode",
        choices=("min", "max"),
        help="which end of the metric is best (default: as its name says)",
    )
    option(
        "--halving",
        type=int,
        nargs="*",
        metavar="EPOCH",
        help="let only the best third train on after each of these epochs, the last of them "
        "--epochs; without numbers after a ninth and a third of the epochs",
    )
    option("--store", type=Path, metavar="PATH", help="keep what is done here, and go on from it")
    option(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="N|auto",
        help="points at once (default: auto, as measured)",
    )
    option("--devices", type=int, metavar="N", help="how many cores or devices (default: all)")
    option("--output", type=Path, default=Path(), metavar="FOLDER", help="for the two files")
    parser.set_defaults(run=partial(_sweep, parser))


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return arguments.as_count("N", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number, at least 1, got {text!r}"
        ) from None


def _sweep(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """`momentax sweep`; whether all of it came out."""
    try:
        points = _points(options)
        _require_writable(options)
        mesh = _mesh(options.devices)
        from momentax import plotting  # noqa: F401 - Import it now, not after the training.
        from momentax._cli import _digits  # noqa: F401 - Now, and not after the training.
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is not installed; pip install 'momentax[flax]'")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:  # Of what the user's own functions raise, the user needs to see where.
        task = _model.task(options, points[0])
    except Mistake as error:
        parser.error(str(error))
    try:
        result = _swept(options, task, points, mesh)
    except ValueError as error:
        if error.__cause__ is not None:  # As above.
            raise
        parser.error(str(error))
    except OSError as error:
        print(f"momentax: {error}", file=sys.stderr)
        return False
    return _told(options, task, result)


def _points(options: argparse.Namespace) -> momentax.sweeps.Points:
    for name, least in (("epochs", 1), ("seed", 0), ("seeds", 1)):
        if getattr(options, name) is not None:
            arguments.as_count(name, getattr(options, name), least)
    if (seed := _seeds(options)[0]) >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {arguments.describe(seed)}")
    _rungs(options)
    points = momentax.grid(learning_rate=options.learning_rates, beta=options.betas)
    return momentax.sweeps.repeat(points, _seeds(options)) if options.seeds > 1 else points


def _seeds(options: argparse.Namespace) -> range:
    first = SEED if options.seed is None else options.seed
    return range(first, first + options.seeds)


def _rungs(options: argparse.Namespace) -> list[int] | None:
    """The epochs after which the best third goes on; None without halving."""
    if options.halving is None:
        return None
    epochs = EPOCHS if options.epochs is None else options.epochs
    rungs = options.halving or sorted({max(1, epochs // 9), max(1, epochs // 3), epochs})
    if rungs[0] < 1 or rungs != sorted(set(rungs)) or rungs[-1] != epochs:
        raise ValueError(
            f"--halving must be growing numbers of epochs that end with --epochs, {epochs}, "
            f"got {' '.join(map(str, rungs))}"
        )
    return rungs


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "sweep.json", folder / "sweep.png"


def _require_writable(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    files = _files(options.output)
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
    needed = [options.output, *filter(Path.exists, files)]
    if options.store is not None:
        there = next(filter(Path.exists, (options.store, *options.store.absolute().parents)))
        if there != options.store and not there.is_dir():
            raise NotADirectoryError(f"{there} is not a directory")
        needed.append(there)
    for path in needed:
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} is not writable")


def _mesh(count: int | None) -> Mesh | None:
    """Start JAX with as many devices as are wanted; None where it shall take all that it has."""
    if count is None:
        with contextlib.suppress(RuntimeError):  # It has started already, with what there is.
            momentax.use_all_cores()
        return None
    arguments.as_count("devices", count)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        momentax.use_all_cores(min(count, cores or 1))
    except RuntimeError as error:
        raise ValueError(f"--devices {count}: {error}") from None
    devices = jax.devices()
    if count > len(devices):
        raise ValueError(
            f"--devices must be at most {len(devices)}, the {devices[0].device_kind} devices "
            f"there are, got {count}"
        )
    return None if count == len(devices) else Mesh(np.array(devices[:count]), ("points",))


def _swept(
    options: argparse.Namespace, task: Task, points: momentax.sweeps.Points, mesh: Mesh | None
) -> momentax.sweeps.SweepResult:
    how: dict[str, Any] = {
        "batch_size": options.batch_size,
        "mesh": mesh,
        "store": options.store,
    }
    rungs = _rungs(options)
    if rungs is None:
        return momentax.sweep(task.run, points, **how)
    parts = task.training
    return momentax.halve(
        parts.init, parts.advance, parts.score, points, rungs=rungs, mode=task.mode, **how
    )


class _Row(NamedTuple):
    """A point that did not diverge: its numbers and their standard errors by name."""

    point: dict[str, Any]
    numbers: dict[str, tuple[Any, Any]]


def _best_first(
    options: argparse.Namespace, task: Task, result: momentax.sweeps.SweepResult
) -> list[_Row]:
    """The points that did not diverge, by their means over the seeds."""
    ranks = {task.metric: task.mode, **task.ties}
    if options.halving is not None:  # The score of fewer epochs is another.
        ranks = {"advanced": "max", "score": task.mode}
    found: dict[Any, _Row] = {}
    for name, mode in ranks.items():
        if not np.isfinite(result[name][~result.diverged]).any():
            return []
        for best in result.top(name, len(result.points), mode):
            row = found.setdefault(tuple(best.point.items()), _Row(best.point, {}))
            row.numbers[name] = best.value, best.standard_error

    def place(row: _Row) -> list[float]:
        return [row.numbers[name][0] * (-1 if mode == "max" else 1) for name, mode in ranks.items()]

    return sorted(found.values(), key=place)


def _table(
    options: argparse.Namespace, task: Task, result: momentax.sweeps.SweepResult
) -> list[str]:
    """The best points, best first, which diverged, and how it all ran."""
    rows = _best_first(options, task, result)[:_SHOWN]
    names = {"score": task.metric, "advanced": "epochs"}
    lines: list[list[str]] = []
    for row in rows:
        α, β = row.point["learning_rate"], row.point["beta"]
        line = {"learning rate": f"{α:.4g}", "β": f"{β:.4g}"}
        if task.averages is not None:
            effective = momentax.theory.effective_learning_rate(α, 0 * β if task.averages else β)
            line["effective"] = f"{effective:.4g}"
        for name, (value, error) in row.numbers.items():
            spread = f" ± {error:.2g}" if np.isfinite(error) and error else ""
            line[names.get(name, name)] = f"{value:.4g}{spread}"
        lines = lines or [list(line)]
        lines.append(list(line.values()))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        *("  ".join(map(str.rjust, line, widths)) for line in lines),
        *_diverged(result),
        _ran(options, result),
    ]


def _diverged(result: momentax.sweeps.SweepResult) -> list[str]:
    axes = result.points.axes
    α, β = axes["learning_rate"], axes["beta"]
    seeds = len(axes.get("seed", [0]))
    lost = result.diverged.reshape(len(α), len(β), seeds).sum(-1)
    lines = [f"{(lost > 0).sum()} of {lost.size} points diverged"]
    if seeds > 1 and lost.any():
        lines[0] += f", {lost.sum()} of {lost.size * seeds} runs with their seeds"
    for j in np.flatnonzero(lost.any(0)):
        at = [
            f"{α[i]:.4g}" + (f" ({lost[i, j]} of {seeds})" if lost[i, j] < seeds else "")
            for i in np.flatnonzero(lost[:, j])
        ]
        lines.append(f"{'✕':>13} {β[j]:7.4g}  at α = {', '.join(at)}")
    return lines


def _ran(options: argparse.Namespace, result: momentax.sweeps.SweepResult) -> str:
    if (report := result.report) is None:
        return ""
    devices = f"{report.devices} devices" if report.devices > 1 else "one device"
    text = f"ran up to {report.batch_size} points at once on {devices} ({report.device_kind})"
    if report.resumed:
        text += f"; {report.resumed} results were read from {options.store}"
    if report.damaged:
        text += f"; these files of it were damaged and ran again: {', '.join(report.damaged)}"
    return text


def _report(
    options: argparse.Namespace, task: Task, result: momentax.sweeps.SweepResult
) -> dict[str, Any]:
    """What sweep.json holds."""
    score = task.metric if options.halving is None else "score"
    best = None
    for row in _best_first(options, task, result)[:1]:
        kept = np.result_type(result[score], np.float32)  # In which a mean has fewer digits.
        value, error = (plain(kept.type(number)) for number in row.numbers[score])
        best = {name: plain(number) for name, number in row.point.items()} | {task.metric: value}
        if "seed" in result.points.axes:
            best["standard_error"] = error
    ran = result.report
    return {
        "momentax": momentax.__version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": ran and ran.devices,
        "batch_size": ran and ran.batch_size,
        "model": options.model,
        "data": options.data,
        "method": options.method or METHOD,
        "epochs": EPOCHS if options.epochs is None else options.epochs,
        "halving": _rungs(options),
        "seed": _seeds(options)[0],
        "seeds": options.seeds,
        "metric": task.metric,
        "mode": task.mode,
        "axes": {name: plain(values) for name, values in result.points.axes.items()},
        "results": {
            name: plain(values)
            for name, values in (result.metrics() | {"diverged": result.diverged}).items()
        },
        "best": best,
    }


def _told(options: argparse.Namespace, task: Task, result: momentax.sweeps.SweepResult) -> bool:
    """Write and print; whether all of it came out."""
    from momentax import plotting

    def draw(path: Path) -> None:
        ax = plotting.heatmap(
            result,
            task.metric if options.halving is None else "score",
            mode=task.mode,
            label=task.metric.replace("_", " ")
            + ", each point's last" * (_rungs(options) is not None),
            effective=task.averages is False,
        )
        ax.set_title(task.title)
        ax.figure.get_figure(root=True).savefig(path, dpi=150)

    numbers, picture = _files(options.output)
    report = json.dumps(_report(options, task, result), indent=1, allow_nan=False)
    written = attempted(
        lambda: numbers.write_text(report + "\n", encoding="utf-8"), f"{numbers} was not written"
    )
    drawn = attempted(lambda: draw(picture), f"{picture} was not written")
    # What has no file stands in the output, so that the training was not for nothing.
    lines = [*_table(options, task, result), *([] if written else [report])]
    if done := [str(path) for path, is_there in ((numbers, written), (picture, drawn)) if is_there]:
        lines.append(f"wrote {' and '.join(done)}")
    return printed(*lines) and written and drawn
