"""rollout beside a loop, and its records beside their definitions."""

import dataclasses
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import problems, rollout, sgd, theory
from momentax._training import _rollout
from tests.compilation import fully_optimized

EVERYTHING = ("loss", "params", "velocity", "gradient", "angle", "step")
ROSENBROCK = problems.rosenbrock()


def loop(loss, params, tx, steps):
    """The same run, one step at a time, with all records."""
    state, rows = tx.init(params), []
    for _ in range(steps):
        value, g = jax.value_and_grad(loss)(params)
        u, state = tx.update(g, state, params)
        v = momentax.velocity(state)
        cosine = np.vdot(v, g) / np.linalg.norm(v) / np.linalg.norm(g)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        rows.append((value, params, v, g, angle, u))
        params = optax.apply_updates(params, u)
    history = {
        name: jnp.stack(column)
        for name, column in zip(EVERYTHING, zip(*rows, strict=True), strict=True)
    }
    return params, state, history


TX = sgd(0.0005, momentax.nesterov(0.9))


@cache
def loop_in_64_bits():
    return loop(ROSENBROCK.loss, ROSENBROCK.start.astype(float), TX, 14)


@pytest.mark.parametrize("every", [1, 2, 3, 7, 20])
@pytest.mark.usefixtures("x64")
def test_equals_a_loop(every):
    tx, start = TX, ROSENBROCK.start.astype(float)
    run = rollout(ROSENBROCK.loss, start, tx, 14, record=EVERYTHING, every=every)
    assert isinstance(run, momentax.Rollout)
    params, state, history = loop_in_64_bits()
    chex.assert_trees_all_close((run.params, run.state), (params, state), rtol=1e-12)
    assert set(run.history) == set(EVERYTHING)
    for name in EVERYTHING:
        tolerance = 1e-4 if name == "angle" else 1e-12  # arccos loses half of the digits near 0.
        np.testing.assert_allclose(
            run.history[name], history[name][::every], rtol=tolerance, atol=1e-6
        )


@pytest.mark.usefixtures("x64")
def test_follows_the_closed_form():
    problem = problems.ravine(30)
    tuning = theory.optimal_heavy_ball(problem.curvatures[0], problem.curvatures[-1])
    tx = sgd(tuning.learning_rate, momentax.heavy_ball(tuning.beta))
    start = problem.start.astype(float)
    run = rollout(problem.loss, start, tx, 100, record=("params", "velocity"))
    hessian = np.diag(problem.curvatures[::-1])
    path = theory.quadratic_path(hessian, start, 100, tuning.learning_rate, tuning.beta)
    np.testing.assert_allclose(run.history["params"], path.params[:-1], atol=1e-9)
    np.testing.assert_allclose(run.history["velocity"], path.velocity[1:], atol=1e-7)
    np.testing.assert_allclose(run.params, path.params[-1], atol=1e-9)


def test_the_parameters_of_the_caller_are_not_donated_and_may_be_any_tree():
    start = {"a": jnp.ones((2, 3)), "b": [jnp.float32(2.0), np.float32(3.0)], "c": 1.5}

    def loss(p):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(p))

    run = rollout(loss, start, sgd(0.1), 5, record=("velocity", "params", "gradient"))
    assert not start["a"].is_deleted()
    chex.assert_tree_shape_prefix(run.history, (5,))
    chex.assert_trees_all_equal_structs(run.history["velocity"], start)
    rollout(loss, start, sgd(0.1), 5)


def test_the_program_is_compiled_once_for_one_loss_and_transformation():
    calls = []

    def loss(θ):
        calls.append(None)
        return jnp.sum(θ**2)

    tx = sgd(0.1)
    rollout(loss, jnp.ones(2), tx, 4)
    traced = len(calls)
    rollout(loss, jnp.zeros(2), tx, 4)
    assert len(calls) == traced


def test_the_copy_of_the_parameters_is_donated():
    arguments = ROSENBROCK.start, ROSENBROCK.loss, sgd(0.1), 4, ("loss",), 1
    lowered = _rollout._run.lower(*arguments)
    assert lowered.args_info[0][0].donated
    assert fully_optimized(lowered).memory_analysis().alias_size_in_bytes >= ROSENBROCK.start.nbytes


