"""The stated minima and curvatures of the problems against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax import problems

ALL = {
    "quadratic": problems.quadratic([[2.0, 1.0], [1.0, 3.0]]),
    "ravine": problems.ravine(),
    "ravine, κ=7": problems.ravine(7),
    "plateau": problems.plateau(),
    "plateau, steep": problems.plateau(0.3),
    "saddle": problems.saddle(),
    "saddle, c=0.2": problems.saddle(0.2),
    "rosenbrock": problems.rosenbrock(),
    "rosenbrock, b=5": problems.rosenbrock(5),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("x64")
def test_minimum_and_curvatures_are_those_of_the_loss(name):
    problem = ALL[name]
    assert isinstance(problem, problems.Problem)
    assert jax.eval_shape(problem.loss, problem.start).shape == ()
    at = jnp.zeros(problem.start.shape) if problem.minimum is None else jnp.asarray(problem.minimum)
    np.testing.assert_allclose(jax.grad(problem.loss)(at), 0, atol=1e-12)
    hessian = jax.hessian(problem.loss)(at)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), problem.curvatures, rtol=1e-9)
    assert list(problem.curvatures) == sorted(problem.curvatures)
    if problem.minimum is None:
        assert problem.curvatures[0] < 0
    else:
        start = problem.start.astype(float)
        assert problem.loss(start) > problem.loss(at)


def test_known_values():
    ravine = problems.ravine()
    np.testing.assert_allclose(ravine.curvatures, [2, 200])
    assert ravine.loss(jnp.array([2.0, 3.0])) == 409
    assert problems.rosenbrock().loss(jnp.array([-1.2, 1.0])) == pytest.approx(24.2, rel=1e-6)
    slope = problems.plateau(0.01)
    np.testing.assert_allclose(jax.grad(slope.loss)(slope.start), 0.01)
    np.testing.assert_allclose(jax.grad(slope.loss)(-slope.start), -0.01)
    saddle = problems.saddle(0.5)
    np.testing.assert_allclose(jax.grad(saddle.loss)(jnp.array([3.0, 2.0])), [3.0, -1.0])


def test_a_singular_quadratic_has_a_minimum_in_spite_of_rounding():
    for seed in range(20):
        B = np.random.default_rng(seed).normal(size=(6, 3))
        assert problems.quadratic(B @ B.T).minimum is not None


def test_known_starts():
    np.testing.assert_array_equal(problems.ravine().start, [1, 1])
    np.testing.assert_allclose(problems.saddle().start, [1, 0.001])
    np.testing.assert_allclose(problems.rosenbrock().start, [-1.2, 1])


def test_an_indefinite_quadratic_has_no_minimum():
    problem = problems.quadratic(np.diag([1.0, -1.0]))
    assert problem.minimum is None
    np.testing.assert_array_equal(problem.curvatures, [-1, 1])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: problems.ravine(0.5), r"kappa must be in \[1, inf\), got 0.5"),
        (lambda: problems.ravine([1.0, 2.0]), "kappa must be one number"),
        (lambda: problems.plateau(0.0), r"slope must be in \(0, inf\), got 0.0"),
        (lambda: problems.saddle(-1.0), r"escape must be in \(0, inf\), got -1.0"),
        (lambda: problems.rosenbrock(np.nan), r"b must be in \(0, inf\), got nan"),
        (lambda: problems.quadratic([[1.0, 2.0], [0.0, 1.0]]), "hessian must be symmetric"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()
