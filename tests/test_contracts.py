"""The contracts of the design, each over every public transformation."""

import inspect
import re

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax._core import arguments
from tests.cases import DRAWN, INTERVALS, METHODS, OPTIMIZERS, TRANSFORMATIONS, WRAPPERS
from tests.compilation import fully_optimized
from tests.reference import directions

every_transformation = pytest.mark.parametrize("name", TRANSFORMATIONS)
every_method = pytest.mark.parametrize("name", METHODS)
every_one_with_a_twin = pytest.mark.parametrize("name", METHODS | WRAPPERS)


def every_one_that(holds):
    return pytest.mark.parametrize(
        "name", [name for name, case in TRANSFORMATIONS.items() if holds(case)]
    )


DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64]
WIDE = {"bfloat16": "float32", "float16": "float32"}


def build(name, **changed):
    """A transformation whose update gets the extra arguments that it needs."""
    case = TRANSFORMATIONS[name]
    return fed(name, case.make(**(case.hyperparameters | changed)))


def fed(name, tx):
    extra = TRANSFORMATIONS[name].extra

    def update(updates, state, params=None, **extra_args):
        return tx.update(updates, state, params, **(extra(updates) | extra_args))

    return optax.GradientTransformationExtraArgs(tx.init, update)


def tree(dtype=jnp.float32, seed=0):
    """Parameters of every container that JAX knows, scalars and empty leaves among them."""
    rng = np.random.default_rng(seed)
    shapes = {"dense": [(3, 2), (2,)], "scale": (), "none": None, "empty": (0,)}

    def make(shape):
        if shape is None:
            return None
        values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        return jnp.asarray(values.real if real else values, dtype)

    return {
        "dense": tuple(map(make, shapes["dense"])),
        "rest": [make(shapes["scale"]), make(None), make(shapes["empty"])],
    }


def avals(state):
    """What may never change: structure, shapes, dtypes and weak types."""
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


# The API.


@every_transformation
def test_is_an_optax_transformation_that_ignores_unknown_arguments(name):
    tx, params = build(name), tree()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    state = tx.init(params)
    plain = tx.update(params, state, params)
    extra = tx.update(params, state, params, value=jnp.float32(1), unheard_of="ignored")
    chex.assert_trees_all_equal(plain, extra)


@every_transformation
def test_is_pure_and_jits_nothing_itself(name):
    tx, params = build(name), tree()
    before = jax.tree.map(np.array, (params, tx.init(params)))
    state = tx.init(params)
    jaxpr = jax.make_jaxpr(tx.update)(params, state, params)
    jitted = {eqn.params["name"] for eqn in jaxpr.eqns if eqn.primitive.name in ("jit", "pjit")}
    assert jitted <= {"_where"}  # A piece of jax.numpy, inside optax.safe_increment.
    first = tx.update(params, state, params)
    chex.assert_trees_all_equal(before, (params, state))
    chex.assert_trees_all_equal(first, tx.update(params, state, params))


