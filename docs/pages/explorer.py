"""The interactive page of `momentax explore`, which a page of the site shows in a frame."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from docs.pages.files import write


def exists() -> bool:
    """Return whether this version of momentax has the explorer."""
    return find_spec("momentax.explorer") is not None


def write_page(folder: Path) -> None:
    """Write the page as one file, which Sphinx copies to the top of the site."""
    folder.mkdir(parents=True, exist_ok=True)
    if exists():
        from momentax import explorer

        write(folder / "explore.html", explorer.page())
