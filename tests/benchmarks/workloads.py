"""The parameters to optimize: trees of float32 with the shapes of real networks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Shapes = list[tuple[int, ...]]


def resnet18() -> Shapes:
    """Return the shapes of ResNet-18 on ImageNet: 62 leaves, 11.7 million parameters."""
    shapes: Shapes = [(7, 7, 3, 64), (64,), (64,)]
    before = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            shapes += [(3, 3, before, width), (width,), (width,), (3, 3, width, width)]
            shapes += [(width,), (width,)]
            if block == 0 and before != width:
                shapes += [(1, 1, before, width), (width,), (width,)]
            before = width
    return [*shapes, (512, 1000), (1000,)]


def gpt2(width: int = 768, layers: int = 12) -> Shapes:
    """Return the shapes of GPT-2 small: 148 leaves, 124 million parameters."""
    shapes: Shapes = [(50257, width), (1024, width)]
    for _ in range(layers):
        shapes += [(width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,)]
        shapes += [(width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width)]
        shapes += [(width,)]
    return [*shapes, (width,), (width,)]


def small(leaves: int) -> Shapes:
    """Return the shapes of many narrow layers: a matrix and three vectors each, in ten widths."""
    widths = [8 + 4 * (layer % 10) for layer in range(leaves // 4)]
    return [shape for w in widths for shape in ((w, w), (w,), (w,), (w,))]


class Workload(NamedTuple):
    """Shapes, smaller shapes for the test, and how many contestants share the memory."""

    shapes: Shapes
    quick: Shapes
    group: int = 16


WORKLOADS = {
    "1e7": Workload([(10**7,)], [(10**5,)]),
    "1e8": Workload([(10**8,)], [(2 * 10**5,)], group=9),
    "resnet18": Workload(resnet18(), [(64, 64), (64,)]),
    "gpt2": Workload(gpt2(), [(128, 64), (64,)], group=8),
    "1,000 leaves": Workload(small(1000), small(8)),
    "10,000 leaves": Workload(small(10000), small(12)),
    "tiny": Workload([(2, 2), (2,)], [(2, 2), (2,)]),
}


def numbers(shapes: Sequence[tuple[int, ...]], scale: float) -> list[np.ndarray]:
    """Return normal numbers. A million of them are repeated, which takes no time."""
    pool = np.random.default_rng(0).normal(0, scale, 10**6 + 7).astype(np.float32)
    arrays = [np.empty(math.prod(shape), np.float32) for shape in shapes]
    for array in arrays:
        for start in range(0, array.size, pool.size):
            array[start : start + pool.size] = pool[: array.size - start]
    return [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]


class Arena:
    """The parameters and gradients that all contestants of a process share.

    A contestant keeps its own state, takes the parameters and leaves new ones. PyTorch works in
    place and has its own set of parameters.
    """

    def __init__(self, shapes: Shapes):
        self.shapes = shapes
        self.size = sum(map(math.prod, shapes))

    @functools.cached_property
    def grads(self) -> list[jax.Array]:
        """The gradients, which no contestant overwrites."""
        return jax.block_until_ready([jnp.copy(g) for g in numbers(self.shapes, 0.01)])

    @functools.cached_property
    def params(self) -> list[jax.Array]:
        """The parameters, copied to JAX, since NumPy's arrays cannot be donated."""
        return jax.block_until_ready([jnp.copy(θ) for θ in numbers(self.shapes, 0.1)])

    @functools.cached_property
    def torch(self) -> list[Any]:
        """The parameters of PyTorch with their gradients, on the GPU if JAX has one."""
        import torch

        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        params = [
            torch.nn.Parameter(torch.from_numpy(θ).to(device)) for θ in numbers(self.shapes, 0.1)
        ]
        for θ, g in zip(params, numbers(self.shapes, 0.01), strict=True):
            θ.grad = torch.from_numpy(g).to(device)
        return params
