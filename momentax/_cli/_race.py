"""`momentax race`: run methods on one problem, print a table, write it, a picture and a film."""

from __future__ import annotations

import csv
import inspect
import io
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.animation import writers as film_writers

import momentax
from momentax import plotting
from momentax._cli._folders import require_output
from momentax._cli._output import print_lines, succeeds
from momentax._cli._table import aligned
from momentax._cli._usage import WITHOUT_BETA, UsageError
from momentax._core.files import write_file
from momentax._core.metrics import arrival
from momentax._training._ranking import rank
from momentax.problems import Problem

# The learning rates of the grid times the largest curvature at the minimum, eight for each decade.
_LEARNING_RATES = np.geomspace(1e-3, 1e3, 49)
_BETAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


class Entry(NamedTuple):
    """A method in the race.

    name: that of the method.
    learning_rate: α.
    beta: β, or None for the method's own defaults.
    run: its run, with the records "loss" and "params".
    """

    name: str
    learning_rate: float
    beta: float | None
    run: momentax.Rollout


def run(options: Namespace) -> bool:
    """Run the command; return whether every result was written and printed."""
    problem = getattr(momentax.problems, options.problem)()
    files = _files(options, problem)
    if options.film == "mp4" and not film_writers.is_available("ffmpeg"):
        raise UsageError("--film mp4 needs ffmpeg, which is not installed; use --film gif")
    require_output(options.output, files)
    entries = {name: _enter(name, problem, options) for name in options.methods}
    table = _table(entries, problem, options)
    if not print_lines(table=aligned(table)):
        return False
    writers: dict[str, Callable[[Path], None]] = {
        ".csv": lambda path: _write_table(path, table),
        ".png": lambda path: _write_picture(path, problem, list(entries.values()), options),
    }
    write_film = partial(_write_film, problem=problem, entries=list(entries.values()))
    written = [
        succeeds(
            lambda path=path: writers.get(path.suffix, write_film)(path), f"{path} was not written"
        )
        for path in files
    ]
    done = [str(path) for path, is_written in zip(files, written, strict=True) if is_written]
    return (not done or print_lines(f"wrote {', '.join(done)}")) and all(written)


def _files(options: Namespace, problem: Problem) -> list[Path]:
    has_film = problem.start.size == 2 and options.film != "none"
    suffixes = ["csv", "png", *([options.film] if has_film else [])]
    return [options.output / f"race.{suffix}" for suffix in suffixes]


def _enter(name: str, problem: Problem, options: Namespace) -> Entry:
    """Choose the hyperparameters of a method, if they are not given, and run it."""
    make, has_beta = _factory(name)
    rates, betas = _LEARNING_RATES / problem.curvatures.max(), _BETAS
    if options.learning_rate is not None:
        rates = [options.learning_rate]
    if options.beta is not None:
        betas = [options.beta]
    α, β = (each.ravel() for each in np.meshgrid(rates, betas if has_beta else [0.0]))

    @jax.jit
    @jax.vmap
    def losses(learning_rate: jax.Array, beta: jax.Array) -> jax.Array:
        tx = make(learning_rate, beta)
        return momentax.rollout(problem.loss, problem.start, tx, options.steps).history["loss"]

    points = (jnp.asarray(each, problem.start.dtype) for each in (α, β))
    found = np.asarray(losses(*points), np.float64)
    level = _lowest(problem) + options.fraction * (found[0, 0] - _lowest(problem))
    last = np.nan_to_num(found[:, -1], nan=np.inf)
    best = np.lexsort((last, arrival(found, level)))[0]
    tx = make(float(α[best]), float(β[best]))
    record = ("loss", "params")
    run = momentax.rollout(problem.loss, problem.start, tx, options.steps, record=record)
    return Entry(name, float(α[best]), float(β[best]) if has_beta else None, run)


def _factory(name: str) -> tuple[Callable[[Any, Any], optax.GradientTransformation], bool]:
    """Return a function from α and β to an optimizer, and whether the method takes a β."""
    if name == WITHOUT_BETA:
        return lambda α, _: momentax.sgd(α, optax.identity()), False
    method = getattr(momentax, name)
    names = [key for key in ("beta", "beta1") if key in inspect.signature(method).parameters]
    if not names:
        return lambda α, _: momentax.sgd(α, method()), False
    return lambda α, β: momentax.sgd(α, method(**{names[0]: β})), True


def _lowest(problem: Problem) -> float:
    return float(problem.loss(jnp.asarray(problem.minimum, problem.start.dtype)))


def _table(entries: dict[str, Entry], problem: Problem, options: Namespace) -> list[list[str]]:
    """Return the rows of the table, its head first; they are ranked as in the picture."""
    losses = {
        name: np.asarray(entry.run.history["loss"], np.float64) for name, entry in entries.items()
    }
    steps = {name: np.arange(len(f)) for name, f in losses.items()}
    racers, _ = rank(losses, steps, _lowest(problem), options.fraction)
    target = f"steps to {options.fraction:g} of the start"
    rows = [["method", "learning rate", "β", target, "last loss", "diverged"]]
    for racer in racers:
        entry = entries[racer.name]
        rows.append(
            [
                entry.name,
                f"{entry.learning_rate:.4g}",
                "default" if entry.beta is None else f"{entry.beta:g}",
                "not reached" if racer.reached is None else str(racer.reached),
                f"{float(entry.run.history['loss'][-1]):.4g}",
                "no" if racer.diverged is None else "yes",
            ]
        )
    return rows


def _write_table(path: Path, table: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write_file(path, lambda file: file.write(text.getvalue().encode()))


def _write_picture(path: Path, problem: Problem, entries: list[Entry], options: Namespace) -> None:
    """Write the losses and, where there are two parameters, the paths beside them."""
    runs, ax = _runs(entries), None
    if problem.start.size == 2:
        left, ax = plotting.panels(2, width=7.0, height=6.5)
        paths = {entry.name: entry.run for entry in entries}
        plotting.trajectory(paths, problem.loss, minimizer=problem.minimum, ax=left)
        left.set_title(f"Paths on the {options.problem} problem")
    ax = plotting.race(runs, minimum=_lowest(problem), fraction=options.fraction, ax=ax)
    ax.set_title("Losses, and from where on they stay below the target")
    figure = ax.figure.get_figure(root=True)
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=144))


def _write_film(path: Path, problem: Problem, entries: list[Entry]) -> None:
    plotting.animate(_runs(entries), problem.loss, path, minimizer=problem.minimum)


def _runs(entries: list[Entry]) -> dict[str, momentax.Rollout]:
    """Return the runs by names for a legend."""
    return {
        f"{entry.name} (α = {entry.learning_rate:.3g}"
        f"{'' if entry.beta is None else f', β = {entry.beta:g}'})": entry.run
        for entry in entries
    }
