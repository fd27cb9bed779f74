"""The edge rule: ranges that are widened once, and the cells that run again in them."""

import dataclasses
import json
from types import MappingProxyType

import numpy as np
import pytest

import momentax
from momentax import bench
from momentax.bench import Entry, Protocol, entries
from momentax.bench._facts import task_hash, versions
from momentax.bench._files import as_cell
from momentax.bench._protocol import measure
from momentax.sweeps import log_uniform, momentum_uniform, uniform
from tests.bench import tiny
from tests.benchmarks import bakeoff

SMALL = {"trials": 4, "seeds": 2, "progress": False}


def entry_of(**space):
    default = {name: float(each.quantile(0.5)) for name, each in space.items()}
    return Entry("mine", lambda horizon, **hyperparameters: None, space, default)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("learning_rate", log_uniform(1e-3, 30), (1e-4, 300)),
        ("learning_rate", uniform(0.1, 0.5), (0.01, 5)),
        ("learning_rate", uniform(0, 0.5), (0, 5)),
        ("longest_age", log_uniform(1, 300), (0.1, 3000)),
        ("eps", log_uniform(1e-10, 1e-3), (1e-11, 1e-2)),
        ("beta", momentum_uniform(0.5, 0.997), (0, 0.9997)),
        ("beta2", momentum_uniform(0.99, 0.9999), (0.9, 0.99999)),
        ("beta", uniform(0.95, 0.99), (0.5, 0.999)),
        ("momentum", log_uniform(0.5, 0.9), (0.05, 0.99)),
        ("nu", momentum_uniform(0, 0.99), (0, 0.999)),
    ],
)
def test_both_ends_of_a_range_move_by_a_factor_of_ten(name, before, after):
    wider = entry_of(**{name: before, "other": log_uniform(1, 2)}).widen([name])
    each = wider.space[name]
    assert (each.low, each.high) == pytest.approx(after, rel=1e-12)
    assert each.scale == before.scale
    assert wider.space["other"] == log_uniform(1, 2)
    for value in wider.trials(16)[name]:
        assert each.low <= value <= each.high


def test_every_range_that_can_be_at_an_edge_of_an_entry_can_be_widened():
    for entry in entries.values():
        names = [name for name in entry.space if name not in ("poles", "share")]
        wider = entry.widen(names)
        assert wider.name == entry.name
        assert wider.default == entry.default
        for name in names:
            low, high = wider.space[name].low, wider.space[name].high
            assert low <= entry.space[name].low
            assert entry.space[name].high < high
            assert not name.startswith(("beta", "nu")) or high < 1


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("gamma", ValueError, "names must be"),
        ([], ValueError, "names must have at least one of poles, beta"),
        (["poles"], ValueError, "that of poles is linear"),
        (3, TypeError, "names must be names of hyperparameters"),
    ],
)
def test_ranges_without_a_direction_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        entry_of(poles=uniform(2, 5), beta=momentum_uniform(0.5, 0.9)).widen(names)


def narrow(low=1e-3, high=2e-3):
    """Heavy ball that would be better with a larger rate, and hardly depends on `extra`."""

    def make(horizon, learning_rate, extra):
        return momentax.sgd(horizon.learning_rate(learning_rate), momentax.heavy_ball(extra))

    space = {"learning_rate": log_uniform(low, high), "extra": uniform(0.5, 0.6)}
    return Entry("narrow", make, space, {"learning_rate": high, "extra": 0.55})


def wide():
    return dataclasses.replace(
        narrow(1e-3, 30), name="wide", default={"learning_rate": 0.1, "extra": 0.55}
    )


