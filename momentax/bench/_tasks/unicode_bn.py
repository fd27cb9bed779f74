"""A network with batch normalization that classifies characters by their code points."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax.bench._data import Data, require_checksum, shuffled, unicode_names
from momentax.bench._examples import divide, task_on_examples
from momentax.bench._layers import (
    Params,
    add_to_last,
    apply,
    cross_entropy,
    dense,
    initialize,
    matrix,
    ones,
    zeros,
)

BITS = 17
CATEGORIES = 27
WIDTH = 96
VALIDATION = 2_570
SCORED = 2_048
BATCH_SIZE = 512
CHECKSUM = "86ad0a71e1b47afd6129c16a35592ddcb3fc34904e17e2a2105b8f93b6efb4e6"


@cache
def load() -> Data:
    """Return code points and the numbers of their categories, a fifth of them for validation."""
    table = unicodedata.ucd_3_2_0
    controls = [code for code in range(256) if table.category(chr(code)) == "Cc"]
    codes = sorted([*controls, *(code for code in unicode_names() if code < 2**BITS)])
    categories = [table.category(chr(code)) for code in codes]
    names = sorted(set(categories))
    order = shuffled(len(codes))
    labels = np.array([names.index(each) for each in categories], np.int32)
    data = divide(VALIDATION, codes=np.array(codes, np.int32)[order], labels=labels[order])
    return require_checksum("unicode_bn", data, CHECKSUM)


def init(data: Any, key: jax.Array) -> Params:
    """Draw the parameters; a normalized layer needs no bias before its normalization."""
    del data
    normalization = {"scale": ones(WIDTH), "bias": zeros(WIDTH)}
    layers = {
        "hidden1": {"kernel": matrix(BITS, WIDTH, square=2), **normalization},
        "hidden2": {"kernel": matrix(WIDTH, WIDTH, square=2), **normalization},
        "head": dense(WIDTH, CATEGORIES),
    }
    return initialize(key, layers)


def normalize(layer: Params, x: jax.Array) -> jax.Array:
    """Normalize by the mean and the variance of the examples at hand, in training and scoring."""
    x = x - x.mean(0, keepdims=True)
    x = x / jnp.sqrt((x**2).mean(0, keepdims=True) + 1e-5)
    return add_to_last(x * layer["scale"][None], layer["bias"])


def logits(params: Params, codes: jax.Array) -> jax.Array:
    """Map code points to logits, from their bits as -1 and 1."""
    bits = (codes[:, None] >> jnp.arange(BITS, dtype=jnp.int32)[None]) & 1
    x = 2 * bits.astype(jnp.float32) - 1
    for name in ("hidden1", "hidden2"):
        x = jax.nn.relu(normalize(params[name], x @ params[name]["kernel"]))
    return apply(params["head"], x)


def cost(params: Params, codes: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy of examples."""
    return cross_entropy(logits(params, codes), labels)


TASK = task_on_examples(
    name="unicode_bn",
    description="A network with two hidden layers of 96, batch normalization and 13,851 "
    "parameters, which classifies the 17 bits of a code point into the 27 categories of Unicode. "
    "The normalization uses the statistics of the examples at hand, in training and in scoring.",
    source="The table of Unicode 3.2 in Python (unicodedata.ucd_3_2_0), under the licences of "
    "Python and Unicode.",
    load=load,
    checksum=CHECKSUM,
    init=init,
    cost=cost,
    arrays=("codes", "labels"),
    batch_size=BATCH_SIZE,
    scored=SCORED,
    steps=500,
    floor=1e-4,  # Far below what a network of this size reaches.
)
