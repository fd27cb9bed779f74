"""A run of Optax continues in momentax, and back, to round-off."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax.conventions import export_optax_state, import_optax_state


@pytest.fixture(autouse=True)
def standard_promotion():
    """The schedules of Optax need it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


RATE = optax.cosine_decay_schedule(0.1, 20)


def params():
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.normal(size=(3, 2))), "b": jnp.asarray(rng.normal(size=2))}


def gradient(t):
    rng = np.random.default_rng(t + 1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params())


def run(tx, state, point, start, steps):
    """Take some steps with the gradients of a fixed sequence."""
    update = optax.with_extra_args_support(tx).update
    for t in range(start, start + steps):
        updates, state = update(gradient(t), state, point)
        point = optax.apply_updates(point, updates)
    return point, state


def clipped(tx):
    return optax.chain(optax.clip_by_global_norm(1.0), tx)


def masked(tx):
    return optax.masked(tx, {"w": True, "b": False})


def split(tx):
    return optax.partition({"momentum": tx, "none": optax.sgd(0.1)}, {"w": "momentum", "b": "none"})


nesterov = momentax.nesterov(0.9)
adam = momentax.quasi_hyperbolic_adam(0.9, 0.99, nu1=1.0, nu2=1.0)
lion = momentax.sgd(0.01, momentax.lion(0.9, 0.99), weight_decay=0.1, decoupled=True)
PAIRS = {
    "sgd": (optax.sgd(0.1, 0.9), momentax.sgd(0.1)),
    "sgd, nesterov": (optax.sgd(0.1, 0.9, nesterov=True), momentax.sgd(0.1, nesterov)),
    "sgd, schedule": (optax.sgd(RATE, 0.9), momentax.sgd(RATE)),
    "sgd, clipped": (
        clipped(optax.sgd(0.1, 0.9, nesterov=True)),
        clipped(momentax.sgd(0.1, nesterov)),
    ),
    "sgd, decayed": (
        optax.chain(optax.add_decayed_weights(0.01), optax.sgd(RATE, 0.9)),
        momentax.sgd(RATE, weight_decay=0.01),
    ),
    "sgd, inject_hyperparams": (
        optax.inject_hyperparams(optax.sgd)(RATE, 0.9),
        optax.inject_hyperparams(momentax.sgd)(RATE),
    ),
    "sgd, masked": (masked(optax.sgd(0.1, 0.9)), masked(momentax.sgd(0.1))),
    "sgd, partition": (split(optax.sgd(0.1, 0.9)), split(momentax.sgd(0.1))),
    "trace": (
        optax.chain(optax.trace(0.9), optax.scale(-0.1)),
        optax.chain(momentax.heavy_ball(0.9), optax.scale(-0.1)),
    ),
    "two traces": (
        optax.chain(optax.trace(0.9), optax.trace(0.5), optax.scale(-0.1)),
        optax.chain(momentax.heavy_ball(0.9), momentax.heavy_ball(0.5), optax.scale(-0.1)),
    ),
    "ema": (
        optax.chain(optax.ema(0.9), optax.scale(-0.1)),
        momentax.sgd(0.1, momentax.average(0.9)),
    ),
    "ema, not debiased": (
        optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)),
        momentax.sgd(0.1, momentax.average(0.9, debias=False)),
    ),
    "adam": (optax.adam(0.1, b2=0.99), momentax.sgd(0.1, adam)),
    "adamw": (
        optax.adamw(RATE, b2=0.99, weight_decay=0.1),
        momentax.sgd(RATE, adam, weight_decay=0.1, decoupled=True),
    ),
    "nadam": (
        optax.nadam(0.1, b2=0.99),
        momentax.sgd(0.1, momentax.nadam(0.9, 0.99, psi=1e6)),
    ),
    "lion": (optax.lion(0.01, weight_decay=0.1), lion),
}
STEPS = 4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PAIRS)
def test_a_run_continues_there_and_back_as_the_uninterrupted_one(name):
    theirs, ours = PAIRS[name]
    point, state = run(theirs, theirs.init(params()), params(), 0, STEPS)
    expected, _ = run(theirs, state, point, STEPS, 2 * STEPS)
    moved = import_optax_state(state, point, ours)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, ours.init(point))
    middle, moved = run(ours, moved, point, STEPS, STEPS)
    found, _ = run(ours, moved, middle, 2 * STEPS, STEPS)
    chex.assert_trees_all_close(found, expected, rtol=1e-12)
    back = export_optax_state(middle, moved, ours, theirs, count=2 * STEPS)
    found, _ = run(theirs, back, middle, 2 * STEPS, STEPS)
    chex.assert_trees_all_close(found, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("ours", "scale"),
    [
        (momentax.sgd(0.1, velocity_units="parameter"), -0.1),
        (momentax.sgd(1.0, momentax.average(0.9, debias=False)), 0.1),
        (momentax.sgd(1.0, momentax.quasi_hyperbolic(0.9, 1.0)), 0.1),
    ],
)
def test_other_units_are_refused_with_the_scale_that_converts_them(ours, scale):
    theirs = optax.sgd(0.1, 0.9)
    point, state = run(theirs, theirs.init(params()), params(), 0, STEPS)
    message = rf"the velocity of tx must be in the units of Optax's, .*: give scale={scale:g}"
    with pytest.raises(ValueError, match=re.escape(f"give scale={scale:g}") + "$") as caught:
        import_optax_state(state, point, ours)
    assert re.match(message, str(caught.value))
    with pytest.raises(ValueError, match=re.escape(f"give scale={scale:g}") + "$"):
        export_optax_state(point, ours.init(point), ours, theirs)
    expected, _ = run(theirs, state, point, STEPS, STEPS)
    moved = import_optax_state(state, point, ours, scale=scale)
    found, _ = run(ours, moved, point, STEPS, STEPS)
    chex.assert_trees_all_close(found, expected, rtol=1e-12)
    back = export_optax_state(point, moved, ours, theirs, scale=scale)
    chex.assert_trees_all_close(back, state, rtol=1e-12)


