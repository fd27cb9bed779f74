"""The design of kernels for quadratics, against closed forms and the search of the theory."""

import numpy as np
import pytest

import momentax
from momentax import memory, theory
from momentax.memory import _design

MU, L = 1.0, 100.0
FASTEST = theory.optimal_heavy_ball(MU, L)


def as_optimizer(found):
    return momentax.sgd(found.learning_rate, memory.method(found.kernel))


def test_without_a_bound_the_best_kernel_is_that_of_heavy_ball():
    found = memory.design(MU, L)
    ((β, c),) = found.kernel.exponentials
    np.testing.assert_allclose([β, c], [FASTEST.beta, 1.0])
    np.testing.assert_allclose(found.rate, FASTEST.rate, rtol=1e-9)
    assert found.speedup == 1
    np.testing.assert_allclose(theory.rate(as_optimizer(found), MU, L), found.rate, rtol=1e-6)


def test_a_bound_on_the_noise_is_met_at_the_best_rate_that_the_theory_finds():
    # theory.tune of heavy ball with this bound as a penalty found 0.81902712 at 0.6708054.
    noise = 1.275125
    found = memory.design(MU, L, buffers=1, noise=noise)
    np.testing.assert_allclose(found.rate, 0.81902712, rtol=1e-5)
    np.testing.assert_allclose(found.heavy_ball["beta"], 0.6708054, rtol=1e-4)
    np.testing.assert_allclose(found.noise_floor, noise, rtol=1e-3)
    tx = as_optimizer(found)
    np.testing.assert_allclose(theory.noise_floor(tx, [MU, L], 1.0), found.noise_floor, rtol=1e-5)


def test_a_mixture_is_not_slower_than_heavy_ball_under_the_same_bound():
    found = memory.design(MU, L, buffers=2, noise=0.5)
    assert found.rate <= found.heavy_ball["rate"] * (1 + 1e-9)
    assert found.noise_floor <= 0.5 * (1 + 1e-3)
    assert found.speedup >= 1 - 1e-9


@pytest.mark.parametrize("averages", [1, 2, 4])
def test_the_search_computes_the_noise_floor_of_the_theory(averages):
    problem = _design._Problem(MU, L, 0.7, 1.0)
    rng = np.random.default_rng(averages)
    for _ in range(5):
        x = np.append(rng.uniform(0.05, 2.0, averages), rng.uniform(0.01, 0.3, averages))
        space = problem.system(x)
        found = problem.noise_of_stable(space, problem.loops(space))
        np.testing.assert_allclose(found, problem.noise(space), rtol=1e-9)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"noise must be in \(0, inf\), got 0"):
        memory.design(MU, L, noise=0.0)
    with pytest.raises(TypeError, match=r"L is missing"):
        memory.design(MU)
