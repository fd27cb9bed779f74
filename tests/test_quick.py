"""The list of quick tests is up to date and covers every folder of tests."""

from pathlib import Path

import pytest

from tests.quick import QUICK

TESTS = Path(__file__).parent
# Folders without quick tests: those of time measurements and of other libraries.
WITHOUT = {"benchmarks", "oracles"}


@pytest.mark.parametrize("entry", QUICK)
def test_every_entry_names_tests_that_exist(entry):
    file, _, name = entry.partition("::")
    path = TESTS / file
    assert path.exists()
    if name:
        assert f"def {name.partition('[')[0]}" in path.read_text(encoding="utf-8")


def test_every_folder_of_tests_has_quick_tests():
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")} - WITHOUT
    assert {entry.partition("/")[0] for entry in QUICK if "/" in entry} >= folders
