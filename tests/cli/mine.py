"""A user's own module, which the tests copy to a folder and name on the command line."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

import momentax


def data():
    """Points of the plane around three places, and which place each belongs to."""
    labels = np.arange(96) % 3
    around = np.random.default_rng(0).normal(size=(96, 2))
    inputs = np.array([[0, 5], [4, 0], [-4, 0]])[labels] + around
    return (inputs[:72], labels[:72]), (inputs[72:], labels[72:])


def regression():
    """The same points, and a linear function of them with noise of variance 0.01."""
    noise = np.random.default_rng(1).normal(size=96) / 10
    parts = []
    for rows in (slice(72), slice(72, 96)):
        inputs = np.concatenate([part[0] for part in data()])[rows]
        parts.append((inputs, inputs @ [0.5, -0.2] + 1 + noise[rows]))
    return tuple(parts)


# Data that are refused.


def negative_labels():
    (inputs, labels), test = data()
    return (inputs, -labels), test


def fractional_labels():
    (inputs, labels), test = data()
    return (inputs, labels / 2), test


def infinite_labels():
    (inputs, labels), (test_inputs, test_labels) = data()
    return (inputs, np.full(labels.shape, np.inf)), (test_inputs, test_labels / 1.0)


def fewer_inputs():
    (inputs, labels), test = data()
    return (inputs[:-1], labels), test


def unequal_inputs():
    train, (inputs, labels) = data()
    return train, (inputs[:, :1], labels)


def one_part():
    return data()[0]


# Networks.


class Network(nnx.Module):
    def __init__(self, *, rngs):
        self.first, self.last = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.last(nnx.relu(self.first(inputs)))


def linear(rngs):
    return nnx.Linear(2, 3, rngs=rngs)


def scalar(rngs):
    """A linear function, which returns outputs of shape (n, 1)."""
    return nnx.Linear(2, 1, rngs=rngs)


# Networks that are refused.


def wide(rngs):
    return nnx.Linear(64, 3, rngs=rngs)


def pair(rngs):
    return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), lambda x: (x, x))


class Reshaping(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.last(inputs.reshape(-1, 5))


def two_classes(rngs):
    return nnx.Linear(2, 2, rngs=rngs)


def number(rngs):
    return 3


def flat(rngs):
    return nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), jnp.ravel)


def two_arguments(rngs, width):
    return None


PI = 3.14


# Training functions.


def descent(learning_rate, beta, start=1.0):
    tx = momentax.sgd(learning_rate, momentax.heavy_ball(beta))
    x = jnp.float32(start)
    state = tx.init(x)
    for _ in range(5):
        updates, state = tx.update(x, state, x)
        x = x + updates
    return {"loss": x**2, "distance": jnp.abs(x)}


def with_options(learning_rate, beta, *, seed, data, epochs, method):
    tx = momentax.sgd(learning_rate, method(beta))
    x = jnp.float32(1)
    _, state = tx.update(x, tx.init(x), x)
    step, _ = tx.update(x, state, x)
    sizes = {"seed": seed, "epochs": epochs, "size": len(data[0][1])}
    return {"zeal": step, **sizes, "diverged": step < -1}


# Training functions that are refused.


def without_mode(learning_rate, beta):
    return {"zeal": learning_rate * beta}


def three_arguments(learning_rate, beta, width):
    return {"loss": learning_rate}


def branching(learning_rate, beta):
    return {"loss": 1.0 if learning_rate > 0.1 else 2.0}


def a_list(learning_rate, beta):
    return [learning_rate, beta]


def a_curve(learning_rate, beta):
    return {"loss": jnp.stack([learning_rate, beta])}


def no_number(learning_rate, beta):
    return {"diverged": beta > 0.5}


def misshapen(learning_rate, beta, data):
    return {"loss": (data[0][0] @ jnp.ones(64)).sum()}


def broken(learning_rate, beta):
    raise ValueError("not enough sleep")
