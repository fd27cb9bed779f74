"""`momentax explore`: write the page to play with momentum."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from momentax import explorer
from momentax._cli._output import print_lines, succeeds
from momentax._cli._usage import UsageError
from momentax._core.files import write_file


def run(options: Namespace) -> bool:
    """Run the command; return whether the page was written."""
    path = Path(os.path.abspath(options.output))
    _require_writable(path, options.output)
    html = explorer.page().encode()
    if not succeeds(lambda: _write(path, html), f"{options.output} was not written"):
        return False
    return print_lines(f"wrote {options.output}; open it in a browser: {path.as_uri()}")


def _write(path: Path, html: bytes) -> None:
    write_file(path, lambda file: file.write(html))


def _require_writable(path: Path, given: Path) -> None:
    """Refuse a path at which no file can be written, and make the folder of the file."""
    if path.is_dir():
        raise UsageError(
            f"--output must be a file, and {given} is a folder; write {given / 'explore.html'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"the folder of --output, {given.parent}, could not be made: {reason}; choose another"
        ) from error
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(
                f"--output cannot be {given}, since {place} is not writable; choose another file"
            )
