"""What keeps two results from being compared: other versions, tasks or protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from momentax.bench._facts import COMPARED
from momentax.bench._protocol import Protocol
from momentax.bench._space import is_same

_JOINED = ("here", "in the other result")
_PAIRED = ("seeds", "first_seed", "shape", "length", "weight_decay")


def version_differences(
    one: Mapping[str, str], two: Mapping[str, str], places: Sequence[str] = _JOINED
) -> list[str]:
    """Return which versions differ.

    places: where each of the two is, for the sentence.
    """
    return [
        _sentence(name, one.get(name, "unknown"), two.get(name, "unknown"), places)
        for name in COMPARED
        if one.get(name) != two.get(name)
    ]


def setting_differences(
    one: Mapping[str, Any], two: Mapping[str, Any], places: Sequence[str] = _JOINED
) -> list[str]:
    """Return which settings differ that change results as other versions do.

    Args:
        one: What a result says about itself.
        two: The same of another result.
        places: Where each of the two is, for the sentence.
    """
    first, second = (about.get("settings", {}) for about in (one, two))
    return [
        _sentence(name, first.get(name, "unknown"), second.get(name, "unknown"), places)
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def task_differences(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    """Return which tasks that both have differ, by their hashes."""
    return [
        f"the task {name} has other data or other code"
        for name, each in one.items()
        if name in two and two[name] != each
    ]


def protocol_differences(
    one: Protocol,
    two: Protocol,
    names: Sequence[str] = _PAIRED,
    places: Sequence[str] = _JOINED,
) -> list[str]:
    """Return which fields of two protocols differ.

    names: the fields. Without others, those without which runs cannot be paired.
    places: where each of the two is, for the sentence.
    """
    return [
        _sentence(name, getattr(one, name), getattr(two, name), places)
        for name in names
        if getattr(one, name) != getattr(two, name)
    ]


def space_differences(one: Any, two: Any) -> list[str]:
    """Return which methods were searched in other spaces on the tasks that only the second has.

    one, two: results, of type Result.
    """
    added = {method for task, method in two.cells if (task, method) not in one.cells}
    return [
        f"{method} was searched in another space"
        for method, space in one.spaces.items()
        if method in added and method in two.spaces and not is_same(space, two.spaces[method])
    ]


def _sentence(name: str, one: Any, two: Any, places: Sequence[str]) -> str:
    return f"{name}: {one} {places[0]}, {two} {places[1]}"
