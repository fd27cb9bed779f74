"""The checks on 8 devices, in one process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sharding import eight_devices

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def failures():
    """The errors of the checks that failed."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.sharding.eight_devices"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    return json.loads(process.stdout)


@pytest.mark.parametrize("check", eight_devices.CHECKS)
def test_eight_devices(failures, check):
    assert failures.get(check, "") == ""
