"""What the command line must know of the stores of sweeps, of which `sweeps` has the rest.

It imports no JAX, so that the command line can use it at once.
"""

from __future__ import annotations

import re
import zipfile
from contextlib import suppress
from pathlib import Path


class OtherSweepError(ValueError):
    """The results in a store belong to another sweep."""


class CannotKeepError(ValueError):
    """The functions of a sweep refer to something whose content a store cannot compare."""


def count_kept(folder: Path) -> int:
    """Return the number of points that a store has results of; of a halving, on its first rung.

    Each file of a batch has an array of the points' indices, and its header has their number.
    """
    count = 0
    for pattern in ("batch-[0-9]*.npz", "batch-rung000-*.npz"):
        for path in folder.glob(pattern):
            # A file that another process replaces or that is damaged is not counted.
            with suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(path) as file:
                header = file.read("points.npy")[:256]
                if found := re.search(rb"'shape': \((\d+),", header):
                    count += int(found[1])
    return count
