"""Running a module of the tests in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def start_module(name, *arguments, **options):
    """Start a module of this folder, from the repository."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.sweeps.{name}", *map(str, arguments)],
        cwd=ROOT,
        **{"env": ENVIRONMENT} | options,
    )