@pytest.mark.parametrize("make", [momentax.storage.bfloat16, momentax.storage.int8])
def test_a_stored_velocity_is_encoded(make):
    point = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params())
    theirs, ours = optax.sgd(0.1, 0.9), momentax.stored(momentax.sgd(0.1), make(), min_size=1)
    state = (optax.TraceState(jax.tree.map(jnp.ones_like, point)), optax.EmptyState())
    moved = import_optax_state(state, point, ours)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, ours.init(point))
    chex.assert_trees_all_close(momentax.velocity(moved), state[0].trace, rtol=1e-2)
    chex.assert_trees_all_close(export_optax_state(point, moved, ours, theirs), state, rtol=1e-2)


def test_the_scale_multiplies_the_velocity_and_its_square_the_second_moment():
    theirs, ours = optax.adam(0.1, 0.9, 0.99), momentax.sgd(0.1, adam)
    point, state = run(theirs, theirs.init(params()), params(), 0, 4)
    moved = import_optax_state(state, point, ours, scale=-0.5)
    # Exported without the scale, it shows what tx keeps.
    kept = export_optax_state(point, moved, ours, theirs, scale=1.0)[0]
    expected = state[0]._replace(
        mu=jax.tree.map(lambda m: -0.5 * m, state[0].mu),
        nu=jax.tree.map(lambda n: 0.25 * n, state[0].nu),
    )
    chex.assert_trees_all_close(kept, expected, rtol=1e-6)
    back = export_optax_state(point, moved, ours, theirs, scale=-0.5)
    chex.assert_trees_all_close(back, state, rtol=1e-6)


def test_a_bfloat16_trace_becomes_a_float32_velocity_and_back():
    point = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params())
    theirs, ours = optax.sgd(0.1, 0.9), momentax.sgd(0.1)
    state = (optax.TraceState(point), optax.EmptyState())
    moved = import_optax_state(state, point, ours)
    assert momentax.velocity(moved)["w"].dtype == jnp.float32
    back = export_optax_state(point, moved, ours, theirs)
    chex.assert_trees_all_equal(back, state)
    chex.assert_trees_all_equal_dtypes(back, state)


