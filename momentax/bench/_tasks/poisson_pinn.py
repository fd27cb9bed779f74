"""A network that solves Poisson's equation by its residual."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench._data import Data, require_checksum
from momentax.bench._layers import Params, add_to_last, dense, initialize
from momentax.bench._task import Task

LAYERS = ("hidden1", "hidden2", "hidden3", "head")
WIDTHS = (2, 32, 32, 32, 1)
SCORED = 2_048
BATCH_SIZE = 128
CHECKSUM = "04d0d42f974842b927e5d2bc69c13d469a0f1b51f96c86e6231b70fd92fd6d89"


@cache
def load() -> Data:
    """Return the points of the square at which the residual is scored."""
    points = np.random.RandomState(0).random_sample((SCORED, 2)).astype(np.float32)
    return require_checksum("poisson_pinn", {"points": points}, CHECKSUM)


def init(data: Any, key: jax.Array) -> Params:
    """Draw the parameters as Glorot and Bengio do for tanh."""
    del data
    layers = {
        name: dense(inputs, outputs, square=2 * inputs / (inputs + outputs))
        for name, (inputs, outputs) in zip(LAYERS, pairwise(WIDTHS), strict=True)
    }
    return initialize(key, layers)


def draw(data: Any, key: jax.Array, steps: int) -> jax.Array:
    """Draw points of the unit square."""
    del data
    return jax.random.uniform(key, (steps, BATCH_SIZE, 2), jnp.float32)


def network(params: Params, points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the network's output at points, its gradient and its Laplacian.

    All derivatives pass through the layers together with the value, in one product of matrices a
    layer:

        (tanh z)' = (1 - tanh² z) z',    Δ tanh z = (1 - tanh² z) (Δz - 2 tanh z |z'|²)
    """
    count = len(points)
    axes = jnp.broadcast_to(2 * jnp.eye(2, dtype=points.dtype)[:, None], (2, count, 2))
    zero = jnp.zeros((1, count, 2), points.dtype)
    x = jnp.concatenate([2 * points[None] - 1, axes, zero])  # The value, two slopes, the Laplacian.
    for name in LAYERS:
        z = x @ params[name]["kernel"]
        value, slopes, laplacian = add_to_last(z[0], params[name]["bias"]), z[1:3], z[3]
        if name != LAYERS[-1]:
            value = jnp.tanh(value)
            curved = laplacian - 2 * value * (slopes**2).sum(0)
            slopes, laplacian = (1 - value**2)[None] * slopes, (1 - value**2) * curved
        x = jnp.concatenate([value[None], slopes, laplacian[None]])
    return x[0, :, 0], x[1:3, :, 0], x[3, :, 0]


def solve(params: Params, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return u = 16 x (1 - x) y (1 - y) N(x, y), which is 0 on the boundary, and Δu."""
    value, slopes, laplacian = network(params, points)
    x, y = points.T
    p, q = 4 * x * (1 - x), 4 * y * (1 - y)
    factor = p * q
    slope = 4 * jnp.stack([(1 - 2 * x) * q, (1 - 2 * y) * p])
    product = factor * laplacian + 2 * (slope * slopes).sum(0) - 8 * (p + q) * value
    return factor * value, product


def solution(points: jax.Array) -> jax.Array:
    """Return the solution, sin 2πx sin 3πy."""
    x, y = jnp.pi * points.T
    return jnp.sin(2 * x) * jnp.sin(3 * y)


def cost(params: Params, points: jax.Array) -> jax.Array:
    """Return the mean square of the residual, in units of the eigenvalue of the solution.

    -Δu = f has f = 13 π² u, so that the residual is Δu / 13 π² + sin 2πx sin 3πy.
    """
    _, laplacian = solve(params, points)
    return ((laplacian / (13 * jnp.pi**2) + solution(points)) ** 2).mean()


def loss(params: Params, batch: jax.Array, data: Any) -> jax.Array:
    """Return the loss at the points of a batch."""
    del data
    return cost(params, batch)


def score(params: Params, data: Any) -> jax.Array:
    """Return the loss at 2,048 fixed points."""
    return cost(params, data["points"])


def validate(params: Params, data: Any) -> jax.Array:
    """Return the mean square of the error of u at the same points."""
    error = solve(params, data["points"])[0] - solution(data["points"])
    return (error**2).mean()


TASK = Task(
    name="poisson_pinn",
    description="A network 2-32-32-32-1 with tanh and 2,241 parameters, which solves -Δu = f on "
    "the unit square with u = 0 on its boundary and the known solution u = sin 2πx sin 3πy, by "
    "the mean square of its residual at random points.",
    source="An equation; there are no data.",
    load=load,
    checksum=CHECKSUM,
    init=init,
    draw=draw,
    loss=loss,
    score=score,
    validate=validate,
    batch_size=BATCH_SIZE,
    steps=2_000,
    infimum=0.0,
    floor=1e-8,  # The residual has an error of about 1e-4 there; float32 allows less.
)
