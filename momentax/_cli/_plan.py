"""What `momentax sweep` is about to do, as far as its options say so.

Like `_parser` it imports neither JAX nor NumPy, so that a mistake is found, and the plan is said,
within a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from momentax._cli._display import open_display
from momentax._cli._folders import require_output, require_store
from momentax._cli._usage import UsageError
from momentax._core.display import Display
from momentax._core.stores import count_kept
from momentax._core.without_jax import count_cores

# The options on which the results depend.
_IDENTITY = (
    "learning_rates",
    "betas",
    "method",
    "epochs",
    "seed",
    "seeds",
    "model",
    "data",
    "metric",
    "mode",
    "halving",
    "batch_size",
)
_ACCELERATORS = ("jax_plugins", "libtpu")  # The packages that give JAX other devices.


class Plan(NamedTuple):
    """What a sweep is about to do.

    size: the number of points.
    store: the folder that keeps finished points.
    is_own: whether the folder is that of the option --store. Otherwise it lies in the output, and
        is deleted once everything is written.
    rungs: the epochs after which only the best third continues; None without --halving.
    """

    size: int
    store: Path
    is_own: bool
    rungs: list[int] | None

    def sentence(self, options: Namespace) -> str:
        """Say what an interrupt leaves."""
        kept = count_kept(self.store)
        place = self.store if self.is_own else options.output
        return (
            f"interrupted; {kept} of {self.size} points are kept in {place}; the same command "
            "goes on"
        )


def make_plan(options: Namespace) -> Plan:
    """Check what can be checked without JAX, and make the output folder."""
    for name in ("learning_rates", "betas"):
        values = getattr(options, name)
        if len(set(values)) < len(values):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} must not repeat a value, got {' '.join(map(str, values))}")
    rungs = None if options.halving is None else rungs_of(options.halving, options.epochs)
    require_output(options.output, files(options.output))
    count = len(options.learning_rates) * len(options.betas) * options.seeds
    if options.store is None:
        return Plan(count, _unfinished(options), False, rungs)
    require_store(options.store)
    return Plan(count, options.store, True, rungs)


def announce(options: Namespace, plan: Plan) -> Display:
    """Say what is about to run and where."""
    one, many = ("run", "runs") if options.model else ("network", "networks")
    noun = one if plan.size == 1 else many
    what = f"{noun} of {options.model}" if options.model else noun
    return open_display(what, plan.size, _place(options.devices))


def files(folder: Path) -> tuple[Path, Path]:
    """Return the files that the command writes."""
    return folder / "sweep.json", folder / "sweep.png"


def rungs_of(halving: Sequence[int], epochs: int) -> list[int]:
    """Return the epochs after which only the best third continues, the last one included."""
    rungs = list(halving) or sorted({max(1, epochs // 9), max(1, epochs // 3), epochs})
    if rungs[0] < 1 or rungs != sorted(set(rungs)) or rungs[-1] != epochs:
        raise UsageError(
            f"--halving must be growing numbers of epochs that end with --epochs, {epochs}, "
            f"got {' '.join(map(str, rungs))}"
        )
    return rungs


def _unfinished(options: Namespace) -> Path:
    """Return the folder in the output for the finished points of exactly these options."""
    identity = json.dumps([getattr(options, name) for name in _IDENTITY])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return options.output / f"sweep-unfinished-{digest}"


def _place(devices: int | None) -> str:
    """Return where the points run; nothing where only JAX knows."""
    is_cpu = os.environ.get("JAX_PLATFORMS") == "cpu" or not any(map(find_spec, _ACCELERATORS))
    count = count_cores() if devices is None else devices
    if not is_cpu or count > count_cores() or "device_count" in os.environ.get("XLA_FLAGS", ""):
        return ""
    return f" on {count} core{'s' * (count > 1)}"
