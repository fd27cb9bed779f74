"""The results of `curvature`: the spectrum as a quadrature, and how the results print."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax.diagnostics import Curvature, Spectrum, curvature
from tests.diagnostics.matrices import quadratic, symmetric

KEY = jax.random.key(0)


def measure(curvatures, **counts):
    """The spectrum that `curvature` finds for a quadratic with these curvatures."""
    H = jnp.asarray(symmetric(curvatures), jnp.float32)
    return curvature(quadratic, jnp.ones(len(H)), H, key=KEY, **counts).spectrum


def test_the_moments_are_the_trace_and_the_norm_of_the_hessian():
    curvatures = np.concatenate([np.zeros(150), np.geomspace(0.1, 10, 40), [-2.0] * 10])
    spectrum = measure(curvatures, num_iterations=20, num_samples=30)
    assert isinstance(spectrum, Spectrum)
    assert spectrum.nodes.shape == spectrum.weights.shape == (30, 20)
    assert spectrum.size == 200
    np.testing.assert_allclose(spectrum.weights.sum(axis=1), 1)
    assert spectrum.moment(0) == pytest.approx((200, 0), abs=1e-9)
    for power in (1, 2, 3):
        value, error = spectrum.moment(power)
        known = np.sum(curvatures**power)
        assert abs(value - known) < 3 * error
        assert 0 < error < 0.1 * abs(known)
    np.testing.assert_allclose(spectrum.below(-1.0), 0.05, atol=0.01)
    np.testing.assert_allclose(spectrum.below([-3.0, 0.05, 11.0]), [0, 0.8, 1], atol=0.02)
    single = measure(curvatures, num_iterations=20)
    assert np.isnan(single.moment(1)[1])


def test_the_density_is_that_of_the_hessian_blurred_by_gaussians():
    curvatures = np.repeat([-1.0, 0.0, 3.0], [20, 60, 20])
    spectrum = measure(curvatures, num_samples=40)
    λ = np.linspace(-3, 5, 801)
    density = spectrum.density(λ, width=0.3)
    bumps = np.exp(-(((λ[:, None] - curvatures) / 0.3) ** 2) / 2)
    known = np.mean(bumps, axis=1) / (0.3 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(density, known, atol=0.05 * known.max())
    np.testing.assert_allclose(np.sum(density) * 0.01, 1, rtol=1e-6)
    assert spectrum.density(0.0, 0.3).shape == ()


SPECTRUM = Spectrum(np.array([[-2.0, 1.0]] * 3), np.full((3, 2), 0.5), size=2)


def test_methods_check_their_arguments():
    for width in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match=r"^width must be in \(0, inf\)"):
            SPECTRUM.density(0.0, width)
    with pytest.raises(TypeError, match=r"^power must be a whole number"):
        SPECTRUM.moment(0.5)


def test_results_print_in_one_line():
    history = {"mu_error": np.array([0.1, 0.02]), "L_error": np.array([0.1, 3e-7])}
    found = Curvature(-2.0, 1.0, SPECTRUM, history)
    assert repr(found) == (
        "Curvature(mu=-2 ± 0.02, L=1 ± 3e-07, from 3 × 2 products at 2 parameters)"
    )
    assert repr(SPECTRUM) == "Spectrum(3 × 2 nodes from -2 to 1, at 2 parameters)"
