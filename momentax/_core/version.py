"""The version of momentax, which files that it writes and reads state."""

from __future__ import annotations

import sys


def momentax_version() -> str:
    """Return the version of momentax, without an import of the package, which would be circular."""
    return sys.modules["momentax"].__version__
