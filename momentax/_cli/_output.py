"""How the commands print, write files and put numbers into JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def succeeds(action: Callable[[], Any], failure: str) -> bool:
    """Return whether an action wrote what it should; print a sentence if, say, the disk is full."""
    try:
        action()
    except OSError as error:
        print(f"momentax: {failure}: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def print_lines(*lines: str) -> bool:
    """Return whether the lines were printed; print a sentence on stderr if they were not."""
    done = succeeds(lambda: print(*lines, sep="\n", flush=True), "the table was not printed")
    if not done:  # Python flushes the output once more when it exits, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return done


def as_json(value: Any) -> Any:
    """Convert a result to what JSON can hold.

    Arrays become lists and records dictionaries. A number that is not finite becomes None.
    Others get the fewest digits that identify them in their own dtype, as 0.9 in float32
    instead of 0.8999999761581421.
    """
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "_asdict"):
        return {name: as_json(part) for name, part in value._asdict().items()}
    if np.ndim(value):
        return [as_json(part) for part in value]
    number = np.asarray(value)[()]
    if not np.isfinite(number):
        return None
    return float(str(number)) if isinstance(number, np.floating) else number.item()
