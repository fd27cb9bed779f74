"""Paths on a surface, still and in a film."""

import gc
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.animation import FuncAnimation, writers
from PIL import Image

from momentax.plotting import _animate, _surface, animate, surface
from momentax.plotting._landscape import make_landscape
from momentax.plotting._runs import as_runs
from tests.plotting.runs import HESSIAN, known_run, loss


def points_of(line):
    return np.column_stack(line.get_data_3d())


def named(ax):
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def test_a_path_lies_a_little_above_the_surface_and_is_drawn_over_it():
    run, path = known_run()
    ax = surface({"a": run}, loss, minimizer=np.zeros(2))
    line, star = named(ax)
    θ = path.params
    np.testing.assert_array_equal(points_of(line)[:, :2], θ)
    heights = np.einsum("ti,ij,tj->t", θ, HESSIAN, θ) / 2
    lift = points_of(line)[:, 2] - heights
    low, high = ax.get_zlim()
    np.testing.assert_allclose(lift, lift[0], rtol=1e-3)
    assert 0 < lift[0] < 0.02 * (high - low)
    np.testing.assert_allclose(points_of(star), [[0, 0, lift[0]]], atol=1e-6)
    (sheet,) = ax.collections
    assert sheet.zorder < line.zorder
    assert not ax.computed_zorder
    assert (ax.get_xlabel(), ax.get_zlabel()) == ("θ[0]", "loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "start", "minimizer"]


def test_the_surface_is_the_loss_up_to_a_level_edge():
    run, path = known_run()
    ax = surface({"a": run}, loss)
    (sheet,) = ax.collections
    if hasattr(sheet, "_vec"):  # Matplotlib before 3.11 keeps the corners as columns.
        corners = sheet._vec[:3].T
    else:  # Faces with fewer corners than others are filled up with arbitrary numbers.
        corners = sheet._faces[~np.broadcast_to(sheet._invalid_vertices, sheet._faces.shape[:2])]
    corners = corners[np.isfinite(corners).all(axis=1)]
    heights = np.einsum("ti,ij,tj->t", corners[:, :2], HESSIAN, corners[:, :2]) / 2
    start = path.params[0] @ HESSIAN @ path.params[0] / 2
    edge = corners[:, 2].max()
    assert start < edge < 2 * start
    np.testing.assert_allclose(corners[:, 2], np.minimum(heights, edge), atol=1e-4)


def test_a_run_that_diverges_is_drawn_only_within_the_limits():
    good, _ = known_run()
    bad, _ = known_run(1.5, 0.5, steps=500)
    ax = surface({"good": good, "bad": bad}, loss)
    _, line = named(ax)
    drawn = points_of(line)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    assert len(drawn)
    for i, limits in enumerate((ax.get_xlim(), ax.get_ylim(), ax.get_zlim())):
        assert drawn[:, i].min() >= limits[0]
        assert drawn[:, i].max() <= limits[1]
    assert line.get_label() == "bad (diverged)"


def test_needs_axes_with_three_dimensions_and_draws_on_those_given():
    run, _ = known_run()
    figure, axes = plt.subplots(1, 2, subplot_kw={"projection": "3d"})
    assert surface({"a": run}, loss, ax=axes[1], azimuth=10, elevation=20) is axes[1]
    assert (axes[1].azim, axes[1].elev) == (10, 20)
    assert not axes[0].lines
    assert plt.get_fignums() == [figure.number]
    flat = plt.figure().add_subplot()
    for draw in (surface, animate):
        with pytest.raises(TypeError, match="ax must have three dimensions"):
            draw({"a": run}, loss, ax=flat)
    with pytest.raises(ValueError, match=r"elevation must be in \[-90, 90\], got 91"):
        surface({"a": run}, loss, elevation=91)


def film_of(runs, **options):
    land = make_landscape(
        as_runs(runs), loss, directions=None, minimizer=None, limits=None, resolution=5
    )
    scene = _surface.draw_scene(land, {"azim": 0.0, "elev": 30.0}, None)
    last = max(len(path.points) for path in land.paths) - 1
    return _animate._Film(scene, last, **options, view={"azim": 0.0, "elev": 30.0}, turn=90.0)


def test_the_frames_draw_the_paths_up_to_one_step_for_all_and_turn():
    long, path = known_run(steps=100)
    short, _ = known_run(0.02, 0.0, steps=20)
    film = film_of({"long": long, "short": short}, every=1, frames=11)
    reached = []
    for frame in range(11):
        film.draw(frame)
        first, second = (points_of(line) for line in film.scene.lines)
        reached.append(len(first) - 1)
        np.testing.assert_array_equal(first[:, :2], path.params[: len(first)])
        assert len(second) == min(len(first), 21)  # Both are at the same step.
        np.testing.assert_array_equal(points_of(film.scene.ends[0])[0], first[-1])
        assert film._step.get_text() == f"step {reached[-1]}"
        np.testing.assert_allclose(film.scene.ax.azim, 90 * frame / 11)
    assert reached[0] == 0
    assert reached[-2:] == [100, 100]  # The last frames only turn.
    steps = np.diff(reached[:-2])
    assert np.all(np.diff(steps) >= 0)  # The first steps are the slowest.


def test_writes_a_gif_with_every_frame_and_the_colours_of_the_paths(tmp_path):
    run, _ = known_run(steps=10)
    (tmp_path / "film.gif").write_bytes(b"old")
    animation = animate({"a": run}, loss, tmp_path / "film.gif", frames=3, seconds=1.5)
    assert isinstance(animation, FuncAnimation)
    assert [each.name for each in tmp_path.iterdir()] == ["film.gif"]
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.info["loop"], film.width) == (3, 0, 600)
        durations, colours = [], set()
        for frame in range(3):
            film.seek(frame)
            durations.append(film.info["duration"])
            colours |= {colour for _, colour in film.convert("RGB").getcolors(1 << 20)}
    assert durations == [500, 500, 500]
    assert (0x00, 0x72, 0xB2) in colours  # The first colour of all plots.
    assert len(colours) > 20


