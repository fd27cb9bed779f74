"""What keeps two results from being compared: other versions, tasks or protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from momentax.bench._facts import COMPARED
from momentax.bench._protocol import Protocol
from momentax.bench._space import is_same


def version_differences(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    """Return which versions differ."""
    return [
        f"{name} {one.get(name)} against {two.get(name)}"
        for name in COMPARED
        if one.get(name) != two.get(name)
    ]


def setting_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return which settings differ that change results as other versions do.

    Args:
        one: What a result says about itself.
        two: The same of another result.
    """
    first, second = (about.get("settings", {}) for about in (one, two))
    return [
        f"{name} {first.get(name, 'unknown')} against {second.get(name, 'unknown')}"
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


def protocol_differences(one: Protocol, two: Protocol) -> list[str]:
    """Return why runs cannot be paired; the numbers of trials may differ."""
    return [
        f"{name} {getattr(one, name)} against {getattr(two, name)}"
        for name in ("seeds", "first_seed", "shape", "length", "weight_decay")
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
