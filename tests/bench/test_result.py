"""The result of a comparison: verdicts, tables, files, and what may be joined."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from momentax.bench import Protocol, Result, _facts, _files, held_out, tasks
from momentax.bench import _reference as reference
from tests.bench import tiny
from tests.bench.results import cell, result

CURVE = {"horizons": [10, 20, 40, 80, 160], "scores": [-1.0, -1.5, -2.0, -2.5, -3.0]}


@pytest.fixture(autouse=True)
def curve(monkeypatch):
    lines = {"tiny": {**CURVE, "hash": "hash", "target": -2.1, "sigma": 0.1, "target method": "a"}}
    monkeypatch.setattr(_files, "recorded", lambda name: {"tasks": lines})


def test_speed_ups_are_those_of_the_reference_curve():
    found = result(nesterov=-2.0, fast=-2.5, slow=-1.5, faster=-9.0, widest=cell(-3, ["beta"]))
    S = found.speed_ups
    np.testing.assert_allclose(S.values[:4, 0], [1, 2, 0.5, 4], rtol=0.02)
    assert S.beyond[:, 0].tolist() == [0, 0, 0, 1, 0]
    assert found.curves["tiny"].speed_up(-2.5) == pytest.approx(S.values[1, 0])
    assert np.isnan(S.values[4, 0])


def test_verdicts_are_paired_by_seed():
    same = result(nesterov=-2.0, better=-2.2, worse=-1.8, same=cell(-2.0)).compare()["tiny"]
    assert {name: each.verdict for name, each in same.items()} == {
        "better": "better",
        "worse": "worse",
        "same": "not distinguishable",
    }
    assert same["better"].difference == pytest.approx(-0.2, abs=0.02)
    assert same["same"].p_value == 1


def test_a_setting_at_the_end_of_its_range_decides_nothing_against_a_method():
    """A wider range might have made the control better, or the worse method."""
    edge = result(nesterov=cell(-2.0, ["beta"]), better=-2.2, worse=-1.8).compare()["tiny"]
    assert edge["better"].verdict == "not distinguishable"
    assert edge["worse"].verdict == "worse"
    own = result(nesterov=-2.0, better=cell(-2.2, ["beta"]), worse=cell(-1.8, ["beta"]))
    assert own.compare()["tiny"]["better"].verdict == "better"
    assert own.compare()["tiny"]["worse"].verdict == "not distinguishable"


def test_the_table_ranks_methods_and_marks_verdicts():
    found = result(nesterov=-2.0, fast=-2.5, slow=-1.5, fastest=-9.0, edge=cell(-9, ["beta"]))
    text = str(found.table())
    rows = [line.split() for line in text.splitlines()[:6]]
    assert [row[0] for row in rows] == ["method", "fastest", "fast", "nesterov", "slow", "edge"]
    assert [row[3:] for row in rows[1:5]] == [
        [">4.00", "better"],
        ["2.00", "better"],
        ["1.00"],
        ["0.50", "worse"],
    ]
    assert rows[5][1:] == ["0", "better", "edge"]  # Without a rank there is no speed-up.
    assert "not distinguishable" in text
    assert found.table()._repr_html_().count("<tr>") == 6


def test_a_task_without_a_reference_shows_its_losses(monkeypatch):
    monkeypatch.setattr(_files, "recorded", lambda name: {"tasks": {}})
    found = result(nesterov=-2.0, fast=-2.5)
    assert found.speed_ups.values.shape == (2, 0)
    text = str(found.table())
    assert "tiny (log10 loss)" in text
    assert "-2.50 better" in text
    assert "There is no reference curve for speed-ups on tiny." in text
    assert "speed-up S" not in text
    ax = found.plot()
    assert ax.get_xlabel() == "loss ratio, nesterov / method; above 1 the method is better"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 10**0.5], rtol=0.01)


def test_a_reference_of_another_version_is_not_used():
    curves, faults = reference.reference_curves({"tiny": "other"})
    assert not curves
    assert faults == ["the reference curve of tiny is of another version of the task"]


def test_a_target_has_its_method_and_an_error_if_it_is_missing():
    assert reference.target("tiny") == reference.Target(-2.1, 0.1, "a")
    with pytest.raises(ValueError, match="momentax has no target of the task 'other'"):
        reference.target("other")


def test_a_file_keeps_a_result(tmp_path):
    first = result(nesterov=-2.0, fast=-2.5)
    path = tmp_path / "bench.json"
    first.save(path)
    again = Result.load(path)
    assert again.cells.keys() == first.cells.keys()
    assert again.protocol == first.protocol
    assert again.hashes == first.hashes
    for key, each in first.cells.items():
        for name in ("tuning", "finals", "again", "evaluation", "validation", "checkpoints"):
            np.testing.assert_allclose(
                getattr(again.cells[key], name), getattr(each, name), rtol=1e-5
            )
    assert "NaN" not in path.read_text()
    newer = {**json.loads(path.read_text()), "format": 2}
    path.write_text(json.dumps(newer))
    with pytest.raises(ValueError, match="it has the format 2, and this version of momentax reads"):
        Result.load(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"bench\.json does not hold a result of momentax\.bench"):
        Result.load(path)


def test_a_dataframe_has_a_row_for_each_cell():
    frame = result(nesterov=-2.0, fast=cell(-2.5, ["beta"])).to_dataframe()
    assert frame["method"].tolist() == ["nesterov", "fast"]
    assert frame["edge"].tolist() == ["", "beta"]
    assert frame["score"].iloc[0] == pytest.approx(-2.0)
    assert frame["speed_up"].iloc[0] == pytest.approx(1.0)


def test_results_of_other_versions_are_not_joined_unless_asked():
    mine = result(mine=-2.5)
    joined = mine.join(result(nesterov=-2.0, mine=-9.0))
    assert joined.methods == ["mine", "nesterov"]
    np.testing.assert_allclose(joined.cells["tiny", "mine"].evaluation.mean(), -2.5, atol=0.01)
    old = result(nesterov=-2.0)
    versions = {**old.about["versions"], "jax": "0.1"}
    other = dataclasses.replace(old, about={**old.about, "versions": versions})
    with pytest.raises(
        ValueError, match=r"jax: .* here, 0\.1 in the other result; anyway=True joins"
    ):
        mine.join(other)
    assert mine.join(other, anyway=True).methods == ["mine", "nesterov"]
    changed = dataclasses.replace(old, hashes={"tiny": "changed"})
    with pytest.raises(ValueError, match="the task tiny has other data or other code"):
        mine.join(changed)
    shorter = dataclasses.replace(old, protocol=Protocol(seeds=8))
    sentence = "compared: seeds: 16 here, 8 in the other result$"
    for anyway in (False, True):  # The argument does not help, so that no sentence names it.
        with pytest.raises(ValueError, match=sentence):
            mine.join(shorter, anyway=anyway)
    fewer = dataclasses.replace(old, protocol=Protocol(trials=24))
    with pytest.raises(ValueError, match="trials: 32 here, 24 in the other result; anyway=True"):
        mine.join(fewer)
    assert mine.join(fewer, anyway=True).methods == ["mine", "nesterov"]
    assert any("jax" in fault for fault in other.differences_from_installed())


def test_results_of_another_device_precision_or_kind_of_keys_are_not_joined_unless_asked(x64):
    assert _facts.about()["settings"] == {
        "device": "cpu",
        "numbers": "64 bits",
        "random keys": "threefry2x32",
    }
    mine = result(mine=-2.5)
    with jax.enable_x64(False):
        other = result(nesterov=-2.0)
    with pytest.raises(
        ValueError,
        match="compared: numbers: 64 bits here, 32 bits in the other result; anyway=True",
    ):
        mine.join(other)
    assert mine.join(other, anyway=True).methods == ["mine", "nesterov"]
    assert (
        "numbers: 32 bits in the result, 64 bits installed here"
        in other.differences_from_installed()
    )
    with jax.default_prng_impl("rbg"):
        keys = result(nesterov=-2.0)
    with pytest.raises(ValueError, match="random keys: threefry2x32 here, rbg in the other"):
        mine.join(keys)
    with jax.threefry_partitionable(False):
        assert _facts.settings()["random keys"] == "threefry2x32 that is not partitionable"
    gpu = dataclasses.replace(
        mine, about={**mine.about, "settings": {**mine.about["settings"], "device": "gpu"}}
    )
    with pytest.raises(ValueError, match="device: gpu here, cpu in the other"):
        gpu.join(mine)
    old = dataclasses.replace(mine, about={"versions": mine.about["versions"]})
    with pytest.raises(ValueError, match="device: cpu here, unknown in the other"):
        mine.join(old)


def test_a_part_of_a_result_is_selected():
    found = result(nesterov=-2.0, fast=-2.5).select(["fast"])
    assert found.methods == ["fast"]
    assert not found.select(tasks=[]).cells


def test_the_picture_shows_every_method_and_task():
    found = result(nesterov=-2.0, fast=-2.5, slow=-1.5)
    ax = found.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["slow", "nesterov", "fast"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.5, 1, 2], rtol=0.02)


def test_the_hash_of_a_task_changes_with_its_code_and_not_with_comments(monkeypatch):
    task = tiny.make()
    first = _facts.task_hash(task)
    assert first == _facts.task_hash(tiny.make())
    assert first != _facts.task_hash(tiny.make(steps=80))
    assert first != _facts.task_hash(tiny.make(checksum="0" * 64))
    assert len({_facts.task_hash(each) for each in tasks.values()}) == len(tasks)
    source = _facts.inspect.getsource(tiny)
    commented = source.replace("def load", "# A comment.\ndef load").replace(
        "A task that", "A problem that"
    )
    monkeypatch.setattr(
        _facts.inspect,
        "getsource",
        lambda module: commented if module is tiny else source_of(module),
    )
    assert first == _facts.task_hash(task)
    monkeypatch.setattr(
        _facts.inspect,
        "getsource",
        lambda module: source.replace("0.5 *", "0.6 *") if module is tiny else source_of(module),
    )
    assert first != _facts.task_hash(task)


source_of = _facts.inspect.getsource


def test_recorded_files_are_small_and_of_these_tasks():
    """The files that come with momentax, as far as they exist."""
    folder = _files.resources.files("momentax.bench") / "recorded"
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith(".json"):
            assert len(path.read_bytes()) < 1_000_000
            content = json.loads(path.read_text())
            assert set(content["tasks"]) <= {*tasks, *held_out}
