"""What results depend on besides the methods: versions, the processor, the code of the tasks."""

from __future__ import annotations

import hashlib
import inspect
import io
import platform
import sys
import tokenize
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from momentax._core.version import momentax_version
from momentax.bench import _examples, _layers, _training
from momentax.bench._held_out import BASES
from momentax.bench._task import Task
from momentax.bench._tasks import tasks

COMPARED = ("momentax", "jax", "optax")  # Other versions of these may give other numbers.


def versions() -> dict[str, str]:
    """Return the versions of momentax and of the packages that decide the numbers."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "optax", "numpy")}
    return {"momentax": momentax_version(), **packages, "python": platform.python_version()}


def settings() -> dict[str, str]:
    """Return the kind of device and the settings of JAX that change the numbers of all runs."""
    config: Any = jax.config
    keys = str(config.jax_default_prng_impl)
    if not config.jax_threefry_partitionable:
        keys += " that is not partitionable"
    return {
        "device": jax.default_backend(),
        "numbers": "64 bits" if config.jax_enable_x64 else "32 bits",
        "random keys": keys,
    }


def about(hours: float = 0.0) -> dict[str, Any]:
    """Return the versions, the settings, the processor, the devices and the day.

    Args:
        hours: The time that the runs took.
    """
    return {
        "versions": versions(),
        "settings": settings(),
        "processor": processor(),
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "date": date.today().isoformat(),
        "hours": round(hours, 3),
    }


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Only Linux has this file.
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def task_hash(task: Task) -> str:
    """Return a hash of a task's data and code; comments and docstrings do not change it.

    The checksum stands for the data, and for the code that makes them.
    """
    shared = [_code_of(module) for module in (_examples, _layers, _training)]
    sizes = [task.name, task.checksum, task.batch_size, task.steps, task.infimum, task.floor]
    parts = [_own_code(task), *shared, repr(sizes)]
    if task.name in BASES:  # A variant uses functions of its task.
        parts.append(_own_code(tasks[BASES[task.name]]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _own_code(task: Task) -> str:
    """Return the code of the module that defines a task, or of its functions in a notebook."""
    try:
        return _code_of(sys.modules[task.init.__module__])
    except (OSError, TypeError):  # There is no file.
        functions = (task.load, task.init, task.draw, task.loss, task.score)
        codes = [getattr(each, "__code__", None) for each in functions]
        return repr([code and (code.co_code, code.co_names) for code in codes])


def _code_of(module: Any) -> str:
    """Return the code of a module without comments, docstrings and blanks.

    It is the same on all versions of Python, unlike the syntax tree.
    """
    parts, is_first = [], True
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(module)).readline):
        is_docstring = token.type == tokenize.STRING and is_first
        if token.type != tokenize.COMMENT and not is_docstring:
            parts.append(token.string)
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            is_first = not token.string.strip()  # A new line, or a change of the indentation.
    return "".join("".join(parts).split())
