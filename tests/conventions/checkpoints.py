"""Small checkpoints of PyTorch and Keras, and stand-ins for their tensors and variables."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

import momentax
from momentax.conventions import Counterpart, from_torch

PARAMS = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
BIAS = np.array([7, 8, 9], np.float32)
MAPPING = {"kernel": Counterpart(0, (1, 0)), "bias": 1}


def state_dict(buffers, **group):
    """Return what optimizer.state_dict() returns for numbered buffers; None is no buffer."""
    state = {i: {"momentum_buffer": b} for i, b in enumerate(buffers) if b is not None}
    numbers = list(range(len(buffers)))
    return {"state": state, "param_groups": [{"momentum": 0.9, **group, "params": numbers}]}


FULL = state_dict([KERNEL, BIAS])

# Pipelines with one velocity that sums gradients.
PIPELINES = {
    "momentax.heavy_ball": momentax.heavy_ball(0.9),
    "momentax.sgd": momentax.sgd(0.1, momentax.nesterov(0.9)),
    "from_torch": from_torch(0.1, 0.9, 0.5),
    "optax.trace": optax.trace(0.9),
    "optax.sgd": optax.sgd(optax.linear_schedule(0.1, 0.0, 10), momentum=0.9),
    "chain": optax.chain(optax.clip(1.0), optax.chain(momentax.sgd(0.1)), optax.scale(1.0)),
    "inject_hyperparams": optax.inject_hyperparams(optax.sgd)(
        optax.linear_schedule(0.1, 0.0, 10), momentum=0.9
    ),
    "MultiSteps": optax.MultiSteps(momentax.sgd(0.1), 2).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(momentax.sgd(0.1), 3),
}


def keep(array):
    """Stand in for torch.from_numpy, which needs an array that may be written to."""
    assert array.flags.writeable
    assert array.flags.c_contiguous
    return array


def assert_close(left, right, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), left, right)


class Tensor:
    """A stand-in for a torch tensor, of dtype bfloat16 if it is narrow."""

    def __init__(self, array, narrow=False):
        self.array, self.dtype = array, "torch.bfloat16" if narrow else "torch.float32"

    def detach(self):
        raise AssertionError("numpy(force=True) detaches")

    def float(self):
        return Tensor(self.array)

    def numpy(self, force):
        assert force
        assert self.dtype == "torch.float32"
        return self.array


class SparseTensor(Tensor):
    """A stand-in for a sparse tensor, which torch does not convert to NumPy."""

    is_sparse = True

    def to_dense(self):
        return Tensor(self.array)

    def numpy(self, force):
        raise AssertionError("a sparse tensor must be made dense first")


class Variable(SimpleNamespace):
    """A stand-in for a Keras variable."""

    def assign(self, value):
        self.value = value
