"""Make the records that `momentax.bench` compares with, in pieces that can be interrupted.

    python -m tests.benchmarks.bakeoff STAGE --store FOLDER [--part 0/2] [--tasks NAME ...]
    python -m tests.benchmarks.bakeoff write STAGE --store FOLDER

The stages, in this order, each in as many processes as there are cores, one part each:

    reference   Nesterov's momentum tuned at 1/4, 1/2, 1, 2 and 4 times each task's steps
    targets     four methods with 64 trials each; the best decides the target of the task
    results     every entry on every task
    widened     once more, with wider ranges, the entries of `results` and of `reference` whose best
                setting lies at an end of its range on any of the tasks; these must be finished
    constant    every entry on every task, at constant learning rates
    decay       every entry on every task, with a weight decay that is searched too
    repeat      three methods again, with other seeds for tuning and for evaluation
    made_worse  a copy of heavy ball, and three methods that were made worse on purpose
    held_out    every entry on the held-out variants of the tasks, for releases
    costs       the time, memory and gradients of a step, on a machine that does nothing else

The stages after `widened` search the ranges of the recorded results. Run `write results` before
them.

A process that is stopped leaves its finished runs in the store, and the same command goes on.
`write` collects what is finished into momentax/bench/recorded, and keeps what is recorded of other
tasks there. `write results` and `write reference` take the cells of `widened` in place of the first
ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from momentax.bench import Costs, Result, costs, entries, statistics, tasks
from momentax.bench._entry import Entry
from momentax.bench._facts import about, settings, task_hash, versions
from momentax.bench._files import as_cell, write
from momentax.bench._held_out import BASES, held_out
from momentax.bench._protocol import Protocol, measure, widen_at_edges, widened_names
from momentax.bench._space import Space
from momentax.bench._task import Task
from tests.benchmarks.made_worse import made_worse

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
STRONG = ("adam", "nadam", "nesterov", "heavy_ball")
AGAIN = ("heavy_ball", "nesterov", "adam")
RECORDED = Path(__file__).parents[2] / "momentax" / "bench" / "recorded"

# The seeds from 1000 on are those of the table. The reference has as many trials as the entries:
# with half as many, it was tuned so coarsely that every method looked fast.
PROTOCOLS = {
    **{f"reference-{length:g}": Protocol(first_seed=3000, length=length) for length in LENGTHS},
    "targets": Protocol(trials=64, seeds=20, first_seed=2000),
    "results": Protocol(),
    "constant": Protocol(shape="constant"),
    "decay": Protocol(weight_decay=True),
    "repeat": Protocol(first_seed=5000, tuning_seed=4000),
    "made_worse": Protocol(),
    "held_out": Protocol(),
}
WIDENED = ("results", "reference")
AFTER_WIDENED = ("constant", "decay", "repeat", "made_worse", "held_out")
# Cells that do not say so were measured under these settings.
SETTINGS = {"device": "cpu", "numbers": "32 bits", "random keys": "threefry2x32"}


class Piece(NamedTuple):
    """A cell to measure, and where its runs are kept.

    stage: the name of its protocol.
    before: the entry before its ranges were widened; None if they were not.
    """

    stage: str
    task: Task
    entry: Entry
    before: Entry | None = None

    def folder(self, store: Path) -> Path:
        stage = self.stage if self.before is None else f"{self.stage}-widened"
        return store / stage / self.task.name / self.entry.name


def pieces(stage: str, names: list[str]) -> Iterator[Piece]:
    """Yield the cells of a stage, task by task.

    The entries of a stage after `widened` have the ranges of the recorded results.
    """
    methods = {"targets": STRONG, "reference": ("nesterov",), "repeat": AGAIN}
    stages = [name for name in PROTOCOLS if name.startswith(stage)]
    searched = with_recorded_ranges() if stage in AFTER_WIDENED else entries
    if stage == "made_worse":
        searched = made_worse(searched)
    for task in tasks_of(stage, names):
        for protocol in stages:
            for name in methods.get(stage, tuple(searched)):
                decays = PROTOCOLS[protocol].weight_decay
                entry = searched[name].with_weight_decay() if decays else searched[name]
                yield Piece(protocol, task, entry)


def with_recorded_ranges() -> dict[str, Entry]:
    """Return the entries, each in the ranges of the recorded results if it is among them."""
    path = RECORDED / "results.json"
    if not path.exists():
        raise SystemExit(
            f"{path} is missing, and the stages {', '.join(AFTER_WIDENED)} search its ranges; run "
            "the stages results and widened first, and then `write results`"
        )
    spaces = Result.load(path).spaces
    return {
        name: dataclasses.replace(entry, space=spaces[name].ranges) if name in spaces else entry
        for name, entry in entries.items()
    }


def tasks_of(stage: str, names: list[str]) -> list[Task]:
    """Return the tasks of a stage: those with the names, or their variants."""
    if stage != "held_out":
        return [tasks[name] for name in names]
    return [task for name, task in held_out.items() if BASES[name] in names]


def widened_pieces(stage: str, names: list[str], store: Path) -> list[Piece]:
    """Return the cells of a stage that run again with wider ranges, task by task.

    The edges on all tasks and at all lengths count, and the wider space is the same for all.
    """
    first = list(pieces(stage, names))
    found = collect(first, store)
    if missing := unfinished(stage, first, found):
        raise SystemExit(
            f"{missing} of {len(first)} cells of {stage} are not finished, and their edges decide "
            "which ranges are widened; run that stage first"
        )
    cells = {
        (f"{protocol} {task}", entry): as_cell(content["cell"])
        for (protocol, task, entry), content in found.items()
    }
    wider = widen_at_edges({piece.entry.name: piece.entry for piece in first}, cells)
    return [
        piece._replace(entry=wider[piece.entry.name], before=piece.entry)
        for piece in first
        if piece.entry.name in wider
    ]


def unfinished(stage: str, first: list[Piece], found: Mapping[tuple[str, str, str], Any]) -> int:
    """Return how many cells are not known well enough to say which ranges are widened.

    A recorded reference curve without an edge does not need its cells.
    """
    recorded = recorded_reference() if stage == "reference" else {}
    inside = {name for name, line in recorded.items() if not any(line["edges"])}
    names = [(piece.stage, piece.task.name, piece.entry.name) for piece in first]
    return sum(name not in found and name[1] not in inside for name in names)


def run(stage: str, names: list[str], store: Path, part: tuple[int, int]) -> None:
    """Measure every n-th cell of a stage, and keep it."""
    if stage == "widened":
        chosen = [piece for each in WIDENED for piece in widened_pieces(each, names, store)]
    else:
        chosen = list(pieces(stage, names))
    for number, piece in enumerate(chosen):
        path = piece.folder(store) / "cell.json"
        if number % part[1] != part[0] or (path.exists() and is_of_today(path, piece)):
            continue
        start = time.monotonic()
        cell = measure(piece.entry, piece.task, PROTOCOLS[piece.stage], folder=piece.folder(store))
        if piece.before is not None:
            cell = cell._replace(widened=widened_names(piece.before, piece.entry))
        seconds = time.monotonic() - start
        content = {"seconds": seconds, "cell": cell._asdict(), **conditions(piece)}
        path.write_text(json.dumps(content, default=_as_list))
        print(
            f"{time.strftime('%H:%M:%S')} {piece.folder(Path())}: y "
            f"{cell.evaluation.mean():.3f} ± {cell.evaluation.std():.3f}, {seconds:.0f} s, edge "
            f"{cell.edge}, diverged {cell.diverged}",
            flush=True,
        )


def conditions(piece: Piece) -> dict[str, Any]:
    """Return what a cell depends on."""
    return {
        "hash": task_hash(piece.task),
        "protocol": PROTOCOLS[piece.stage]._asdict(),
        "space": {name: repr(each) for name, each in piece.entry.space.items()},
        "default": dict(piece.entry.default),
        "versions": versions(),
        "settings": settings(),
    }


def is_of_today(path: Path, piece: Piece) -> bool:
    """Return whether a finished cell was made by this code."""
    content = {"settings": SETTINGS, **json.loads(path.read_text())}
    if "protocol" in content:  # Fields that are newer than the cell have their defaults.
        content["protocol"] = Protocol(**content["protocol"])._asdict()
    today = conditions(piece)
    return {key: content.get(key) for key in today} == today


def _as_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else list(value)


def measure_costs(names: list[str], store: Path, part: tuple[int, int]) -> None:
    """Measure the costs of all entries on every n-th task, and keep them."""
    for number, name in enumerate(names):
        path = store / "costs" / f"{name}.json"
        if number % part[1] != part[0] or (path.exists() and are_costs_of_today(path, name)):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        costs(None, name).save(path)


def are_costs_of_today(path: Path, name: str) -> bool:
    """Return whether costs were measured of this code."""
    found = Costs.load(path)
    return (found.hashes, found.about["versions"], found.methods) == (
        {name: task_hash(tasks[name])},
        versions(),
        list(entries),
    )


def write_costs(names: list[str], store: Path) -> None:
    """Write the file of the costs from what is finished."""
    cells, hashes, found = {}, {}, about()
    for name in names:
        path = store / "costs" / f"{name}.json"
        if not path.exists():
            continue
        if not are_costs_of_today(path, name):
            raise SystemExit(f"{path} is of another version; run the stage again")
        part = Costs.load(path)
        cells |= part.cells
        hashes |= part.hashes
        found = {**part.about, "hours": round(found["hours"] + part.about["hours"], 3)}
    Costs(cells, found, hashes).save(RECORDED / "costs.json")


def collect(chosen: Iterable[Piece], store: Path) -> dict[tuple[str, str, str], Any]:
    """Return what is finished, by the names of the protocol, the task and the entry."""
    found = {}
    for piece in chosen:
        path = piece.folder(store) / "cell.json"
        if not path.exists():
            continue
        if not is_of_today(path, piece):
            raise SystemExit(f"{path} is of another version; run the stage again")
        found[piece.stage, piece.task.name, piece.entry.name] = json.loads(path.read_text())
    return found


class Finished(NamedTuple):
    """What is finished of a stage.

    contents: the last cell of each protocol, task and entry.
    entries: the entries in the space that was searched last.
    seconds: the time of all cells of each task, with those that others replace.
    """

    contents: dict[tuple[str, str, str], Any]
    entries: dict[str, Entry]
    seconds: Counter[str]


def seconds_by_task(contents: Mapping[tuple[str, str, str], Any]) -> Counter[str]:
    """Return the time of the cells of each task."""
    seconds: Counter[str] = Counter()
    for (_, task, _), content in contents.items():
        seconds[task] += content["seconds"]
    return seconds


def collect_last(stage: str, names: list[str], store: Path) -> Finished:
    """Return what is finished, with wider ranges where all cells of an entry have them."""
    first = list(pieces(stage, names))
    found, searched = collect(first, store), {piece.entry.name: piece.entry for piece in first}
    seconds = seconds_by_task(found)
    if stage in WIDENED and not unfinished(stage, first, found):
        wider = widened_pieces(stage, names, store)
        again = collect(wider, store)
        seconds += seconds_by_task(again)
        missing = {
            piece.entry.name
            for piece in wider
            if (piece.stage, piece.task.name, piece.entry.name) not in again
        }
        if missing:
            print(f"{stage} keeps the first ranges of {', '.join(sorted(missing))}; run widened")
        found |= {key: content for key, content in again.items() if key[2] not in missing}
        searched |= {
            piece.entry.name: piece.entry for piece in wider if piece.entry.name not in missing
        }
    return Finished(found, searched, seconds)


def write_stage(stage: str, names: list[str], store: Path) -> None:
    """Write the file of a stage from what is finished."""
    if stage == "costs":
        write_costs(names, store)
        return
    if stage == "widened":
        for each in WIDENED:
            write_stage(each, names, store)
        return
    if stage in ("reference", "targets"):
        write_reference(names, store)
        return
    finished = collect_last(stage, names, store)
    cells = {
        (task, entry): as_cell(content["cell"])
        for (_, task, entry), content in finished.contents.items()
    }
    named = {task.name: task for task in tasks_of(stage, names)}
    hashes = {task: task_hash(named[task]) for task, _ in cells}
    searched = {name: finished.entries[name] for _, name in cells}
    spaces = {name: Space(each.space, each.default) for name, each in searched.items()}
    result = Result(cells, PROTOCOLS[stage], about_tasks(finished.seconds), hashes, spaces)
    with_recorded(result, RECORDED / f"{stage}.json").save(RECORDED / f"{stage}.json")


def about_tasks(seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return what `about` says, with the hours of each task."""
    hours = {task: round(each / 3600, 3) for task, each in seconds.items()}
    return {**about(sum(hours.values())), "hours of tasks": hours}


