"""A recurrent network over embedded words that finds the block of a character from its name."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench._data import Data, require_checksum, shuffled, unicode_names
from momentax.bench._examples import divide, task_on_examples
from momentax.bench._layers import (
    Normal,
    Params,
    apply,
    cross_entropy,
    dense,
    initialize,
)

LONGEST = 8
VOCABULARY = 4_455  # The words, and 0 for what is behind the end of a name.
WIDTH = 32
HIDDEN = 48
BLOCKS = 120
VALIDATION = 2_578
SCORED = 1_536
BATCH_SIZE = 64
CHECKSUM = "58c53fc6b15ddc009f23e272d94336a348fac847d92926eebc2ad612d709ffb6"


@cache
def load() -> Data:
    """Return the numbers of up to 8 words of each name, and of the block of its character."""
    names = unicode_names()
    split = [name.replace("-", " ").split() for name in names.values()]
    vocabulary = sorted({word for words in split for word in words})
    numbers = {word: number for number, word in enumerate(vocabulary, 1)}
    words = np.zeros((len(names), LONGEST), np.int32)
    for row, each in zip(words, split, strict=True):
        row[: len(each)] = [numbers[word] for word in each[:LONGEST]]
    _, blocks = np.unique([code >> 7 for code in names], return_inverse=True)
    order = shuffled(len(names))
    data = divide(VALIDATION, words=words[order], blocks=blocks[order].astype(np.int32))
    return require_checksum("names_embed", data, CHECKSUM)


def init(data: Any, key: jax.Array) -> Params:
    """Draw the parameters; kernels and biases of the recurrent layer hold its three gates."""
    del data
    layers = {
        "embedding": Normal((VOCABULARY, WIDTH), 0.1),
        "inputs": dense(WIDTH, 3 * HIDDEN),
        "recurrent": dense(HIDDEN, 3 * HIDDEN),
        "head": dense(HIDDEN, BLOCKS),
    }
    return initialize(key, layers)


def logits(params: Params, words: jax.Array) -> jax.Array:
    """Map the words of names to logits, from the state of a gated recurrent unit at their end."""
    words = words.T

    def step(state: jax.Array, now: Any) -> Any:
        embedded, is_word = now
        # Projected in the step, and not for all words at once: on a CPU that is 3 times as fast.
        reset, keep, new = jnp.split(apply(params["inputs"], embedded), 3, axis=-1)
        recurrent = jnp.split(apply(params["recurrent"], state), 3, axis=-1)
        keep = jax.nn.sigmoid(keep + recurrent[1])
        new = jnp.tanh(new + jax.nn.sigmoid(reset + recurrent[0]) * recurrent[2])
        return jnp.where(is_word[:, None], keep * state + (1 - keep) * new, state), None

    start = jnp.zeros((words.shape[1], HIDDEN), jnp.float32)
    state, _ = jax.lax.scan(step, start, (params["embedding"][words], words > 0))
    return apply(params["head"], state)


def cost(params: Params, words: jax.Array, blocks: jax.Array) -> jax.Array:
    """Return the cross-entropy of examples."""
    return cross_entropy(logits(params, words), blocks)


TASK = task_on_examples(
    name="names_embed",
    description="Embeddings of 4,454 words, a gated recurrent unit of 48 and 160,248 parameters, "
    "which find the block of a character, one of 120, from the first 8 words of its name. Most "
    "words are rare, so that most rows of the embedding have no gradient in a step.",
    source="The names in Unicode 3.2 in Python (unicodedata.ucd_3_2_0), under the licences of "
    "Python and Unicode.",
    load=load,
    checksum=CHECKSUM,
    init=init,
    cost=cost,
    arrays=("words", "blocks"),
    batch_size=BATCH_SIZE,
    scored=SCORED,
    steps=1_000,
    # Almost all names are right long before; the loss then measures the scale of the logits.
    floor=1e-5,
)