class Variants(chex.TestCase):
    """The same numbers with and without jit, on and off the device."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.named_parameters((name, name) for name in TRANSFORMATIONS)
    def test_init_and_update_agree(self, name):
        tx, params = build(name), tree()
        state = self.variant(tx.init)(params)
        chex.assert_trees_all_equal(state, tx.init(params))
        updates, state = self.variant(tx.update)(params, state, params)
        chex.assert_trees_all_close((updates, state), tx.update(params, tx.init(params), params))


# Hyperparameters.


@every_transformation
def test_a_number_an_array_a_tracer_and_a_schedule_mean_the_same(name):
    case, params = TRANSFORMATIONS[name], tree()

    def run(**hyperparameters):
        tx = fed(name, case.make(**hyperparameters))
        state = tx.init(params)
        for seed in range(3):
            updates, state = tx.update(tree(seed=seed), state, params)
        return updates, state

    expected = run(**case.hyperparameters)
    for wrap, scheduled in (
        (np.float64, False),
        (jnp.float32, False),
        (lambda value: lambda count: value, True),
        (lambda value: lambda count: jnp.float32(value), True),
    ):
        given = {
            key: value if scheduled and key in case.fixed else wrap(value)
            for key, value in case.hyperparameters.items()
        }
        chex.assert_trees_all_close(run(**given), expected, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(
        jax.jit(lambda given: run(**given))(case.hyperparameters), expected, rtol=1e-6, atol=1e-7
    )


@every_one_that(lambda case: case.fixed)
def test_what_takes_no_schedule_says_so(name):
    for key in TRANSFORMATIONS[name].fixed:
        with pytest.raises(TypeError, match=rf"^{key} must be a number or a 0-d array, got <"):
            build(name, **{key: lambda count: 0.1})


@every_one_that(lambda case: case.swept)
def test_vmap_over_a_hyperparameter_equals_a_loop(name):
    case, params = TRANSFORMATIONS[name], tree()
    values = jnp.array(case.values)

    def run(value):
        tx = build(name, **{case.swept: value})
        state = tx.init(params)
        for seed in range(3):
            updates, state = tx.update(tree(seed=seed), state, params)
        return updates, state

    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(run, values))
    chex.assert_trees_all_close(jax.vmap(run)(values), loop, rtol=1e-6, atol=1e-6)


@every_one_that(lambda case: case.decay)
def test_beta_keeps_float32_precision_on_bfloat16_parameters(name):
    params = jnp.ones(3, jnp.bfloat16)
    tx = build(name, **{TRANSFORMATIONS[name].decay: 0.999})  # bfloat16 would make it 1.
    _, state = tx.update(params, tx.init(params), params)
    first = momentax.velocity(state)
    _, state = tx.update(jnp.zeros_like(params), state, jnp.zeros_like(params))
    ratio = np.asarray(momentax.velocity(state) / first)
    np.testing.assert_allclose(ratio, 0.999, rtol=1e-6)


BAD = [
    (1.5, ValueError, "got 1.5"),
    (-2.0, ValueError, "got -2.0"),
    (jnp.float32(1.5), ValueError, "got 1.5"),
    (float("nan"), ValueError, "got nan"),
    (float("inf"), ValueError, "got inf"),
    (True, TypeError, "got True"),
    (jnp.array(True), TypeError, "got True"),
    ("0.9", TypeError, "got '0.9'"),
    (None, TypeError, "got None"),
    (0.5j, TypeError, "got 0.5j"),
    ([0.5, 0.9], TypeError, r"got \[0.5, 0.9\]; .*jax.vmap or momentax.sweep"),
    (
        np.array([[0.5], [0.9]]),
        ValueError,
        r"got .* of shape \(2, 1\); .*jax.vmap or momentax.sweep",
    ),
    (jnp.array([0.5, 0.9]), ValueError, r"got .* of shape \(2,\); .*jax.vmap or momentax.sweep"),
]


def shown(case, key):
    """A pattern for what errors call a hyperparameter."""
    return re.escape(case.shown.get(key, key))


@every_transformation
@pytest.mark.parametrize(("value", "error", "text"), BAD, ids=lambda value: str(value)[:20])
def test_a_bad_value_raises_at_construction(name, value, error, text):
    case = TRANSFORMATIONS[name]
    for key in case.hyperparameters:
        interval = case.intervals.get(key) or INTERVALS.get(key, "(-inf, inf)")
        if text.startswith(("got 1.5", "got -2.0")) and arguments.is_within(interval, float(value)):
            build(name, **{key: value})
            continue
        with pytest.raises(
            error, match=rf"^{shown(case, key)} must be in {re.escape(interval)}, {text}"
        ):
            build(name, **{key: value})


def test_values_that_only_rounding_puts_out_of_range_are_named_as_that():
    with pytest.raises(ValueError, match=r"got 0.9999999999, which float32 rounds to 1.0"):
        momentax.heavy_ball(0.9999999999)
    with pytest.raises(ValueError, match=r"got 1.0 in bfloat16; keep it in float32"):
        momentax.heavy_ball(jnp.bfloat16(0.999))
    with jax.enable_x64(True):
        momentax.heavy_ball(0.9999999999)


@every_one_that(lambda case: case.swept)
def test_a_traced_vector_is_refused_and_a_traced_scalar_passes(name):
    key = TRANSFORMATIONS[name].swept
    init = jax.jit(lambda value: build(name, **{key: value}).init(jnp.zeros(2)))
    wrong = shown(TRANSFORMATIONS[name], key)
    with pytest.raises(ValueError, match=rf"^{wrong} must be in .*, got a traced array of shape"):
        init(jnp.zeros(2))
    init(jnp.float32(7))


@every_one_that(lambda case: case.swept and case.swept not in case.fixed)
@pytest.mark.parametrize("returned", [jnp.ones(2), True, "0.9", None], ids=str)
def test_a_schedule_that_returns_no_scalar_is_named(name, returned):
    key = TRANSFORMATIONS[name].swept
    tx, params = build(name, **{key: lambda count: returned}), jnp.ones(2)
    wrong = shown(TRANSFORMATIONS[name], key)
    with pytest.raises(
        (TypeError, ValueError), match=f"^{wrong} must be a schedule of scalars, got one"
    ):
        tx.update(params, tx.init(params), params)


# State.


@every_transformation
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_state_and_direction_keep_their_types(name, dtype):
    tx, params = build(name), tree(dtype)
    state = tx.init(params)
    first = avals(state)
    velocity = momentax.velocity(state)
    chex.assert_trees_all_equal_structs(velocity, params)
    axes = TRANSFORMATIONS[name].axes
    for leaf, v in zip(jax.tree.leaves(params), jax.tree.leaves(velocity), strict=True):
        assert v.shape[axes:] == leaf.shape
        assert v.ndim == leaf.ndim + axes
        assert v.dtype == WIDE.get(leaf.dtype.name, leaf.dtype)
    for _ in range(2):
        updates, state = tx.update(params, state, params)
        assert avals(state) == first
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


@every_method
def test_a_method_state_is_a_named_tuple_of_arrays(name):
    state = build(name).init(tree())
    assert state._fields[:2] == ("count", "velocity")
    assert type(state).__module__.startswith("momentax.")
    assert state.count.dtype == jnp.int32
    assert state.count.shape == ()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("method", "state"),
    [
        (momentax.heavy_ball(), momentax.states.LinearState),
        (momentax.nesterov(), momentax.states.ShiftedState),
        (momentax.linear(1.0, 1.0, 0.9, shift=0.5), momentax.states.ShiftedState),
        (momentax.average(), momentax.states.AverageState),
        (momentax.accelerated(), momentax.states.AcceleratedState),
    ],
)
def test_states_are_of_the_public_classes(method, state):
    assert type(method.init(tree())) is state


@every_transformation
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128], ids=lambda dtype: dtype.__name__)
@pytest.mark.usefixtures("x64")
def test_wide_types_stay_wide(name, dtype):
    tx, params = build(name), tree(dtype)
    updates, state = tx.update(params, tx.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_dtypes(momentax.velocity(state), params)


@every_transformation
@pytest.mark.usefixtures("x64")
def test_float32_parameters_keep_a_float32_velocity_in_64_bits(name):
    tx, params = build(name), tree(jnp.float32)
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    assert avals(after) == avals(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


@every_transformation
def test_gradients_of_another_precision_leave_the_state_as_it_is(name):
    tx, params = build(name), tree(jnp.float32)
    state = tx.init(params)
    grads = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    updates, after = tx.update(grads, state, params)
    assert avals(after) == avals(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)


@every_transformation
def test_one_trace_for_a_thousand_steps(name):
    tx, params = build(name), tree()
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(1000):
        params, state = step(params, state)


@every_transformation
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_scan_cond_and_donation(name, dtype):
    tx, params = build(name), tree(dtype)

    def step(carry, _=None):
        params, state = carry
        updates, state = tx.update(params, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, tx.init(params)
    looped = carry
    for _ in range(4):
        looped, _ = step(looped)
    scanned, _ = jax.lax.scan(step, carry, length=4)
    chex.assert_trees_all_close(scanned, looped, rtol=1e-2 if dtype in DTYPES[1:3] else 1e-5)
    kept = jax.lax.cond(jnp.array(False), lambda c: step(c)[0], lambda c: c, carry)
    chex.assert_trees_all_equal(kept, carry)
    donated = jax.jit(lambda c: step(c)[0], donate_argnums=0, keep_unused=True)
    copied = jax.tree.map(jnp.copy, carry)
    chex.assert_trees_all_close(donated(copied), step(carry)[0], rtol=1e-2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(copied) if leaf.size)


@every_transformation
def test_eval_shape_of_init(name):
    tx, params = build(name), tree()
    shapes = jax.eval_shape(tx.init, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, tx.init(params))


@every_transformation
def test_sharding_follows_the_parameters(name):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    axes = TRANSFORMATIONS[name].axes
    rows, kept = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[None] * leading, "rows"))
        for leading in (0, axes)
    )
    params = jax.device_put(jnp.ones((4, 3)), rows)
    tx = build(name)
    state = tx.init(params)
    assert momentax.velocity(state).sharding.is_equivalent_to(kept, 2 + axes)
    updates, state = jax.jit(tx.update)(params, state, params)
    assert momentax.velocity(state).sharding.is_equivalent_to(kept, 2 + axes)
    assert updates.sharding.is_equivalent_to(rows, 2)


@every_method
def test_the_velocity_is_found_measured_replaced_and_reset(name):
    tx, params = build(name), tree()
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
    v = momentax.velocity(state)
    assert v is state.velocity
    norms = [np.linalg.norm(leaf) for leaf in jax.tree.leaves(v)]
    np.testing.assert_allclose(list(momentax.velocity_norms(state).values()), norms, rtol=1e-6)
    zeros = jax.tree.map(jnp.zeros_like, v)
    reset = momentax.reset_velocity(state)
    chex.assert_trees_all_equal(reset.velocity, zeros)
    assert avals(reset) == avals(state)
    chex.assert_trees_all_equal(momentax.replace_velocity(state, zeros).velocity, zeros)


# Trees.


def kept_of(leaf, state):
    """What a state keeps of one leaf of the parameters, the velocity and the rest, but counts."""
    key = jax.tree_util.DictKey(leaf)
    found = jax.tree_util.tree_leaves_with_path(state)
    return [each for path, each in found if key in path and each.dtype != jnp.int32]


@every_transformation
@pytest.mark.parametrize("jit", [True, False])
def test_none_keeps_the_velocity_and_the_next_gradient_goes_on(name, jit):
    tx, params = build(name), {"a": jnp.ones(2), "b": jnp.ones(3)}
    update = jax.jit(tx.update) if jit else tx.update
    _, state = update(params, tx.init(params), params)
    held = momentax.velocity(state)["b"]
    updates, after = update({"a": params["a"], "b": None}, state, params)
    assert avals(after) == avals(state)
    chex.assert_trees_all_equal(momentax.velocity(after)["b"], held)
    chex.assert_trees_all_equal(kept_of("b", after), kept_of("b", state))
    if name in OPTIMIZERS:
        chex.assert_trees_all_equal(updates["b"], jnp.zeros(3))
    else:
        assert updates["b"] is None
    if not TRANSFORMATIONS[name].coupled:
        whole = momentax.velocity(update(params, state, params)[1])
        chex.assert_trees_all_equal(momentax.velocity(after)["a"], whole["a"])
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)  # An average of equals would stand still.
    _, last = update(doubled, after, params)
    assert not jnp.array_equal(momentax.velocity(last)["b"], held)


@every_transformation
def test_masked_nodes_and_empty_trees_pass(name):
    tx = build(name)
    for params in ({}, (), None, {"a": optax.MaskedNode(), "b": jnp.ones(2)}):
        updates, _ = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_equal_structs(updates, params)


@every_transformation
@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (jnp.arange(3), "int32"),
        (jnp.array([True]), "bool"),
        (np.zeros(2, jax.dtypes.float0), "float0"),
        (3, "int32"),
    ],
    ids=["int", "bool", "float0", "python int"],
)
def test_a_leaf_without_a_gradient_is_refused_at_init(name, leaf, dtype):
    params = {"dense": {"kernel": jnp.ones(2), "steps": leaf}}
    with pytest.raises(TypeError, match=rf"\['dense'\]\['steps'\] has dtype .*{dtype}.*masked"):
        build(name).init(params)


MISFITS = {
    "missing": ({"a": jnp.ones(2)}, r"\['b'\]\['c'\]|\['b'\]", "nothing where"),
    "extra": (
        {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 1))}, "z": jnp.ones(1)},
        r"\['z'\]",
        "an array where nothing",
    ),
    "shape": (
        {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 2))}},
        r"\['b'\]\['c'\]",
        r"shape \(3, 2\) where shape \(3, 1\)",
    ),
    "broadcastable": (
        {"a": jnp.ones(1), "b": {"c": jnp.ones((3, 1))}},
        r"\['a'\]",
        r"shape \(1,\) where shape \(2,\)",
    ),
    "container": (
        {"a": jnp.ones(2), "b": [jnp.ones((3, 1))]},
        r"\['b'\]",
        "a list where a dict",
    ),
    "subtree": ({"a": [jnp.ones(2)], "b": {"c": jnp.ones((3, 1))}}, r"\['a'\]", "a list where an"),
    "none": ({"a": jnp.ones(2), "b": None}, r"\['b'\]", "None where a dict"),
}


@every_transformation
@pytest.mark.parametrize("misfit", MISFITS)
def test_gradients_that_do_not_fit_name_the_first_path(name, misfit):
    tx, params = build(name), {"a": jnp.ones(2), "b": {"c": jnp.ones((3, 1))}}
    state = tx.init(params)
    grads, path, text = MISFITS[misfit]
    for args in ((grads, state), (grads, state, params)):
        if len(args) == 2 and "weight_decay" in TRANSFORMATIONS[name].hyperparameters:
            continue  # Decay needs the parameters.
        with pytest.raises(ValueError, match=f"gradient at {path} does not fit .*{text}"):
            tx.update(*args)


@every_transformation
def test_gradients_of_another_kind_are_refused(name):
    tx, params = build(name), {"a": jnp.ones(2)}
    state = tx.init(params)
    for dtype in (jnp.complex64, jnp.int32):
        with pytest.raises(
            TypeError, match=rf"\['a'\] does not fit .*{dtype.__name__} where float"
        ):
            tx.update({"a": jnp.ones(2, dtype)}, state, params)
    params = {"a": jnp.ones(2, jnp.complex64)}
    with pytest.raises(TypeError, match=r"\['a'\] does not fit .*float32 where complex64"):
        tx.update({"a": jnp.ones(2)}, tx.init(params), params)


# Numbers.


def drawn(rng, case):
    """Random hyperparameters in their intervals: 32 steps of a schedule, or one if fixed."""
    ranges = DRAWN | dict(case.drawn)
    values = {
        key: rng.uniform(*ranges.get(key, (0, 0.95)), size=32) for key in case.hyperparameters
    }
    return {key: v[0] if key in case.fixed else v for key, v in values.items()}


def as_function(value):
    return (lambda count: value) if np.ndim(value) == 0 else value.__getitem__


@every_one_with_a_twin
@pytest.mark.usefixtures("x64")
def test_equals_its_twin_in_float64(name):
    case = TRANSFORMATIONS[name]

    @jax.jit
    def run(values, gradients):
        given = {
            key: value if key in case.fixed else lambda count, value=value: value[count]
            for key, value in values.items()
        }
        tx = fed(name, case.make(**given))

        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        state, out = jax.lax.scan(step, tx.init(gradients[0]), gradients)
        return out, momentax.velocity(state)

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        values, g = drawn(rng, case), rng.normal(size=(30, 2, 3))
        twins = {key: as_function(value) for key, value in values.items()}
        expected = directions(case.twin, g, extra=case.extra, **twins)
        scale = max(1.0, *(float(np.abs(each).max()) for each in expected))
        chex.assert_trees_all_close(run(values, g), expected, rtol=1e-12, atol=1e-13 * scale)

    check()


@every_method
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_method_equals_its_twin_to_its_precision(name, dtype):
    case, rng = METHODS[name], np.random.default_rng(0)
    g = jnp.asarray(rng.normal(size=(40, 5)), dtype)
    tx = build(name)
    state, out = tx.init(g[0]), []
    for each in g:
        d, state = tx.update(each, state)
        out.append(d)
    constant = {key: as_function(value) for key, value in case.hyperparameters.items()}
    d, v = directions(case.twin, np.asarray(g, np.float64), extra=case.extra, **constant)
    scale = max(1.0, float(np.abs(v).max()), float(np.abs(d).max()))
    np.testing.assert_allclose(momentax.velocity(state), v, rtol=1e-5, atol=1e-6 * scale)
    rounding = float(jnp.finfo(dtype).eps)
    d_given = np.asarray(jnp.stack(out), np.float64)
    np.testing.assert_allclose(d_given, d, rtol=rounding, atol=1e-5 * scale)


# Composition.


@every_transformation
def test_composes_inside_optax(name):
    tx, params = build(name), {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}
    clip, labels = optax.clip_by_global_norm(1.0), {"a": "momentum", "b": "plain"}

    def run(tx, grads, params):
        def step(state, _):
            updates, state = tx.update(grads, state, params)
            return state, updates

        with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides a float by an int.
            return jax.lax.scan(step, tx.init(params), length=3)[1]

    plain, only = run(tx, params, params), {"a": params["a"]}
    a, b = run(tx, only, only)["a"], jnp.stack([params["b"]] * 3)
    vector, unravel = jax.flatten_util.ravel_pytree(params)
    flat = jax.vmap(unravel)(run(tx, vector, vector))
    clipped = run(tx, clip.update(params, clip.init(params))[0], params)
    second = jax.tree.map(lambda leaf: jnp.zeros_like(leaf).at[1].set(leaf[0]), plain)
    for outer, expected in (
        (optax.chain(clip, tx, optax.scale(-0.1)), jax.tree.map(lambda leaf: -0.1 * leaf, clipped)),
        (optax.masked(tx, {"a": True, "b": False}), {"a": a, "b": b}),
        (
            optax.partition({"momentum": tx, "plain": optax.sgd(0.1)}, labels),
            {"a": a, "b": -0.1 * b},
        ),
        (optax.MultiSteps(tx, 2).gradient_transformation(), second),
        (optax.apply_if_finite(tx, 3), plain),
        (optax.flatten(tx), flat),
    ):
        chex.assert_trees_all_close(run(outer, params, params), expected, rtol=1e-6)


@every_transformation
def test_inject_hyperparams_keeps_one_type_on_bfloat16(name):
    case, params = TRANSFORMATIONS[name], jnp.ones(3, jnp.bfloat16)
    tx = fed(name, optax.inject_hyperparams(case.make)(**case.hyperparameters))
    state = tx.init(params)

    def step(state, _):
        updates, state = tx.update(params, state, params)
        return state, updates

    after, _ = jax.lax.scan(step, state, length=3)
    assert avals(after) == avals(state)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_step_accesses_the_bytes_of_optaxs(nesterov, decay):
    method = momentax.nesterov(0.9) if nesterov else momentax.heavy_ball(0.9)
    peer = optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(0.1, momentum=0.9, nesterov=nesterov)
    )
    params, accessed = jnp.ones(1 << 16), []
    for tx in (momentax.sgd(0.1, method, weight_decay=decay), peer):

        def step(params, state, grads, tx=tx):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        jitted = jax.jit(step, donate_argnums=(0, 1))
        compiled = fully_optimized(jitted.lower(params, tx.init(params), params))
        accessed.append(compiled.cost_analysis()["bytes accessed"])
    assert accessed[0] <= accessed[1] + 1000  # A few counts.


def test_defaults_are_the_published_ones():
    assert _defaults(momentax.heavy_ball) == {"beta": 0.9, "dampening": 0.0}
    assert _defaults(momentax.nesterov) == {"beta": 0.9}
    assert _defaults(momentax.average) == {"beta": 0.9, "debias": True}
    assert _defaults(momentax.quasi_hyperbolic) == {"beta": 0.999, "nu": 0.7}
    assert _defaults(momentax.aggregated) == {"betas": (0.0, 0.9, 0.99)}
    assert list(_defaults(momentax.proportional_integral_derivative).values()) == [0.9, 5.0, 10.0]
    assert _defaults(momentax.positive_negative) == {"beta": 0.9, "beta0": 1.0}
    adam = momentax.quasi_hyperbolic_adam
    assert list(_defaults(adam).values()) == [0.995, 0.999, 0.7, 1.0, 1e-8]
    assert _defaults(momentax.torque_aware) == {"beta": 0.9, "gamma": 0.9, "eps": 1e-8}
    assert _defaults(momentax.amplified) == {"beta": 0.98, "factor": 2.0}
    assert list(_defaults(momentax.adan).values()) == [0.98, 0.92, 0.99, 1e-8]
    assert list(_defaults(momentax.nadam).values()) == [0.9, 0.999, 1e-8, 0.004]


def _defaults(method):
    return {name: p.default for name, p in inspect.signature(method).parameters.items()}
