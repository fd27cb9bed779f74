"""The properties of every storage that the tests read.

A new storage needs one entry here and is then tested everywhere: its bytes, accuracy, warnings and
randomness in tests/storage, its compiled steps in tests/training, tests/test_compiled.py and
tests/test_exact_costs.py, its speed in tests/benchmarks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import momentax
from momentax import storage


class StorageCase(NamedTuple):
    """A storage as a function of its options, and its known properties."""

    make: Callable[..., storage.Storage]
    bytes: float  # Of an entry of a large velocity.
    is_random: bool  # Whether it rounds at random, with a seed.
    # The final loss on a quadratic relative to that in float32, at most: with gradient noise and
    # β ≤ 0.99, and otherwise.
    excess_with_noise: float
    excess: float
    largest_beta: float  # Up to which the loss is that close.
    # The text of its warning, and values of β with and without a warning.
    advice: str
    warned: tuple[float, ...]
    accepted: tuple[float, ...]
    # Of a compiled step whose parameters and state are donated: the bytes a parameter that it reads
    # and writes, and those that it keeps meanwhile, for heavy ball.
    accessed: float
    temporary: float
    # The same for Nesterov's momentum, as fields of tests.cases.Case.
    nesterov: dict[str, Any]
    # If it rounds at random: 4096 numbers in the middle between two codes, where an entry in 256
    # may lie on a code.
    halfway: np.ndarray | None = None


STORAGES = {
    "bfloat16, nearest": StorageCase(
        partial(storage.bfloat16, stochastic=False),
        bytes=2.0,
        is_random=False,
        excess_with_noise=1.1,
        excess=1.1,
        largest_beta=0.997,
        advice=r"steady gradients stays too small, .*: use momentax.storage.bfloat16\(\)",
        warned=(0.901, 0.99, 0.999),
        accepted=(0.5, 0.9),
        accessed=18,
        temporary=0,
        nesterov={"accessed": 22},
    ),
    "bfloat16": StorageCase(
        storage.bfloat16,
        bytes=2.0,
        is_random=True,
        excess_with_noise=1.1,
        excess=1.1,
        largest_beta=1.0,
        advice="",
        warned=(),
        accepted=(0.999, 0.9999),
        accessed=18,
        temporary=0,
        nesterov={"accessed": 22},
        halfway=np.full(4096, 1 + 2.0**-8),
    ),
    "int8": StorageCase(
        storage.int8,
        bytes=1 + 4 / 256,
        is_random=True,
        excess_with_noise=1.1,
        excess=2.0,
        largest_beta=1.0,
        advice="bfloat16",
        warned=(0.991, 0.995, 0.9999),
        accepted=(0.9, 0.99),
        accessed=20.2,
        temporary=0.05,
        nesterov={
            "accessed": 25,
            "temporary": 0.06,
            "reach": "leaf",  # A block has one scale.
            "reason": "Three numbers for each block of 256, among them its scale.",
        },
        halfway=np.where(np.arange(4096) % 256 == 0, 127**2, (40**2 + 41**2) / 2),
    ),
}
RANDOM = [name for name, case in STORAGES.items() if case.is_random]


def wrap(kind: str | None, tx: Any, **options: Any) -> Any:
    """Keep the velocity of tx in a storage; with None return tx itself."""
    return tx if kind is None else momentax.stored(tx, STORAGES[kind].make(), **options)
