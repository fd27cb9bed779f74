"""Two processes that sweep together get the results, files and errors of one."""

import contextlib
import json
import re
import socket
import time

import pytest

from momentax import sweep
from tests.sweeps import two_processes
from tests.sweeps.processes import start_module


def start_both(folder, task):
    """Start both processes of a task."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as opened:
        errors = [opened.enter_context(open(folder / f"errors {rank}", "w")) for rank in (0, 1)]
        return [
            start_module(
                *("two_processes", rank, port, folder, task),
                stdout=errors[rank],
                stderr=errors[rank],
            )
            for rank in (0, 1)
        ]


@contextlib.contextmanager
def kill_at_the_end(processes):
    """End both processes, also after a failure."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of two processes, and what each found after two others had been killed."""
    folder = tmp_path_factory.mktemp("processes")
    store, processes = folder / "interrupted", start_both(folder, "interrupted")
    with kill_at_the_end(processes):
        while len(list(store.glob("batch-*.npz"))) < 3 and processes[0].poll() is None:
            time.sleep(0.01)
    assert not (folder / "interrupted 0").exists()  # The sweep had not finished.
    processes = start_both(folder, "together")
    with kill_at_the_end(processes):
        for rank, process in enumerate(processes):
            code = process.wait(timeout=600)
            assert code == 0, (folder / f"errors {rank}").read_text()
    return folder, [json.loads((folder / f"together {rank}").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of this process, and what it finds alone."""
    folder = tmp_path_factory.mktemp("alone")
    options = {"batch_size": 2 * two_processes.EACH, "store": folder / "sweep"}
    result = sweep(two_processes.run, two_processes.POINTS, **options)
    halved = two_processes.halve_racers(folder / "halving")
    return folder, two_processes.content(result), two_processes.content(halved)


def test_two_processes_get_the_result_of_one(together, alone):
    for found in together[1]:
        for name in ("sweep", "with store", "again"):
            assert found[name] == alone[1]
        assert found["report of again"] == {"resumed": len(two_processes.POINTS), "devices": 2}
        assert found["auto"] == {"resumed": 0, "devices": 2}


def test_two_processes_halve_as_one_does(together, alone):
    for found in together[1]:
        for name in ("halved", "halved with store", "halved again"):
            assert found[name] == alone[2]
        assert found["report of halved again"]["resumed"] > len(two_processes.RACERS)


def test_the_store_of_two_processes_equals_that_of_one(together, alone):
    for name in ("sweep", "halving"):
        ours, theirs = (
            {path.name: path.read_bytes() for path in (folder / name).iterdir()}
            for folder in (together[0], alone[0])
        )
        assert ours == theirs


def test_a_failure_in_one_process_raises_in_both(together):
    first, second = (found["errors"] for found in together[1])
    texts = {
        "file": "FileExistsError: .* there is a file where a folder must be",
        "another": "OtherSweepError: .* belongs to another sweep: its function differs",
        "halving": "OtherSweepError: .* started by sweep and is given to halve",
    }
    full = "OSError: .* could not be written: No space left on device"
    calls = ("beginning", "choosing", "batch", "halving choosing", "halving batch")
    texts |= dict.fromkeys(calls, full)
    other = "RuntimeError: the first process failed; its error says why"
    assert set(first) == {*texts, "run"}
    for name, text in texts.items():
        assert re.match(text, first[name]), name
        assert second[name] == other, name
    assert first["run"].startswith("RuntimeError: run failed in another process")
    assert "ValueError: only here" in second["run"]


def test_two_killed_processes_continue_from_their_store(together, alone):
    for found in together[1]:
        assert found["continued"] == alone[1]
        assert 12 <= found["report of continued"]["resumed"] < len(two_processes.POINTS)
