"""The formulas of *Bytes and messages* are those of compiled programs on 2, 4 and 8 devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import communication
from docs.pages.communication import REPLICATED, SPLIT, SPLIT_ON_CPU, kept, outer
from tests import programs_on_devices

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def programs():
    output = subprocess.run(
        [sys.executable, "-m", programs_on_devices.__name__],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
        timeout=300,
    ).stdout  # fmt: skip
    return json.loads(output)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_send_what_the_formulas_say(programs, devices):
    formulas = {"replicated": REPLICATED, "scattered": SPLIT} | {
        f"outer {code}": outer(code) for code in communication.CODES
    }
    formulas |= {
        name.rpartition(" ")[0]: SPLIT_ON_CPU for name in programs if name.startswith("split")
    }
    for name, scheme in formulas.items():
        found = programs[f"{name} {devices}"]
        assert found["sent"] == pytest.approx(scheme.sent(1, devices), rel=1e-3), name
        assert found["messages"] == scheme.messages(devices), name
        operations = sorted({each.name for each in scheme.operations})
        assert found["operations"] == operations, name


def test_a_reduce_scatter_and_a_gather_send_the_bytes_of_an_all_reduce():
    assert SPLIT.sent(1, 8) == REPLICATED.sent(1, 8)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_keep_what_the_formulas_say(programs, devices):
    assert programs[f"replicated {devices}"]["kept"] == kept(1, 0, "float32", 1)
    for code in communication.CODES:
        if found := programs.get(f"split {code} {devices}"):
            assert found["kept"] == pytest.approx(kept(1, 0, code, 1, devices)), code


def test_sizes_are_written_with_three_digits():
    sizes = (1.0, 999.4, 999.6, 8e9, 7.88e12)
    assert list(map(communication.size, sizes)) == ["1 B", "999 B", "1 kB", "8 GB", "7.88 TB"]


def test_the_tables_are_written(tmp_path):
    communication.write_tables(tmp_path)
    assert (
        "| 10¹² parameters, velocity replicated | 7 TB |"
        in (tmp_path / "communication_sent.md").read_text()
    )
    assert len(list(tmp_path.iterdir())) == 3
