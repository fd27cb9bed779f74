"""Stochastic rounding: exact numbers stay, and the bits of all entries are independent."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import storage
from tests.storage.cases import RANDOM, STORAGES, wrap


def test_the_mean_over_all_random_bits_is_exact_in_bfloat16():
    x = np.random.default_rng(1).normal(size=512).astype(np.float32)[:64] ** 3
    bits = np.arange(2**16, dtype=np.uint32) << 16
    encode = storage.bfloat16().encode
    each = jax.vmap(lambda b: encode(x, jnp.full(x.shape, b)).decode())
    found = np.mean(np.asarray(jax.jit(each)(bits), float), axis=0)
    np.testing.assert_allclose(found, x.astype(float), rtol=1e-12)


@pytest.mark.parametrize("kind", STORAGES)
def test_a_number_that_the_storage_holds_exactly_never_moves(kind):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(40, 256)) * np.exp(rng.normal(size=(40, 1)) * 20), jnp.float32)
    codes = np.resize(np.arange(-127, 128), (40, 256)).astype(np.float32)
    grid = jnp.asarray(codes * np.abs(codes) / 127**2) * jnp.max(jnp.abs(x), 1, keepdims=True)
    tx = wrap(kind, optax.trace(1.0))
    step = jax.jit(lambda g, state: tx.update(g, state)[1])
    for start in (x, grid):
        state = step(start, tx.init(start))
        held = momentax.velocity(state)
        for _ in range(50):
            state = step(jnp.zeros_like(x), state)
        np.testing.assert_array_equal(momentax.velocity(state), held)


@pytest.mark.parametrize("kind", RANDOM)
def test_roundings_of_seeds_steps_leaves_and_neighbours_are_independent(kind):
    x = STORAGES[kind].halfway
    grads = dict.fromkeys("ab", x.astype(np.float32))

    @jax.jit
    def directions(seed):
        tx = momentax.stored(momentax.heavy_ball(0.0), STORAGES[kind].make(seed=seed))

        def step(state, _):
            return tx.update(grads, state)[::-1]

        return jax.lax.scan(step, tx.init(grads), None, length=4)[1]

    runs = [directions(np.uint32(seed)) for seed in (0, 1, 2**31)]
    jax.tree.map(np.testing.assert_array_equal, runs[0], directions(np.uint32(0)))
    rows = np.concatenate([np.asarray(run[leaf]) for run in runs for leaf in grads])
    signs = np.sign(rows - x)[:, np.arange(x.size) % 256 != 0]
    assert np.all(signs != 0)
    shifted = [np.roll(signs, places, axis=1) for places in (1, 2, 255)]
    correlation = np.concatenate([signs, *shifted]) @ signs.T / signs.shape[1]
    np.testing.assert_allclose(np.diag(correlation), 1)
    np.fill_diagonal(correlation, 0)
    assert np.max(abs(correlation)) < 5 / math.sqrt(signs.shape[1])
    assert np.max(abs(signs.mean(axis=1))) < 4 / math.sqrt(signs.shape[1])
