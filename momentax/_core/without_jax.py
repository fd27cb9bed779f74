"""Small functions that need no JAX, so that the command line can use them at once."""

from __future__ import annotations

import operator
import os
from typing import Any


def is_within(interval: str, value: Any) -> Any:
    """Return whether a number, or each entry of an array, lies in an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    above = operator.ge if interval[0] == "[" else operator.gt
    below = operator.le if interval[-1] == "]" else operator.lt
    return above(value, low) & below(value, high)


def printable(text: str) -> str:
    """Return text for a terminal: control characters are written as escapes, and not sent."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1
