"""A small transformer that predicts the next letter of the names of characters."""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench._data import Data, require_checksum, shuffled, unicode_names
from momentax.bench._examples import divide, task_on_examples
from momentax.bench._layers import Normal, Params, cross_entropy, initialize, matrix, ones

BLOCK = 1_024
CONTEXT = 32
WIDTH = 48
HEADS = 3
LAYERS = 2
CHARACTERS = 39
SCORED = 128
BATCH_SIZE = 16
CHECKSUM = "faf7010c2ce2d92596d58b71173496b83c3f8d150b022525b1aa5df3c3ebae5d"


@cache
def load() -> Data:
    """Return windows of 33 characters of the text, 128 of a tenth of its blocks for validation.

    The text is the names in the order of their code points, one a line. It is divided in blocks of
    1,024 characters, and a window begins at every 32nd character of a block.
    """
    text = "\n".join(unicode_names().values())
    alphabet = sorted(set(text))
    numbers = {character: number for number, character in enumerate(alphabet)}
    encoded = np.array([numbers[each] for each in text], np.uint8)
    count = len(encoded) // BLOCK
    blocks = encoded[: count * BLOCK].reshape(count, BLOCK)[shuffled(count)]
    windows = np.lib.stride_tricks.sliding_window_view(blocks, CONTEXT + 1, axis=1)[:, ::CONTEXT]
    parts = (each.reshape(-1, CONTEXT + 1) for each in np.split(windows, [-(count // 10)]))
    # The windows of a block are similar: those that are scored come from all blocks.
    train, other = (each[shuffled(len(each))] for each in parts)
    data = divide(SCORED, windows=np.concatenate([train, other[:SCORED]]))
    return require_checksum("names_char", data, CHECKSUM)


def init(data: Any, key: jax.Array) -> Params:
    """Draw the parameters; the embedding is also the head."""
    del data
    layers = {
        "embedding": Normal((CHARACTERS, WIDTH), 0.02),
        "positions": {"embedding": Normal((CONTEXT, WIDTH), 0.02)},
        "norm": {"scale": ones(WIDTH)},
        **{f"block{i + 1}": block() for i in range(LAYERS)},
    }
    return initialize(key, layers)


def block() -> Params:
    """Describe the parameters of attention and of the network behind it."""
    residual = 0.5 / LAYERS  # What each of the sums adds to the stream.
    return {
        "attention": {
            "norm": {"scale": ones(WIDTH)},
            "query": {"kernel": matrix(WIDTH, WIDTH)},
            "key": {"kernel": matrix(WIDTH, WIDTH)},
            "value": {"kernel": matrix(WIDTH, WIDTH)},
            "out": {"kernel": matrix(WIDTH, WIDTH, square=residual)},
        },
        "mlp": {
            "norm": {"scale": ones(WIDTH)},
            "up": {"kernel": matrix(WIDTH, 4 * WIDTH)},
            "down": {"kernel": matrix(4 * WIDTH, WIDTH, square=residual)},
        },
    }


def normalize(layer: Params, x: jax.Array) -> jax.Array:
    """Divide vectors by their root mean square."""
    x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * layer["scale"][None, None]


def attend(layer: Params, x: jax.Array) -> jax.Array:
    """Mix each position with those before it."""
    count, length, _ = x.shape
    split = (count, length, HEADS, WIDTH // HEADS)
    query, key, value = (
        (x @ layer[name]["kernel"]).reshape(split) for name in ("query", "key", "value")
    )
    weights = jnp.einsum("nqhc,nkhc->nhqk", query, key) / sqrt(WIDTH // HEADS)
    is_earlier = jnp.tril(jnp.ones((1, 1, length, length), bool))
    weights = jax.nn.softmax(jnp.where(is_earlier, weights, -jnp.inf), axis=-1)
    mixed = jnp.einsum("nhqk,nkhc->nqhc", weights, value)
    return mixed.reshape(x.shape) @ layer["out"]["kernel"]


def logits(params: Params, tokens: jax.Array) -> jax.Array:
    """Map windows of characters to the logits of those that follow."""
    x = params["embedding"][tokens.astype(jnp.int32)] + params["positions"]["embedding"][None]
    for i in range(LAYERS):
        attention, mlp = params[f"block{i + 1}"]["attention"], params[f"block{i + 1}"]["mlp"]
        x = x + attend(attention, normalize(attention["norm"], x))
        hidden = jax.nn.gelu(normalize(mlp["norm"], x) @ mlp["up"]["kernel"])
        x = x + hidden @ mlp["down"]["kernel"]
    return normalize(params["norm"], x) @ params["embedding"].T


def cost(params: Params, windows: jax.Array) -> jax.Array:
    """Return the cross-entropy of the next character, the mean over all positions of windows."""
    return cross_entropy(logits(params, windows[:, :-1]), windows[:, 1:])


TASK = task_on_examples(
    name="names_char",
    description="A transformer of two layers, width 48, three heads and 58,944 parameters, which "
    "predicts the next character of the names of characters from the 32 before it.",
    source="The names in Unicode 3.2 in Python (unicodedata.ucd_3_2_0), under the licences of "
    "Python and Unicode.",
    load=load,
    checksum=CHECKSUM,
    init=init,
    cost=cost,
    arrays=("windows",),
    batch_size=BATCH_SIZE,
    scored=SCORED,
    steps=500,
    floor=1e-4,  # Far below the entropy of the text, which nobody knows.
)
