"""What the recordings and the tests share: the cases, a gradient and the Flax twin of a model.

This module needs neither torch nor keras.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from momentax.conventions import Counterpart

FOLDER = Path(__file__).parent
STEPS = 300
RECORDED_STEPS = [1, 2, 3, 4, 10, 50, 150, 300]
A = np.random.default_rng(0).normal(size=(6, 5))
TARGET = np.random.default_rng(1).normal(size=6)
START = {"w": np.random.default_rng(2).normal(size=(2, 2)), "b": np.array([0.5])}


def gradient(w, b, xp=np):
    """The gradient of a convex loss, Σ √(1 + (Aθ - y)²), in NumPy or JAX; b shifts every row."""
    r = A @ xp.concatenate([w.reshape(-1), b]) - TARGET
    g = A.T @ (r / xp.sqrt(1 + r * r))
    return {"w": g[:4].reshape(2, 2), "b": g[4:]}


def decreasing_rate(t):
    """Return a learning rate that warms up from 0 and is then halved every 60 steps."""
    return 0.02 * min(t / 3, 1) * 0.5 ** (t // 60)


def paused_momentum(t):
    """Return a momentum that is 0 at the start and again for a few steps later."""
    return 0.0 if t < 3 or 40 <= t < 45 else 0.5 + 0.4 * min(t / 100, 1)


def rising_momentum(t):
    """Return a momentum that rises."""
    return 0.5 + 0.4 * min(t / 100, 1)


# The arguments of torch.optim.SGD. A function of the count gives the value that is set before each
# step. "late" is the first count at which b has a gradient.
TORCH = {
    "plain": {"lr": 0.02},
    "momentum": {"lr": 0.02, "momentum": 0.9},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "dampening": {"lr": 0.02, "momentum": 0.9, "dampening": 0.5},
    "full dampening": {"lr": 0.02, "momentum": 0.9, "dampening": 1.0, "weight_decay": 0.1},
    "maximize": {"lr": 0.001, "momentum": 0.5, "weight_decay": 3.0, "maximize": True},
    "lr schedule": {"lr": decreasing_rate, "momentum": 0.9, "nesterov": True},
    "momentum schedule": {"lr": 0.02, "momentum": rising_momentum, "nesterov": True},
    "momentum pauses": {"lr": decreasing_rate, "momentum": paused_momentum, "weight_decay": 0.1},
    "dampened momentum pauses": {
        "lr": decreasing_rate,
        "momentum": paused_momentum,
        "dampening": 0.3,
        "late": 2,
    },
    "late gradient": {"lr": 0.02, "momentum": 0.9, "late": 7},
    "late gradient, dampened": {"lr": 0.02, "momentum": 0.9, "dampening": 0.7, "late": 7},
}

KERAS = {
    "plain": {"learning_rate": 0.02},
    "momentum": {"learning_rate": 0.02, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    "schedule": {"learning_rate": decreasing_rate, "momentum": 0.9},
    "schedule, all": {
        "learning_rate": decreasing_rate,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.1,
    },
    "clipnorm": {"learning_rate": 0.02, "momentum": 0.9, "clipnorm": 0.5},
    "clipvalue": {"learning_rate": 0.02, "momentum": 0.9, "clipvalue": 0.2, "nesterov": True},
    "global_clipnorm": {"learning_rate": 0.02, "momentum": 0.9, "global_clipnorm": 1.0},
}


def as_schedule(value):
    """Return a function of the count as an Optax schedule with exact float64 values."""
    if not callable(value):
        return value
    table = np.array([value(t) for t in range(STEPS)])
    return lambda count: jnp.asarray(table)[count]


def _scan(optimizers, carry, steps, without_b):
    """Make steps with each optimizer; without_b means that the gradient of b is None."""

    def step(carry, _):
        after = {}
        for name, (params, state) in carry.items():
            grads = gradient(**params, xp=jnp)
            grads = grads | {"b": None} if without_b else grads
            updates, state = optimizers[name].update(grads, state, params)
            after[name] = jax.tree.map(jnp.add, params, updates), state
        return after, {name: params for name, (params, _) in after.items()}

    return jax.lax.scan(step, carry, length=steps)


def run(optimizers, late=None):
    """Return θ_0 .. θ_T of each Optax optimizer by its name, all compiled as one program.

    `late` has the first count at which b has a gradient, for the optimizers where that is not 0.
    """
    late = late or {}
    groups = {}
    for name in optimizers:
        groups.setdefault(late.get(name, 0), []).append(name)

    def run_all(params):
        paths = {}
        for first, names in groups.items():
            carry = {name: (params, optimizers[name].init(params)) for name in names}
            start = {name: jax.tree.map(lambda leaf: leaf[None], params) for name in names}
            parts = [start]
            if first:
                carry, before = _scan(optimizers, carry, first, without_b=True)
                parts.append(before)
            _, after = _scan(optimizers, carry, STEPS - first, without_b=False)
            paths |= jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts, after)
        return paths

    return jax.tree.map(np.asarray, jax.jit(run_all)(jax.tree.map(jnp.asarray, START)))


def deviation(path, recorded):
    """Return the largest difference of a path from a recorded one."""
    return max(abs(path[key][RECORDED_STEPS] - recorded[key]).max() for key in recorded)


# A model in PyTorch and in Flax: a convolution and a dense layer, each flattened in its own order.
IMAGES = np.random.default_rng(3).normal(size=(8, 2, 5, 5))  # In PyTorch's order, NCHW.
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
    """Return the shapes and dtypes of the twin's parameters."""
    images = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    return jax.eval_shape(Twin().init, jax.random.key(0), images)["params"]


def loss(params):
    """Return the mean squared error of the twin, as in record_torch.py."""
    images = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    return jnp.mean((Twin().apply({"params": params}, images) - LABELS) ** 2)


@functools.cache
def _train_step(tx):
    """Compile a step of the twin once for each optimizer."""

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    return step


def train(params, state, tx, steps=HANDOVER):
    """Make steps with the twin, and return the parameters and the state."""
    step = _train_step(tx)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def model_rate(t):
    """Return the learning rate of the model's run, which decreases linearly throughout."""
    return 0.1 * (1 - t / 80)


def complex_problem():
    """Return a matrix, a target and a start."""
    rng = np.random.default_rng(5)
    return [rng.normal(size=n) + 1j * rng.normal(size=n) for n in [(4, 3), (4,), (3,)]]


def read(name):
    """Read a recording, with its lists as float64 arrays."""
    text = (FOLDER / name).read_text(encoding="utf-8")

    def arrays(node):
        if isinstance(node, dict):
            return {key: arrays(part) for key, part in node.items()}
        return np.array(node) if isinstance(node, list) else node

    return arrays(json.loads(text))


def write(name, recording):
    """Write a recording; the shortest repr of a float preserves every bit."""
    text = json.dumps(recording, default=lambda array: np.asarray(array).tolist())
    (FOLDER / name).write_text(text.replace('}, "', '},\n"') + "\n", encoding="utf-8")
