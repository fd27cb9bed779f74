"""The tests of Optax that an optimizer of momentax may fail, each with its reason.

The same tests fail for `optax.sgd(1e-3)` too, or for `optax.sgd` with the property that is the
reason. test_excuses.py checks this.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def sgd_with_constant_norms(learning_rate: float) -> optax.GradientTransformation:
    """Return `optax.sgd` whose steps end on the sphere on which each leaf started."""
    descent = optax.sgd(learning_rate)

    def init(params):
        return jax.tree.map(jnp.linalg.norm, params), descent.init(params)

    def update(updates, state, params):
        radii, inner_state = state
        updates, inner_state = descent.update(updates, inner_state, params)
        moved = optax.apply_updates(params, updates)
        kept = jax.tree.map(optax.projections.projection_l2_sphere, moved, radii)
        return jax.tree.map(jnp.subtract, kept, params), (radii, inner_state)

    return optax.GradientTransformation(init, update)


class Excuse(NamedTuple):
    """A test that some optimizers may fail.

    optimizers: their names, as parts of names of tests.
    test: the name of the test, with {} for the name of the optimizer.
    reason: why it fails.
    control: an optimizer of Optax, as a function of the learning rate, for which it fails too.
    """

    optimizers: tuple[str, ...]
    test: str
    reason: str
    control: Callable[[float], Any] = optax.sgd

    def covers(self, test: str) -> bool:
        """Return whether a test is excused."""
        return test in map(self.test.format, self.optimizers)


_SLOW = (
    "Without noise these methods are no faster than plain descent, which needs more than the "
    "10,000 steps of the test, and a higher learning rate diverges."
)
_ZEROS = (
    "The matrix starts at 0 and has to move away. A method that keeps the norm of each matrix "
    "refuses a matrix of zeros."
)
EXCUSES = (
    Excuse(
        ("recursive_momentum", "positive_negative"),
        "AliasTest::test_optimization_{}_rosenbrock_complex64",
        _SLOW,
    ),
    *(
        Excuse(
            ("hyperball",),
            f"ContribTest::test_optimizers_{{}}_{target}_float32",
            _ZEROS,
            sgd_with_constant_norms,
        )
        for target in ("matrix_parabola", "mixed_tensor_target")
    ),
)
