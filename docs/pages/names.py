"""The public names of momentax: where each one is exported, and where its page is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import momentax


class Name(NamedTuple):
    """A public function or class.

    full: its name with the namespace, such as "momentax.theory.rate".
    value: the function or class.
    aliases: the other public names of the same value.
    """

    full: str
    value: Any
    aliases: tuple[str, ...] = ()


@cache
def namespaces() -> dict[str, ModuleType]:
    """Return the modules that export public names, by their name, `momentax` itself first."""
    return {"momentax": momentax} | _inside("momentax", momentax)


def _inside(namespace: str, module: ModuleType) -> dict[str, ModuleType]:
    """Return the namespaces inside of a namespace, each before those inside of it."""
    found: dict[str, ModuleType] = {}
    for name in module.__all__:
        if inspect.ismodule(value := getattr(module, name)):
            full = f"{namespace}.{name}"
            found |= {full: value} | _inside(full, value)
    return found


@cache
def public_names() -> dict[str, Name]:
    """Return every public function and class once, by the first name that exports it."""
    found: dict[str, Name] = {}
    first: dict[Any, str] = {}
    for namespace, module in namespaces().items():
        for name in module.__all__:
            value, full = getattr(module, name), f"{namespace}.{name}"
            if inspect.ismodule(value):
                continue
            if isinstance(value, Mapping):  # It has the page of its items' class: `bench.tasks`.
                value = type(next(iter(value.values())))
            if value in first:
                known = found[first[value]]
                found[known.full] = known._replace(aliases=(*known.aliases, full))
            else:
                first[value] = full
                found[full] = Name(full, value)
    return found


@cache
def _links() -> dict[str, str]:
    """Return the name of the page of each name, however a docstring may write it."""
    links = {}
    for name in public_names().values():
        for full in (name.full, *name.aliases):
            links[full] = name.full
            links[full.removeprefix("momentax.")] = name.full
    return links


def resolve(text: str, namespace: str = "momentax") -> str | None:
    """Return the full public name that a piece of code in a docstring means, or None.

    Calls such as `nesterov(0.9)` mean their function. Inside of a namespace its names may be
    written without it.
    """
    name = text.partition("(")[0].strip()
    links = _links()
    return links.get(f"{namespace}.{name}") or links.get(name)


def namespace_of(full: str) -> str:
    """Return the namespace of a full name."""
    return full.rpartition(".")[0]
