"""Sweeps that are killed, that fill the disk, or that run again in another process."""

import json
import os
import re
import subprocess

import pytest

from momentax.sweeps import Points
from tests.sweeps import forks
from tests.sweeps.processes import ENVIRONMENT, start_module


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The folder of the forks, and what each check found."""
    folder = tmp_path_factory.mktemp("forks")
    environment = ENVIRONMENT | {"PYTHONHASHSEED": "1", "JAX_PLATFORMS": "cpu"}
    process = start_module(
        "forks",
        folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # So that the forks too can be ended.
    )
    try:
        printed, _ = process.communicate(timeout=1200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
    return folder, json.loads(printed.splitlines()[-1])  # Other processes print above.


@pytest.mark.parametrize("kind", forks.KILLS)
def test_a_killed_sweep_computes_nothing_finished_again_and_gives_the_same_bytes(outcomes, kind):
    folder, found = outcomes
    kills, folder = forks.KILLS[kind], folder / kind
    assert found[f"{kind} killed"]["status"] == found[f"{kind} whole"]["status"] == 0
    attempts, whole = (found[f"{kind} {name}"]["attempts"] for name in ("killed", "whole"))
    assert len(attempts) == kills + 1  # No attempt ended before it was killed.
    assert len(whole) == 1
    for name in ("killed", "whole"):
        assert not list((folder / name / "store").glob("*.tmp"))
    ours, theirs = (
        {p.name: p.read_bytes() for p in (folder / name / "store").iterdir()}
        for name in ("killed", "whole")
    )
    assert ours == theirs
    ours, theirs = ((folder / name / "result").read_bytes() for name in ("killed", "whole"))
    assert ours == theirs
    # Some attempts were killed while a file was being written, and some had finished batches.
    assert any(attempt["half written"] for attempt in attempts)
    assert all(attempt["before"] for attempt in attempts[-kills // 2 :])
    # The number of finished batches never falls.
    finished = [len(attempt["before"]) for attempt in attempts]
    assert finished == sorted(finished)
    if kind == "sweep":
        require_nothing_computed_twice(attempts, forks.POINTS)
        report = json.loads((folder / "killed" / "report").read_text())
        assert report["resumed"] == 4 * finished[-1]  # Each batch is 4 points.
    else:  # The advances between a batch's rung and the rung before are computed once.
        computed = len(attempts[-1]["computed"])
        assert computed < len(whole[0]["computed"])
        left = {p.name for p in (folder / "whole" / "store").glob("batch-*.npz")}
        left -= set(attempts[-1]["before"])
        steps = {"000": 1, "001": 1, "002": 2}
        assert computed == sum(4 * steps[name[10:13]] for name in left)


def require_nothing_computed_twice(attempts, points: Points):
    """Check that no attempt computed a point of a batch that was finished before it."""
    for attempt in attempts:
        finished = [points[i] for indices in attempt["before"].values() for i in indices]
        done = {
            f"{point['learning_rate']} {point['seed']} {int(point['method'] == 'nesterov')}"
            for point in finished
        }
        assert done.isdisjoint(attempt["computed"])


@pytest.mark.parametrize("case", range(len(forks.CORES)))
def test_each_core_becomes_a_device_before_jax_starts(outcomes, case):
    folder, found = outcomes
    count, flag = forks.CORES[case]
    assert found["cores"][case] == 0
    first, second, third = json.loads((folder / f"cores {case}").read_text())
    wanted = count or len(os.sched_getaffinity(0))
    if flag and wanted != int(flag):  # The flag of XLA decides, and the error says so.
        for message in (first, second):
            assert f"JAX has started with {flag} CPU devices, and {wanted} were req" in message
        return
    assert first == second == f"{wanted} {wanted}"
    assert re.match(
        f"JAX has started with {wanted} CPU devices?, and 9 were requested; call", third
    )


@pytest.mark.parametrize("number", range(forks.ROUNDS))
def test_of_processes_that_start_one_store_together_each_ends_or_is_told_who_has_it(
    outcomes, number
):
    folder, found = outcomes
    assert found["together"][number] == [0] * forks.TOGETHER
    folder /= f"together {number}"
    ended = [json.loads((folder / f"outcome {i}").read_text()) for i in range(forks.TOGETHER)]
    assert 45.0 in ended
    told = [outcome for outcome in ended if outcome != 45.0]
    for text in told:
        assert re.match(r"BlockingIOError .*store is in use by (process \d+ on|another proc)", text)
        assert "wait until it has finished, and the same call reads its results" in text
    names = os.listdir(folder / "store")
    assert sorted(name for name in names if not name.startswith("batch-")) == [
        "about.json",
        "function.txt",
    ]
    assert len(names) == 2 + 6


def test_a_file_that_the_system_cuts_off_is_not_kept(outcomes):
    folder, found = outcomes
    assert found["file size limit"] == 0
    error, total = json.loads((folder / "limit").read_text())
    assert re.search(r"^OSError .*could not be written: File too large", error)
    assert total == 2500.0


def test_a_function_is_recognized_in_another_process(outcomes):
    folder, found = outcomes
    assert found["fingerprint"] == 0
    environment = ENVIRONMENT | {"PYTHONHASHSEED": "2"}
    process = start_module("forks", folder, "sweep_everything", env=environment)
    assert process.wait(timeout=600) == 0
    resumed = [int((folder / f"resumed {seed}").read_text()) for seed in (1, 2)]
    assert resumed == [0, 4]
