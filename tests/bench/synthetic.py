"""Results of all entries on all tasks that look like recorded ones and were made without a run.

The loss of a trial grows with the distance of its learning rate and its β from the best ones, and
trials beyond a stability edge diverge. A method has a given skill on a task: how many times the
steps the reference would need for the same loss.
"""

from __future__ import annotations

import json

import numpy as np

from momentax.bench import Cell, Protocol, Result, Space, _files, entries, tasks
from momentax.bench._entry import names_at_edge
from momentax.bench._files import as_content
from momentax.bench._held_out import BASES
from tests.benchmarks.made_worse import ORIGINALS

HORIZONS = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
VERSIONS = {"momentax": "1.0", "jax": "0.10.2", "optax": "0.2.8", "numpy": "2.3", "python": "3.11"}
SKILLS = {  # log₂ of the speed-up, before the task's own.
    "sgd": -0.9, "heavy_ball": -0.05, "nesterov": 0.0, "quasi_hyperbolic": -0.1, "aggregated": 0.1,
    "kernel": 0.15, "annealed": 0.2, "restart": -0.6, "lion": -0.3, "signum": -0.5, "adam": 0.5,
    "nadam": 0.6, "adan": 0.5, "muon": 0.9, "schedule_free": -0.5,
}  # fmt: skip
_MISSING = (("names_char", "adan"), ("curves_ae", "muon"))
_BEST_RATE = {"learning_rate": 0.42, "effective_rate": 0.55}  # As a share of the range.


def slope(task):
    """Return by how much the score of the reference falls when its steps are doubled."""
    return 0.1 + 0.05 * list(tasks).index(task)


def reference():
    """Return the file of the reference, as `_files.recorded` reads it."""
    lines = {
        task: {
            "hash": "hash",
            "horizons": (1000 * HORIZONS).tolist(),
            "scores": (-1 - slope(task) * np.log2(HORIZONS)).tolist(),
            "target": -1 - 0.3 * slope(task),
            "sigma": 0.03,
            "target method": "nadam",
        }
        for task in tasks
    }
    return {"format": 1, "about": about(4.0), "tasks": lines}


def about(hours):
    return {
        "versions": dict(VERSIONS),
        "processor": "a processor",
        "devices": "2 cpu",
        "date": "2026-11-30",
        "hours": hours,
    }


def recorded(protocol=None, methods=tuple(SKILLS), on=tuple(tasks), missing=_MISSING, shift=0.0):
    """Return a result of some methods on some tasks.

    shift: what is added to the skill of all methods but the control.
    """
    protocol = Protocol() if protocol is None else protocol
    cells = {
        (task, method): _cell(task, method, protocol, shift)
        for task in on
        for method in methods
        if (task, method) not in missing
    }
    spaces = {method: Space(entries[method].space, entries[method].default) for method in methods}
    return Result(cells, protocol, about(9.0), dict.fromkeys(on, "hash"), spaces)


def _cell(task, method, protocol, shift):
    i, j = list(tasks).index(task), list(SKILLS).index(method)
    rng = np.random.default_rng([i, j, protocol.tuning_seed])
    own = np.random.default_rng([i, j]).normal(scale=0.5) + (method != "nesterov") * shift
    best = -1 - slope(task) * ((SKILLS[method] + own) if method != "nesterov" else 0.0)
    values = entries[method].trials(protocol.trials)
    y, diverged = _trials(method, values, best, slope(task))
    noise = 0.25 * slope(task)
    tuning = np.minimum(y + noise * rng.normal(size=len(y)), 0.0)
    order = np.argsort(tuning, kind="stable")
    finals, again = np.full((2, len(y)), np.nan)
    finals[order[:4]] = (tuning + noise * rng.normal(size=len(y)))[order[:4]]
    again[order[:8]] = (y + noise * rng.normal(size=len(y)))[order[:8]]
    chosen = int(np.nanargmin(finals))
    settings = {name: float(column[chosen]) for name, column in values.items()}
    common = np.random.default_rng([i, protocol.first_seed]).normal(size=protocol.seeds)
    evaluation = y[chosen] + noise * (common + 0.7 * rng.normal(size=protocol.seeds))
    return Cell(
        settings, chosen, tuning, finals, again, evaluation,
        np.full(protocol.seeds, np.nan), np.linspace(0, evaluation.mean(), 41),
        (int(diverged.sum()), 0), names_at_edge(entries[method], settings),
    )  # fmt: skip


def _trials(method, values, best, slope):
    """Return the score of each trial on average over the seeds, and which of them diverged."""
    space = entries[method].space
    shares = {
        name: np.interp(
            column, space[name].quantile(np.linspace(0, 1, 201)), np.linspace(0, 1, 201)
        )
        for name, column in values.items()
    }
    rate = next(name for name in shares if "rate" in name)
    distance = shares[rate] - _BEST_RATE[rate]
    penalty = 40 * distance**2
    for name in shares.keys() - {rate}:
        penalty = penalty + 2 * (shares[name] - 0.6) ** 2
    diverged = shares[rate] > 0.85
    y = best + slope * (penalty - penalty.min())
    return np.where(diverged, 0.0, np.minimum(y, 0.0)), diverged


def read(name, methods=tuple(SKILLS), on=tuple(tasks)):
    """Return the file of a record, as `_files.recorded` does."""
    if name == "reference":
        return reference()
    protocol = {
        "results": Protocol(),
        "constant": Protocol(shape="constant"),
        "decay": Protocol(weight_decay=True),
        "repeat": Protocol(first_seed=5000, tuning_seed=4000),
    }
    if name == "held_out":
        return _as_file(variants(methods, on))
    if name == "made_worse":
        return _as_file(made_worse(on))
    if name not in protocol:
        raise FileNotFoundError(name)
    again = ("heavy_ball", "nesterov", "adam")
    shift = -0.5 if name == "constant" else 0.0
    found = recorded(protocol[name], again if name == "repeat" else methods, on, shift=shift)
    return _as_file(found)


def variants(methods=tuple(SKILLS), on=tuple(tasks)):
    """Return results on the held-out variants of tasks, on which heavy ball fails."""
    base = recorded(methods=methods, on=on, missing=())
    names = {variant: task for variant, task in BASES.items() if task in on}
    cells = {
        (name, method): base.cells[names[name], method] for name in names for method in methods
    }
    for name in names:
        failed = cells[name, "heavy_ball"]
        cells[name, "heavy_ball"] = failed._replace(evaluation=failed.evaluation + 1, edge=[])
    return Result(cells, base.protocol, base.about, dict.fromkeys(names, "hash"), base.spaces)


def made_worse(on=tuple(tasks)):
    """Return results of the methods that were made worse: the copy equals its original."""
    base = recorded(on=on, missing=())
    cells = {
        (task, name): base.cells[task, original]._replace(
            evaluation=base.cells[task, original].evaluation + (not name.startswith("copy")),
            edge=[],
        )
        for task in on
        for name, original in ORIGINALS.items()
    }
    spaces = {name: base.spaces[original] for name, original in ORIGINALS.items()}
    return Result(cells, base.protocol, base.about, base.hashes, spaces)


def _as_file(result):
    content = as_content(result.cells, result.protocol, result.about, result.hashes, result.spaces)
    return json.loads(json.dumps(_files._rounded(content)))
