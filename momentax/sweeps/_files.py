"""Writing a file completely or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def momentax_version() -> str:
    """Return the version of momentax, without an import of the package, which would be circular."""
    return sys.modules["momentax"].__version__


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears complete at its path, or leave what was there unchanged."""
    target = Path(os.path.realpath(path))  # A link is followed and not replaced.
    temporary = target.with_name(f".{target.name}.tmp")  # A killed process may have left one.
    try:
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        wrong = f"{os.fspath(path)} could not be written: {error.strerror or error}; "
        remedy = "what was there before is unchanged, so make room or choose another path"
        raise OSError(error.errno, wrong + remedy) from error
    if hasattr(os, "O_DIRECTORY"):  # The name is durable once the folder is on the disk too.
        with suppress(OSError):
            folder = os.open(target.parent, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