def with_recorded(result: Result, path: Path) -> Result:
    """Return a result with the other tasks of a file of results, if these are of today."""
    if not path.exists():
        return result
    before, known = Result.load(path), {**tasks, **held_out}
    same = [name for name, task in known.items() if before.hashes.get(name) == task_hash(task)]
    lost = [key for key in before.cells if key[0] in same and key[0] in result.tasks]
    if lost := [key for key in lost if key not in result.cells]:
        raise SystemExit(
            f"{path} has cells of {', '.join(dict.fromkeys(task for task, _ in lost))} that the "
            "store lacks; finish these tasks, or leave them out by --tasks"
        )
    rest = [name for name in same if name not in result.tasks]
    if not rest:
        return result
    try:
        both = result.join(before.select(tasks=rest))
    except ValueError as error:
        raise SystemExit(f"{path} has other tasks; remove it to begin anew: {error}") from error
    earlier = {task: before.about["hours of tasks"][task] for task in rest}
    seconds = {
        task: 3600 * each for task, each in (earlier | result.about["hours of tasks"]).items()
    }
    ordered = {key: both.cells[key] for task in known for key in both.cells if key[0] == task}
    return dataclasses.replace(both, cells=ordered, about=about_tasks(seconds))


def write_reference(names: list[str], store: Path) -> None:
    """Write the reference curves and targets of the tasks of which all runs are finished.

    What is recorded already of these versions of the packages and of the tasks stays, unless the
    store replaces it.
    """
    lines = recorded_reference()
    reference, strong = (
        collect_last("reference", names, store),
        collect(pieces("targets", names), store),
    )
    target_seconds = seconds_by_task(strong)
    for name in names:
        curve = [
            reference.contents.get((f"reference-{each:g}", name, "nesterov")) for each in LENGTHS
        ]
        rivals = {entry: strong.get(("targets", name, entry)) for entry in STRONG}
        if None not in curve:
            lines[name] = lines.get(name, {}) | curve_of(
                tasks[name], curve, reference.seconds[name]
            )
        if name in lines and None not in rivals.values():
            lines[name] |= target_of(rivals, target_seconds[name])
    hours = sum(line["hours"] + line.get("target hours", 0) for line in lines.values())
    ordered = {name: lines[name] for name in tasks if name in lines}
    write(RECORDED / "reference.json", {"format": 1, "about": about(hours), "tasks": ordered})


