"""What the files of sweeps say of the library that wrote them."""

from __future__ import annotations

import sys


def momentax_version() -> str:
    """Return the version of momentax, without an import of the package, which would be circular."""
    return sys.modules["momentax"].__version__
