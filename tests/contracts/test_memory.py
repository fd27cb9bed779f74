"""No state or update shares memory with the NumPy arrays that were given.

On CPU, JAX may use the memory of a NumPy array as it is. Whoever writes into the array later, such
as another framework that updates its parameters in place, would then change a JAX array.
"""

import jax
import numpy as np

from tests.cases import TRANSFORMATIONS
from tests.contracts.harness import every_transformation
from tests.foreign_memory import aligned, overwrite


@every_transformation
def test_arrays_of_numpy_are_copied_where_they_enter(name):
    case = TRANSFORMATIONS[name]
    tx = case.make(**case.hyperparameters)
    params = {"a": aligned(np.linspace(-1, 1, 64)), "b": aligned(np.ones((4, 16)))}
    state = tx.init(params)
    given = [params]
    for step in range(2):
        g = {path: aligned(leaf * (0.5 + step)) for path, leaf in params.items()}
        extra = jax.tree.map(aligned, case.extra(g))
        updates, state = tx.update(g, state, params, **extra)
        given += [g, extra]
    kept = jax.block_until_ready((updates, state))
    before = jax.tree.map(lambda leaf: np.array(leaf, copy=True), kept)
    overwrite(given)
    jax.tree.map(np.testing.assert_array_equal, kept, before)
