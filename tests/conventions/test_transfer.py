"""Velocities in any pipeline are filled from buffers and read out again."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax.conventions import (
    Counterpart,
    _transfer,
    export_torch_state,
    from_torch,
    import_torch_state,
)
from tests.conventions.checkpoints import (
    BIAS,
    FULL,
    KERNEL,
    MAPPING,
    PARAMS,
    PIPELINES,
    keep,
    state_dict,
)


@pytest.mark.parametrize("name", PIPELINES)
def test_any_pipeline_that_sums_gradients_is_filled(name):
    tx = PIPELINES[name]
    empty = tx.init(PARAMS)
    state = import_torch_state(FULL, PARAMS, MAPPING, state=empty, count=5)
    expected = {"kernel": KERNEL.T, "bias": BIAS}
    chex.assert_trees_all_equal(momentax.velocity(state), jax.tree.map(jnp.asarray, expected))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, empty)
    counts = [
        int(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jax.tree_util.keystr(path).endswith(".count")
    ]
    assert set(counts) <= {5}
    assert counts or name == "optax.trace"
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides by a count.
        _, after = jax.eval_shape(tx.update, PARAMS, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    back = export_torch_state(state, FULL, MAPPING, tensor=keep)
    chex.assert_trees_all_equal(back, FULL)


@pytest.mark.parametrize(
    "tx", [momentax.average(0.9), optax.ema(0.9), optax.adam(0.1), optax.lion(0.1), momentax.lion()]
)
def test_a_velocity_that_is_not_a_sum_of_gradients_is_refused(tx):
    with pytest.raises(ValueError, match="which is not the sum of gradients that SGD keeps"):
        import_torch_state(FULL, PARAMS, MAPPING, state=tx.init(PARAMS))
    with pytest.raises(ValueError, match="which is not the sum of gradients that SGD keeps"):
        export_torch_state(tx.init(PARAMS), FULL, MAPPING, tensor=keep)


def test_without_a_count_every_count_is_unchanged():
    tx = momentax.sgd(0.1)
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    state = import_torch_state(FULL, PARAMS, MAPPING, state=state)
    assert _transfer.counts_of(state) == [1]


def test_the_velocity_keeps_its_sharding():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = {"kernel": jax.device_put(PARAMS["kernel"], split), "bias": PARAMS["bias"]}
    state = import_torch_state(FULL, params, MAPPING)
    velocity = momentax.velocity(state)
    assert velocity["kernel"].sharding == split
    assert not velocity["bias"].committed  # So jit may still place it.


def test_a_partition_is_filled_at_once_or_branch_by_branch():
    tx = optax.partition(
        {"fast": from_torch(0.1, 0.9), "slow": from_torch(0.01, 0.9, 0.5)},
        {"kernel": "fast", "bias": "slow"},
    )
    groups = [{"params": [0]}, {"params": [1]}]
    checkpoint = {"state": FULL["state"], "param_groups": groups}
    with pytest.raises(ValueError, match="the state dict has 2 param groups: combine a from_torch"):
        import_torch_state(checkpoint, PARAMS, MAPPING)
    state = tx.init(PARAMS)
    places = [f".inner_states['{name}'].inner_state[1].velocity" for name in ("fast", "slow")]
    for path in places:
        state = import_torch_state(checkpoint, PARAMS, MAPPING, state=state, path=path)
    kernel, bias = (momentax.velocity(state, path=path) for path in places)
    np.testing.assert_array_equal(kernel["kernel"], KERNEL.T)
    np.testing.assert_array_equal(bias["bias"], BIAS)
    halves = [
        export_torch_state(state, checkpoint, MAPPING, tensor=keep, path=path) for path in places
    ]
    chex.assert_trees_all_equal(halves[0]["state"] | halves[1]["state"], FULL["state"])
    at_once = import_torch_state(checkpoint, PARAMS, MAPPING, state=tx.init(PARAMS))
    chex.assert_trees_all_equal(at_once, state)
    chex.assert_trees_all_equal(
        export_torch_state(at_once, checkpoint, MAPPING, tensor=keep), checkpoint
    )


def test_frozen_parameters_need_no_entry_in_the_optimizer():
    """They are in the model and in the mapping, but neither optimizer updates them."""
    tx = optax.partition(
        {"trained": from_torch(0.1, 0.9), "frozen": optax.set_to_zero()},
        {"kernel": "trained", "bias": "frozen"},
    )
    mapping = {"kernel": Counterpart("w", (1, 0)), "bias": "b"}
    checkpoint = state_dict([KERNEL], param_names=["w"])
    state = import_torch_state(checkpoint, PARAMS, mapping, state=tx.init(PARAMS))
    np.testing.assert_array_equal(momentax.velocity(state)["kernel"], KERNEL.T)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, mapping, tensor=keep), checkpoint
    )


def test_a_buffer_without_a_velocity_in_the_state_is_refused():
    tx = optax.masked(optax.trace(0.9), {"kernel": True, "bias": False})
    with pytest.raises(
        ValueError, match=r"1 belongs to no leaf: .* or the state has no velocity for it"
    ):
        import_torch_state(FULL, PARAMS, MAPPING, state=tx.init(PARAMS))


def test_two_velocities_of_the_same_parameters_need_a_path():
    state = optax.chain(optax.trace(0.9), optax.trace(0.5)).init(PARAMS)
    with pytest.raises(ValueError, match=re.escape("holds 2 velocities, at [0].trace, [1].trace")):
        import_torch_state(FULL, PARAMS, MAPPING, state=state)
    state = import_torch_state(FULL, PARAMS, MAPPING, state=state, path="[1].trace")
    assert not state[0].trace["bias"].any()
    np.testing.assert_array_equal(state[1].trace["bias"], BIAS)


def test_masked_parameters_remain_masked():
    tx = optax.masked(optax.trace(0.9), {"kernel": True, "bias": False})
    checkpoint = state_dict([KERNEL, None])
    state = import_torch_state(checkpoint, PARAMS, MAPPING, state=tx.init(PARAMS))
    assert isinstance(momentax.velocity(state)["bias"], optax.MaskedNode)
    chex.assert_trees_all_equal(
        export_torch_state(state, checkpoint, MAPPING, tensor=keep), checkpoint
    )


def test_the_state_of_an_optimizer_of_nnx_is_filled():
    """`nnx.state` keeps a state as dictionaries."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, momentax.sgd(0.1), wrt=nnx.Param)
    params = nnx.state(model, nnx.Param)
    for empty in (optimizer, optimizer.opt_state, nnx.state(optimizer)):
        state = import_torch_state(FULL, params, MAPPING, state=empty, count=5)
        assert jax.tree.structure(state) == jax.tree.structure(empty)
        velocity = momentax.velocity(state)
        np.testing.assert_array_equal(velocity["kernel"], KERNEL.T)
        np.testing.assert_array_equal(velocity["bias"], BIAS)
        assert _transfer.counts_of(state) == [5]
        back = export_torch_state(state, FULL, MAPPING, tensor=keep)
        chex.assert_trees_all_equal(back, FULL)