def test_an_animation_that_nobody_looks_at_gives_no_warning():
    run, _ = known_run(steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        animate({"a": run}, loss, frames=2)
        plt.close("all")
        gc.collect()


def test_writes_an_mp4_where_ffmpeg_is_and_says_so_where_it_is_not(tmp_path, monkeypatch):
    run, _ = known_run(steps=5)
    monkeypatch.setattr(writers, "is_available", lambda name: False)
    with pytest.raises(ValueError, match=r"path must end in \.gif, since \.mp4 needs ffmpeg"):
        animate({"a": run}, loss, tmp_path / "film.mp4")
    monkeypatch.setattr(writers, "is_available", lambda name: True)

    def save(animation, path, *, writer, fps, dpi):
        assert (writer, fps) == ("ffmpeg", 4.0)
        path.write_bytes(b"a film")
        animation._fig.canvas.draw()

    monkeypatch.setattr(FuncAnimation, "save", save)
    animate({"a": run}, loss, str(tmp_path / "film.MP4"), frames=2, seconds=0.5)
    assert (tmp_path / "film.MP4").read_bytes() == b"a film"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"path": "film.avi"}, ValueError, r"path must end in \.gif or \.mp4, got 'film.avi'"),
        ({"path": 3}, TypeError, "path must be a path"),
        ({"frames": 1}, ValueError, "frames must be a whole number, at least 2, got 1"),
        ({"seconds": 0.0}, ValueError, r"seconds must be in \(0, 3600\], got 0"),
        ({"path": "no/film.gif", "frames": 2}, OSError, "the folder .* does not exist"),
    ],
)
def test_wrong_films_are_refused_in_a_sentence(options, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _ = known_run(steps=5)
    with pytest.raises(error, match=text):
        animate({"a": run}, loss, **options)
    assert not list(tmp_path.iterdir())
