"""Muon on meshes whose axes are explicit: the same numbers, and each array stays in its place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import momentax

# Each parameter with the mesh axes along which its axes are split.
SHAPES = {
    "dense/kernel": ((4, 6), ("a", "b")),
    "dense/bias": ((6,), ("b",)),
    "down/kernel": ((8, 4), (("a", "b"), None)),
    "layers/kernel": ((2, 4, 6), ("b", None, "a")),
    "conv/kernel": ((2, 2, 3, 4), (None, None, None, "b")),
    "qkv/kernel": ((4, 12), (None, "b")),
    "embed/embedding": ((6, 4), ("a", None)),
}


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2)], ids=["rows", "columns"])
@pytest.mark.parametrize(
    "options",
    [{}, {"after": "normuon", "split": {"qkv/kernel": 3}}, {"others": optax.adamw(0.1)}],
    ids=["plain", "normuon", "adamw"],
)
def test_parameters_on_explicit_axes_make_the_same_steps_and_stay_in_place(options, sizes):
    mesh = jax.make_mesh(sizes, ("a", "b"), (AxisType.Explicit,) * 2)
    places = {name: NamedSharding(mesh, PartitionSpec(*spec)) for name, (_, spec) in SHAPES.items()}
    rng = np.random.default_rng(0)
    params, grads = (
        {
            name: jnp.asarray(rng.normal(size=shape), jnp.float32)
            for name, (shape, _) in SHAPES.items()
        }
        for _ in range(2)
    )
    tx = momentax.muon(0.02, **options)

    def run(params, grads):
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params, momentax.velocity(state), state

    with jax.numpy_dtype_promotion("standard"):
        expected = jax.jit(run)(params, grads)
        found = jax.jit(run)(jax.device_put(params, places), jax.device_put(grads, places))
        outside = tx.init(jax.device_put(params, places))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, expected)
    assert jax.tree.map(lambda x: x.sharding, found[:2]) == (places, places)
    for inside, leaf in zip(jax.tree.leaves(found[2]), jax.tree.leaves(outside), strict=True):
        assert leaf.ndim == 0 or leaf.sharding.is_equivalent_to(inside.sharding, leaf.ndim)
