"""Writing generated pages."""

from __future__ import annotations

from pathlib import Path


def write(path: Path, text: str | bytes) -> None:
    """Write a file, unless it has this content: Sphinx reads files again that are newer."""
    content = text.encode() if isinstance(text, str) else text
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def remove_others(folder: Path, names: set[str], suffix: str = "") -> None:
    """Remove the files of a folder that were written for an earlier version of momentax."""
    for path in folder.glob(f"*{suffix}"):
        if path.is_file() and path.name not in names:
            path.unlink()
