"""`momentax sweep`: its options, how it calls the sweep, and the files that it writes."""

import json
import os
import stat
import sys
import threading

import jax
import numpy as np
import pytest

import momentax
from momentax import _cli, plotting
from momentax.__main__ import main
from momentax._cli import _sweep
from momentax._cli._plan import rungs_of
from momentax.sweeps import SweepResult
from tests.cli.results import RESULTS, returns


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--betas", "1.5"], "--betas must be in [0, 1), got 1.5"),
        (["--learning-rates", "0.1", "-1"], "--learning-rates must be in [0, inf), got -1.0"),
        (["--learning-rates", "0.1", "-1e-3"], "--learning-rates must be in [0, inf), got -0.001"),
        (["--betas", "-1e-3", "0.9"], "--betas must be in [0, 1), got -0.001"),
        (["--epochs", "-1e3"], "--epochs must be a whole number, at least 1, got -1e3"),
        (["--seed", "-1e3"], "--seed must be a whole number, at least 0, got -1e3"),
        (["--learning-rates", "fast"], "--learning-rates must be a number, got 'fast'"),
        (["--learning-rates"], "--learning-rates needs at least one value after it"),
        (["--learning-rates", "0.1", "0.1"], "must not repeat a value, got 0.1 0.1"),
        (["--epochs", "0"], "epochs must be a whole number, at least 1, got 0"),
        (["--epochs", "2.5"], "--epochs must be a whole number, at least 1, got '2.5'"),
        (["--epochs"], "--epochs needs a value after it"),
        (["--seed", "-1"], "seed must be a whole number, at least 0, got -1"),
        (["--method", "adam"], "--method must be one of heavy_ball, nesterov, average, quasi_hyp"),
        (["--method", "nestrov"], "got 'nestrov'; did you mean nesterov?"),
        (["--seed", str(2**32)], "--seed must be below 4294967296, got 4294967296"),
        (["--seed", "9" * 400], f"must be below 4294967296, got {'9' * 40}..."),
        (["--output", __file__], f"--output {__file__} must be a folder, but it is a file"),
        (["--output", f"{__file__}/a/b"], f"must be a folder, but {__file__} is a file"),
        (["--output", "/proc/new"], "--output /proc/new cannot be written to: No such file or dir"),
        (["--output", "a" * 300], "cannot be written to: File name too long; give another folder"),
        (["--seeds", "0"], "seeds must be a whole number, at least 1, got 0"),
        (["--seeds", "2", "--seed", str(2**31 - 1)], "a seed must be below 2**31, got 2147483648"),
        (["--batch-size", "0"], "must be auto or a whole number, at least 1, got '0'"),
        (["--batch-size", "half"], "must be auto or a whole number, at least 1, got 'half'"),
        (["--devices", "0"], "devices must be a whole number, at least 1, got 0"),
        (["--devices", "999"], "--devices must be at most 2, the cpu devices there are, got 999"),
        (["--metric", "loss"], "test_accuracy, test_loss, train_loss, got loss; did you mean test"),
        (["--mode", "most"], "--mode must be one of min, max, got 'most'"),
        (["--halving", "3", "6"], "that end with --epochs, 12, got 3 6"),
        (["--halving", "6", "3", "12"], "must be growing numbers of epochs"),
        (["--halving", "0", "12"], "--halving must be a whole number, at least 1, got 0"),
        (["--store", f"{__file__}/store"], f"must be a folder, but {__file__} is a file"),
        (["--store", __file__], f"--store {__file__} must be a folder, but it is a file"),
        (["--store", "/proc/new"], "--store /proc/new cannot be written to: "),
        (["--lr", "0.1"], "there is no option --lr; did you mean --learning-rates?"),
        (["--learning_rate", "0.1"], "did you mean --learning-rates?"),
        (["--momentum", "0.9"], "there is no option --momentum; did you mean --betas?"),
        (["--sede", "1"], "there is no option --sede; did you mean --seed?"),
        (["--out", "a", "--wd", "1"], "no option --wd; momentax sweep --help lists all options"),
    ],
)
def test_mistakes_are_reported_in_a_sentence_before_anything_runs(
    arguments, text, refuse, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_sweep, "sweep", None)  # Nothing is trained.
    refused = refuse("sweep", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert text in refused.err
    assert "Errno" not in refused.err
    *before, sentence = refused.err.splitlines()
    assert sentence.startswith("momentax sweep: error: ")
    # Only what JAX or the data must say comes after the announcement.
    assert bool(before) == any(name in arguments for name in ("--metric", "999", str(2**31 - 1)))


@pytest.mark.parametrize("missing", ["sklearn.datasets", "matplotlib"])
def test_a_missing_extra_says_what_to_install(missing, monkeypatch, refuse):
    """Import the modules again, without the package."""
    monkeypatch.setitem(sys.modules, missing, None)
    for package, name in ((_cli, "_sweep"), (_cli, "_task"), (_cli, "_report"), (_cli, "_digits")):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
        monkeypatch.delattr(package, name)
    monkeypatch.delitem(sys.modules, "momentax.plotting")
    monkeypatch.delattr(momentax, "plotting")
    refused = refuse("sweep")
    assert f"{missing} is not installed; pip install 'momentax[flax]'" in refused.err


def test_options_reach_the_sweep_and_the_output_says_how_it_ran(monkeypatch, tmp_path, sweep):
    store = tmp_path / "of the sweep"
    finds = returns(RESULTS, resumed=3, damaged=("3.npz",))
    monkeypatch.setattr(_sweep, "sweep", finds)
    rows, report = sweep("--store", str(store), "--batch-size", "4")
    assert (finds.how["batch_size"], finds.how["mesh"], finds.how["store"]) == (4, None, store)
    assert (report["batch_size"], report["devices"]) == (4, 2)
    text = "\n".join(map(" ".join, rows))
    assert (
        f"ran up to 4 points at once on 2 devices (cpu); 3 results were read from {store}" in text
    )
    assert "damaged files of the store, whose points ran again: 3.npz" in text
    rows, _ = sweep()
    assert (finds.how["batch_size"], finds.how["store"].parent) == ("auto", tmp_path)
    assert "3 results were read from an interrupted run in" in "\n".join(map(" ".join, rows))
    sweep("--devices", "1")
    assert finds.how["mesh"].devices.tolist() == jax.devices()[:1]


def test_too_few_cores_are_a_mistake_only_if_their_number_was_given(monkeypatch, sweep, refuse):
    def use_all_cores(count=None):
        raise RuntimeError("JAX has already started with 2 devices")

    monkeypatch.setattr(_sweep, "use_all_cores", use_all_cores)
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    sweep()
    refused = refuse("sweep", "--devices", "1")
    assert refused.code == 2
    assert "error: --devices 1: JAX has already started with 2" in refused.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("store is of other points"), 2), (OSError(28, "No space left on device"), 1)],
)
def test_a_store_that_fails_is_reported(error, code, monkeypatch, tmp_path, refuse):
    def sweep(run, points, **how):
        raise error

    monkeypatch.setattr(_sweep, "sweep", sweep)
    store = ["--store", str(tmp_path / "store"), "--output", str(tmp_path)]
    refused = refuse("sweep", *store)
    assert refused.code == code
    assert f"{error.args[-1]}\n" in refused.err
    assert "Errno" not in refused.err


