"""The interactive page, where the package `momentax.explorer` can write it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def exists() -> bool:
    """Return whether this version of momentax has the explorer."""
    return find_spec("momentax.explorer") is not None


def write_page(folder: Path) -> None:
    """Write the page of `momentax explore`, which stands in a frame of the site."""
    if exists():
        raise NotImplementedError(folder)