def test_a_method_at_an_edge_runs_again_on_all_tasks_with_wider_ranges(tmp_path):
    tasks = [tiny.make(), tiny.make(name="other", steps=30)]
    reported = []
    options = {"trials": 8, "seeds": 8, "progress": False, "store": tmp_path}
    found = bench.run(
        [narrow(), wide()], tasks, widen=True, report=lambda *each: reported.append(each), **options
    )
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("batch-*.npz")}
    first = bench.run([narrow(), wide()], tasks, **options)
    assert first.cells["tiny", "narrow"].edge == ["learning_rate"]
    assert first.cells["tiny", "wide"].edge == []
    assert list(found.cells) == list(first.cells)
    again = narrow().widen("learning_rate")
    expected = measure(again, tasks[1], Protocol(trials=8, seeds=8))
    np.testing.assert_array_equal(found.cells["other", "narrow"].evaluation, expected.evaluation)
    assert found.cells["other", "narrow"].edge == expected.edge
    for task in tasks:
        cell = found.cells[task.name, "narrow"]
        assert cell.widened == ("learning_rate",)
        assert cell.hyperparameters["learning_rate"] > 2e-3
        other = found.cells[task.name, "wide"]
        assert other.widened == ()
        np.testing.assert_array_equal(other.evaluation, first.cells[task.name, "wide"].evaluation)
    assert found.spaces["narrow"].ranges == again.space  # They were widened once.
    assert found.spaces["wide"].ranges == wide().space
    assert [each[1:] for each in reported[3:]] == [
        ("wide", 3, 4),
        ("narrow", 4, 6),
        ("narrow", 5, 6),
    ]
    assert "widened after a first pass with an edge: learning_rate of narrow" in str(found.table())
    frame = found.to_dataframe()
    assert frame["widened"].tolist() == ["learning_rate", "", "learning_rate", ""]
    found.save(tmp_path / "bench.json")
    loaded = bench.Result.load(tmp_path / "bench.json")
    assert loaded.cells["tiny", "narrow"].widened == ("learning_rate",)

    resumed = bench.run(narrow(), tasks, widen=True, **options)
    np.testing.assert_array_equal(
        resumed.cells["tiny", "narrow"].evaluation, found.cells["tiny", "narrow"].evaluation
    )
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("batch-*.npz")}


def test_a_range_that_cannot_be_widened_keeps_its_edge():
    def make(horizon, signed_rate):
        return momentax.sgd(horizon.learning_rate(abs(signed_rate)))

    space = {"signed_rate": uniform(-2e-3, -1e-3)}
    entry = Entry("signed", make, space, {"signed_rate": -2e-3})
    found = bench.run(entry, tiny.make(), widen=True, **SMALL)
    assert found.cells["tiny", "signed"].edge == ["signed_rate"]
    assert found.cells["tiny", "signed"].widened == ()
    assert found.spaces["signed"].ranges == space


@pytest.fixture
def recording(monkeypatch, tmp_path):
    """The recording with two small tasks and two entries."""
    tasks = {name: tiny.make(name=name) for name in ("ridge", "spiral_deep")}
    small = Protocol(trials=8, seeds=2)
    protocols = {
        "reference-2": small._replace(length=2.0),
        "results": small,
        "constant": small._replace(shape="constant"),
        "decay": small._replace(weight_decay=True),
        "held_out": small,
        "repeat": small._replace(first_seed=50, tuning_seed=40),
    }
    nesterov = dataclasses.replace(narrow(), name="nesterov")
    monkeypatch.setattr(bakeoff, "tasks", MappingProxyType(tasks))
    monkeypatch.setattr(bakeoff, "entries", {"nesterov": nesterov, "wide": wide()})
    monkeypatch.setattr(bakeoff, "PROTOCOLS", protocols)
    monkeypatch.setattr(bakeoff, "LENGTHS", (2.0,))
    monkeypatch.setattr(bakeoff, "AGAIN", ("nesterov",))
    monkeypatch.setattr(bakeoff, "RECORDED", tmp_path / "recorded")
    (tmp_path / "recorded").mkdir()
    return list(tasks), tmp_path / "store"


