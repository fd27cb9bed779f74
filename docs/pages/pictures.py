"""The pictures of a method, made by the library: kernel, frequency response, stability, a run."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import momentax
from docs.pages import ROOT
from docs.pages.facts import Facts
from momentax import plotting, theory

_PIXELS = 1400  # The width of a picture, twice that of the page's column.
_RAVINE = 20.0  # κ of the runs; the path in a narrower ravine is a line.
_CURVATURES = (1.0, 100.0)  # μ and L of the maps.
_STEPS = 60


def write_pictures(folder: Path, facts: dict[str, Facts]) -> dict[str, list[str]]:
    """Draw the pictures of each method that changed since the last call, on all cores.

    Returns:
        The names of the pictures of each method; the files are `METHOD_PICTURE.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: _key(fact) for name, fact in facts.items()}
    old = [name for name, key in keys.items() if not _known(folder, name, key)]
    if old:
        workers = min(os.cpu_count() or 1, len(old))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            changed = [facts[name] for name in old]
            for name, drawn in zip(old, pool.map(partial(_write, folder), changed), strict=True):
                text = "\n".join([keys[name], *drawn])
                (folder / f"{name}.key").write_text(text, encoding="utf-8")
    lines = {name: (folder / f"{name}.key").read_text(encoding="utf-8").split() for name in facts}
    return {name: found[1:] for name, found in lines.items()}


def _known(folder: Path, name: str, key: str) -> bool:
    path = folder / f"{name}.key"
    return path.exists() and path.read_text(encoding="utf-8").split()[0] == key


def _key(fact: Facts) -> str:
    """Return what the pictures depend on: the code of momentax and of this file, and the facts."""
    drawn = (fact.title, fact.arguments, fact.family, fact.learning_rate)
    return hashlib.sha256(f"{_code()} {drawn}".encode()).hexdigest()


@cache
def _code() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted((ROOT / "momentax").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(folder: Path, fact: Facts) -> list[str]:
    """Draw and save the pictures of one method, and return their names."""
    mpl.use("agg")
    jax.config.update("jax_disable_most_optimizations", True)  # Each program runs once.
    tx = fact.transformation()
    space = _read(tx)
    drawn = _run(fact, tx) if space is None else _linear_pictures(fact, space)
    for name, figure in drawn.items():
        path = folder / f"{fact.name}_{name}.png"
        figure.savefig(path, dpi=_PIXELS / figure.get_figwidth(), facecolor="white")
    plt.close("all")
    return list(drawn)


def _read(tx: Any) -> theory.StateSpace | None:
    """Return the linear system of a method; None if it is not linear."""
    try:
        return theory.state_space(tx)
    except ValueError:
        return None


def _linear_pictures(fact: Facts, space: theory.StateSpace) -> dict[str, Figure]:
    with mpl.rc_context({"figure.dpi": 72}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    plotting.kernel(space, ax=left)
    plotting.frequency_response(space, ax=right)
    return {"memory": figure} | _stability(fact, space)


def _stability(fact: Facts, space: theory.StateSpace) -> dict[str, Figure]:
    """Draw the map of a family in β; for another method the factors along each curvature."""
    if family := fact.method_of_beta():
        try:
            return {"map": plotting.spectral_map(*_CURVATURES, family).figure}
        except ValueError:  # Its first step is not as the others are: it has no map.
            plt.close()
    return {"factors": _factors(space).figure}


def _factors(space: theory.StateSpace) -> Any:
    """Draw the factor per step along each curvature at a third of the largest learning rate."""
    descent = theory.StateSpace(space.A, space.B, -space.C)  # With the learning rate 1.
    α = theory.sharpness_limit(descent) / _CURVATURES[1] / 3
    slower = theory.StateSpace(space.A, space.B * α, -space.C)
    return plotting.analysis(theory.analyze(slower, *_CURVATURES))


def _run(fact: Facts, tx: Any) -> dict[str, Figure]:
    """Draw a run in a ravine beside plain descent, if docs/methods.toml has a learning rate."""
    if fact.learning_rate is None:
        return {}
    ravine = momentax.problems.ravine(_RAVINE)
    best = 2 / float(sum(ravine.curvatures))
    optimizers = {
        f"{fact.title}, α = {fact.learning_rate:g}": momentax.sgd(fact.learning_rate, tx),
        f"plain descent, α = {best:.3g}": momentax.sgd(best, momentax.heavy_ball(0.0)),
    }
    record = ("loss", "params")
    runs = {
        name: momentax.rollout(ravine.loss, ravine.start, each, _STEPS, record=record)
        for name, each in optimizers.items()
    }
    return {"run": plotting.trajectory(runs, ravine.loss, minimizer=ravine.minimum).figure}
