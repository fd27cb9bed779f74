"""`momentax bench`: compare methods on real tasks, or one's own method with recorded results."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from momentax import bench
from momentax._cli._folders import require_output, require_store
from momentax._cli._functions import import_function
from momentax._cli._output import print_error, print_lines, succeeds
from momentax._cli._table import aligned
from momentax._cli._usage import UsageError
from momentax._core.files import write_file
from momentax._core.stores import OtherSweepError
from momentax.bench import Entry, Result, check
from momentax.bench.statistics import Comparison
from momentax.sweeps import log_uniform, use_all_cores

_TRIALS_OF_OWN, _SEEDS_OF_RECORDED = 24, 16
# Twelve seeds decide any of the quick table's 9 differences: 2 / 2¹² is below 0.05 / 9.
_TRIALS_OF_QUICK, _SEEDS_OF_QUICK = 12, 12
_QUICK_TASKS = ("ridge", "unicode_bn", "spiral_deep")
_QUICK_METHODS = ("sgd", "nesterov", "adam", "muon")


def run(options: Namespace) -> bool:
    """Run the command; return whether every result was written and printed."""
    files = [options.output / f"bench.{suffix}" for suffix in ("json", "png")]
    require_output(options.output, files)
    if options.store is not None:
        require_store(options.store)
    with contextlib.suppress(RuntimeError):  # JAX has started.
        use_all_cores()
    if options.function is None:
        return _run_table(options, files)
    return _run_own(options, files)


def _run_table(options: Namespace, files: list[Path]) -> bool:
    """Run methods of momentax, and print their table."""
    is_quick = options.methods is None and options.tasks is None
    options.seeds = options.seeds or (_SEEDS_OF_QUICK if is_quick else _SEEDS_OF_RECORDED)
    methods = options.methods or _QUICK_METHODS
    if options.against not in methods:
        raise UsageError(f"--against must be one of the methods that run, {', '.join(methods)}")
    result = _run(
        options,
        methods,
        options.tasks or _QUICK_TASKS,
        options.trials or _TRIALS_OF_QUICK,
    )
    table = result.table(options.against)
    is_printed = print_lines(table.note, table=aligned(table.rows, has_best=False))
    return _write(result, files) and is_printed


def _run_own(options: Namespace, files: list[Path]) -> bool:
    """Run a method of one's own, and compare it with another one on each task."""
    if options.methods:
        raise UsageError(
            "--methods and a method of your own exclude each other; --against names the method to "
            "compare it with"
        )
    options.seeds = options.seeds or _SEEDS_OF_RECORDED
    entry = _as_entry(options)
    recorded = None if options.rerun else _recorded(options)
    tasks = options.tasks or (list(bench.tasks) if recorded is None else recorded.tasks)
    try:
        faults = check(entry)
    except TypeError as error:  # It cannot be traced.
        raise UsageError(f"{options.function}: {error}") from error
    searched = (f"{name} {each.low:g} to {each.high:g}" for name, each in entry.space.items())
    print_error(f"{entry.name} searches {', '.join(searched)}")
    for fault in faults:
        print_error(f"warning: {entry.name}: {fault}")
    methods = [entry, options.against] if recorded is None else [entry]
    usual = _TRIALS_OF_OWN if recorded is None else recorded.protocol.trials
    result = _run(options, methods, tasks, options.trials or usual)
    if recorded is not None:
        try:
            other = recorded.select([options.against], result.tasks)
            result = result.join(other, anyway=options.anyway)
        except ValueError as error:  # What could be known was checked before the runs.
            raise UsageError(str(error)) from error
    found = {task: each[entry.name] for task, each in result.compare(options.against).items()}
    rows = _rows(found, result, entry.name, options.against)
    better, worse = (
        sum(each.verdict == verdict for each in found.values()) for verdict in ("better", "worse")
    )
    summary = (
        f"{entry.name} is better than {options.against} on {better}, worse on {worse} and "
        f"undecided on {len(found) - better - worse} of {len(found)} tasks"
    )
    is_printed = print_lines(summary, table=aligned(rows, has_best=False))
    return _write(result, files) and is_printed


def _as_entry(options: Namespace) -> Entry:
    """Return the entry that the argument names: a value of type Entry, or a function."""
    value: Any = import_function("METHOD", options.function, or_a=Entry)
    if isinstance(value, Entry):
        if options.learning_rates is not None:
            raise UsageError(
                f"--learning-rates is for functions; the Entry {options.function} has a space"
            )
        entry = value
    else:
        rates = options.learning_rates
        space = None if rates is None else {"learning_rate": log_uniform(*rates)}
        try:
            entry = Entry.of(value, space=space)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{options.function}: {error}") from error
    if entry.name in bench.entries:
        raise UsageError(
            f"{options.function} has the name of a method of momentax, {entry.name}; give the "
            "function another name"
        )
    try:
        return entry.with_weight_decay() if options.weight_decay else entry
    except TypeError as error:
        raise UsageError(f"{options.function}: {error}") from error