def test_the_recording_widens_what_is_at_an_edge_and_writes_the_new_cells(recording, tmp_path):
    names, store = recording
    with pytest.raises(SystemExit, match="4 of 4 cells of results are not finished"):
        bakeoff.run("widened", names, store, (0, 1))
    bakeoff.run("results", names, store, (0, 1))
    bakeoff.run("reference", names, store, (0, 1))
    bakeoff.write_stage("results", names, store)
    before = json.loads((tmp_path / "recorded" / "results.json").read_text())
    assert before["cells"]["ridge/nesterov"]["edge"] == ["learning_rate"]

    def widened():
        return sorted(
            str(path.parent.relative_to(store)) for path in store.glob("*-widened/*/*/cell.json")
        )

    bakeoff.run("widened", names, store, (0, 2))
    assert len(widened()) == 2  # Half of them: the entry keeps its first ranges.
    bakeoff.write_stage("results", names, store)
    half = json.loads((tmp_path / "recorded" / "results.json").read_text())
    assert half["cells"] == before["cells"]
    bakeoff.run("widened", names, store, (1, 2))
    assert widened() == [
        f"{stage}-widened/{task}/nesterov" for stage in ("reference-2", "results") for task in names
    ]
    bakeoff.write_stage("widened", names, store)
    after = json.loads((tmp_path / "recorded" / "results.json").read_text())
    assert after["cells"]["ridge/wide"] == before["cells"]["ridge/wide"]
    cell = as_cell(after["cells"]["ridge/nesterov"])
    assert cell.widened == ("learning_rate",)
    assert cell.hyperparameters["learning_rate"] > 2e-3
    assert after["spaces"]["nesterov"]["ranges"]["learning_rate"]["high"] == pytest.approx(2e-2)
    seconds = [
        json.loads(path.read_text())["seconds"] for path in store.glob("results*/*/*/cell.json")
    ]
    assert len(seconds) == 6  # Those that others replace took time too.
    finished = bakeoff.collect_last("results", names, store)
    assert finished.seconds.total() == pytest.approx(sum(seconds))
    for stage in ("constant", "repeat", "held_out"):
        again, *_ = bakeoff.pieces(stage, names)
        assert again.entry.space["learning_rate"].high == pytest.approx(2e-2)
    curve = json.loads((tmp_path / "recorded" / "reference.json").read_text())["tasks"]["ridge"]
    kept = json.loads(
        (store / "reference-2-widened" / "ridge" / "nesterov" / "cell.json").read_text()
    )
    assert curve["scores"][0] == pytest.approx(np.mean(kept["cell"]["evaluation"]), rel=1e-5)
    assert curve["settings"][0]["learning_rate"] > 2e-3


def test_stages_that_need_the_recorded_ranges_say_so_without_them(recording):
    names, store = recording
    with pytest.raises(SystemExit, match=r"results\.json is missing, .* and then `write results`"):
        bakeoff.run("constant", names, store, (0, 1))


def test_the_recorded_reference_goes_on_with_another_store(recording, monkeypatch, tmp_path):
    names, store = recording
    small = Protocol(trials=4, seeds=3)
    monkeypatch.setattr(
        bakeoff, "entries", {"nesterov": dataclasses.replace(wide(), name="nesterov")}
    )
    monkeypatch.setattr(bakeoff, "STRONG", ("nesterov",))
    monkeypatch.setattr(bakeoff, "PROTOCOLS", {"reference-2": small, "targets": small})

    def recorded():
        return json.loads((tmp_path / "recorded" / "reference.json").read_text())

    for name in names:
        bakeoff.run("reference", [name], store / name, (0, 1))
        bakeoff.write_stage("reference", names, store / name)
    curves = recorded()["tasks"]
    assert list(curves) == names
    assert recorded()["about"]["hours"] == pytest.approx(
        sum(line["hours"] for line in curves.values()), abs=1e-3
    )
    # A curve without an edge decides that nothing is widened; its cells are not needed.
    assert not any(edge for line in curves.values() for edge in line["edges"])
    assert bakeoff.widened_pieces("reference", names, store / names[0]) == []
    bakeoff.run("targets", names[:1], store / "targets", (0, 1))
    bakeoff.write_stage("targets", names, store / "targets")
    with_target = recorded()["tasks"]
    assert with_target[names[1]] == curves[names[1]]
    assert with_target[names[0]].items() >= curves[names[0]].items()
    (path,) = (store / "targets").rglob("cell.json")
    scores = json.loads(path.read_text())["cell"]["evaluation"]
    assert with_target[names[0]]["target"] == pytest.approx(np.median(scores), rel=1e-5)
    # A curve that is measured again keeps the target.
    bakeoff.write_stage("reference", names, store / names[0])
    assert recorded()["tasks"] == with_target
    changed = tiny.make(name=names[0], steps=30)
    monkeypatch.setattr(bakeoff, "tasks", MappingProxyType({**bakeoff.tasks, names[0]: changed}))
    bakeoff.write_stage("reference", names, store / "empty")
    assert recorded()["tasks"] == {names[1]: curves[names[1]]}


