"""The compiled Lanczos process: how often it is compiled, its memory, its precision, its bar."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tqdm

from momentax.diagnostics import _lanczos, curvature
from tests.compilation import fully_optimized

NO_BATCH = [(np.arange(1), ())]


class Bar:
    """A progress bar in the place of tqdm's, which counts its updates."""

    disable = False
    made: "list[Bar]"

    def __init__(self, total, **options):
        self.total, self.count = total, 0
        Bar.made.append(self)

    def update(self):
        self.count += 1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def mean_square(θ, x):
    return jnp.mean(x) * jnp.sum(θ**2)


@pytest.mark.parametrize("has_bar", [False, True])
def test_is_compiled_once(monkeypatch, has_bar):
    if has_bar:
        Bar.made = []
        monkeypatch.setattr(tqdm, "tqdm", Bar)
    before = _lanczos.tridiagonalize._cache_size()
    for seed in range(3):
        θ, x = jnp.full(4, 1.0 + seed), jnp.full((5, 2), seed + 1.0)
        batches = [(x,), (2 * x,), (x[:3],)]
        curvature(mean_square, θ, key=jax.random.key(seed), num_samples=3, batches=batches)
    assert _lanczos.tridiagonalize._cache_size() == before + 1
    if has_bar:
        assert [(bar.count, bar.total) for bar in Bar.made] == [(12, 12)] * 3
        assert not _lanczos._BARS


def lower(loss, params, iterations):
    matrix = _lanczos.Matrix(loss, None, gauss_newton=False)
    return _lanczos.tridiagonalize.lower(
        matrix, iterations, False, 0, params, (), NO_BATCH, jnp.ones(params.size)
    )


def test_the_basis_takes_the_memory_that_the_docstring_states():
    θ = jnp.ones(10_000)
    program = fully_optimized(lower(lambda θ: jnp.sum(θ**2), θ, iterations=40))
    vectors = program.memory_analysis().temp_size_in_bytes / θ.nbytes
    assert vectors < 2.1 * 40 or (jax.__version_info__ < (0, 9) and vectors < 3.1 * 40)


def test_matrix_products_run_in_full_precision_on_accelerators():
    W = jnp.ones((3, 3))
    lowered = lower(lambda θ: jnp.sum((W @ θ) ** 2), W, iterations=2)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) > 3
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
