"""The changelog's table of renamed names: each new name exists, and no old one does."""

import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
RENAMED = re.findall(r"^\| `(momentax[\w.]*)` \| `(momentax[\w.]*)` \|$", TEXT, re.MULTILINE)


def exists(name):
    """Return whether a dotted name is a module or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return (
            bool(module) and exists(module) and hasattr(importlib.import_module(module), attribute)
        )
    return True


def test_the_table_is_found():
    assert ("momentax.Points", "momentax.sweeps.Points") in RENAMED


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_the_new_name_exists_and_the_old_one_does_not(old, new):
    assert exists(new)
    assert not exists(old)


def test_every_name_of_a_namespace_that_the_changelog_mentions_exists():
    names = re.findall(
        r"`((?:theory|sweeps|storage|plotting|schedules|conventions|states)\.\w+)", TEXT
    )
    old = {"conventions.rescale_velocity"}  # In the column of old calls.
    assert all(exists(f"momentax.{name}") for name in set(names) - old)