def test_the_recorded_results_go_on_with_another_store(recording, tmp_path):
    names, store = recording
    path = tmp_path / "recorded" / "results.json"
    for name in reversed(names):
        bakeoff.run("results", [name], store / name, (0, 1))
        bakeoff.write_stage("results", [name], store / name)
    both = bench.Result.load(path)
    assert list(both.cells) == [(task, method) for task in names for method in bakeoff.entries]
    assert both.hashes == {name: task_hash(bakeoff.tasks[name]) for name in names}
    hours = both.about["hours of tasks"]
    assert both.about["hours"] == pytest.approx(sum(hours[name] for name in names), abs=1e-9)
    bakeoff.run("results", names, store, (0, 1))
    bakeoff.write_stage("results", names, store)
    for key, cell in bench.Result.load(path).cells.items():
        np.testing.assert_array_equal(cell.evaluation, both.cells[key].evaluation)
    (store / "half").mkdir()
    bakeoff.run("results", names[:1], store / "half", (0, 2))  # One of the two methods.
    with pytest.raises(SystemExit, match="has cells of ridge that the store lacks"):
        bakeoff.write_stage("results", names[:1], store / "half")
    other = {**versions(), "jax": "0.0.1"}
    dataclasses.replace(both, about={**both.about, "versions": other}).save(path)
    with pytest.raises(SystemExit, match=r"has other tasks; remove it .* 0\.0\.1 in the other"):
        bakeoff.write_stage("results", names[:1], store)
    dataclasses.replace(both, hashes={**both.hashes, names[1]: "another"}).save(path)
    bakeoff.write_stage("results", names[:1], store)
    assert bench.Result.load(path).tasks == names[:1]


def test_a_cell_of_before_weight_decay_is_still_of_today(recording):
    names, store = recording
    (piece, *_) = bakeoff.pieces("results", names)
    path = piece.folder(store) / "cell.json"
    path.parent.mkdir(parents=True)
    content = bakeoff.conditions(piece)
    assert content.pop("settings") == bakeoff.SETTINGS
    del content["protocol"]["weight_decay"]
    path.write_text(json.dumps(content))
    assert bakeoff.is_of_today(path, piece)
    path.write_text(json.dumps({**content, "settings": {**bakeoff.SETTINGS, "device": "gpu"}}))
    assert not bakeoff.is_of_today(path, piece)


def test_the_stage_with_weight_decay_searches_it_and_that_of_variants_takes_these():
    pieces = list(bakeoff.pieces("decay", ["ridge"]))
    assert [piece.entry.name for piece in pieces] == list(entries)
    spaces = bench.Result.recorded().spaces
    for piece in pieces:
        space = {**piece.entry.space}
        assert space.pop("weight_decay").low == 1e-5
        assert space.items() <= spaces[piece.entry.name].ranges.items()
    variants = list(bakeoff.pieces("held_out", ["ridge", "spiral_deep"]))
    assert {piece.task.name for piece in variants} == {"spiral_deep_wider"}
    assert len(variants) == len(entries)
