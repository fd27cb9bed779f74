"""Optax's tests of sharding, which need 8 devices, over every optimizer.

`python -m tests.optax_suite.eight_devices` runs them and prints, as JSON, the outcome of each: an
error, or None.
"""

import json
import unittest

import jax

from tests.optax_suite.loading import load
from tests.optax_suite.optimizers import every_optimizer


def sharding_test(optimizers):
    """Return the class of Optax's tests of sharding over some optimizers, by their names."""
    return load("optax._src.sharding_test", {"OPTIMIZERS": optimizers}).ShardingTest


def outcomes(optimizers):
    """Run all tests over some optimizers, and return the error of each, or None, by its name."""
    tests = list(unittest.defaultTestLoader.loadTestsFromTestCase(sharding_test(optimizers)))
    result = unittest.TestResult()
    for test in tests:
        test(result)
    errors = {test.id(): error for test, error in result.errors + result.failures}
    return {test.id().rpartition(".")[2]: errors.get(test.id()) for test in tests}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    made = {name: tx.make(**tx.numbers) for name, tx in every_optimizer().items()}
    print(json.dumps(outcomes(made)))
