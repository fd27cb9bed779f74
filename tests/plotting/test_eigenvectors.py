"""Phase portraits and errors along eigenvectors against the closed form of heavy ball."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import momentax
from momentax import problems, theory
from momentax.plotting import components, phase_portrait
from tests.plotting.runs import HESSIAN, known_run, loss

BASIS = np.linalg.eigh(HESSIAN)[1]
CURVATURES = np.linalg.eigvalsh(HESSIAN)


def named(ax):
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def equal_up_to_sign(left, right):
    """Whether two curves are equal, where the sign of an eigenvector is arbitrary."""
    return np.allclose(left, right) or np.allclose(left, -np.asarray(right))


def test_a_portrait_has_position_and_velocity_along_each_eigenvector():
    run, path = known_run()
    ax = phase_portrait(run, HESSIAN)
    for i, line in enumerate(named(ax)):
        expected = np.column_stack([path.params @ BASIS[:, i], path.velocity @ BASIS[:, i]])
        assert equal_up_to_sign(line.get_xydata(), expected)
        assert line.get_label() == f"λ = {CURVATURES[i]:.4g}"
    for arrow in ax.texts:
        before, after = np.array(arrow.xyann), np.array(arrow.xy)
        curves = [line.get_xydata() for line in named(ax)]
        assert any(
            (np.isclose(curve[:-1], before) & np.isclose(curve[1:], after)).all(axis=1).any()
            for curve in curves
        )
    assert len(named(phase_portrait(run, HESSIAN, indices=[1]))) == 1


def test_without_a_hessian_a_portrait_has_the_parameters_and_a_given_minimizer():
    run, path = known_run()
    ax = phase_portrait(run, minimizer=[0.25, 0.5])
    for i, line in enumerate(named(ax)):
        np.testing.assert_array_equal(line.get_xdata(), path.params[:, i] - [0.25, 0.5][i])
        np.testing.assert_array_equal(line.get_ydata(), path.velocity[:, i])
    assert labels(ax)[:2] == ["θ[0]", "θ[1]"]


def test_a_portrait_of_a_rollout_and_of_one_that_diverges():
    tx = momentax.sgd(0.05, momentax.heavy_ball(0.9))
    problem = problems.quadratic(HESSIAN)
    run = momentax.rollout(problem.loss, problem.start, tx, 40, record=("params", "velocity"))
    path = theory.quadratic_path(HESSIAN, problem.start, 40, 0.05, 0.9)
    line = named(phase_portrait(run))[0]
    np.testing.assert_allclose(line.get_xdata(), path.params[:, 0], atol=1e-5)
    np.testing.assert_allclose(line.get_ydata(), path.velocity[:, 0], atol=1e-4)
    bad, far = known_run(1.2, 0.5, steps=2000)
    ax = phase_portrait(bad, HESSIAN)
    assert labels(ax)[0].endswith("(diverged)")
    drawn = named(ax)[0].get_xydata()
    assert 3 <= len(drawn) < 100
    assert np.abs(drawn[:, 0]).max() <= 10 * np.abs(far.params[0] @ BASIS).max()
    thinned = momentax.rollout(
        problem.loss, problem.start, tx, 40, record=("params", "velocity"), every=10
    )
    with pytest.raises(ValueError, match=r"every must be that of momentax.rollout, .* 40 steps"):
        phase_portrait(thinned)


def test_components_are_the_absolute_errors_along_the_eigenvectors():
    run, path = known_run(steps=50)
    ax = components(run, HESSIAN, minimizer=np.array([0.5, 1.0]))
    for i, line in enumerate(named(ax)):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(51))
        error = (path.params - [0.5, 1.0]) @ BASIS[:, i]
        np.testing.assert_allclose(line.get_ydata(), np.abs(error))
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "error along the eigenvector, |qᵀ(θ − θ*)|"
    assert components(run, HESSIAN).get_ylabel() == "error along the eigenvector, |qᵀθ|"


@pytest.mark.parametrize("read", [lambda tx: tx, theory.state_space])
def test_the_dashed_lines_shrink_at_the_rate_of_the_theory(read):
    run, path = known_run(0.1, 0.5, steps=40)
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.5))
    ax = components(run, HESSIAN, tx=read(tx))
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    for i, line in enumerate(dashed):
        ρ = theory.spectral_radius(0.1, CURVATURES[i], 0.5)
        np.testing.assert_allclose(line.get_ydata()[1:] / line.get_ydata()[:-1], ρ, rtol=1e-6)
        np.testing.assert_allclose(line.get_ydata()[0], np.abs(path.params[0] @ BASIS[:, i]))
        assert f"ρ = {ρ:.4g}" in labels(ax)[i]
    assert len(dashed) == 2


def test_the_hessian_may_be_a_tree_and_its_order_that_of_the_leaves():
    shaped = lambda θ: {"b": θ[..., 1], "a": θ[..., 0]}  # noqa: E731 - As the other shapes.
    run, path = known_run(shaped=shaped)
    tree = jax.hessian(loss)({"a": 1.0, "b": 2.0})
    for hessian in (tree, HESSIAN):
        for i, line in enumerate(named(components(run, hessian))):
            np.testing.assert_allclose(
                line.get_ydata(), np.abs(path.params @ BASIS[:, i]), rtol=1e-5, atol=1e-12
            )
    square = lambda θ: θ.reshape(*θ.shape[:-1], 2, 2)  # noqa: E731
    diagonal = np.diag([1.0, 2.0, 3.0, 4.0])
    run, path = known_run(start=np.arange(1.0, 5.0), hessian=diagonal, shaped=square)
    for i, line in enumerate(named(components(run, diagonal.reshape(2, 2, 2, 2)))):
        np.testing.assert_allclose(line.get_ydata(), np.abs(path.params[:, i]), atol=1e-12)


def test_steps_are_those_of_the_run_where_few_were_recorded():
    problem = problems.quadratic(HESSIAN)
    tx = momentax.sgd(0.05, momentax.heavy_ball(0.9))
    run = momentax.rollout(problem.loss, problem.start, tx, 43, record="params", every=10)
    path = theory.quadratic_path(HESSIAN, problem.start, 43, 0.05, 0.9)
    line = named(components(run, HESSIAN, every=10))[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20, 30, 40, 43])
    expected = np.abs(path.params @ BASIS[:, 0])[[0, 10, 20, 30, 40, 43]]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-3, atol=1e-5)
    for every in (1, 2):
        with pytest.raises(ValueError, match=f"is from 9 to 10, since run made 43 .* got {every}"):
            components(run, HESSIAN, every=every)
    whole = momentax.rollout(problem.loss, problem.start, tx, 8, record="params")
    with pytest.raises(ValueError, match=r"every must be .* is 1, since run made 8 steps"):
        components(whole, HESSIAN, every=2)


def test_many_eigenvectors_have_a_scale_of_colours_and_three_names():
    curvatures = np.geomspace(0.1, 5, 12)
    run, _ = known_run(start=np.ones(12), hessian=np.diag(curvatures))
    ax = components(run, np.diag(curvatures))
    assert len(named(ax)) == 12
    assert labels(ax) == [f"λ = {curvatures[i]:.4g}" for i in (0, 6, 11)]
    bad, _ = known_run(1.2, 0.5, steps=2000)
    assert "(not finite from step" in labels(components(bad, HESSIAN))[1]
    with pytest.raises(ValueError, match="indices must choose at most 7 of the 12"):
        phase_portrait(run, np.diag(curvatures))


@pytest.mark.parametrize(
    ("hessian", "error", "text"),
    [
        (None, TypeError, "hessian must be a symmetric matrix, got None"),
        (np.eye(3), ValueError, r"hessian must have shape \(2, 2\), as the params have 2"),
        ([[1.0, 2.0], [0.0, 1.0]], ValueError, "hessian must be symmetric"),
        (np.ones(4), ValueError, "hessian must be a square matrix"),
        (
            momentax.diagnostics.Curvature(1.0, 2.0, None, {}),
            TypeError,
            "a Curvature holds no eigenvectors",
        ),
    ],
)
def test_wrong_hessians_are_refused(hessian, error, text):
    run, _ = known_run()
    with pytest.raises(error, match=text):
        components(run, hessian)


def test_other_arguments_are_refused():
    run, _ = known_run()
    with pytest.raises(TypeError, match=r"run must be what momentax\.rollout returns"):
        phase_portrait({"a": run})
    lost = run._replace(history={name: run.history[name] * np.nan for name in run.history})
    with pytest.raises(ValueError, match="run must start at finite params"):
        phase_portrait(lost)
    with pytest.raises(ValueError, match="run has no record of velocity: write"):
        phase_portrait(run._replace(history={"params": run.history["params"]}))
    with pytest.raises(ValueError, match="indices must be at most 1, got 2"):
        components(run, HESSIAN, indices=[2])
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        components(run, HESSIAN, tx=0.1)
    several = momentax.sgd(0.1, momentax.aggregated((0.0, 0.9)))
    problem = problems.quadratic(HESSIAN)
    stacked = momentax.rollout(
        problem.loss, problem.start, several, 4, record=("params", "velocity")
    )
    with pytest.raises(ValueError, match="record of velocity that is not shaped like its params"):
        phase_portrait(stacked)
    assert isinstance(components(run, HESSIAN, tx=optax.sgd(0.1)), plt.Axes)
