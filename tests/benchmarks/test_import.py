import statistics
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.benchmark


def seconds(module):
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begin


def test_import_time_against_optax():
    pairs = [(seconds("optax"), seconds("momentax")) for _ in range(11)]
    ratio = statistics.median(ours / theirs for theirs, ours in pairs[1:])
    print(f"\nimport momentax / import optax, whole process: {ratio:.2f}")
