"""What the recordings and the tests have in common: the cases, one gradient, one model's twin.

Nothing here needs torch or keras.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from momentax.conventions import Counterpart

FOLDER = Path(__file__).parent
STEPS = 300
SHOWN = [1, 2, 3, 4, 10, 50, 150, 300]  # The steps that a recording holds.
A = np.random.default_rng(0).normal(size=(6, 5))
TARGET = np.random.default_rng(1).normal(size=6)
START = {"w": np.random.default_rng(2).normal(size=(2, 2)), "b": np.array([0.5])}


def gradient(w, b, xp=np):
    """The gradient of a convex loss, Σ √(1 + (Aθ - y)²), in NumPy or JAX; b shifts every row."""
    r = A @ xp.concatenate([w.reshape(-1), b]) - TARGET
    g = A.T @ (r / xp.sqrt(1 + r * r))
    return {"w": g[:4].reshape(2, 2), "b": g[4:]}


def drop(t):
    """A learning rate that falls by half a few times, and a warm-up from 0."""
    return 0.02 * min(t / 3, 1) * 0.5 ** (t // 60)


def rest(t):
    """A momentum that starts and pauses at 0."""
    return 0.0 if t < 3 or 40 <= t < 45 else 0.5 + 0.4 * min(t / 100, 1)


def rise(t):
    """A momentum that rises."""
    return 0.5 + 0.4 * min(t / 100, 1)


# The arguments of torch.optim.SGD; functions of the count are set before each step. "late" is
# the first count at which b has a gradient.
TORCH = {
    "plain": {"lr": 0.02},
    "momentum": {"lr": 0.02, "momentum": 0.9},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "dampening": {"lr": 0.02, "momentum": 0.9, "dampening": 0.5},
    "full dampening": {"lr": 0.02, "momentum": 0.9, "dampening": 1.0, "weight_decay": 0.1},
    "maximize": {"lr": 0.001, "momentum": 0.5, "weight_decay": 3.0, "maximize": True},
    "lr schedule": {"lr": drop, "momentum": 0.9, "nesterov": True},
    "momentum schedule": {"lr": 0.02, "momentum": rise, "nesterov": True},
    "momentum rests": {"lr": drop, "momentum": rest, "weight_decay": 0.1},
    "dampened momentum rests": {"lr": drop, "momentum": rest, "dampening": 0.3, "late": 2},
    "late gradient": {"lr": 0.02, "momentum": 0.9, "late": 7},
    "late gradient, dampened": {"lr": 0.02, "momentum": 0.9, "dampening": 0.7, "late": 7},
}

KERAS = {
    "plain": {"learning_rate": 0.02},
    "momentum": {"learning_rate": 0.02, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    "schedule": {"learning_rate": drop, "momentum": 0.9},
    "schedule, all": {
        "learning_rate": drop,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.1,
    },
    "clipnorm": {"learning_rate": 0.02, "momentum": 0.9, "clipnorm": 0.5},
    "clipvalue": {"learning_rate": 0.02, "momentum": 0.9, "clipvalue": 0.2, "nesterov": True},
    "global_clipnorm": {"learning_rate": 0.02, "momentum": 0.9, "global_clipnorm": 1.0},
}


def scheduled(value):
    """A function of the count as an Optax schedule in float64: looked up, so exact."""
    if not callable(value):
        return value
    table = np.array([value(t) for t in range(STEPS)])
    return lambda count: jnp.asarray(table)[count]


def run(tx, late=0):
    """θ_0 .. θ_T of an Optax optimizer, each stacked; b has no gradient before the count late."""

    @jax.jit
    def step(params, state):
        updates, state = tx.update(gradient(**params, xp=jnp), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    @jax.jit
    def step_without(params, state):
        grads = gradient(**params, xp=jnp) | {"b": None}
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    params = jax.tree.map(jnp.asarray, START)
    state, path = tx.init(params), [params]
    for t in range(STEPS):
        params, state = (step_without if t < late else step)(params, state)
        path.append(params)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *path)


# A model of both frameworks: a convolution and a dense layer, flattened in each one's own order.
IMAGES = np.random.default_rng(3).normal(size=(8, 2, 5, 5))  # As torch wants them, NCHW.
LABELS = np.random.default_rng(4).normal(size=(8, 4))
SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
HANDOVER = 20

MAPPING = {
    "conv": {"kernel": Counterpart("conv.weight", (2, 3, 1, 0)), "bias": "conv.bias"},
    "out": {
        "kernel": Counterpart("out.weight", (2, 3, 1, 0), shape=(4, (3, 3, 3))),
        "bias": "out.bias",
    },
}
NAMES = ["conv.weight", "conv.bias", "out.weight", "out.bias"]


class Twin(linen.Module):
    """The Flax twin of the torch model in record_torch.py."""

    @linen.compact
    def __call__(self, images):
        x = linen.tanh(linen.Conv(3, (3, 3), padding="VALID", name="conv", **DOUBLE)(images))
        return linen.Dense(4, name="out", **DOUBLE)(x.reshape(len(x), -1))


DOUBLE = {"dtype": np.float64, "param_dtype": np.float64}


def twin_params():
    """Parameters of the twin, to be replaced."""
    images = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    return jax.eval_shape(Twin().init, jax.random.key(0), images)["params"]


def loss(params):
    """The mean squared error, as the torch model has it."""
    images = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    return jnp.mean((Twin().apply({"params": params}, images) - LABELS) ** 2)


def train(params, state, tx, steps=HANDOVER):
    """Continue in JAX; return the parameters and the state."""

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def schedule_of(t):
    """The learning rate of the model's run: it falls on a line, during the hand-over too."""
    return 0.1 * (1 - t / 80)


def complex_problem():
    """A matrix, a target and a start."""
    rng = np.random.default_rng(5)
    return [rng.normal(size=n) + 1j * rng.normal(size=n) for n in [(4, 3), (4,), (3,)]]


def read(name):
    """A recording, its lists as float64 arrays."""
    text = (FOLDER / name).read_text(encoding="utf-8")

    def arrays(node):
        if isinstance(node, dict):
            return {key: arrays(part) for key, part in node.items()}
        return np.array(node) if isinstance(node, list) else node

    return arrays(json.loads(text))


def write(name, recording):
    """Write a recording; a float's shortest repr keeps its every bit."""
    text = json.dumps(recording, default=lambda array: np.asarray(array).tolist())
    (FOLDER / name).write_text(text.replace('}, "', '},\n"') + "\n", encoding="utf-8")