def test_points_that_trained_longer_come_first(monkeypatch, sweep):
    """Scores after different numbers of epochs are not comparable."""
    score = np.array([[0.5, 0.1], [0.6, np.nan]], np.float32)
    values = {
        "score": score,
        "advanced": np.array([[12, 4], [12, 1]], np.int32),
        "history": np.stack([score, score], -1),
    }

    def halve(init, advance, score, points, **how):
        halve.how = how | {"scored": score.__self__.metric}
        return SweepResult(points, values, np.isnan(values["score"]), None)

    monkeypatch.setattr(_sweep, "halve", halve)
    rows, report = sweep("--halving", "4", "12", "--batch-size", "2")
    asked = {"rungs": [4, 12], "mode": "min", "scored": "test_loss", "batch_size": 2}
    assert halve.how | asked == halve.how
    assert [row[3:] for row in rows[1:4]] == [["12", "0.5"], ["12", "0.6"], ["4", "0.1"]]
    assert report["best"] == {"learning_rate": 0.1, "beta": 0.0, "test_loss": 0.5}
    assert report["results"]["history"][1][1] == [None, None]
    sweep("--halving", "--metric", "test_accuracy")
    asked = {"rungs": [1, 4, 12], "mode": "max", "scored": "test_accuracy", "batch_size": "auto"}
    assert halve.how | asked == halve.how


def test_halving_without_numbers_ranks_after_a_ninth_and_a_third():
    for epochs, rungs in ((12, [1, 4, 12]), (90, [10, 30, 90]), (2, [1, 2]), (1, [1])):
        assert rungs_of([], epochs) == rungs
    assert rungs_of([5, 12], 12) == [5, 12]


def test_the_map_shows_the_metric_and_lines_where_the_method_has_them(monkeypatch, sweep):
    drawn, draw = {}, plotting.heatmap

    def heatmap(result, metric, **options):
        drawn.update(options, result=result, metric=metric)
        return draw(result, metric, **options)

    monkeypatch.setattr(plotting, "heatmap", heatmap)
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    sweep()
    assert drawn["effective"]
    assert (drawn["metric"], drawn["mode"]) == ("test_accuracy", "max")
    np.testing.assert_array_equal(drawn["result"].diverged, RESULTS["diverged"])
    sweep("--method", "average", "--metric", "test_loss")
    assert not drawn["effective"]
    assert (drawn["metric"], drawn["mode"]) == ("test_loss", "min")
    assert drawn["resolution"] is None


