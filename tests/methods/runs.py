"""Run a transformation on a sequence of gradients."""

import jax
import numpy as np


def follow(tx, gradients):
    """Return the directions, stacked as NumPy arrays, and the last state."""
    state = tx.init(jax.tree.map(lambda leaf: leaf[0], gradients))

    def step(state, g):
        d, state = tx.update(g, state)
        return state, d

    state, directions = jax.jit(lambda s, g: jax.lax.scan(step, s, g))(state, gradients)
    return jax.tree.map(np.asarray, directions), state


def follow_peer(tx, gradients):
    """Run a transformation that mixes dtypes, as those of Optax do."""
    with jax.numpy_dtype_promotion("standard"):
        return follow(tx, gradients)


def draw(*shape, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return values if dtype is complex else values.real
