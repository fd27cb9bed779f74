"""How the commands print, write files and put numbers into JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from momentax._cli._arguments import shown


def succeeds(action: Callable[[], Any], failure: str) -> bool:
    """Return whether an action wrote what it should; print a sentence if, say, the disk is full."""
    try:
        action()
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        print_error(f"{failure}: {cause.strerror or cause}")
        return False
    return True


def print_error(text: str) -> None:
    """Print a sentence on stderr."""
    print(f"momentax: {shown(text)}", file=sys.stderr)


def print_lines(*lines: str, table: str = "") -> bool:
    """Return whether the lines were printed; print a sentence on stderr if they were not.

    table: what `aligned` returns, which is printed before the lines.
    """
    text = table + shown("\n".join(lines))
    done = succeeds(lambda: print(text, flush=True), "the table was not printed")
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
