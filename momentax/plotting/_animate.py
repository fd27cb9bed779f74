"""The paths of runs growing on the rotating surface of a loss of two parameters."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from matplotlib.animation import FuncAnimation, writers
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from momentax._core.arguments import as_count, as_path, as_real
from momentax._core.files import write_file
from momentax._core.typing import PyTree
from momentax._training._rollout import Rollout
from momentax.plotting._landscape import make_landscape
from momentax.plotting._paths import MINIMIZER
from momentax.plotting._runs import as_runs, phrase, points_of, steps_of
from momentax.plotting._style import COLORS, figure_of
from momentax.plotting._surface import Scene, as_view, draw_scene, last_point, require_axes_3d

_RESOLUTION = 49
_HELD = 0.15  # The share of the frames after the last step.
_PIXELS = 600  # The width of the film.
_COLORS = 80  # Of the surface; those of the paths come on top.
_EXACT = (*COLORS, MINIMIZER["markerfacecolor"], "white")


def animate(
    runs: Mapping[str, Rollout] | Rollout,
    loss: Callable[[PyTree], jax.Array],
    path: str | os.PathLike[str] | None = None,
    *,
    minimizer: PyTree = None,
    directions: Any = None,
    limits: Any = None,
    frames: int = 60,
    seconds: float = 6.0,
    turn: float = 120.0,
    azimuth: float = -100.0,
    elevation: float = 40.0,
    every: int = 1,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Animate the paths of runs on the rotating surface of a loss of two parameters.

    In frame k of n, counted from 0, each path is drawn up to step T (k / n')², where T is that of
    the longest run and n' is 85% of n. The first steps are therefore the slowest, and the last
    frames only rotate. A text shows the step. Otherwise the picture is that of `surface`.

    Args:
        runs: Runs by name, or one run: what `momentax.rollout` returns with the record "params".
        loss: f, the loss of the runs, from params to a real scalar.
        path: The file to write, .gif or .mp4, which needs ffmpeg; None writes no file. A file
            appears when it is complete.
        minimizer: θ*, shaped like the params, which gets a star; None for none.
        directions: Two trees shaped like the params, for params with more than two entries, as
            in `trajectory`.
        limits: ((left, right), (bottom, top)) of the two parameters; None follows the paths.
        frames: The number of frames, at least 2.
        seconds: The length of the film in (0, 3600].
        turn: The angle by which the view turns, any real number, in degrees.
        azimuth: The direction of the first view around the vertical axis, any real number, in
            degrees.
        elevation: The height of the view in [-90, 90], in degrees.
        every: The argument `every` of the rollouts, at least 1, for the step that the text shows.
        ax: Axes to draw on, made with projection="3d"; None makes a new figure.

    Returns:
        The animation, whose to_jshtml() a notebook shows. It must be kept as long as it is shown.

    Raises:
        ValueError: As `surface`, a number lies outside its interval, every is not that of the
            rollouts, path ends in neither .gif nor .mp4, or ffmpeg is missing.
        TypeError: As `surface`, or path is not a path.
        OSError: The file could not be written.

    Example:
        >>> ravine, record = momentax.problems.ravine(10.0), ("loss", "params")
        >>> tx = momentax.sgd(0.02, momentax.heavy_ball(0.8))
        >>> run = momentax.rollout(ravine.loss, ravine.start, tx, 20, record=record)
        >>> film = momentax.plotting.animate(run, ravine.loss, "ravine.gif", frames=2)
    """
    given = as_runs(runs)
    target = None if path is None else _as_film_path(path)
    count = as_count("frames", frames, least=2)
    seconds = as_real("seconds", seconds, "(0, 3600]")
    turn = as_real("turn", turn, "(-inf, inf)")
    view = as_view(azimuth, elevation)
    require_axes_3d(ax)
    for name, run in given.items():
        steps_of(phrase(name), run, len(points_of(phrase(name), run).values) - 1, every)
    land = make_landscape(given, loss, minimizer, directions, limits, _RESOLUTION)
    film = _Film(
        draw_scene(land, view, ax),
        last=max(len(each.points) for each in land.paths) - 1,
        every=int(every),
        frames=count,
        view=view,
        turn=turn,
    )
    figure = figure_of(film.scene.ax)
    animation = FuncAnimation(figure, film.draw, frames=count, interval=1000 * seconds / count)
    figure.canvas.draw()  # Without this, matplotlib warns where an animation is not looked at.
    if ax is None:
        figure.set_layout_engine("none")  # The axes keep their place in all frames.
    if target is not None and target.suffix.lower() == ".gif":
        _write_gif(film, target, seconds)
    elif target is not None:
        _write_mp4(animation, figure, target, fps=count / seconds)
    return animation


class _Film:
    """Draws the frames: all that changes from one to the next."""

    def __init__(
        self,
        scene: Scene,
        last: int,
        every: int,
        frames: int,
        view: dict[str, float],
        turn: float,
    ) -> None:
        self.scene, self.frames = scene, frames
        self._last, self._every = last, every
        self._view, self._turn = view, turn
        self._step = scene.ax.text2D(
            0.98, 0.98, "step 0", transform=scene.ax.transAxes, ha="right", va="top"
        )

    def draw(self, frame: int) -> list[Any]:
        """Draw a frame and return what has changed."""
        moving = max(1, round((1 - _HELD) * (self.frames - 1)))
        reached = round(self._last * min(1.0, frame / moving) ** 2)
        scene = self.scene
        for line, end, points in zip(scene.lines, scene.ends, scene.points, strict=True):
            points = points[: reached + 1]
            line.set_data_3d(*points.T)
            end.set_data_3d(*last_point(points).T)
            end.set_visible(True)
        turned = self._turn * frame / self.frames
        scene.ax.view_init(elev=self._view["elev"], azim=self._view["azim"] + turned)
        self._step.set_text(f"step {self._every * reached}")
        return [*scene.lines, *scene.ends, self._step]


def _as_film_path(path: Any) -> Path:
    target = as_path("path", path)
    suffix = target.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"path must end in .gif or .mp4, got {str(target)!r}")
    if suffix == ".mp4" and not writers.is_available("ffmpeg"):
        raise ValueError(
            f"path must end in .gif, since .mp4 needs ffmpeg, which is not installed; got "
            f"{str(target)!r}"
        )
    return target


def _write_gif(film: _Film, target: Path, seconds: float) -> None:
    figure = figure_of(film.scene.ax)
    images = []
    for frame in range(film.frames):
        film.draw(frame)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_PIXELS / figure.get_figwidth())
        images.append(Image.open(buffer).convert("RGB"))
    # Few colours without dithering make the file several times smaller.
    common = images[-1].quantize(_COLORS).getpalette() or []
    exact = [round(255 * part) for color in _EXACT for part in to_rgb(color)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*exact, *common[: 3 * _COLORS]])
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    options: dict[str, Any] = {"save_all": True, "append_images": rest, "loop": 0}
    options["duration"] = max(20, round(1000 * seconds / film.frames))
    write_file(target, lambda file: first.save(file, format="GIF", **options))


def _write_mp4(animation: FuncAnimation, figure: Figure, target: Path, fps: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mp4")  # ffmpeg writes to paths only.
        animation.save(film, writer="ffmpeg", fps=fps, dpi=_PIXELS / figure.get_figwidth())
        with open(film, "rb") as source:
            write_file(target, lambda file: shutil.copyfileobj(source, file))
