"""`momentax explore`: write the page to play with momentum."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from momentax import explorer
from momentax._cli._folders import require_output
from momentax._cli._output import print_lines, succeeds
from momentax._cli._usage import UsageError
from momentax._core.files import write_file


def run(options: Namespace) -> bool:
    """Run the command; return whether the page was written."""
    path = Path(os.path.abspath(options.output))
    if path.is_dir():
        given = options.output
        raise UsageError(
            f"--output must be a file, and {given} is a folder; write {given / 'explore.html'}"
        )
    require_output(path.parent, (path,))
    html = explorer.page().encode()
    if not succeeds(lambda: _write(path, html), f"{options.output} was not written"):
        return False
    return print_lines(f"wrote {options.output}; open it in a browser: {path.as_uri()}")


def _write(path: Path, html: bytes) -> None:
    write_file(path, lambda file: file.write(html))