def test_vmap_over_beta_and_gradients_through_a_run():
    def final(beta):
        tx = sgd(0.0005, momentax.heavy_ball(beta))
        return rollout(ROSENBROCK.loss, ROSENBROCK.start, tx, 20, every=3).params

    betas = jnp.array([0.0, 0.5, 0.9])
    chex.assert_trees_all_close(jax.vmap(final)(betas), jnp.stack([*map(final, betas)]), rtol=1e-5)
    slope = jax.jit(jax.grad(lambda beta: final(beta).sum()))(0.5)
    difference = (final(0.505).sum() - final(0.495).sum()) / 0.01
    np.testing.assert_allclose(slope, difference, rtol=2e-2)


def test_complex_parameters_descend():
    target = jnp.array([1 + 2j, -0.5j])
    run = rollout(
        lambda z: jnp.sum(jnp.abs(z - target) ** 2), jnp.zeros(2, jnp.complex64), sgd(0.05), 300
    )
    np.testing.assert_allclose(run.params, target, atol=1e-4)


def test_value_and_gradient_reach_the_transformations_that_use_them():
    run = rollout(ROSENBROCK.loss, ROSENBROCK.start, optax.contrib.momo(0.01), 5)
    assert jnp.isfinite(run.history["loss"]).all()
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(30))
    with jax.numpy_dtype_promotion("standard"):
        run = rollout(ROSENBROCK.loss, ROSENBROCK.start, search, 5)
    assert (jnp.diff(run.history["loss"]) < 0).all()


def test_angles_are_exact_at_their_ends():
    """Also where the squares of entries underflow in float32."""
    scale = 1e-25

    def loss(θ):
        return scale * jnp.sum(θ)

    for units, angle in (("gradient", 0.0), ("parameter", 180.0)):
        tx = sgd(0.1, velocity_units=units)
        run = rollout(loss, jnp.ones(3), tx, 3, record="angle")
        np.testing.assert_allclose(run.history["angle"], angle, atol=1e-4)
    run = rollout(lambda θ: 0 * jnp.sum(θ), jnp.ones(3), sgd(0.1), 2, record="angle")
    assert jnp.isnan(run.history["angle"]).all()


BAD = {
    "record": ({"record": "speed"}, ValueError, "record must be one of 'loss', .* got 'speed'"),
    "every": ({"every": 0}, ValueError, "every must be a whole number, at least 1, got 0"),
    "steps": ({"steps": 1.5}, TypeError, "steps must be a whole number"),
    "no steps": ({"steps": 0}, ValueError, "steps must be a whole number, at least 1, got 0"),
    "tx": ({"tx": sgd}, TypeError, "tx must be a gradient transformation"),
    "loss": ({"loss": lambda θ: θ}, ValueError, r"loss must return one scalar.*\(2,\)"),
    "no velocity": (
        {"tx": optax.sgd(0.1), "record": "angle"},
        ValueError,
        "the state holds no velocity",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    changed, error, text = BAD[case]
    arguments = {"loss": ROSENBROCK.loss, "params": ROSENBROCK.start, "tx": sgd(0.1), "steps": 3}
    with pytest.raises(error, match=text):
        rollout(**(arguments | changed))


def _square(p):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(p))


SOME = {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.ones(3)}}


@pytest.mark.parametrize("kind", ["masked", "partition", "empty leaf"])
def test_the_angle_is_taken_over_the_parameters_that_have_a_velocity(kind):
    target = jnp.array([3.0, -1.0])

    def loss(p):  # Its gradient changes direction on "a" and has another angle on "b".
        return jnp.sum(jnp.square(p["a"] - target) * jnp.array([1.0, 9.0])) + _square(p["b"])

    tx = momentax.sgd(0.02, momentax.heavy_ball(0.9))
    tx = {
        "masked": optax.masked(tx, {"a": True, "b": False}),
        "partition": optax.partition(
            {"momentum": tx, "plain": optax.sgd(0.1)}, {"a": "momentum", "b": "plain"}
        ),
        "empty leaf": tx,
    }[kind]
    start = SOME | {"b": {"c": jnp.ones(0)}} if kind == "empty leaf" else SOME
    run = rollout(loss, start, tx, 5, record=("angle", "velocity", "gradient"))
    v, g = (np.asarray(run.history[name]["a"], np.float64) for name in ("velocity", "gradient"))
    cosine = np.sum(v * g, axis=1) / np.linalg.norm(v, axis=1) / np.linalg.norm(g, axis=1)
    np.testing.assert_allclose(run.history["angle"], np.degrees(np.arccos(cosine)), atol=0.05)
    assert run.history["angle"][-1] > 10


