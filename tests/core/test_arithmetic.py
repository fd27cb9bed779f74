"""Norms and limits of trees whose squares over- or underflow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax._core import arithmetic

LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
# Leaves of extreme entries; their norms are computed by NumPy in float64.
LEAVES = {
    "large": np.full(1, 1e38, np.float32),
    "largest": np.array([LARGEST], np.float32),
    "several large": np.full(9, 1e38, np.float32),
    "large and small": np.array([1e38, 1e-38], np.float32),
    "small": np.full(5, 1e-30, np.float32),
    "smallest": np.full(4, SMALLEST, np.float32),
    "large complex": np.full(2, 1e38 + 1e38j, np.complex64),
    "small complex": np.full(2, 1e-30 - 1e-30j, np.complex64),
    "large bfloat16": np.full(3, 1e38, jnp.bfloat16),
    "small bfloat16": np.full(3, 1e-37, jnp.bfloat16),
    "large float16": np.full(100, 6e4, np.float16),
    "small float16": np.full(3, 6e-8, np.float16),
    "ordinary": np.arange(4, dtype=np.float32),
    "zeros": np.zeros(3, np.float32),
    "empty": np.zeros((0, 2), np.float32),
}
every_leaf = pytest.mark.parametrize("leaf", LEAVES.values(), ids=LEAVES)


def exact_norm(leaf):
    wide = np.complex128 if np.iscomplexobj(leaf) else np.float64
    return np.linalg.norm(leaf.astype(wide).ravel())


@every_leaf
@pytest.mark.parametrize("compile_", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_a_norm_loses_nothing_at_either_end(leaf, compile_):
    expected = exact_norm(leaf)
    tree = {"leaf": jnp.asarray(leaf), "none": None, "empty": jnp.zeros((0, 3))}
    np.testing.assert_allclose(compile_(arithmetic.norm)(tree), expected, rtol=1e-6)
    state: Any = momentax.heavy_ball().init(tree)
    norms = compile_(momentax.velocity_norms)(state._replace(velocity=tree))
    np.testing.assert_allclose(norms["leaf"], expected, rtol=1e-6)
    assert norms["empty"] == 0


@every_leaf
@pytest.mark.usefixtures("x64")
def test_a_norm_in_64_bits_loses_nothing_either(leaf):
    np.testing.assert_allclose(arithmetic.norm(jnp.asarray(leaf)), exact_norm(leaf), rtol=1e-14)
    extreme = jnp.asarray(leaf.astype(np.float64)) * 1e250 if leaf.dtype == np.float32 else leaf
    expected = exact_norm(leaf) * (1e250 if leaf.dtype == np.float32 else 1)
    np.testing.assert_allclose(arithmetic.norm(extreme), expected, rtol=1e-12)


def test_a_norm_is_infinite_or_nan_exactly_where_it_must_be():
    assert arithmetic.norm(jnp.array([np.inf, 1.0])) == np.inf
    assert np.isnan(arithmetic.norm(jnp.array([np.nan, 1.0])))
    assert np.isnan(arithmetic.norm({"a": jnp.array([np.inf]), "b": jnp.array([np.nan])}))
    assert arithmetic.norm(jnp.full(2, LARGEST)) == np.inf  # √2 times the largest float.
    assert arithmetic.norm({}) == arithmetic.norm(None) == 0


def test_the_gradient_of_a_norm_is_the_unit_vector():
    gradient = jax.grad(arithmetic.norm)(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(gradient, [0.6, 0.8], rtol=1e-6)


@every_leaf
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e30])
def test_a_limited_norm_keeps_the_direction_and_what_is_smaller(leaf, limit):
    limited = jax.jit(arithmetic.limit_norm)(jnp.asarray(leaf), limit)
    assert limited.dtype == leaf.dtype
    expected = exact_norm(leaf)
    if expected <= limit:
        np.testing.assert_array_equal(limited, leaf)
    else:
        np.testing.assert_allclose(exact_norm(np.asarray(limited)), limit, rtol=1e-2)
        direction = leaf.astype(complex) / expected
        rounding = float(jnp.finfo(leaf.dtype).eps)
        np.testing.assert_allclose(
            np.asarray(limited).astype(complex) / limit, direction, rtol=2 * rounding, atol=1e-4
        )


@every_leaf
def test_the_cosine_of_a_leaf_with_itself_is_one(leaf):
    expected = float(exact_norm(leaf) > 0)
    x = jnp.asarray(leaf)
    np.testing.assert_allclose(arithmetic.cosines(x, x), expected, rtol=1e-5)
    np.testing.assert_allclose(arithmetic.cosines(x, -x), -expected, rtol=1e-5)
    if expected:
        np.testing.assert_allclose(exact_norm(np.asarray(arithmetic.unit(x))), 1, rtol=1e-5)


def test_entries_are_limited_where_their_square_overflows():
    most = 2.0**61
    g = jnp.array([1e38, -1e38, most, 1.0, 0.0, np.inf, np.nan])
    limited = arithmetic.limit_entries({"g": g, "none": None})
    np.testing.assert_array_equal(limited["g"], [most, -most, most, 1, 0, np.nan, np.nan])
    z = arithmetic.limit_entries(jnp.array([3e38 + 3e37j, 1 + 2j]))
    np.testing.assert_allclose(z, [most * (1 + 0.1j), 1 + 2j], rtol=1e-6)
    assert arithmetic.limit_entries(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("entry", [1e19, 1e30, LARGEST])
@pytest.mark.parametrize("size", [1, 1000])
def test_the_factor_brings_an_overflowing_norm_to_what_is_asked_for(entry, size):
    overflows, factor = arithmetic.overflow_factor({"g": jnp.full(size, entry)}, norm=100.0)
    assert overflows
    scaled = factor * jnp.full(size, entry)
    np.testing.assert_allclose(exact_norm(np.asarray(scaled)), 100, rtol=1e-5 if size == 1 else 2)


def test_the_factor_is_one_for_ordinary_trees_and_nan_for_others():
    for tree in (jnp.ones(3), jnp.full(3, 1e18), jnp.zeros(2), {}, None):
        overflows, factor = arithmetic.overflow_factor(tree, norm=1.0)
        assert not overflows
        assert factor == 1
    for bad in (np.inf, np.nan):
        overflows, factor = arithmetic.overflow_factor(jnp.array([1.0, bad]), norm=1.0)
        assert not overflows
        assert np.isnan(factor)


@pytest.mark.parametrize("x", [1e30, 1.0, 1e-30])
def test_the_sign_of_an_inner_product_of_extremes(x):
    g, v = jnp.array([x, -x]), jnp.array([1e30, 3e30])
    assert arithmetic.sign_of_inner_product(g, v) == -1
    assert arithmetic.sign_of_inner_product(g, -v) == 1
    assert arithmetic.sign_of_inner_product(g, jnp.array([1.0, 1.0])) == 0


def test_the_sign_of_what_is_not_finite_is_nan():
    x = jnp.array([np.inf, -np.inf, np.nan, 3e38, -0.1, 0.0])
    np.testing.assert_array_equal(arithmetic.sign(x, x), [np.nan] * 3 + [1, -1, 0])
    z = jnp.array([3e38 + 3e38j, 1e-30 + 1e-30j, 3j])
    np.testing.assert_allclose(arithmetic.sign(z, z), [np.sqrt(0.5) * (1 + 1j)] * 2 + [1j])


@pytest.mark.parametrize("entry", [0.0, 1e-6, 1e6])
def test_norms_of_arrays_that_the_program_contains(entry):
    """XLA computes with known arrays while it compiles, in another order of operations."""
    x = np.full(3, entry, np.float32)
    found = jax.jit(lambda: (arithmetic.norm(x), arithmetic.cosines(x, x)))()
    np.testing.assert_allclose(found, (exact_norm(x), float(entry > 0)), rtol=1e-5)
    assert jax.jit(lambda: arithmetic.overflow_factor(x, norm=1.0)[1])() == 1
