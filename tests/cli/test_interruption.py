"""An interrupt ends `momentax sweep` at once and keeps what is finished, in real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from momentax.__main__ import main
from momentax._cli import _sweep
from momentax._core.stores import count_kept
from tests.cli.slow import WAITING

GRID = ["sweep", "--learning-rates", "0.1", "0.2", "0.3", "0.4", "--betas", "0.5"]
COMMAND = [*GRID, "--model", "slow:train", "--batch-size", "1", "--devices", "1"]


@pytest.fixture
def start(tmp_path):
    """Start the command in a folder that holds the module `slow`; it ends with the test."""
    shutil.copy(Path(__file__).parent / "slow.py", tmp_path)
    # A shell starts what it runs in the background with interrupts ignored, as would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    processes = []

    def run(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "momentax", *COMMAND, *arguments],
            cwd=tmp_path,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    signal.signal(signal.SIGINT, before)
    for process in processes:
        process.kill()
        process.communicate()


def interrupt(process):
    """Interrupt a process once it waits; return the lines before, and what it writes after."""
    before = []
    for line in process.stderr:
        before.append(line.strip())
        if before[-1] == WAITING:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert out == ""
    return before, err


def test_an_interrupt_keeps_the_finished_points_and_the_same_command_goes_on(start, tmp_path):
    process = start("--output", "out", BLOCK="run")
    before, after = interrupt(process)
    assert before == ["4 runs of slow:train on 1 core, compiling …", WAITING]
    kept = "momentax: interrupted; 2 of 4 points are kept in out; the same command goes on\n"
    assert (process.returncode, after) == (130, kept)

    process = start("--output", "out")
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "4 runs of slow:train on 1 core, compiling …\n")
    assert "2 results were read from an interrupted run in out" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sweep.json", "sweep.png"]
    report = json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))
    losses = np.ravel(report["results"]["loss"])
    np.testing.assert_allclose(losses, [0.6, 0.7, 0.8, 0.9], rtol=1e-6)


def test_an_interrupt_ends_the_command_while_the_main_thread_is_outside_of_python(start):
    process = start("--store", "runs/a", BLOCK="compile")
    _, after = interrupt(process)
    kept = "momentax: interrupted; 0 of 4 points are kept in runs/a; the same command goes on\n"
    assert (process.returncode, after) == (130, kept)


@pytest.fixture
def own(mine, monkeypatch):
    """The arguments of a sweep over a training function in the current directory."""
    return [*GRID, "--model", "mine:descent", "--output", str(mine / "out")]


def test_an_interrupt_that_python_raises_is_reported_in_the_same_way(own, monkeypatch, refuse):
    def sweep(run, points, **how):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(_sweep, "sweep", sweep)
    refused = refuse(*own)
    assert refused.code == 130
    assert "momentax: interrupted; 0 of 4 points are kept in" in refused.err
    assert signal.getsignal(signal.SIGINT) is handler  # As before.
    assert signal.set_wakeup_fd(-1) == -1


def test_a_sweep_that_fails_before_anything_is_finished_leaves_no_folder(own, mine, monkeypatch):
    def sweep(run, points, store, **how):
        store.mkdir()
        raise RuntimeError("not enough sleep")

    monkeypatch.setattr(_sweep, "sweep", sweep)
    with pytest.raises(RuntimeError, match="not enough sleep"):
        main(own)
    assert not list((mine / "out").iterdir())


def test_points_of_another_version_of_the_function_are_not_used(own, mine, monkeypatch, capsys):
    stores, real = [], _sweep.sweep

    def sweep(run, points, store, **how):
        stores.append(store)
        return real(run, points, store=store, **how)

    with monkeypatch.context() as patch:
        patch.setattr(_sweep, "sweep", sweep)
        patch.setattr(_sweep.shutil, "rmtree", lambda *args, **how: None)  # As if interrupted.
        main([*own, "--batch-size", "2"])
    text = (mine / "mine.py").read_text(encoding="utf-8")
    (mine / "mine.py").write_text(text.replace("range(5)", "range(12)"), encoding="utf-8")
    sys.modules.pop("mine", None)
    capsys.readouterr()
    main([*own, "--batch-size", "2"])
    again = capsys.readouterr()
    assert f"kept in {stores[0]} are not used, since they are of another version" in again.err
    assert "were read from" not in again.out
    assert not stores[0].exists()


def test_the_points_of_a_store_are_counted_without_damaged_files_and_later_rungs(tmp_path):
    for name, points in (
        ("batch-00000000-00000002.0", [0, 1, 2]),
        ("batch-00000005-00000005.1", [5]),
        ("batch-rung000-00000000-00000001.2", [0, 1]),
        ("batch-rung001-00000000-00000000.3", [0]),
    ):
        np.savez(tmp_path / f"{name}.npz", points=np.array(points))
    (tmp_path / "batch-00000009-00000009.4.npz").write_bytes(b"damaged")
    assert count_kept(tmp_path) == 6
    assert count_kept(tmp_path / "missing") == 0
