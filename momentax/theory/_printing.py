"""Print the records of the theory with plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def format_value(value: Any) -> str:
    """Format a field of a record: numbers to six digits, without NumPy's type names."""
    if value is None or isinstance(value, str | bool | int):
        return repr(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {format_value(each)}' for name, each in value.items())}}}"
    if hasattr(value, "_fields"):
        return repr(value)
    array = np.asarray(value)
    if not array.ndim:
        return f"{array.item():.6g}"
    text = np.array2string(
        array, separator=", ", threshold=16, edgeitems=2, formatter={"float_kind": "{:.6g}".format}
    )
    return " ".join(text.split())


def format_record(record: Any, without: tuple[str, ...] = ()) -> str:
    """Format a NamedTuple as `Name(field=value, ...)`, leaving some fields out."""
    fields = (
        f"{name}={format_value(getattr(record, name))}"
        for name in record._fields
        if name not in without
    )
    return f"{type(record).__name__}({', '.join(fields)})"
