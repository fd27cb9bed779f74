"""The checks of the fields of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from momentax._core import arguments
from momentax.bench._protocol import Cell, Protocol
from momentax.bench._space import Space


def require_fields(result: Any) -> None:
    """Refuse a result, of type Result, whose fields have other types or lack an entry."""
    if not isinstance(result.cells, Mapping) or not all(
        isinstance(key, tuple) and len(key) == 2 and isinstance(each, Cell)
        for key, each in result.cells.items()
    ):
        raise TypeError(
            "cells must map each pair of a task and a method to a Cell, as "
            f"momentax.bench.run makes them, got {arguments.describe(result.cells)}"
        )
    if not isinstance(result.protocol, Protocol):
        raise TypeError(f"protocol must be a Protocol, got {arguments.describe(result.protocol)}")
    if not isinstance(result.about, Mapping) or not isinstance(result.about.get("versions"), dict):
        raise TypeError(
            'about must be a dictionary with the entry "versions", a dictionary, got '
            f"{arguments.describe(result.about)}"
        )
    if not isinstance(result.hashes, Mapping) or not {*result.tasks} <= {*result.hashes}:
        raise TypeError(
            "hashes must be a dictionary with the hash of each task, got "
            f"{arguments.describe(result.hashes)}"
        )
    if not isinstance(result.spaces, Mapping) or not all(
        isinstance(name, str) and isinstance(each, Space) for name, each in result.spaces.items()
    ):
        raise TypeError(
            "spaces must be a dictionary with the Space of each method, as momentax.bench.run "
            f"makes them, got {arguments.describe(result.spaces)}"
        )
