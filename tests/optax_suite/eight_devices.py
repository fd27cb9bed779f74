"""Optax's tests of sharding, which need 8 devices, over the chosen optimizers.

`python -m tests.optax_suite.eight_devices [NAME ...]` runs them and prints, as JSON, the outcome of
each: an error, or None.
"""

import json
import sys

import jax

from tests.optax_suite.loading import load, outcomes
from tests.optax_suite.optimizers import chosen_optimizers

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    every = chosen_optimizers()
    chosen = sys.argv[1:] or list(every)
    made = {name: every[name].make(**every[name].numbers) for name in chosen}
    suite = load("optax._src.sharding_test", {"OPTIMIZERS": made}).ShardingTest
    print(json.dumps(outcomes(suite)))