@pytest.mark.parametrize("empty", [{}, {"a": jnp.ones(0)}], ids=["no leaf", "empty leaf"])
def test_empty_parameters_have_no_angle(empty):
    run = rollout(lambda p: jnp.float32(0) + _square(p), empty, sgd(0.1), 2, record="angle")
    assert jnp.isnan(run.history["angle"]).all()


def test_the_angle_of_a_flattened_velocity_raises_since_shapes_differ():
    with pytest.raises(
        ValueError,
        match=r"^the velocity at the root does not fit the gradient: an array where a dict "
        r'belongs; record="angle" needs a velocity shaped like the parameters',
    ):
        rollout(_square, SOME, optax.flatten(sgd(0.1)), 2, record="angle")


def test_a_transformation_without_extra_arguments_is_also_compiled_once():
    calls = []

    def loss(θ):
        calls.append(None)
        return jnp.sum(θ**2)

    tx = optax.GradientTransformation(*optax.scale(-0.1))
    assert not isinstance(tx, optax.GradientTransformationExtraArgs)
    rollout(loss, jnp.ones(2), tx, 4)
    traced = len(calls)
    rollout(loss, jnp.zeros(2), tx, 4)
    assert len(calls) == traced


@pytest.mark.parametrize("every", [1, 2, 5])
def test_runs_without_jit(every):
    arguments = ROSENBROCK.loss, ROSENBROCK.start, sgd(0.0005), 4
    expected = rollout(*arguments, record=EVERYTHING, every=every)
    with jax.disable_jit():
        run = rollout(*arguments, record=EVERYTHING, every=every)
    chex.assert_trees_all_close(run, expected, rtol=1e-5, atol=1e-5)


def test_a_loss_without_a_hash_is_traced_again_at_each_call():
    class Loss:
        def __call__(self, θ):
            return self.scale * jnp.sum(θ**2)

    mutable = dataclasses.make_dataclass("Mutable", ["scale"], bases=(Loss,))(1.0)
    frozen = dataclasses.make_dataclass("Frozen", ["scale"], bases=(Loss,), frozen=True)
    for loss in (mutable, frozen(jnp.float32(1.0))):
        with pytest.raises(TypeError, match="unhashable"):
            hash(loss)
        run = rollout(loss, jnp.ones(2), sgd(0.1), 2)
        np.testing.assert_allclose(run.history["loss"][0], 2)
    mutable.scale = 2.0
    np.testing.assert_allclose(rollout(mutable, jnp.ones(2), sgd(0.1), 2).history["loss"][0], 4)


def test_a_complex_loss_and_a_parameter_without_a_gradient_are_named():
    with pytest.raises(ValueError, match=r"^loss must return one real scalar, got complex64"):
        rollout(lambda z: jnp.sum(z**2), jnp.ones(2, jnp.complex64), sgd(0.1), 2)
    with pytest.raises(ValueError, match=r"^loss must return one real scalar, got int32"):
        rollout(lambda θ: jnp.sum(θ).astype(int), jnp.ones(2), sgd(0.1), 2)
    with pytest.raises(TypeError, match=r"the parameter at \['steps'\] has dtype int32"):
        rollout(lambda p: _square(p["a"]), {"a": jnp.ones(2), "steps": 3}, sgd(0.1), 2)


def test_params_with_a_function_are_refused():
    params = {"a": jnp.ones(2), "b": jnp.tanh}
    with pytest.raises(TypeError, match=r"arrays only, got .* at \['b'\]; .*eqx.partition"):
        momentax.rollout(lambda p: jnp.sum(p["a"] ** 2), params, momentax.sgd(0.1), 3)
