"""Fixtures of the tests of the command line."""

import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import pytest

from momentax.__main__ import main


@pytest.fixture(autouse=True)
def _close_and_keep_devices(monkeypatch):
    """Close all figures, and keep the command from starting JAX with other devices."""
    from momentax._cli import _sweep  # It loads Flax, which most folders of tests do not need.

    monkeypatch.setattr(_sweep, "use_all_cores", lambda count=None: jax.device_count())
    yield
    plt.close("all")


class Refused(NamedTuple):
    """How a command ended: its exit status, and what it wrote to both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def refuse(capsys):
    """Run a command that must end early."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        return Refused(exit_.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def sweep(capsys, tmp_path):
    """Run `momentax sweep` on a small grid; return the words of its lines, and its report."""

    def run(*arguments):
        grid = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]
        main(["sweep", *grid, "--output", str(tmp_path), *arguments])
        report = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
        return [line.split() for line in capsys.readouterr().out.splitlines()], report

    return run


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current directory, which holds the modules `mine` and `wrong`."""
    shutil.copy(Path(__file__).parent / "mine.py", tmp_path)
    (tmp_path / "wrong.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path
