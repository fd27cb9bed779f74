"""Programs whose arguments hold states are exported, serialized and run again."""

import chex
import jax
import jax.numpy as jnp

from momentax import states
from tests.contracts.harness import build, every_transformation


@every_transformation
def test_an_update_is_exported_with_its_state(name):
    from jax import export

    for _ in range(2):  # A second call changes nothing.
        states.register_serialization()
    tx, params = build(name), {"a": jnp.ones(4)}
    state = tx.init(params)
    exported = export.export(jax.jit(tx.update))(params, state, params)
    again = export.deserialize(exported.serialize())
    assert again.in_tree == jax.tree.structure(((params, state, params), {}))
    assert again.out_tree == jax.tree.structure((params, state))


def test_an_exported_step_takes_the_steps_of_the_original():
    from jax import export

    states.register_serialization()
    tx, params = build("sgd"), {"a": jnp.ones(4)}
    state = tx.init(params)
    again = export.deserialize(export.export(jax.jit(tx.update))(params, state, params).serialize())
    chex.assert_trees_all_close(
        again.call(params, state, params), tx.update(params, state, params), rtol=1e-6
    )
