"""The folders of a command: found to be usable before anything is computed.

Like `_parser` it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from momentax._cli._usage import UsageError


def require_output(folder: Path, files: Sequence[Path]) -> None:
    """Make the folder of --output, and refuse it, or files in it, that could not be written."""
    _require_folder("--output", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused("--output", folder, error) from error
    for path in files:
        if path.is_dir():
            raise UsageError(f"--output {folder} cannot take {path.name}: {path} is a directory")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"--output {folder} cannot take {path.name}: {path} is not writable")


def require_store(folder: Path) -> None:
    """Refuse a folder of --store that could not be made or written."""
    existing = _require_folder("--store", folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _refused("--store", folder, error) from error


def _require_folder(option: str, folder: Path) -> Path:
    """Return the innermost folder of a path that exists."""
    try:
        paths = (folder, *folder.absolute().parents)
        existing = next(path for path in paths if path.exists() or path.is_symlink())
        if not existing.is_dir():
            where = "it" if existing == folder else existing
            raise UsageError(f"{option} {folder} must be a folder, but {where} is a file")
    except OSError as error:  # The name is too long, or its folder may not be read.
        raise _refused(option, folder, error) from error
    return existing


def _refused(option: str, folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{option} {folder} cannot be written to: {error.strerror}; give another folder"
    )
