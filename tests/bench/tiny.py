"""A task that trains in a millisecond: a noisy quadratic with eight curvatures."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench import Task

CURVATURES = np.geomspace(0.01, 1.0, 8).astype(np.float32)


def load():
    return {"curvatures": CURVATURES}


def init(data, key):
    return {"w": 1 + 0.1 * jax.random.normal(key, data["curvatures"].shape)}


def draw(data, key, steps):
    return 0.01 * jax.random.normal(key, (steps, len(CURVATURES)))


def loss(params, batch, data):
    return score(params, data) + jnp.vdot(batch, params["w"])


def score(params, data):
    return 0.5 * jnp.vdot(data["curvatures"], params["w"] ** 2)


def make(**changes):
    """Make the task, with other values of some fields."""
    fields = {
        "name": "tiny",
        "description": "A quadratic.",
        "source": "Generated.",
        "load": load,
        "checksum": hashlib.sha256(CURVATURES.tobytes()).hexdigest(),
        "init": init,
        "draw": draw,
        "loss": loss,
        "score": score,
        "validate": None,
        "batch_size": None,
        "steps": 40,
        "infimum": 0.0,
        "floor": 1e-6,
    }
    return Task(**{**fields, **changes})
