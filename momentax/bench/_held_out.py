"""Four held-out variants of tasks, which nobody looks at while designing a method.

Hyperparameters are searched anew on each variant, as on the tasks. The variants run once, when a
method is finished. Each differs from its task in one thing: other data of the same kind, another
size, or another question. A method that is good on a task and fails on its variant was fitted to
the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np

from momentax.bench._data import Data, require_checksum, shuffled, unicode_names
from momentax.bench._examples import divide
from momentax.bench._layers import Normal, Params, dense, initialize, zeros
from momentax.bench._named import Named
from momentax.bench._task import Task
from momentax.bench._tasks import curves_ae, digits_cnn, names_embed, spiral_deep

CURVES_CHECKSUM = "eb89303a072806f456dcaa7834870f15601e16e2efc725d43292463b69c81f02"
DIGITS_CHECKSUM = "fb3971e5b9b617a126f54ace459cb1afcf7dbe9881ca0a2e567d3e1e62d69a85"
BLOCKS_CHECKSUM = "aa9c321839d13f72686ce62e2900aa4d417dee806290c1d9cd8ca4b7df52f2a4"
BLOCKS = 62
WIDTH = 3 * spiral_deep.WIDTH // 2


@cache
def other_curves() -> Data:
    """Return the curves that the generator draws after those of the task."""
    images = curves_ae.draw_curves(2 * curves_ae.COUNT)[curves_ae.COUNT :]
    data = divide(curves_ae.VALIDATION, images=images)
    return require_checksum("curves_ae_other_curves", data, CURVES_CHECKSUM)


@cache
def other_split() -> Data:
    """Return the digits, other 360 of them for validation."""
    data = digits_cnn.load()
    joined = {name: joined_parts(data, name) for name in ("images", "labels")}
    order = np.random.RandomState(1).permutation(len(joined["labels"]))
    data = divide(digits_cnn.VALIDATION, **{name: each[order] for name, each in joined.items()})
    return require_checksum("digits_cnn_other_split", data, DIGITS_CHECKSUM)


@cache
def larger_blocks() -> Data:
    """Return the words of each name, and the number of the block of 256 of its character."""
    codes = np.array([*unicode_names()])[shuffled(len(unicode_names()))]
    _, blocks = np.unique(codes >> 8, return_inverse=True)
    words = joined_parts(names_embed.load(), "words")
    data = divide(names_embed.VALIDATION, words=words, blocks=blocks.astype(np.int32))
    return require_checksum("names_embed_larger_blocks", data, BLOCKS_CHECKSUM)


def joined_parts(data: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the rows of an array for training, and behind them those for validation."""
    return np.concatenate([data[name], data[f"validation_{name}"]])


def init_wider(data: Any, key: jax.Array) -> Params:
    """Draw the parameters of the deep network as its task does, with more units in each layer."""
    del data
    layers = {
        "input": dense(2, WIDTH),
        "layers": {
            "kernel": Normal(
                (spiral_deep.DEPTH, WIDTH, WIDTH), (spiral_deep.DEPTH * WIDTH) ** -0.5
            ),
            "bias": zeros(spiral_deep.DEPTH, WIDTH),
        },
        "head": dense(WIDTH, spiral_deep.CLASSES),
    }
    return initialize(key, layers)


def init_blocks(data: Any, key: jax.Array) -> Params:
    """Draw the parameters of the recurrent network as its task does, with a smaller head."""
    body_key, head_key = jax.random.split(key)
    head = initialize(head_key, {"head": dense(names_embed.HIDDEN, BLOCKS)})
    return names_embed.init(data, body_key) | head


# The variants by the names of their tasks.
_VARIANTS = {
    "curves_ae": replace(
        curves_ae.TASK,
        name="curves_ae_other_curves",
        description="The autoencoder of curves_ae on other 9,000 curves of the same generator.",
        load=other_curves,
        checksum=CURVES_CHECKSUM,
    ),
    "spiral_deep": replace(
        spiral_deep.TASK,
        name="spiral_deep_wider",
        description="The network of spiral_deep with a width of 24 in place of 16, which has "
        "14,547 parameters.",
        init=init_wider,
    ),
    "digits_cnn": replace(
        digits_cnn.TASK,
        name="digits_cnn_other_split",
        description="The network of digits_cnn with other images for training and validation.",
        load=other_split,
        checksum=DIGITS_CHECKSUM,
    ),
    "names_embed": replace(
        names_embed.TASK,
        name="names_embed_larger_blocks",
        description=f"The network of names_embed with blocks of 256 characters, {BLOCKS} of them, "
        "in place of 128.",
        load=larger_blocks,
        checksum=BLOCKS_CHECKSUM,
        init=init_blocks,
    ),
}

held_out: Named[Task] = Named("held-out variant", *_VARIANTS.values())
BASES = {variant.name: name for name, variant in _VARIANTS.items()}  # The task of each variant.
