"""A small convolutional network on handwritten digits."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from momentax.bench._data import Data, digits, require_checksum, shuffled
from momentax.bench._examples import divide, task_on_examples
from momentax.bench._layers import Params, apply, cross_entropy, dense, initialize, matrix

VALIDATION = 360
BATCH_SIZE = 32
CHECKSUM = "07c7af9048ab1eb50d79f545ccbbbb8c442d7fe786589faf699fab15cef239f0"


@cache
def load() -> Data:
    """Return the digits, 360 of them for validation."""
    pixels, labels = digits("digits_cnn")
    order = shuffled(len(pixels))
    data = divide(VALIDATION, images=pixels[order], labels=labels[order])
    return require_checksum("digits_cnn", data, CHECKSUM)


def init(data: Any, key: jax.Array) -> Params:
    """Draw the parameters as He and others do; convolutions are matrices of (9 inputs, outputs)."""
    del data
    layers = {
        "conv1": {"kernel": matrix(9, 16, square=2)},
        "conv2": {"kernel": matrix(9 * 16, 32, square=2)},
        "hidden": dense(128, 64, square=2),
        "head": dense(64, 10),
    }
    return initialize(key, layers)


def convolve(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Compute a 3 by 3 convolution with zeros outside as one product of matrices."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1) @ kernel


def pool(x: jax.Array) -> jax.Array:
    """Return the means of squares of 2 by 2 pixels."""
    count, height, width, channels = x.shape
    return x.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def logits(params: Params, images: jax.Array) -> jax.Array:
    """Map images with gray levels 0..16 to logits."""
    x = images[..., None].astype(jnp.float32) / 16
    for name in ("conv1", "conv2"):
        x = pool(jax.nn.relu(convolve(params[name]["kernel"], x)))
    x = jax.nn.relu(apply(params["hidden"], x.reshape(len(x), -1)))
    return apply(params["head"], x)


def cost(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy of examples."""
    return cross_entropy(logits(params, images), labels)


TASK = task_on_examples(
    name="digits_cnn",
    description="A network of two 3 by 3 convolutions (16 and 32 channels), a hidden layer of 64 "
    "and 13,658 parameters, which classifies 8 by 8 images of handwritten digits.",
    source="The 1,797 test images of Alpaydin and Kaynak's Optical Recognition of Handwritten "
    "Digits (1998), as scikit-learn contains them (BSD-3-Clause).",
    load=load,
    checksum=CHECKSUM,
    init=init,
    cost=cost,
    arrays=("images", "labels"),
    batch_size=BATCH_SIZE,
    steps=1_000,
    # All images are right long before the loss is so small; it then measures the scale of logits.
    floor=1e-5,
)
