"""The one mechanism by which a namespace loads a name when it is first used.

A namespace lists its exports once, as ordinary imports under `if TYPE_CHECKING:`, where
type checkers and editors read them. `lazy_exports` reads the same lines from the source
and performs each import when the name is first used. Importing the namespace therefore
costs almost nothing, and `dir` lists exactly the exported names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any


def lazy_exports(
    namespace: str,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a namespace, read from its source.

    Args:
        namespace: The namespace's `__name__`.

    Returns:
        `__getattr__` imports an exported name and keeps it in the namespace. `__dir__`
        and `__all__` list the exported names.
    """
    module = sys.modules[namespace]
    origins = _exports(inspect.getsource(module))

    def load(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {namespace!r} has no attribute {name!r}")
        origin = origins[name]
        if origin == namespace:  # `from namespace import name`: name is a submodule.
            value = importlib.import_module(f"{namespace}.{name}")
        else:
            value = getattr(importlib.import_module(origin), name)
        setattr(module, name, value)
        return value

    names = sorted(origins)
    return load, lambda: names, names


def _exports(source: str) -> dict[str, str]:
    """Return the module that each name is imported from under `if TYPE_CHECKING:`."""
    return {
        alias.name: str(statement.module)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def plot(function: str, *args: Any, **options: Any) -> Any:
    """Call a function of `momentax.plotting`, for the `plot` methods of results.

    The rooms of the results cannot import `plotting`, which imports them.
    """
    return getattr(importlib.import_module("momentax.plotting"), function)(*args, **options)
