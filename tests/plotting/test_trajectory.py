"""Paths over contours: where they lie, what is marked, what is cut, and what is refused."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.contour import QuadContourSet

import momentax
from momentax import problems, theory
from momentax.plotting import trajectory
from tests.plotting.runs import HESSIAN, known_run, loss


def paths(ax):
    """Return the lines of the runs, which have a name; marks have none."""
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


SHAPES = {
    "array": np.asarray,
    "dictionary": lambda θ: {"a": θ[..., 0], "b": θ[..., 1]},
    "tuple": lambda θ: (θ[..., 0], θ[..., 1]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_data_of_a_line_are_the_recorded_params_and_the_last_ones(shape):
    run, path = known_run(shaped=SHAPES[shape])
    other, slow = known_run(0.02, 0.0, shaped=SHAPES[shape])
    ax = trajectory({"heavy ball": run, "descent": other}, loss)
    for line, expected in zip(paths(ax), (path, slow), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), expected.params)
    assert labels(ax)[:2] == ["heavy ball", "descent"]
    names = {"array": ("θ[0]", "θ[1]"), "dictionary": ("a", "b"), "tuple": ("0", "1")}
    assert (ax.get_xlabel(), ax.get_ylabel()) == names[shape]


def test_draws_what_rollout_returns_and_one_run_alone():
    problem = problems.ravine(10.0)
    tx = momentax.sgd(0.02, momentax.nesterov(0.8))
    run = momentax.rollout(problem.loss, problem.start, tx, 25, record="params")
    expected = theory.trajectory(tx, np.diag([20.0, 2.0]), problem.start, 25)
    (line,) = paths(trajectory(run, problem.loss))
    np.testing.assert_allclose(line.get_xydata(), expected, atol=1e-5)
    assert line.get_label() == "run"


def test_start_end_and_direction_are_marked():
    run, path = known_run()
    ax = trajectory({"a": run}, loss, minimizer=np.zeros(2))
    marks = {tuple(np.ravel(line.get_xydata())) for line in ax.lines if line not in paths(ax)}
    assert marks == {tuple(path.params[0]), tuple(path.params[-1]), (0.0, 0.0)}
    segments = {(tuple(p), tuple(q)) for p, q in zip(path.params, path.params[1:], strict=False)}
    assert len(ax.texts) == 2
    for arrow in ax.texts:
        assert (arrow.xyann, arrow.xy) in segments  # From the earlier point to the later one.
    assert labels(ax) == ["a", "start", "end", "minimizer"]


@pytest.mark.parametrize("minimizer", [None, np.array([0.5, 0.25])])
def test_contours_are_round_levels_of_the_loss_above_the_lowest(minimizer):
    shift = np.zeros(2) if minimizer is None else minimizer
    run, path = known_run(steps=120)
    moved = run._replace(
        params=run.params + shift, history={"params": run.history["params"] + shift}
    )
    ax = trajectory({"a": moved}, lambda θ: loss(θ - jnp.asarray(shift)) + 7.0, minimizer=minimizer)
    sets = [each for each in ax.collections if isinstance(each, QuadContourSet)]
    for level, contour in zip(sets[-1].levels, sets[-1].get_paths(), strict=True):
        digits = level / 10 ** np.floor(np.log10(level) + 1e-9)
        assert np.isclose(digits, [1, 2, 3, 5], rtol=1e-6).any()
        θ = contour.vertices - shift
        if len(θ) and level > 0.05:  # Nearer to the minimum, the grid is coarse.
            heights = np.einsum("ti,ij,tj->t", θ, HESSIAN, θ) / 2
            np.testing.assert_allclose(heights, level, rtol=0.02)
    np.testing.assert_allclose(path.params[-1], 0, atol=1e-4)


def test_levels_are_linear_where_the_lowest_loss_lies_on_the_border_or_are_given():
    run, _ = known_run(0.01, 0.0, steps=5)
    ax = trajectory({"a": run}, loss, limits=((0.5, 1.5), (-1.0, 0.0)))
    levels = next(e for e in ax.collections if isinstance(e, QuadContourSet)).levels
    np.testing.assert_allclose(np.diff(levels), levels[1] - levels[0])
    ax = trajectory({"a": run}, loss, levels=[0.5, 1.0, 4.0])
    levels = next(e for e in ax.collections if isinstance(e, QuadContourSet)).levels
    np.testing.assert_array_equal(levels, [0.5, 1.0, 4.0])
    assert trajectory({"a": run}, lambda θ: 0 * θ[0]).collections[:] == []  # Constant.


def test_the_aspect_is_equal_unless_a_note_says_that_it_is_not():
    run, _ = known_run()
    ax = trajectory({"a": run}, loss)
    assert ax.get_aspect() == 1.0
    assert not any("scales" in text.get_text() for text in ax.texts)
    scaled = np.array([1.0, 1000.0])
    wide = run._replace(
        params=run.params * scaled, history={"params": run.history["params"] * scaled}
    )
    ax = trajectory({"a": wide}, lambda θ: loss(θ / jnp.asarray(scaled)))
    assert ax.get_aspect() == "auto"
    assert any(text.get_text() == "the two axes have different scales" for text in ax.texts)


def test_a_long_spiral_keeps_all_of_its_points_and_few_dots():
    run, path = known_run(0.05, 0.99, steps=1000)
    ax = trajectory({"a": run}, loss, limits=None)
    (line,) = paths(ax)
    assert len(line.get_xydata()) == 1001
    assert len(range(0, 1001, line.get_markevery())) <= 31
    assert labels(ax)[-1] == f"dots {line.get_markevery()} points apart"
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert np.all((path.params > [left, bottom]) & (path.params < [right, top]))
    # The margin is small, so that the path fills the picture along the longer side.
    assert (right - left) < 1.2 * np.ptp(path.params[:, 0]) or (top - bottom) < 1.2 * np.ptp(
        path.params[:, 1]
    )


@pytest.mark.parametrize("learning_rate", [1.2, 5.0])
def test_a_run_that_diverges_is_cut_and_leaves_the_others_visible(learning_rate):
    good, path = known_run()
    bad, far = known_run(learning_rate, 0.5, steps=2000)
    assert not np.isfinite(far.params).all()
    ax = trajectory({"good": good, "bad": bad}, loss)
    assert labels(ax)[:2] == ["good", "bad (diverged)"]
    first, second = paths(ax)
    np.testing.assert_array_equal(first.get_xydata(), path.params)
    cut = second.get_xydata()
    np.testing.assert_array_equal(cut, far.params[: len(cut)])
    corners = np.array([ax.get_xlim(), ax.get_ylim()]).T
    inside = ((cut > corners[0]) & (cut < corners[1])).all(axis=1)
    assert inside[0]
    assert not inside[-1]
    assert np.ptp(corners[:, 0]) < 10 * np.ptp(path.params[:, 0])
    alone = trajectory(bad, loss)
    assert labels(alone)[0] == "run (diverged)"
    assert len(paths(alone)[0].get_xydata()) >= 3


def test_a_run_that_leaves_a_saddle_is_followed_for_its_beginning():
    hessian = np.diag([1.0, -1.0])
    run, path = known_run(0.1, 0.9, 60, start=(1.0, 0.001), hessian=hessian)
    ax = trajectory({"a": run}, lambda θ: (θ[0] ** 2 - θ[1] ** 2) / 2)
    assert np.abs(path.params[-1, 1]) > 1000
    assert labels(ax)[0] == "a (leaves the picture)"
    assert np.ptp(ax.get_ylim()) < 20
    given = trajectory({"a": run}, loss, limits=((-1, 2), (-3, 4)))
    assert (given.get_xlim(), given.get_ylim()) == ((-1, 2), (-3, 4))


def test_a_run_that_does_not_move_has_a_picture():
    run, _ = known_run(steps=4, start=(0.0, 0.0))
    ax = trajectory({"a": run}, loss)
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_directions_draw_a_plane_of_many_parameters_through_the_last_ones():
    hessian = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    run, path = known_run(0.1, 0.8, 40, start=np.ones(5), hessian=hessian)
    first, second = np.array([0, 2.0, 0, 0, 0]), np.array([0, 1.0, 0, -3.0, 0])
    curvatures = np.arange(1.0, 6.0)
    ax = trajectory(
        {"a": run}, lambda θ: jnp.vdot(θ**2, jnp.float32(curvatures)), directions=(first, second)
    )
    moved = path.params - path.params[-1]
    np.testing.assert_allclose(paths(ax)[0].get_xydata(), moved[:, [1, 3]] * [1, -1], atol=1e-12)
    contours = next(e for e in ax.collections if isinstance(e, QuadContourSet))
    level, contour = contours.levels[-3], contours.get_paths()[-3]
    θ = path.params[-1] + contour.vertices @ np.eye(5)[[1, 3]] * [1, 1, 1, -1, 1]
    losses = θ**2 @ curvatures
    on_level = np.isclose(losses, level, rtol=0.02) | np.isclose(
        losses, contours.levels[-2], rtol=0.02
    )
    assert on_level.mean() > 0.5  # The others follow the border of the picture.
    assert ax.get_aspect() == 1.0
    assert ax.get_xlabel() == "distance along the first direction"


def test_draws_on_given_axes_only_and_never_shows(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **keywords: pytest.fail("it called show"))
    figure, (left, right) = plt.subplots(1, 2)
    run, _ = known_run()
    assert trajectory({"a": run}, loss, ax=right) is right
    assert not left.lines
    assert plt.get_fignums() == [figure.number]
    assert trajectory({"a": run}, loss).figure.dpi >= 144


def several():
    run, _ = known_run()
    return jax.tree.map(lambda leaf: np.stack([leaf, leaf]), run)


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda run: run._replace(history={}), {}, r"no record of params: write .*'params'"),
        (lambda run: several(), {}, r"must be a single run.*jax\.tree\.map"),
        (lambda run: run._replace(params=np.zeros(3)), {}, "must be a single run"),
        (lambda run: run._replace(params={"a": np.zeros(2)}), {}, "is not shaped like its params"),
        (
            lambda run: run._replace(
                params=run.params + 0j, history={"params": np.ones((3, 2)) * 1j}
            ),
            {},
            "complex",
        ),
        (lambda run: known_run(start=np.ones(3), hessian=np.eye(3))[0], {}, "give directions="),
        (lambda run: run, {"directions": ([1, 0],)}, "directions must be two, got 1"),
        (lambda run: run, {"directions": ([1, 0], [2, 0])}, "two independent directions"),
        (lambda run: run, {"directions": ([1, 0], [2, 0, 0])}, "directions must be shaped like"),
        (lambda run: run, {"minimizer": [0.0]}, "minimizer must be shaped like"),
        (lambda run: run, {"limits": ((1, 0), (0, 1))}, "limits must be .* left < right"),
        (lambda run: run, {"levels": [2.0, 1.0]}, "levels must be 1-D growing"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(change, options, text):
    run, _ = known_run()
    with pytest.raises(ValueError, match=text):
        trajectory({"a": change(run)}, loss, **options)
    assert not plt.get_fignums()


def test_other_runs_losses_and_axes_are_refused():
    run, _ = known_run()
    with pytest.raises(TypeError, match="runs must be a mapping from names to what momentax"):
        trajectory([run], loss)
    with pytest.raises(TypeError, match=r"runs must be a mapping.*got 'a': "):
        trajectory({"a": run.history}, loss)
    other, _ = known_run(shaped=SHAPES["dictionary"])
    with pytest.raises(ValueError, match="the same parameters, but those of runs"):
        trajectory({"a": run, "b": other}, loss)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda run: trajectory({"a": run}, loss))(run)
