"""The checks of the fields of a result and of costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from momentax._core import arguments
from momentax.bench._protocol import Cell, Protocol
from momentax.bench._space import Space


def require_fields(result: Any) -> None:
    """Refuse a result, of type Result, whose fields have other types or lack an entry."""
    require_record(result, Cell, "run")
    if not isinstance(result.protocol, Protocol):
        raise TypeError(f"protocol must be a Protocol, got {arguments.describe(result.protocol)}")
    if not isinstance(result.spaces, Mapping) or not all(
        isinstance(name, str) and isinstance(each, Space) for name, each in result.spaces.items()
    ):
        raise TypeError(
            "spaces must be a dictionary with the Space of each method, as momentax.bench.run "
            f"makes them, got {arguments.describe(result.spaces)}"
        )


def require_record(record: Any, kind: type, function: str) -> None:
    """Refuse a record of cells whose fields cells, about and hashes have other types.

    Args:
        record: The record, such as a Result.
        kind: The type of its cells.
        function: The name of the function that makes it.
    """
    if not isinstance(record.cells, Mapping) or not all(
        isinstance(key, tuple) and len(key) == 2 and isinstance(each, kind)
        for key, each in record.cells.items()
    ):
        raise TypeError(
            f"cells must map each pair of a task and a method to a {kind.__name__}, as "
            f"momentax.bench.{function} makes them, got {arguments.describe(record.cells)}"
        )
    if not isinstance(record.about, Mapping) or not isinstance(record.about.get("versions"), dict):
        raise TypeError(
            'about must be a dictionary with the entry "versions", a dictionary, got '
            f"{arguments.describe(record.about)}"
        )
    if not isinstance(record.hashes, Mapping) or not {*record.tasks} <= {*record.hashes}:
        raise TypeError(
            "hashes must be a dictionary with the hash of each task, got "
            f"{arguments.describe(record.hashes)}"
        )
