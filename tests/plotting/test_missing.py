"""The message where matplotlib is not installed."""

import importlib
import sys

import pytest

import momentax.plotting


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "momentax.plotting")
    monkeypatch.setattr(momentax, "plotting", None)  # Restored after the import fails.
    with pytest.raises(ModuleNotFoundError, match=r"needs matplotlib; .*'momentax\[plot\]'"):
        importlib.import_module("momentax.plotting")
