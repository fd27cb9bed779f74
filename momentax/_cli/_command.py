"""What the commands share: the methods by name, and how they print and write."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import momentax

METHODS = {
    method.__name__: method
    for method in (
        momentax.heavy_ball,
        momentax.nesterov,
        momentax.average,
        momentax.quasi_hyperbolic,
    )
}


class Mistake(Exception):  # noqa: N818 - It is the user's, and no fault of the program.
    """What is wrong in the arguments, as a sentence."""


def attempted(act: Callable[[], Any], failure: str) -> bool:
    """Whether what a full disk or the like can stop was done; if not, a sentence says so."""
    try:
        act()
    except OSError as error:
        print(f"momentax: {failure}: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def printed(*lines: str) -> bool:
    """Whether the lines were printed; if not, a sentence says so."""
    done = attempted(lambda: print(*lines, sep="\n", flush=True), "the table was not printed")
    if not done:  # Or Python would fail to flush it once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return done


def plain(value: Any) -> Any:
    """A result as JSON takes it, each number as short as it is, 0.9 and not 0.8999999761581421.

    Arrays become lists, records dictionaries, and what is not finite None.
    """
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if np.ndim(value):
        return [plain(part) for part in value]
    number = np.asarray(value)[()]
    if not np.isfinite(number):
        return None
    return float(str(number)) if isinstance(number, np.floating) else number.item()
