"""The identity of a sweep, and descriptions of how two identities differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core import arguments
from momentax._core.stores import CannotKeepError
from momentax._core.version import momentax_version
from momentax.sweeps._axes import describe_value
from momentax.sweeps._points import Points
from momentax.sweeps._run._program import Traced
from momentax.sweeps._run._references import UnknownContentError, digest

FUNCTION_FILE = "function.txt"
_MOST_LINES = 6  # Of a difference between two functions.
_MAKERS = {"rungs": "halve", "space": "search"}  # By an entry that only they write.
# Entries whose differences are described in sentences of their own.
_OWN_SENTENCES = ("points", "data", "references", "batch", "function")


class Identity(NamedTuple):
    """The values that distinguish a sweep from others.

    about: its points, versions, data and settings, as values of JSON.
    function: the jaxprs of its functions.
    """

    about: dict[str, Any]
    function: str


def identify(points: Points, traces: Sequence[Traced], **settings: Any) -> Identity:
    """Return the identity of the sweep with these points, programs and settings."""
    try:
        prints = [trace.fingerprint() for trace in traces]
        codes = [[f"the argument {n}", digest(v)] for n, v in settings.items() if callable(v)]
    except UnknownContentError as error:
        raise CannotKeepError(
            f"store cannot keep this sweep: its functions refer to {error}, and its content "
            "cannot be compared when the sweep continues. Pass what a callback needs as arrays, or "
            "leave store out"
        ) from error
    about = {
        "momentax": momentax_version(),
        "jax": jax.__version__,
        "points": {
            dim: {name: [as_entry(value) for value in values] for name, values in axes.items()}
            for dim, axes in points.dims.items()
        },
        "data": [each.data for each in prints],
        "references": [pair for each in prints for pair in each.references] + codes,
        **{name: as_entry(value) for name, value in settings.items()},
    }
    return Identity(about, "\n\n".join(each.text for each in prints))


def as_entry(value: Any) -> Any:
    """Return a value as a number, list or string of JSON that is the same in every process.

    Numbers keep every digit.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return value
    if isinstance(value, list | int | float | None):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", describe_value(value))


def describe_differences(
    old: dict[str, Any], new: dict[str, Any], old_function: str, new_function: str
) -> list[str]:
    """Describe how the identity of a store, as it was read, differs from a new one."""
    differences = []
    names = [next((f for e, f in _MAKERS.items() if e in each), "sweep") for each in (old, new)]
    if names[0] != names[1]:
        differences.append("it was started by {} and is given to {}".format(*names))
    differences += [
        f"{name} was {old.get(name)!r} and is {new[name]!r}"
        for name in new
        if name not in _OWN_SENTENCES and name in old and old[name] != new[name]
    ]
    differences += _compare_points(old["points"], new["points"])
    # The jaxpr is made from what was compared so far, so it is compared only if that agrees.
    if not differences and old.get("function") != new["function"]:
        differences.append(_compare_text(old_function, new_function))
    if not differences and old.get("data") != new["data"]:
        differences.append("the arrays that its function closes over have changed")
    kept = old.get("references", [])
    if not differences and kept != new["references"]:
        differences.append(_compare_references(kept, new["references"]))
    return differences


def _compare_references(old: Any, new: list[list[str]]) -> str:
    """Describe which Python functions differ, all of them if the store does not tell."""
    kept = old if isinstance(old, list) else []
    changed = dict.fromkeys(name for name, code in new if [name, code] not in kept)
    names = ", ".join(map(arguments.printable, changed)) or "a callback"
    return (
        f"the code of {names} has changed, or something to which it refers, such as a default, a "
        "global or an object"
    )


def _compare_points(old: Any, new: Any) -> list[str]:
    """Describe which axes of the points differ, and the first index at which they do."""
    was = {axis: values for axes in old.values() for axis, values in axes.items()}
    now = {axis: values for axes in new.values() for axis, values in axes.items()}
    if list(was) != list(now):
        return [f"the axes were {list(was)} and are {list(now)}"]
    dims = [{dim: list(axes) for dim, axes in points.items()} for points in (old, new)]
    if list(dims[0].items()) != list(dims[1].items()):
        return [f"the axes of each dimension were {dims[0]} and are {dims[1]}"]
    differences = []
    for axis, values in now.items():
        kept = was[axis]
        if len(kept) != len(values):
            differences.append(f"axis {axis} had {len(kept)} values and has {len(values)}")
        elif kept != values:
            i = next(i for i, (a, b) in enumerate(zip(kept, values, strict=True)) if a != b)
            before, after = _shorten(kept[i], values[i])
            differences.append(f"axis {axis} was {before} and is {after} at index {i}")
    return differences


def _shorten(*values: Any) -> list[str]:
    """Write values in as few digits as float32 needs, if they differ in these."""
    are_floats = all(isinstance(value, float) for value in values)
    short = [str(np.float32(v)) if are_floats else str(v) for v in values]
    return short if len(set(short)) == len(values) else [str(value) for value in values]


def _compare_text(old: str, new: str) -> str:
    """Describe where two jaxprs differ, if possible in more than the names of variables."""
    was, now = old.splitlines(), new.splitlines()
    changes: list[tuple[list[str], list[str]]] = []
    for ignored in (r"\b[a-z]{1,2}\b", r"\b\B"):  # First the variables, then nothing.
        keys = [[re.sub(ignored, "", line) for line in lines] for lines in (was, now)]
        steps = difflib.SequenceMatcher(None, keys[0], keys[1]).get_opcodes()
        changes = [(was[i:k], now[j:m]) for tag, i, k, j, m in steps if tag != "equal"]
        if changes:
            break
    count = sum(max(len(before), len(after)) for before, after in changes)
    lines = [
        f"{sign} {line.strip()}"
        for change in changes
        for sign, part in zip("-+", change, strict=True)
        for line in part[: _MOST_LINES // 2]
    ]
    shown = "\n".join(f"  {arguments.describe(line)[1:-1]}" for line in lines[:_MOST_LINES])
    return (
        f"its function differs, in {count} line{'s' * (count > 1)} of its jaxpr, which is in "
        f"{FUNCTION_FILE}:\n{shown}\n "
    )
