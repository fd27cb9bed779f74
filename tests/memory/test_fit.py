"""Fits of kernels by few exponentials: exact where they can be, and as good as published."""

import numpy as np
import pytest

import momentax
from momentax import memory
from momentax.memory import Kernel

LAG = np.arange(1000.0)


@pytest.mark.parametrize(
    ("target", "buffers", "bound"),
    [
        # The errors of nonnegative least squares on a grid, and of the matrix pencil, are higher.
        ((1 + LAG) ** -1.5, 3, 0.012),
        ((1 + LAG) ** -1.5, 4, 0.005),
        ((1 + LAG / 20) ** -2.5, 2, 0.021),
        ((1 + LAG / 20) ** -2.5, 4, 0.002),
    ],
)
def test_power_laws(target, buffers, bound):
    found = memory.fit(target, buffers)
    assert found.error < bound
    assert len(found.kernel.exponentials) == buffers
    assert all(c > 0 for _, c in found.kernel.exponentials)
    w = found.kernel.weights(4 * len(target))
    gap = w - np.pad(target, (0, 3 * len(target)))
    np.testing.assert_allclose(found.error, np.linalg.norm(gap) / np.linalg.norm(target))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_a_sum_of_exponentials_is_found_again(sign, nonnegative):
    pairs = [(0.0, 0.1), (0.7, 0.3), (0.98, 0.6)]
    target = Kernel.from_exponentials([(β, sign * c) for β, c in pairs])
    found = memory.fit(target, 3, nonnegative=nonnegative)
    assert found.error < 1e-7
    np.testing.assert_allclose(found.kernel.exponentials, target.exponentials, atol=1e-5)
    np.testing.assert_allclose(found.response, found.target_response, rtol=1e-5)


def test_a_pipeline_is_a_target():
    found = memory.fit(momentax.nesterov(0.9), 2)
    np.testing.assert_allclose(found.kernel.exponentials, [(0, 1), (0.9, 9)], atol=1e-6)


def test_a_mean_of_the_last_gradients_is_no_sum_of_exponentials_and_the_error_says_so():
    target = np.full(64, 1 / 64)
    positive, free = memory.fit(target, 4), memory.fit(target, 4, nonnegative=False)
    assert 0.25 < free.error < 0.3 < positive.error < 0.44
    double = LAG * 0.95**LAG
    assert memory.fit(double, 2, nonnegative=False).error < 1e-3 < memory.fit(double, 2).error


@pytest.mark.parametrize("nonnegative", [True, False])
def test_matched_quantities_are_exact(nonnegative):
    target = Kernel.from_weights((1 + LAG) ** -1.5)
    names = ("total", "mean_age", "alternating")
    found = memory.fit(target, 4, match=names, nonnegative=nonnegative).kernel
    for name in names:
        np.testing.assert_allclose(getattr(found, name), getattr(target, name), rtol=1e-6)


def test_errors_say_what_to_write():
    with pytest.raises(
        TypeError, match=r"target must be a Kernel, a linear transformation or weights"
    ):
        memory.fit("boxcar")
    with pytest.raises(ValueError, match=r"match must name fewer quantities than there are buf"):
        memory.fit([1.0, 0.5], 2, match=("total", "mean_age"))
    with pytest.raises(ValueError, match=r"match must be one of 'total', 'mean_age', 'altern"):
        memory.fit([1.0, 0.5], 2, match="area")
    with pytest.raises(ValueError, match=r"target must have a weight that is not 0"):
        memory.fit([0.0, 0.0])