def test_the_state_of_an_optimizer_of_nnx_is_imported():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    theirs = nnx.Optimizer(model, optax.sgd(0.1, 0.9), wrt=nnx.Param)
    ours = nnx.Optimizer(model, momentax.sgd(0.1), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    theirs.update(model, grads)
    moved = import_optax_state(theirs.opt_state, nnx.state(model, nnx.Param), ours.tx)
    velocity = momentax.velocity(moved)
    np.testing.assert_array_equal(velocity["kernel"], np.ones((2, 3)))


@pytest.mark.usefixtures("x64")
def test_an_average_continues_in_a_sum_at_the_scale_that_the_error_names():
    theirs = optax.ema(0.9, debias=False)
    ours = momentax.heavy_ball(0.9)
    point, state = run(theirs, theirs.init(params()), params(), 0, STEPS)
    message = "one that is 10 times as large, .*: give scale=10$"
    with pytest.raises(ValueError, match=message):
        import_optax_state(state, point, ours)
    with pytest.raises(ValueError, match=message):
        export_optax_state(point, ours.init(point), ours, theirs)
    moved = import_optax_state(state, point, ours, scale=10)
    d, _ = ours.update(gradient(STEPS), moved)
    expected, _ = theirs.update(gradient(STEPS), state)
    chex.assert_trees_all_close(d, jax.tree.map(lambda x: 10 * x, expected), rtol=1e-12)
    back = export_optax_state(point, moved, ours, theirs, count=STEPS, scale=10)
    chex.assert_trees_all_close(back, state, rtol=1e-12)


def test_a_schedule_of_beta_gives_the_exact_sum_of_the_weights():
    beta = optax.linear_schedule(0.5, 0.9, 10)
    ours = momentax.sgd(0.1, momentax.average(beta))
    state = optax.EmaState(jnp.int32(7), params())
    moved = import_optax_state(state, params(), ours)
    kept = np.prod([beta(t) for t in range(7)])
    np.testing.assert_allclose(moved[1].weight, 1 - kept, rtol=1e-6)
    assert int(moved[1].count) == 7


REFUSALS = {
    "another recurrence": (
        optax.adam(0.1),
        momentax.sgd(0.1),
        r"ScaleByAdamState continues in momentax\.quasi_hyperbolic_adam with nu1=1 and nu2=1, or",
    ),
    "a sum as an average": (
        optax.sgd(0.1, 0.9),
        momentax.sgd(0.1, momentax.average()),
        r"TraceState continues in momentax\.heavy_ball or nesterov, not in momentax\.states\.Aver",
    ),
    "a debiased average as a lion": (
        optax.ema(0.9),
        momentax.lion(),
        r"EmaState continues in momentax\.average, with the same debias, not in momentax\.states",
    ),
    "no counterpart in momentax": (
        optax.contrib.muon(0.1),
        momentax.sgd(0.1),
        r"optax_state keeps its velocity at .* in the class optax\.MuonState, which has no",
    ),
    "no counterpart in Optax": (
        optax.sgd(0.1, 0.9),
        momentax.sgd(0.1, momentax.aggregated((0.0, 0.9))),
        r"tx keeps its velocity at .* in the class momentax\.states\.AggregatedState, which has no",
    ),
    "no velocity": (optax.sgd(0.1), momentax.sgd(0.1), "optax_state must hold a state of Optax"),
    "two for one": (
        optax.chain(optax.trace(0.9), optax.trace(0.5)),
        momentax.heavy_ball(0.9),
        r"must hold as many velocities as tx, got 2 at \[0\]\.trace, \[1\]\.trace for 1 at",
    ),
    "a state of momentax": (momentax.sgd(0.1), momentax.sgd(0.1), "has no counterpart"),
    "an optimizer of Optax": (optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.9), "tx keeps its velocity"),
    "accumulation": (
        optax.sgd(0.1, 0.9),
        optax.MultiSteps(momentax.sgd(0.1), 2).gradient_transformation(),
        "tx must use the gradient of each update, got one that does not, such as optax.MultiSteps",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_moved_is_refused_by_a_sentence(name):
    theirs, ours, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        import_optax_state(theirs.init(params()), params(), ours)


def test_other_parameters_are_refused_by_path():
    ours, state = momentax.sgd(0.1), optax.sgd(0.1, 0.9).init(params())
    other = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"the velocity of optax_state at \['w'\] does not fit pa"):
        import_optax_state(state, other, ours)


def test_several_counts_need_one():
    chained = optax.chain(optax.ema(0.9), optax.scale_by_schedule(lambda t: -0.1))
    state = chained.init(params())
    state = (state[0]._replace(count=jnp.int32(3)), state[1])
    with pytest.raises(ValueError, match="got the counts 0, 3: give the number of steps made as c"):
        import_optax_state(state, params(), momentax.sgd(0.1, momentax.average()))


def test_swapped_arguments_are_refused():
    theirs, ours = optax.sgd(0.1, 0.9), momentax.sgd(0.1)
    with pytest.raises(TypeError, match="params must be the parameters, got a state"):
        import_optax_state(theirs.init(params()), theirs.init(params()), ours)
    with pytest.raises(TypeError, match="optax_state must be a state, got a gradient transformati"):
        import_optax_state(theirs, params(), ours)
