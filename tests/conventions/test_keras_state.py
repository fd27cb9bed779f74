"""A run that moves from Keras to JAX and back: variables."""

import re
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.conventions import (
    Counterpart,
    _transfer,
    export_keras_state,
    from_keras,
    import_keras_state,
)
from tests.conventions import trajectories
from tests.conventions.checkpoints import BIAS, KERNEL, PARAMS, Variable, assert_close
from tests.conventions.trajectories import STEPS, as_schedule

RECORDED = trajectories.read("keras.json")
MAPPING = {"kernel": "dense/kernel", "bias": "dense/bias"}


def recorded_variables(when):
    return [
        Variable(path=path, name=path.partition("/")[2], value=np.asarray(value))
        for path, value in RECORDED[when].items()
    ]


def variables_of(*names, iteration=3):
    """Return the variables of an optimizer with velocities of these names."""
    values = {"iteration": iteration, "learning_rate": 0.5, "dense_kernel_momentum": KERNEL.T}
    return [
        Variable(path=f"sgd/{name}", name=name, value=np.asarray(values.get(name, BIAS)))
        for name in ("iteration", "learning_rate", *names)
    ]


BOTH = variables_of("dense_kernel_momentum", "dense_bias_momentum")
VALUES = [variable.value for variable in BOTH]


