"""The tests of Optax that an optimizer of momentax may fail, each with its reason.

The same tests fail for `optax.sgd(1e-3)` too, which test_excuses.py checks.
"""

from typing import NamedTuple


class Excuse(NamedTuple):
    """A test that some optimizers may fail.

    optimizers: their names, as parts of names of tests.
    test: the name of the test, with {} for the name of the optimizer.
    reason: why it fails.
    """

    optimizers: tuple[str, ...]
    test: str
    reason: str

    def covers(self, test: str) -> bool:
        """Return whether a test is excused."""
        return test in map(self.test.format, self.optimizers)


EXCUSES = (
    Excuse(
        ("recursive_momentum", "positive_negative"),
        "AliasTest::test_optimization_{}_rosenbrock_complex64",
        "Without noise these methods are no faster than plain descent, which needs more than the "
        "10,000 steps of the test, and a higher learning rate diverges.",
    ),
)