def recorded_reference() -> dict[str, Any]:
    """Return the recorded lines of these versions of the packages and of the tasks."""
    path = RECORDED / "reference.json"
    content = json.loads(path.read_text()) if path.exists() else {"about": {}, "tasks": {}}
    if content["about"].get("versions") != versions():
        return {}
    return {
        name: line
        for name, line in content["tasks"].items()
        if name in tasks and line["hash"] == task_hash(tasks[name])
    }


def curve_of(task: Task, contents: list[Any], seconds: float) -> dict[str, Any]:
    """Return what the file has of the reference curve of a task."""
    cells = [content["cell"] for content in contents]
    return {
        "hash": task_hash(task),
        "horizons": [round(task.steps * length) for length in LENGTHS],
        "scores": [float(np.mean(cell["evaluation"])) for cell in cells],
        "settings": [cell["hyperparameters"] for cell in cells],
        "edges": [cell["edge"] for cell in cells],
        "hours": seconds / 3600,
    }


def target_of(rivals: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return what the file has of the target of a task."""
    scores = {name: np.asarray(each["cell"]["evaluation"]) for name, each in rivals.items()}
    best = min(scores, key=lambda name: float(np.median(scores[name])))
    return {
        "target": float(np.median(scores[best])),
        "sigma": statistics.robust_sd(scores[best]),
        "target method": best,
        "target setting": rivals[best]["cell"]["hyperparameters"],
        "target hours": seconds / 3600,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stages = (
        "reference", "targets", "results", "widened", "constant", "decay", "repeat", "made_worse",
        "held_out", "costs",
    )  # fmt: skip
    parser.add_argument("stage", nargs="+", choices=("write", *stages))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=tuple(tasks), default=list(tasks))
    parser.add_argument("--part", default="0/1", help="which part of how many, from 0")
    options = parser.parse_args()
    first, _, count = options.part.partition("/")
    for stage in options.stage:
        if stage == "write":
            continue
        if options.stage[0] == "write":
            RECORDED.mkdir(exist_ok=True)
            write_stage(stage, options.tasks, options.store)
        elif stage == "costs":
            measure_costs(options.tasks, options.store, (int(first), int(count)))
        else:
            run(stage, options.tasks, options.store, (int(first), int(count)))


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    main()