def test_the_map_has_a_title_in_english_the_resolution_and_the_stability_edge(monkeypatch, sweep):
    axes, draw = [], plotting.heatmap

    def heatmap(result, metric, **options):
        assert options["resolution"] == 1 / 360
        axes.append(draw(result, metric, **options))
        return axes[-1]

    monkeypatch.setattr(plotting, "heatmap", heatmap)
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    sweep("--method", "nesterov", "--epochs", "1", "--curvature", "10")
    (ax,) = axes
    assert ax.get_title() == "Test accuracy of nesterov on handwritten digits after 1 epoch"
    α, rest = ax.lines[-1].get_data()
    np.testing.assert_allclose(α, 2 * (2 - rest) / (3 - 2 * rest) / 10, rtol=1e-6)


def test_a_curvature_that_is_not_positive_is_refused_before_training(monkeypatch, refuse):
    monkeypatch.setattr(_sweep, "sweep", None)
    assert "curvature must be in (0, inf), got -1" in refuse("sweep", "--curvature", "-1").err


def test_a_curvature_without_a_known_method_is_refused(monkeypatch, refuse, mine):
    monkeypatch.setattr(_sweep, "sweep", None)  # Nothing is trained.
    refused = refuse("sweep", "--model", "mine:descent", "--curvature", "10")
    assert "--curvature needs the momentum method" in refused.err


@pytest.mark.parametrize("name", ["sweep.json", "sweep.png"])
def test_a_file_that_cannot_be_written_is_found_before_training(
    name, tmp_path, monkeypatch, refuse
):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(_sweep, "sweep", None)  # Nothing is trained.
    refused = refuse("sweep", "--output", str(tmp_path))
    assert refused.code == 2
    assert f"{tmp_path / name} is a directory" in refused.err


@pytest.mark.parametrize("name", ["sweep.json", "sweep.png"])
def test_a_file_that_fails_after_training_loses_nothing(name, tmp_path, monkeypatch, refuse):
    def sweep(run, points, **how):
        (tmp_path / name).mkdir()  # As a disk may fill up while the sweep runs.
        return returns(RESULTS)(run, points)

    monkeypatch.setattr(_sweep, "sweep", sweep)
    grid = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]
    refused = refuse("sweep", *grid, "--output", str(tmp_path))
    assert refused.code == 1
    assert f"momentax: {tmp_path / name} was not written: Is a directory" in refused.err
    assert "1 of 4 points diverged" in refused.out
    if name == "sweep.json":  # The output holds the report instead.
        report = json.loads(refused.out[refused.out.index("{") : refused.out.rindex("}") + 1])
        assert (tmp_path / "sweep.png").is_file()
    else:
        report = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert report["results"]["test_accuracy"] == [[0.9, 0.95], [0.95, 0.99]]


def test_files_keep_their_permissions_links_are_followed_and_pipes_written_to(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS))
    (tmp_path / "elsewhere").write_text("old")
    (tmp_path / "elsewhere").chmod(0o640)
    (tmp_path / "sweep.json").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "sweep.png")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "sweep.png").read_bytes()))
    reader.start()
    grid = ["--learning-rates", "0.1", "0.2", "--betas", "0", "0.9"]
    main(["sweep", *grid, "--output", str(tmp_path)])
    reader.join(60)
    assert read[0].startswith(b"\x89PNG")
    assert stat.S_ISFIFO((tmp_path / "sweep.png").stat().st_mode)
    assert (tmp_path / "sweep.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o640
    assert json.loads((tmp_path / "elsewhere").read_text())["metric"] == "test_accuracy"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "sweep.json", "sweep.png"]


def test_escapes_are_shown_and_not_sent_to_the_terminal(monkeypatch, tmp_path, refuse, sweep):
    escapes = "\x1b[2J\x07"
    monkeypatch.setattr(_sweep, "sweep", returns(RESULTS, damaged=(f"batch-{escapes}.npz",)))
    rows, _ = sweep()
    assert "batch-\\x1b[2J\\x07.npz" in " ".join(map(" ".join, rows))

    def fail(run, points, **how):
        raise ValueError(f"the store holds {escapes}")

    monkeypatch.setattr(_sweep, "sweep", fail)
    refused = refuse("sweep", "--output", str(tmp_path))
    assert "the store holds \\x1b[2J\\x07" in refused.err
    assert "\x1b" not in refused.err + refused.out