def _recorded(options: Namespace) -> Result:
    """Return the recorded results, unless they cannot be compared with runs of today."""
    try:
        recorded = Result.recorded("decay" if options.weight_decay else "results")
    except FileNotFoundError as error:
        raise UsageError(f"{error}; --rerun runs {options.against} here too") from error
    if options.against not in recorded.methods:
        raise UsageError(f"--against must be one of {', '.join(recorded.methods)}")
    if options.seeds != recorded.protocol.seeds:
        raise UsageError(
            f"--seeds must be {recorded.protocol.seeds}, as in the recorded results, unless "
            f"--rerun runs {options.against} here too; got {options.seeds}"
        )
    if not options.anyway and options.trials not in (None, recorded.protocol.trials):
        raise UsageError(
            f"--trials must be {recorded.protocol.trials}, as in the recorded results, unless "
            f"--rerun runs {options.against} here too; got {options.trials}"
        )
    if missing := [task for task in options.tasks or () if task not in recorded.tasks]:
        raise UsageError(
            f"there are no recorded results on {', '.join(missing)}; --rerun runs "
            f"{options.against} here too"
        )
    faults = [] if options.anyway else recorded.differences_from_installed()
    if faults:
        raise UsageError(
            f"the recorded results were made in another way: {'; '.join(faults)}; --anyway "
            f"compares in spite of that, and --rerun runs {options.against} here too"
        )
    return recorded


def _run(options: Namespace, methods: Any, tasks: Any, trials: int) -> Result:
    def report(task: str, method: str, number: int, count: int) -> None:
        options.interruption.sentence = lambda: _kept(options, number, count)
        print(f"{number + 1} of {count}: {method} on {task}", file=sys.stderr, flush=True)

    try:
        return bench.run(
            methods,
            tasks,
            trials=trials,
            seeds=options.seeds,
            weight_decay=options.weight_decay,
            widen=options.widen,
            store=options.store,
            progress=False,
            report=report,
        )
    except OtherSweepError as error:
        raise UsageError(f"--store {options.store} has runs of other options: {error}") from error
    except ImportError as error:
        raise UsageError(str(error)) from error


def _kept(options: Namespace, number: int, count: int) -> str:
    """Say what an interrupt leaves."""
    if options.store is None:
        return "interrupted; nothing is kept without --store"
    return (
        f"interrupted; {number} of {count} pairs of a method and a task are finished and kept in "
        f"{options.store}; the same command goes on"
    )


def _rows(
    found: Mapping[str, Comparison], result: Result, name: str, against: str
) -> list[list[str]]:
    """Return the rows of the table, its head first."""
    rows = [
        ["task", "verdict", "loss ratio (above 1: better)", "95 % interval", "adjusted p", "note"]
    ]
    for task, each in found.items():
        cell, control = result.cells[task, name], result.cells[task, against]
        low, ratio, high = (10.0**-x for x in (each.high, each.difference, each.low))
        verdict = "undecided" if each.verdict == "not distinguishable" else each.verdict
        notes = [
            f"{', '.join(each.edge)} of {method} at an end of its range"
            for method, each in ((name, cell), (against, control))
            if each.edge
        ]
        if cell.diverged[1]:
            notes.append(f"{cell.diverged[1]} of {len(cell.evaluation)} runs diverged")
        interval = f"{low:.3g} to {high:.3g}"
        note = "; ".join(notes)
        rows.append([task, verdict, f"{ratio:.3g}", interval, f"{each.adjusted:.2g}", note])
    return rows


def _write(result: Result, files: list[Path]) -> bool:
    """Write the files; return whether all were written."""
    json_path, picture_path = files
    written = {
        json_path: succeeds(lambda: result.save(json_path), f"{json_path} was not written"),
        picture_path: succeeds(
            lambda: _draw(result, picture_path), f"{picture_path} was not written"
        ),
    }
    if done := [str(path) for path, is_written in written.items() if is_written]:
        print_lines(f"wrote {' and '.join(done)}")
    return all(written.values())


def _draw(result: Result, path: Path) -> None:
    figure = result.plot().figure.get_figure(root=True)
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=144))