def test_a_run_of_keras_continues_in_jax_and_back(x64):
    options = {
        key: as_schedule(value) for key, value in trajectories.KERAS["schedule, all"].items()
    }
    tx, half = from_keras(**options), STEPS // 2

    def descend(params, state, steps):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(trajectories.gradient(**params, xp=jnp), state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        return jax.lax.fori_loop(0, steps, lambda _, carry: step(carry, None)[0], (params, state))

    descend = jax.jit(descend)
    start = jax.tree.map(jnp.asarray, trajectories.START)
    params, _ = descend(start, tx.init(start), half)
    mapping = {"w": Counterpart("dense/w", (0, 1)), "b": "dense/b"}  # A square kernel needs axes.
    variables = recorded_variables("halfway")
    state = import_keras_state(variables, params, mapping, state=tx.init(params))
    values = [variable.value for variable in variables]
    assert_close(export_keras_state(state, variables, mapping), values, atol=0)

    params, state = descend(params, state, STEPS - half)
    assert_close(params, {k: path[-1] for k, path in RECORDED["cases"]["schedule, all"].items()})
    values = [variable.value for variable in recorded_variables("end")]
    assert_close(export_keras_state(state, variables, mapping), values)


def test_velocities_are_found_by_path_or_number():
    tx = from_keras(0.5, 0.9)
    for mapping in (MAPPING, {"kernel": 0, "bias": 1}):
        state = import_keras_state(BOTH, PARAMS, mapping, state=tx.init(PARAMS))
        np.testing.assert_array_equal(momentax.velocity(state)["kernel"], KERNEL.T)
        np.testing.assert_array_equal(momentax.velocity(state)["bias"], BIAS)
        assert _transfer.counts_of(state) == [3]
        assert_close(export_keras_state(state, BOTH, mapping), VALUES, atol=0)


def test_a_velocity_in_gradient_units_is_scaled():
    tx = optax.sgd(0.5, momentum=0.9)
    state = import_keras_state(BOTH, PARAMS, MAPPING, state=tx.init(PARAMS), scale=-1 / 0.5)
    np.testing.assert_array_equal(momentax.velocity(state)["bias"], -2 * BIAS)
    with pytest.raises(ValueError, match=re.escape("the state has the counts []; pass the number")):
        export_keras_state(state, BOTH, MAPPING, scale=-1 / 0.5)
    values = export_keras_state(state, BOTH, MAPPING, scale=-1 / 0.5, count=3)
    assert_close(values, VALUES, atol=0)


def test_without_momentum_keras_has_no_velocity():
    tx, variables = from_keras(0.5), variables_of()
    state = import_keras_state(variables, PARAMS, MAPPING, state=tx.init(PARAMS))
    assert not momentax.velocity(state)["bias"].any()
    assert_close(export_keras_state(state, variables, MAPPING), [3, 0.5], atol=0)


@pytest.mark.parametrize(
    ("variables", "kind", "message"),
    [
        (
            variables_of("dense_kernel_momentum"),
            ValueError,
            "the velocity of 'dense/bias' for the parameter at ['bias'], which Keras calls "
            "'dense_bias_momentum', does not occur among the variables; the velocities are "
            "'dense_kernel_momentum', numbered from 0",
        ),
        (
            variables_of("dense_kernel_momentum", "dense_bias_momentum", "dense_bias_momentum"),
            ValueError,
            "which Keras calls 'dense_bias_momentum', occurs several times among the variables; ",
        ),
        (
            variables_of("dense_kernel_momentum", "dense_bias_momentum", "head_bias_momentum"),
            ValueError,
            "belongs to no leaf: the mapping omits it",
        ),
        (
            variables_of("dense_kernel_velocity"),
            TypeError,
            "the variables include 'dense_kernel_velocity'",
        ),
    ],
)
def test_variables_that_do_not_fit_are_explained(variables, kind, message):
    state = from_keras(0.5, 0.9).init(PARAMS)
    with pytest.raises(kind, match=re.escape(message)):
        import_keras_state(variables, PARAMS, MAPPING, state=state)


@pytest.mark.parametrize("variables", [3, "sgd", [np.zeros(3)], SimpleNamespace(variables=BOTH)])
def test_values_that_are_not_variables_are_refused(variables):
    state = from_keras(0.5, 0.9).init(PARAMS)
    message = "variables must be optimizer.variables of a keras.optimizers.SGD, got "
    with pytest.raises(TypeError, match=message):
        import_keras_state(variables, PARAMS, MAPPING, state=state)
    with pytest.raises(TypeError, match=message):
        export_keras_state(state, variables, MAPPING)


def test_from_keras_accepts_the_variable_of_the_learning_rate():
    rate = Variable(path="sgd/learning_rate", name="learning_rate", value=np.float32(0.5))
    tx, expected = from_keras(rate, 0.9), from_keras(0.5, 0.9)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    chex.assert_trees_all_equal(
        tx.update(grads, tx.init(PARAMS)), expected.update(grads, expected.init(PARAMS))
    )


def test_a_velocity_of_another_shape_is_not_exported():
    state = from_keras(0.5, 0.9).init({"kernel": jnp.zeros((3, 2)), "bias": PARAMS["bias"]})
    with pytest.raises(
        ValueError, match=re.escape("has shape (3, 2), and Keras's has shape (2, 3)")
    ):
        export_keras_state(state, BOTH, MAPPING)


def test_a_number_and_a_name_of_one_variable_are_not_given_to_two_leaves():
    params = {"kernel": jnp.zeros(3), "bias": jnp.zeros(3)}
    variables = variables_of("dense_kernel_momentum", "dense_bias_momentum")
    state = from_keras(0.5, 0.9).init(params)
    for mapping in (
        {"kernel": 1, "bias": "dense/bias"},
        {"kernel": "dense_bias", "bias": "dense/bias"},
    ):
        with pytest.raises(
            ValueError, match=r"both map to the parameter .* of the other framework"
        ):
            import_keras_state(variables, params, mapping, state=state)
        with pytest.raises(
            ValueError, match=r"both map to the parameter .* of the other framework"
        ):
            export_keras_state(state, variables, mapping)


def test_variables_that_are_none_or_of_several_optimizers_are_refused():
    state = from_keras(0.5, 0.9).init(PARAMS)
    for variables, message in (([], "variables is empty"), ([*BOTH, *BOTH], "several iterations")):
        with pytest.raises(ValueError, match=message):
            import_keras_state(variables, PARAMS, MAPPING, state=state)
