"""The parts that the models of the tasks share."""

from __future__ import annotations

from itertools import accumulate
from math import prod, sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = dict[str, Any]


class Normal(NamedTuple):
    """A float32 array of independent normal numbers, which `initialize` draws."""

    shape: tuple[int, ...]
    deviation: float


def matrix(inputs: int, outputs: int, *, square: float = 1.0) -> Normal:
    """Describe a matrix whose outputs have `square` times the mean square of the inputs."""
    return Normal((inputs, outputs), sqrt(square / inputs))


def dense(inputs: int, outputs: int, *, square: float = 1.0) -> Params:
    """Describe the parameters of `apply`, with a bias of zeros."""
    return {"kernel": matrix(inputs, outputs, square=square), "bias": zeros(outputs)}


def zeros(*shape: int) -> jax.Array:
    """Return zeros in float32."""
    return jnp.zeros(shape, jnp.float32)


def ones(*shape: int) -> jax.Array:
    """Return ones in float32."""
    return jnp.ones(shape, jnp.float32)


def initialize(key: jax.Array, described: Params) -> Params:
    """Draw the arrays of a tree that are described by `Normal`, and return the others unchanged."""
    leaves, structure = jax.tree.flatten(described, is_leaf=lambda x: isinstance(x, Normal))
    sizes = [prod(x.shape) if isinstance(x, Normal) else 0 for x in leaves]
    # One draw for all: XLA takes up to seconds to compile each draw.
    numbers = jax.random.normal(key, (sum(sizes),), jnp.float32)
    parts = jnp.split(numbers, [*accumulate(sizes)][:-1])
    drawn = [
        x.deviation * part.reshape(x.shape) if isinstance(x, Normal) else x
        for x, part in zip(leaves, parts, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def apply(layer: Params, x: jax.Array) -> jax.Array:
    """Multiply by a kernel and add a bias along the last axis."""
    return add_to_last(x @ layer["kernel"], layer["bias"])


def add_to_last(x: jax.Array, row: jax.Array) -> jax.Array:
    """Add a vector to the last axis; JAX may be set to refuse to broadcast over others."""
    return x + jnp.expand_dims(row, tuple(range(x.ndim - 1)))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats."""
    labels = labels.astype(jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def epochs(key: jax.Array, count: int, batch_size: int, steps: int) -> jax.Array:
    """Draw batches without replacement: the indices of `count` examples, shuffled in each epoch.

    What is left at the end of an epoch is not used. The shape is (steps, batch_size).
    """
    batches = count // batch_size
    shape = (-(-steps // batches), count)
    # An index below random bits moves with them when they are sorted. XLA sorts such numbers five
    # times as fast as pairs of a number and an index.
    bits = jnp.uint32((count - 1).bit_length())
    indices = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
    numbers = jnp.sort(jax.random.bits(key, shape, jnp.uint32) >> bits << bits | indices, axis=1)
    orders = (numbers & ((jnp.uint32(1) << bits) - 1)).astype(jnp.int32)
    return orders[:, : batches * batch_size].reshape(-1, batch_size)[:steps]
