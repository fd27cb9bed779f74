"""The codes of int8 against a twin in float64, and the blocks that share a scale."""

from dataclasses import replace
from functools import cache

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import storage, stored
from momentax._core.codecs import unpack

ENCODE = jax.jit(storage.int8().encode)
DECODE = jax.jit(lambda encoded: encoded.decode())


def twin(x, random):
    """The codes in float64, and the distance of each decision from its threshold.

    |x| = s a / 127² with k² ≤ a < (k + 1)² is rounded up to k + 1 with the
    probability (a - k²) / (2k + 1).
    """
    x = np.asarray(x, float).reshape(-1, 256)
    s = np.max(abs(x), axis=1, keepdims=True)
    a = abs(x) / np.where(s > 0, s, 1) * 127**2
    k = np.minimum(np.floor(np.sqrt(a)), 126)
    probability = (a - k**2) / (2 * k + 1)
    uniform = (random.reshape(x.shape) + 0.5) / 2**32
    codes = np.sign(x) * (k + (uniform >= 1 - probability))
    return codes.ravel(), abs(uniform - (1 - probability)).ravel()


@given(
    x=hnp.arrays(np.float32, 512, elements=st.floats(-1, 1, width=32)),
    exponent=st.integers(-80, 80),
    power=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_codes_are_those_of_the_twin(x, exponent, power, seed):
    x = np.ldexp(x**power, exponent).astype(np.float32)
    x[abs(x) < 1e-30] = 0  # Smaller numbers have few digits in float32.
    random = np.random.default_rng(seed).integers(0, 2**32, 512, np.uint32)
    found = ENCODE(x, random)
    expected, distance = twin(x, random)
    clear = distance > 2**-12 + 1e-4  # At least 12 of the random bits are used, besides round-off.
    np.testing.assert_array_equal(np.asarray(found.codes)[clear], expected[clear])
    assert np.max(abs(np.asarray(found.codes) - expected)) <= 1
    np.testing.assert_array_equal(found.scales, np.max(abs(x.reshape(2, 256)), axis=1))
    s = np.repeat(np.asarray(found.scales, float), 256)
    q = np.asarray(found.codes, float)
    np.testing.assert_allclose(DECODE(found), s * np.sign(q) * (q / 127) ** 2, rtol=1e-6)


@given(
    codes=hnp.arrays(np.int8, 512, elements=st.integers(-127, 127)),
    scale=st.floats(2.0**-100, 2.0**100, width=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_decoded_array_is_encoded_to_the_same_codes(codes, scale, seed):
    codes[::256] = 127  # The largest magnitude of each block.
    like = ENCODE(np.zeros(512, np.float32), np.zeros(512, np.uint32))
    kept = replace(like, codes=jnp.asarray(codes), scales=jnp.full(2, scale, jnp.float32))
    again = ENCODE(DECODE(kept), np.random.default_rng(seed).integers(0, 2**32, 512, np.uint32))
    np.testing.assert_array_equal(again.codes, codes)
    np.testing.assert_array_equal(again.scales, kept.scales)


def test_the_mean_over_all_random_bits_is_exact():
    x = np.random.default_rng(1).normal(size=512).astype(np.float32) ** 3
    bits = (np.arange(2**12, dtype=np.uint32) << 20) + 2**19
    each = jax.vmap(lambda b: storage.int8().encode(x, jnp.full(x.shape, b)).decode())
    found = np.mean(np.asarray(jax.jit(each)(bits), float), axis=0)
    s = np.repeat(np.max(abs(x.reshape(2, 256)), axis=1), 256)
    gap = s * (2 * np.sqrt(abs(x) / s) * 127 + 1) / 127**2
    np.testing.assert_array_less(abs(found - x), 1.1 * gap / 2**12)


# Blocks.

SHAPES = {  # The shape of the scales for each shape of an array; None is not encoded.
    (5000,): (20,),
    (8, 512): (8, 2),
    (3, 3, 64, 64): (3, 3, 16),
    (512, 1000): (2000,),
    (67, 67): (18,),
    (3,): (1,),
    (257,): (2,),
    (4, 0): None,
}


@cache
def encoded():
    """Gradients of all shapes, and the velocity after one step with them."""
    rng = np.random.default_rng(0)
    g = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SHAPES]
    tx = stored(momentax.heavy_ball(0.9), storage.int8(), min_size=0)
    v = unpack(jax.jit(tx.update)(g, tx.init(g))[1].inner_state.velocity)
    return {shape: each for shape, *each in zip(SHAPES, g, v, strict=True)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_run_over_the_fewest_last_axes(shape):
    (g, v), scales = encoded()[shape], SHAPES[shape]
    if scales is None:
        assert v.dtype == jnp.float32
        return
    assert (v.codes.shape, v.codes.dtype) == (shape, jnp.int8)
    assert (v.scales.shape, v.scales.dtype) == (scales, jnp.float32)
    assert v.block_size == 256 or g.size < 256
    flat, decoded = np.asarray(g).ravel(), np.asarray(v.decode()).ravel()
    for start in range(0, flat.size, 256):
        x, y = flat[start : start + 256], decoded[start : start + 256]
        largest = np.abs(x).max()
        assert np.array_equal(y[np.abs(x).argmax()], x[np.abs(x).argmax()])
        # Two codes lie apart by (2 q + 1) / 127² of the largest magnitude.
        distance = largest * (2 * 127 * np.sqrt(np.abs(x) / largest) + 1) / 127**2
        assert np.all(np.abs(x - y) <= 1.01 * distance)
        assert np.abs(x - y).max() > 0 or x.size < 5
