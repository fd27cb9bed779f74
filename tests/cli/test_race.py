"""`momentax race`: the table, the picture and the film, and the mistakes in its options."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.animation import writers
from matplotlib.image import imread
from PIL import Image

import momentax
from momentax.__main__ import main
from momentax._cli import _race
from momentax._cli._usage import PROBLEMS, RACERS
from momentax.plotting import animate


@pytest.fixture
def race(capsys, tmp_path):
    """Run `momentax race`; return the rows of its table, what it printed, and its folder."""

    def run(*arguments):
        main(["race", "--output", str(tmp_path / "new"), *arguments])
        with open(tmp_path / "new" / "race.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file)), capsys.readouterr().out, tmp_path / "new"

    return run


def test_writes_a_table_a_picture_and_a_film(race, monkeypatch):
    films = []

    def short(runs, loss, path, **options):
        films.append((sorted(name.split(" ")[0] for name in runs), options))
        return animate(runs, loss, path, frames=2, **options)

    monkeypatch.setattr(_race.plotting, "animate", short)
    rows, printed, folder = race(
        *["--problem", "rosenbrock", "--methods", "heavy_ball,nesterov,aggregated"],
        *["--steps", "300"],
    )
    assert sorted(row["method"] for row in rows) == ["aggregated", "heavy_ball", "nesterov"]
    assert {file.name for file in folder.iterdir()} == {"race.csv", "race.png", "race.gif"}
    lines = printed.splitlines()
    for line, row in zip(lines[1:], rows, strict=False):
        assert line.split() == [word for value in row.values() for word in value.split()]
    assert lines[-1].split()[1:] == [f"{folder}/race.{kind}," for kind in ("csv", "png")] + [
        f"{folder}/race.gif"
    ]
    picture = imread(folder / "race.png")
    assert picture.shape[1] > 1500
    assert picture[..., :3].std() > 0.1
    with Image.open(folder / "race.gif") as film:
        assert film.n_frames == 2
    assert films[0][0] == ["aggregated", "heavy_ball", "nesterov"]
    np.testing.assert_array_equal(films[0][1]["minimizer"], [1, 1])
    # Each row is what a run with its numbers gives, and the rows are in the order of the steps.
    problem, target = momentax.problems.rosenbrock(), "steps to 0.0001 of the start"
    for row in rows:
        method = getattr(momentax, row["method"])
        tx = method() if row["β"] == "default" else method(float(row["β"]))
        loss = momentax.rollout(
            problem.loss, problem.start, momentax.sgd(float(row["learning rate"]), tx), 300
        ).history["loss"]
        above = np.flatnonzero(np.asarray(loss) > 1e-4 * loss[0])
        expected = "not reached" if above[-1] == 299 else str(above[-1] + 1)
        if row[target] != expected:  # The table rounds the learning rate to four digits.
            assert abs(int(row[target]) - int(expected)) <= 2
    steps = [float(row[target]) for row in rows if row[target] != "not reached"]
    assert steps == sorted(steps)
    assert len(steps) >= 2
    assert {row["diverged"] for row in rows} == {"no"}


def test_the_chosen_setting_is_the_best_of_its_grid_and_a_given_one_is_used(race, monkeypatch):
    monkeypatch.setattr(_race, "_write_picture", lambda path, *rest: path.touch())
    given = ["--problem", "ravine", "--steps", "80", "--film", "none", "--methods"]
    (row,), _, folder = race(*given, "heavy_ball", "--fraction", "0.001")
    assert {file.name for file in folder.iterdir()} == {"race.csv", "race.png"}
    α, β = np.meshgrid(np.geomspace(1e-3, 1e3, 49) / 200, [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
    paths = momentax.theory.quadratic_path(
        np.diag([200.0, 2.0]), [1.0, 1.0], 79, α.ravel(), β.ravel()
    )
    with np.errstate(over="ignore", invalid="ignore"):
        losses = paths.params**2 @ [100.0, 1.0]
    above = ~(losses <= 0.001 * 101)
    settled = np.where(above[:, -1], 80, 80 - np.argmax(above[:, ::-1], axis=1))
    assert int(row["steps to 0.001 of the start"]) == settled.min()
    rows, _, _ = race(*given, "heavy_ball,gradient_descent,aggregated", "--learning-rate", "0.02")
    found = {row["method"]: row for row in rows}
    assert {row["learning rate"] for row in rows} == {"0.02"}
    assert found["gradient_descent"]["β"] == found["aggregated"]["β"] == "default"
    assert found["gradient_descent"]["diverged"] == "yes"  # Its edge is 2 / 200.
    assert [row["diverged"] for row in rows] == sorted(row["diverged"] for row in rows)
    rows, _, _ = race(*given, "heavy_ball,nadam", "--beta", "0.6")
    assert {row["β"] for row in rows} == {"0.6"}


def test_the_plateau_has_no_paths_and_no_film(race):
    options = ["--learning-rate", "1", "--beta", "0.5", "--steps", "40"]
    rows, printed, folder = race("--problem", "plateau", "--methods", "nesterov", *options)
    assert rows[0]["method"] == "nesterov"
    assert {file.name for file in folder.iterdir()} == {"race.csv", "race.png"}
    assert "race.gif" not in printed


def test_every_racer_and_problem_can_be_used():
    problem = momentax.problems.ravine()
    for name in PROBLEMS:
        assert getattr(momentax.problems, name)().minimum is not None
    for name in RACERS:
        make, _ = _race._factory(name)
        tx = make(1e-4, 0.5)
        updates, _ = jax.eval_shape(
            lambda g, tx=tx: tx.update(g, tx.init(g), g, value=jnp.float32(1)), problem.start
        )
        assert updates.shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--problem", "saddle"],
            "error: --problem must be one of ravine, rosenbrock, plateau, got",
        ),
        (["--methods", "nestrov"], "got 'nestrov'; did you mean nesterov?"),
        (["--methods", "heavy_ball,adam"], "with commas between them, got 'adam'"),
        (["--methods", "nesterov,nesterov"], "must name each method once"),
        (["--steps", "1"], "error: --steps must be a whole number, at least 2, got 1"),
        (["--beta", "1"], r"error: --beta must be in [0, 1), got 1"),
        (["--learning-rate", "-1"], "error: --learning-rate must be in (0, inf), got -1"),
        (["--fraction", "0"], "error: --fraction must be in (0, 1), got 0"),
        (["--film", "mp4"], "error: --film mp4 needs ffmpeg, which is not installed"),
        (["--output", __file__], f"error: --output {__file__} must be a folder, but it is a file"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(arguments, text, refuse, monkeypatch):
    monkeypatch.setattr(writers, "is_available", lambda name: False)
    refused = refuse("race", *arguments)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert text in refused.err


def test_files_that_cannot_be_written_are_reported(tmp_path, refuse, monkeypatch):
    (tmp_path / "race.png").mkdir()
    refused = refuse("race", "--output", str(tmp_path))
    assert (refused.code, refused.out) == (2, "")
    assert f"{tmp_path}/race.png is a directory" in refused.err
    (tmp_path / "race.png").rmdir()

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_race, "write_file", full)
    options = ["--problem", "plateau", "--methods", "nesterov", "--steps", "20", "--beta", "0"]
    refused = refuse("race", *options, "--output", str(tmp_path))
    assert refused.code == 1
    assert "nesterov" in refused.out
    assert f"momentax: {tmp_path}/race.csv was not written: No space left" in refused.err
