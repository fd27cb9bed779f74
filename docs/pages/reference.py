"""The pages of *Reference*: one for each namespace, which autosummary follows to each name."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

from docs.pages.files import write
from docs.pages.names import Name, namespace_of, namespaces, public_names

# The names at the top, by the room that they come from, in the order of the page.
_GROUPS = {
    "_sgd": "Optimizers",
    "_methods": "Methods",
    "_wrappers": "Wrappers",
    "_training": "Training",
    "_state": "Reading and changing a state",
}


def write_pages(folder: Path) -> None:
    """Write the pages of all namespaces, and the list of them."""
    names = list(namespaces())
    write(folder / "index.md", _index(names))
    for namespace in names:
        write(folder / f"{namespace}.rst", _namespace(namespace))


def _index(names: list[str]) -> str:
    rows = [f"- [`{name}`]({name}.rst): {_about(name)}" for name in names]
    # The sidebar is too narrow for the full names.
    entries = [f"{name.removeprefix('momentax.')} <{name}>" for name in names]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *entries, "```"])
    return f"# Reference\n\n{_INTRODUCTION}\n\n" + "\n".join(rows) + f"\n\n{toctree}\n"


_INTRODUCTION = """Every public name has one page here. The page of a function has its equation, its
arguments and their intervals, its errors, an example that the tests run, and its source. That of a
record or of a state describes the fields. The same text is in `help()`."""


def _about(namespace: str) -> str:
    """Return the first sentence of a namespace's docstring."""
    doc = inspect.getdoc(namespaces()[namespace]) or ""
    return " ".join(doc.split("\n\n")[0].split())


def _namespace(namespace: str) -> str:
    about = _about(namespace).replace("`", "``")
    lines = [namespace, "=" * len(namespace), "", about, "", f".. currentmodule:: {namespace}", ""]
    for title, names in _groups(namespace).items():
        if title:
            lines += [title, "-" * len(title), ""]
        lines += [".. autosummary::", "   :toctree: .", "   :nosignatures:", ""]
        lines += [f"   {name.full.removeprefix(f'{namespace}.')}" for name in names] + [""]
    if others := _others(namespace):
        lines += ["Also exported here", "-" * 18, ""]
        lines += [f"- :py:obj:`{alias} <{full}>`" for alias, full in others] + [""]
    return "\n".join(lines)


def _groups(namespace: str) -> dict[str, list[Name]]:
    """Return the names of a namespace by the title above them."""
    groups: dict[str, list[Name]] = {}
    if namespace == "momentax":
        groups = {title: [] for title in _GROUPS.values()}
    for name in public_names().values():
        if namespace_of(name.full) != namespace:
            continue
        title = "Classes" if inspect.isclass(name.value) else ""
        if namespace == "momentax":
            room = name.value.__module__.split(".")[1]
            title = _GROUPS.get(room, "Measurements, storage and sweeps")
        groups.setdefault(title, []).append(name)
    functions = groups.pop("", [])
    return {k: v for k, v in ({"": functions} | groups).items() if v}


def _others(namespace: str) -> list[tuple[str, str]]:
    """Return the names that have their page elsewhere, as pairs of this name and that one."""
    return [
        (alias, name.full)
        for name in public_names().values()
        for alias in name.aliases
        if namespace_of(alias) == namespace
    ]


def file_names() -> dict[str, str]:
    """Return another file name for each class whose name differs from a function's in case only.

    Two such files would be one on systems that do not distinguish case.
    """
    lower = Counter(full.lower() for full in public_names())
    return {
        full: f"{full}-class"
        for full, name in public_names().items()
        if lower[full.lower()] > 1 and inspect.isclass(name.value)
    }


def show_defaults(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str
) -> tuple[str, str] | None:  # The signature of Sphinx's event autodoc-process-signature.
    """Write the values of defaults that the source has as constants, which readers do not know."""
    del app, what, name, options
    if not signature:  # A property has none.
        return None
    constants = getattr(inspect.unwrap(value), "__globals__", {}) if callable(value) else {}

    def shown(found: re.Match[str]) -> str:
        default = constants.get(found[1], found[1])
        return f"={default:.6g}" if isinstance(default, float) else f"={default}"

    return re.sub(r"=(_?[A-Z][A-Z_]*)\b", shown, signature), returned


def skip_member(
    app: Any, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:  # The signature of Sphinx's event autodoc-skip-member.
    """Leave out the fields of records, which their docstrings describe, and inherited members.

    A member that a class defines anew without a docstring has that of its base.
    """
    del app, what, skip, options
    if name.startswith("_"):
        return True
    doc = inspect.getdoc(value)
    value = value.fget if isinstance(value, property) else value
    module = getattr(getattr(value, "__func__", value), "__module__", None) or ""
    return None if module.startswith("momentax") and doc else True
