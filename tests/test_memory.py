"""Nothing that enters or leaves the library shares memory with the arrays of the caller.

PyTorch and NumPy programs change arrays in place. JAX on CPU may use the memory of such an array,
so that a JAX array that was made from it would change as well.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import momentax
from momentax import conventions, sweeps, theory
from tests.conventions.checkpoints import MAPPING, Variable, state_dict
from tests.foreign_memory import aligned, overwrite

KERNEL, BIAS = np.arange(96.0).reshape(16, 6), np.arange(16.0)
WIDE = {"kernel": jnp.zeros((6, 16)), "bias": jnp.zeros(16)}
KERAS = {"kernel": "dense/kernel", "bias": "dense/bias"}


def test_jax_uses_the_memory_of_the_arrays_in_these_tests():
    """Otherwise the other tests would prove nothing."""
    array = aligned(BIAS)
    shared = jax.block_until_ready(jnp.asarray(array, jnp.float32))
    array[...] = -77
    np.testing.assert_array_equal(shared, -77)


# Arrays that enter.


def import_params(kernel, bias):
    mapping = {"kernel": conventions.Counterpart("w", (1, 0)), "bias": "b"}
    return conventions.import_params({"w": kernel, "b": bias}, WIDE, mapping)


def import_torch(kernel, bias):
    return conventions.import_torch_state(state_dict([kernel, bias]), WIDE, MAPPING)


def import_keras(kernel, bias):
    variables = [
        Variable(path="sgd/dense_kernel_momentum", name="", value=kernel),
        Variable(path="sgd/dense_bias_momentum", name="", value=bias),
    ]
    params = {"kernel": jnp.zeros((16, 6)), "bias": WIDE["bias"]}
    state = conventions.from_keras(0.1, 0.9).init(params)
    return conventions.import_keras_state(variables, params, KERAS, state=state)


def replace(kernel, bias):
    params = {"kernel": jnp.zeros((16, 6)), "bias": WIDE["bias"]}
    state = momentax.sgd(0.1).init(params)
    return momentax.replace_velocity(state, {"kernel": kernel, "bias": bias})


def replace_in_nnx(kernel, bias):
    model = nnx.Linear(16, 6, rngs=nnx.Rngs(0))
    state = nnx.state(nnx.Optimizer(model, momentax.sgd(0.1), wrt=nnx.Param))
    return momentax.replace_velocity(state, {"kernel": kernel, "bias": bias[:6]})


def roll_out(kernel, bias):
    def loss(p):
        return jnp.sum(p["k"] ** 2) + jnp.sum(p["b"] ** 2)

    return momentax.rollout(loss, {"k": kernel, "b": bias}, momentax.sgd(0.01), 2)


def train(kernel, bias):
    tx = momentax.sgd(0.1)
    step = momentax.train_step(lambda p, batch: jnp.sum((p["k"] - batch) ** 2), tx)
    params = {"k": kernel}
    return step(params, tx.init(params), bias[:6])


def evaluate(kernel, bias):
    tx = momentax.sgd(0.1, momentax.nesterov(0.9))
    params = {"k": kernel, "b": bias}
    _, state = tx.update(params, tx.init(params), params)
    return momentax.eval_params(params, state, learning_rate=0.1)


def catch_up(kernel, bias):
    tx = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.9)))
    _, state = tx.update(kernel, tx.init(kernel), kernel)
    return momentax.catch_up(kernel, state, bias.astype(np.int32), learning_rate=0.1)


def curvature(kernel, bias):
    return momentax.curvature(lambda p: jnp.sum(p**2) / 2, bias, num_iterations=4)


def schedule_of_array(kernel, bias):
    schedule = momentax.schedules.scheduled_restart(100, bias[1:4].astype(int))
    return [np.array(schedule(t)) for t in range(6)]


def quadratic(kernel, bias):
    H = kernel.T @ kernel
    problem = momentax.problems.quadratic(H)
    overwrite(H)
    return problem.start, problem.minimum, problem.loss(jnp.ones(6)), problem.curvatures


def betas(kernel, bias):
    given = bias[:3] / 20
    tx = momentax.aggregated(given)
    overwrite(given)
    return tx.update(WIDE, tx.init(WIDE))


ENTERING = {
    "import_params": import_params,
    "import_torch_state": import_torch,
    "import_keras_state": import_keras,
    "replace_velocity": replace,
    "replace_velocity in NNX": replace_in_nnx,
    "rollout": roll_out,
    "train_step": train,
    "eval_params": evaluate,
    "catch_up": catch_up,
    "curvature": curvature,
    "scheduled_restart": schedule_of_array,
    "problems.quadratic": quadratic,
    "aggregated": betas,
    "grid": lambda kernel, bias: momentax.grid(a=bias, b=kernel[0]),
    "zipped": lambda kernel, bias: sweeps.zipped(a=bias),
    "repeat": lambda kernel, bias: sweeps.repeat(momentax.grid(a=bias), 2),
    "Points": lambda kernel, bias: sweeps.Points({"a": {"a": bias}}),
}


def leaves(result):
    """Return the arrays of a result as they are now, in NumPy."""
    return [np.array(leaf) for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")]


@pytest.mark.parametrize("name", ENTERING)
def test_a_result_does_not_change_with_the_arrays_that_were_given(name):
    given = aligned(KERNEL), aligned(BIAS)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = ENTERING[name](*given)
    before = leaves(jax.block_until_ready(result))
    overwrite(given)
    assert before
    jax.tree.map(np.testing.assert_array_equal, leaves(result), before)


@pytest.mark.parametrize("name", ["import_params", "import_torch_state", "replace_velocity"])
def test_arrays_that_share_the_memory_of_another_framework_are_copied(name):
    """As those that `jax.dlpack.from_dlpack` makes of tensors."""
    given = aligned(KERNEL), aligned(BIAS)
    shared = [jnp.asarray(array, jnp.float32) for array in given]
    result = ENTERING[name](*shared)
    before = leaves(jax.block_until_ready(result))
    overwrite(given)
    np.testing.assert_array_equal(shared[1], -77)
    jax.tree.map(np.testing.assert_array_equal, leaves(result), before)


# Arrays that leave.


def state():
    tx = conventions.from_torch(0.1, 0.9)
    g = {"kernel": jnp.asarray(KERNEL.T, jnp.float32), "bias": jnp.asarray(BIAS, jnp.float32)}
    return tx.update(g, tx.init(g), g)[1]


def export_params():
    params = momentax.velocity(state())
    mapping = {"kernel": conventions.Counterpart("w", (0, 1)), "bias": "b"}
    return params, conventions.export_params(params, mapping)


def export_torch():
    kept, theirs = state(), state_dict([None, None], lr=[0.1])
    exported = conventions.export_torch_state(kept, theirs, MAPPING, tensor=lambda array: array)
    return (kept, theirs), exported


def export_keras():
    kept = conventions.from_keras(0.1, 0.9).init({"bias": jnp.ones(16)})
    variable = Variable(path="sgd/dense_bias_momentum", name="", value=aligned(BIAS))
    exported = conventions.export_keras_state(kept, [variable], {"bias": "dense/bias"})
    return (kept, variable.value), exported


def result_of_a_sweep():
    return momentax.sweep(lambda a, b: {"loss": a * b}, momentax.grid(a=BIAS, b=BIAS[:3]))


def dataset():
    result = result_of_a_sweep()
    exported = result.to_xarray()
    arrays = [variable.values for variable in exported.variables.values()]
    return (result.points, result.values, result.diverged), arrays


def dataframe():
    result = result_of_a_sweep()
    exported = result.to_dataframe()
    return (result.points, result.values, result.diverged), [
        np.asarray(exported[name]) for name in exported
    ]


def columns():
    points = momentax.grid(a=BIAS, b=BIAS[:3])
    return points, points.columns()


LEAVING = {
    "export_params": export_params,
    "export_torch_state": export_torch,
    "export_keras_state": export_keras,
    "to_xarray": dataset,
    "to_dataframe": dataframe,
    "columns": columns,
}


@pytest.mark.parametrize("name", LEAVING)
def test_writing_into_a_result_does_not_change_what_it_was_made_from(name):
    with_fresh = LEAVING[name]()[0]
    expected = [str(leaf) for leaf in jax.tree.leaves(with_fresh)]
    kept, exported = LEAVING[name]()
    overwrite(exported)
    assert [str(leaf) for leaf in jax.tree.leaves(kept)] == expected


def test_the_axes_of_points_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        momentax.grid(a=BIAS).axes["a"][0] = 1


def test_a_system_of_the_theory_is_a_copy():
    system = theory.state_space(momentax.sgd(0.1))
    overwrite(system)
    again = theory.state_space(momentax.sgd(0.1))
    assert not np.any(again.A == -77)
