"""The default data and network of `momentax sweep`: handwritten digits, a small convolution."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Digits(NamedTuple):
    """Images in [0, 1] of shape (n, 8, 8, 1) and their labels 0..9."""

    images: jax.Array
    labels: jax.Array


def load() -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits, always split into the same 1,437 and 360."""
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels, np.float32) / 16).reshape(-1, 8, 8, 1)
    labels = np.asarray(labels, np.int32)
    parts = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels, shuffle=True
    )
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def convolve_by_matmul(
    images: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any
) -> jax.Array:
    """Compute a convolution of stride 1 and padding "SAME" as one matrix product.

    Under vmap over settings every setting has its own kernel. XLA:CPU runs that as a grouped
    convolution, which is several times slower than the batched matrix product over shifted
    images.
    """
    del args, kwargs
    height, width, _, features = kernel.shape
    rows, columns = images.shape[1:3]
    padded = jnp.pad(images, [(0, 0), *((n // 2, n // 2) for n in (height, width)), (0, 0)])
    shifts = [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(-1, features)


class Network(nnx.Module):
    """Two convolutions with max-pooling and a linear layer: 6,090 parameters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, (3, 3), conv_general_dilated=convolve_by_matmul, rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), conv_general_dilated=convolve_by_matmul, rngs=rngs)
        self.last = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images of shape (n, 8, 8, 1) to logits of shape (n, 10)."""
        x = images
        for convolution in (self.first, self.second):
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), (2, 2))
        return self.last(x.reshape(len(x), -1))
