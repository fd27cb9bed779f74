"""All arguments are checked before anything is computed, and no empty figure is left behind."""

import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

from momentax import plotting
from momentax.diagnostics import Spectrum
from tests.plotting.runs import HESSIAN, known_run


def fails(*args):
    """Stand for what takes long to compute."""
    raise AssertionError("this was computed before the arguments were checked")


TX = optax.GradientTransformation(fails, fails)
RUN, _ = known_run(steps=5)
SPECTRUM = Spectrum(np.array([[1.0, 2.0]]), np.array([[0.5, 0.5]]), 2)
CALLS = {
    "kernel": lambda **options: plotting.kernel(TX, **options),
    "frequency_response": lambda **options: plotting.frequency_response({"a": TX}, **options),
    "spectral_map": lambda **options: plotting.spectral_map(1.0, 2.0, fails, **options),
    "rate_vs_condition": lambda **options: plotting.rate_vs_condition(
        [2.0], {"a": fails}, **options
    ),
    "spectrum": lambda **options: plotting.spectrum(SPECTRUM, tx=TX, **options),
    "components": lambda **options: plotting.components(RUN, HESSIAN, tx=TX, **options),
    "trajectory": lambda **options: plotting.trajectory(RUN, fails, **options),
    "surface": lambda **options: plotting.surface(RUN, fails, **options),
    "animate": lambda **options: plotting.animate(RUN, fails, **options),
}


@pytest.mark.parametrize("name", CALLS)
def test_axes_are_refused_before_anything_is_computed(name):
    with pytest.raises(TypeError, match=r"^ax must be matplotlib axes"):
        CALLS[name](ax=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kernel", {"steps": 0}),
        ("kernel", {"normalize": 1}),
        ("frequency_response", {"part": "gain"}),
        ("spectral_map", {"betas": [0.5, 1.0]}),
        ("spectrum", {"width": 0}),
        ("trajectory", {"levels": [1.0, 0.5]}),
        ("trajectory", {"limits": [0.0, 1.0]}),
        ("surface", {"elevation": 100.0}),
        ("surface", {"minimizer": [1.0]}),
        ("animate", {"frames": 1}),
        ("animate", {"every": 0}),
        ("animate", {"path": "film.avi"}),
    ],
)
def test_other_arguments_are_refused_before_anything_is_computed(name, options):
    (argument,) = options
    with pytest.raises((TypeError, ValueError), match=f"^{argument} must"):
        CALLS[name](**options)


def test_all_pipelines_are_checked_before_one_is_read():
    with pytest.raises(TypeError, match=r"tx\['b'\] must be a gradient transformation"):
        plotting.kernel({"a": TX, "b": 0.9})


def test_a_refused_argument_leaves_no_figure():
    with pytest.raises(ValueError, match="dots must be"):
        plotting.compare([1.0, 2.0], {"a": [1.0, 2.0]}, dots=0)
    assert not plt.get_fignums()
