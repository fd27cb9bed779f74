"""train_step beside the loop that it replaces, its errors, and the program that it compiles to."""

import re
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import momentax
from momentax import sgd, train_step
from tests.cases import METHODS, TRANSFORMATIONS
from tests.compiled import audit
from tests.storage.cases import STORAGES, wrap

NESTEROV = sgd(0.1, momentax.nesterov(0.9))


def loss(p, x, y):
    return jnp.mean(jnp.square(x @ p["w"] + p["b"] - y))


def start(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.normal(size=(5, 3)), dtype), "b": jnp.zeros((1, 3), dtype)}


def batches(*axes, dtype=jnp.float32):
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(rng.normal(size=(*axes, size)), dtype) for size in (5, 3))


def row(data, i):
    return jax.tree.map(lambda leaf: leaf[i], data)


def loop(loss, tx, params, data):
    """The plain loop of Optax, jitted, with one step for each row of the data."""

    @jax.jit
    def step(params, state, *batch):
        value, g = jax.value_and_grad(loss)(params, *batch)
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = tx.init(params), []
    for i in range(len(data[0])):
        params, state, value = step(params, state, *row(data, i))
        values.append(value)
    return params, state, jnp.stack(values)


def run(step, tx, params, data):
    params, values = jax.tree.map(jnp.copy, params), []
    state = tx.init(params)
    for i in range(len(data[0])):
        params, state, value = step(params, state, *row(data, i))
        values.append(value)
    return params, state, jnp.stack(values)


def square(p, *batch):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves((p, batch)))


# The steps that it makes.

OPTIMIZERS = {
    "nesterov": NESTEROV,
    "optax": optax.sgd(0.1, momentum=0.9),
    "lion": optax.chain(optax.clip(0.1), optax.lion(0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_the_plain_loop_bit_for_bit(name):
    tx, data = OPTIMIZERS[name], batches(6, 8)
    expected = loop(loss, tx, start(), data)
    for donate in (True, False):
        got = run(train_step(loss, tx, donate=donate), tx, start(), data)
        chex.assert_trees_all_equal(got, expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64], ids=lambda dtype: dtype.__name__)
def test_parameters_of_other_dtypes_keep_them_and_descend(dtype):
    step = train_step(lambda p: jnp.sum(jnp.abs(p - 1) ** 2), sgd(0.05), steps_per_call=60)
    at = jnp.asarray([2, 3 if dtype == jnp.bfloat16 else 3j], dtype)
    state = sgd(0.05).init(at)
    after, _, values = step(at, state)
    assert after.dtype == dtype
    assert values[-1] < 0.05 * values[0]


def test_steps_per_call_equals_as_many_calls():
    data = batches(6, 8)
    expected = run(train_step(loss, NESTEROV), NESTEROV, start(), data)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), data)
    params, state, values = run(
        train_step(loss, NESTEROV, steps_per_call=3), NESTEROV, start(), grouped
    )
    chex.assert_trees_all_close((params, state, values.ravel()), expected, rtol=1e-6, atol=1e-7)


def test_accumulation_equals_the_large_batch_also_with_steps_per_call():
    big = batches(6, 32)
    expected = run(train_step(loss, NESTEROV), NESTEROV, start(), big)
    parts = jax.tree.map(lambda leaf: leaf.reshape(6, 4, 8, *leaf.shape[2:]), big)
    step = train_step(loss, NESTEROV, accumulation=4)
    chex.assert_trees_all_close(run(step, NESTEROV, start(), parts), expected, rtol=1e-5, atol=1e-6)

    both = train_step(loss, NESTEROV, steps_per_call=6, accumulation=4)
    params, state, values = both(start(), NESTEROV.init(start()), *parts)
    chex.assert_trees_all_close((params, state, values), expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_summed_in_float32():
    """In bfloat16 the sum of 400 gradients of 1 would stay at 256."""
    tx = optax.sgd(1.0)
    step = train_step(lambda p, x: jnp.sum(p * x), tx, accumulation=400)
    params = jnp.zeros(2, jnp.bfloat16)
    params, _, _ = step(params, tx.init(params), jnp.ones((400, 2), jnp.bfloat16))
    np.testing.assert_array_equal(params, -jnp.ones(2, jnp.bfloat16))


def test_a_loss_without_a_batch_makes_the_given_number_of_steps():
    ravine = momentax.problems.ravine(30)
    tx = sgd(0.01)
    step = train_step(ravine.loss, tx, steps_per_call=5, accumulation=2)
    at = jnp.copy(ravine.start)
    params, _, values = step(at, tx.init(at))
    run = momentax.rollout(ravine.loss, ravine.start, tx, 5)
    chex.assert_trees_all_close((params, values), (run.params, run.history["loss"]), rtol=1e-5)


def test_aux_is_returned_with_the_value_and_stacked():
    def with_aux(p, x, y):
        return loss(p, x, y), {"mean": x.mean(), "key": jax.random.key(3)}

    for k, m in ((1, 1), (3, 1), (1, 2), (3, 2)):
        axes = tuple(size for size in (k, m) if size > 1)
        step = train_step(with_aux, NESTEROV, has_aux=True, steps_per_call=k, accumulation=m)
        x, y = batches(*axes, 8)
        _, _, (value, aux) = step(start(), NESTEROV.init(start()), x, y)
        assert value.shape == axes[: k > 1]
        assert aux["key"].shape == axes
        np.testing.assert_allclose(aux["mean"], x.mean(axis=(-2, -1)), rtol=1e-5, atol=1e-7)


def test_random_keys_may_be_in_the_batch():
    def noisy(p, key):
        return square(p - jax.random.normal(key, p.shape))

    keys = jax.random.split(jax.random.key(0), (2, 3))
    step = train_step(noisy, NESTEROV, steps_per_call=2, accumulation=3)
    params = jnp.ones(4)
    _, _, values = step(params, NESTEROV.init(params), keys)
    expected = jax.vmap(noisy, (None, 0))(jnp.ones(4), keys[0]).mean()
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)


def test_value_gradient_and_loss_reach_the_transformations_that_use_them():
    polyak = sgd(1.0, momentax.momentum_polyak(0.9))
    problem = momentax.problems.rosenbrock()
    for tx in (
        polyak,
        optax.contrib.momo(0.01),
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(30)),
        optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(20)),
    ):
        for options in ({}, {"accumulation": 2}):
            step = train_step(problem.loss, tx, steps_per_call=5, **options)
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                at = jnp.copy(problem.start)
                _, _, values = step(at, tx.init(at))
                expected = momentax.rollout(problem.loss, problem.start, tx, 5).history["loss"]
            np.testing.assert_allclose(values, expected, rtol=2e-3)


def test_keywords_of_the_call_reach_update_and_override_the_others():
    def update(updates, state, params=None, *, value, factor, **extra_args):
        return jax.tree.map(lambda u: -factor * value * u, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    step = train_step(lambda p: jnp.sum(p), tx, steps_per_call=2)
    params, _, _ = step(jnp.zeros(2), tx.init(None), value=jnp.float32(2), factor=jnp.float32(5))
    np.testing.assert_array_equal(params, jnp.full(2, -20.0))


def test_variance_reduction_receives_the_previous_gradient_by_keyword():
    tx = sgd(0.1, momentax.recursive_momentum(0.9))
    params = start()
    x, y = batches(8)
    g = jax.grad(loss)(params, x, y)
    expected, _ = jax.jit(tx.update)(g, tx.init(params), params, prev_grad=g)
    expected = optax.apply_updates(params, expected)
    got, _, _ = train_step(loss, tx)(params, tx.init(params), x, y, prev_grad=g)
    chex.assert_trees_all_close(got, expected, rtol=1e-6)


def test_none_and_masked_parts_of_params_pass_and_a_none_update_changes_no_parameter():
    params = {"a": jnp.ones(2), "none": None, "masked": optax.MaskedNode()}
    step = train_step(square, NESTEROV)
    after, _, _ = step(params, NESTEROV.init(params))
    assert after["none"] is None
    assert isinstance(after["masked"], optax.MaskedNode)

    half = optax.stateless(lambda u, p: {"a": u["a"], "b": None})
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    after, _, _ = train_step(square, half)(params, half.init(params))
    np.testing.assert_array_equal(after["a"], 3)
    np.testing.assert_array_equal(after["b"], 1)


def test_vmap_over_hyperparameters_and_over_runs_without_donation():
    x, y = batches(8)

    def after(learning_rate):
        tx = sgd(learning_rate, momentax.nesterov(0.9))
        step = train_step(loss, tx, donate=False, steps_per_call=2)
        return step(start(), tx.init(start()), jnp.stack([x, x]), jnp.stack([y, y]))

    rates = jnp.array([0.01, 0.1])
    each = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(after, rates))
    chex.assert_trees_all_close(jax.vmap(after)(rates), each, rtol=1e-5, atol=1e-6)
    step = train_step(loss, NESTEROV, donate=False)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), start())
    states = jax.vmap(NESTEROV.init)(many)
    mapped = jax.vmap(step, (0, 0, None, None))(many, states, x, y)
    one = step(row(many, 1), row(states, 1), x, y)
    chex.assert_trees_all_close(row(mapped, 1), one, rtol=1e-5, atol=1e-6)


# Buffers.


def test_params_and_state_are_donated_and_the_batch_is_not():
    step, params, (x, y) = train_step(loss, NESTEROV), start(), batches(8)
    state = NESTEROV.init(params)
    step(params, state, x, y)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))
    assert not x.is_deleted()
    with pytest.raises(RuntimeError, match=r"^params\['b'\] was donated to an earlier call"):
        step(params, state, x, y)
    params, _, _ = step(start(), NESTEROV.init(start()), x, y)
    with pytest.raises(
        RuntimeError, match=r"^state\[0\]\.schedule_count was donated to an earlier call"
    ):
        step(params, state, x, y)
    with pytest.raises(RuntimeError, match="Array has been deleted"):
        jnp.sum(state[0].schedule_count)
    with pytest.raises(RuntimeError, match=r"^extra\['old'\] was donated to an earlier call"):
        step(start(), NESTEROV.init(start()), x, y, old=state[0].schedule_count)
    params = start()
    train_step(loss, NESTEROV, donate=False)(params, NESTEROV.init(params), x, y)
    assert not params["w"].is_deleted()


@pytest.mark.parametrize("weak", [False, True])
def test_one_trace_for_many_steps(weak):
    counted = chex.assert_max_traces(loss, n=1)
    tx = sgd(0.1, momentax.average())
    for step in (train_step(counted, tx), train_step(counted, tx, donate=False)):
        chex.clear_trace_counter()
        params = start() | ({"b": jnp.full((1, 3), 0.5)} if weak else {})
        state = tx.init(params)
        for i in range(4):
            params, state, _ = step(params, state, *batches(8))
            assert i or params["b"].weak_type is weak


def test_shared_buffers_are_copied_once_and_the_batch_is_not_overwritten():
    w = jnp.ones(8)
    tx = optax.lookahead(sgd(0.1), 5, 0.5)
    pair = optax.LookaheadParams.init_synced({"w": w})
    assert pair.fast["w"] is pair.slow["w"]

    step = train_step(square, tx)
    state = tx.init(pair)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(2):
            pair, state, _ = step(pair, state, w)
            w = pair.fast["w"]  # The parameters themselves as part of the batch.
            expected = np.array(w)
        step(pair, state, w)
    np.testing.assert_array_equal(w, expected)

    keeps = optax.GradientTransformation(lambda p: {"first": p}, lambda u, s, p=None: (u, s))
    params = start()
    elsewhere = jax.device_put(params, jax.devices()[0])  # Other arrays with the same buffers.
    assert elsewhere["w"] is not params["w"]
    _, state, _ = train_step(loss, keeps)(params, keeps.init(elsewhere), *batches(8))
    chex.assert_trees_all_equal(state, {"first": start()})


def test_an_array_that_shares_a_buffer_since_the_last_call_is_copied():
    step, params, tx = train_step(square, NESTEROV), start(), NESTEROV
    state = tx.init(params)
    params, state, _ = step(params, state, jnp.ones(3))
    target = jax.device_put(params, jax.devices()[0])  # Other arrays with the same buffers.
    held = jax.tree.map(np.array, params)
    params, state, _ = step(params, state, target)
    chex.assert_trees_all_equal(target, held)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.usefixtures("x64")
def test_one_step_runs_on_one_device_and_then_on_two(kind):
    """The parameters are large enough to wait for reads, and those of the first run still exist."""
    mesh = jax.make_mesh((2,), ("axis",), axis_types=(getattr(AxisType, kind),))
    whole, first, last = PartitionSpec(), PartitionSpec("axis", None), PartitionSpec(None, "axis")

    def network(p, x):
        explicit = kind == "Explicit" and jax.typeof(p["w"]).sharding.mesh.shape
        out = whole if explicit else None
        return jnp.mean(jnp.square(jnp.matmul(jnp.tanh(x @ p["w"]), p["u"], out_sharding=out)))

    def begin():
        return {"w": jnp.full((64, 128), 0.01), "u": jnp.full((128, 64), 0.02)}

    step, x = train_step(network, NESTEROV), jnp.ones((16, 64))
    expected, _, value = step(begin(), NESTEROV.init(begin()), x)
    with jax.set_mesh(mesh):
        places = {"w": NamedSharding(mesh, last), "u": NamedSharding(mesh, first)}
        params = jax.device_put(begin(), places)
        x = jax.device_put(x, NamedSharding(mesh, whole))
        params, _, sharded_value = step(params, NESTEROV.init(params), x)
    np.testing.assert_allclose(sharded_value, value, rtol=1e-12)
    chex.assert_trees_all_close(jax.device_get(params), jax.device_get(expected), rtol=1e-12)
    assert params["w"].sharding.is_equivalent_to(places["w"], 2)


def test_a_constant_loss_changes_no_parameter():
    for donate in (True, False):
        params = start()
        step = train_step(lambda p: 3.0, sgd(0.1), donate=donate)
        after, _, value = step(params, sgd(0.1).init(params))
        chex.assert_trees_all_equal(after, start())
        assert value == 3


def test_keywords_of_any_name_reach_update():
    names = dict.fromkeys(("single_device", "self", "params_", "program", "method", "batch"), 2.0)

    def update(updates, state, params=None, **extra_args):
        assert names.keys() <= extra_args.keys()
        return updates, state

    for donate in (True, False):
        tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
        train_step(loss, tx, donate=donate)(start(), (), *batches(8), **names)


def test_shared_shards_are_copied():
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
    p = jax.device_put(jnp.ones((4, 3)), NamedSharding(mesh, PartitionSpec("rows")))
    step = train_step(square, NESTEROV)
    params = {"a": p, "b": p}
    after, _, _ = step(params, NESTEROV.init(params), p)
    chex.assert_trees_all_equal(after["a"], after["b"])
    assert after["a"].sharding == p.sharding
    np.testing.assert_array_equal(p, 1)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("options", [{}, {"steps_per_call": 2}], ids=str)
def test_sharding_does_not_change(kind, options):
    """Without constraints the compiler would shard all parameters here like the batch."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(getattr(AxisType, kind),))

    def put(leaf, *axes):
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))

    def net(p, x):
        return jnp.mean(jnp.square(jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]))

    with jax.set_mesh(mesh):
        params = {"w": jnp.ones((8, 16)), "b": jnp.ones((1, 16)), "v": jnp.ones((16, 4))}
        params = jax.tree.map(put, params)
        state = NESTEROV.init(params)
        before = jax.tree.map(lambda leaf: leaf.sharding, (params, state))
        step = train_step(net, NESTEROV, **options)
        x = (
            put(jnp.ones((2, 4, 8)), None, None, "d")
            if options
            else put(jnp.ones((4, 8)), None, "d")
        )
        for _ in range(2):
            params, state, _ = step(params, state, x)
        for old, new in zip(*map(jax.tree.leaves, (before, (params, state))), strict=True):
            assert new.sharding.is_equivalent_to(old, new.ndim)


def _changes_dtype():
    """A transformation whose state is a sum in bfloat16 and returns in float32."""

    def update(updates, state, params=None):
        state = jax.tree.map(lambda s, u: s.astype(jnp.float32) + u, state, updates)
        return updates, state

    return optax.GradientTransformation(
        lambda p: jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.bfloat16), p), update
    )


CHANGES = {
    "dtype": (_changes_dtype(), r"state\['b'\] has dtype bfloat16 and returns with dtype float32"),
    "shape": (
        optax.GradientTransformation(lambda p: jnp.zeros(2), lambda u, s, p=None: (u, s[:1])),
        r"state has shape \(2,\) and returns with shape \(1,\)",
    ),
    "new": (
        optax.GradientTransformation(lambda p: {}, lambda u, s, p=None: (u, {"n": jnp.zeros(1)})),
        r"state\['n'\] is returned and was not given",
    ),
    "gone": (
        optax.GradientTransformation(lambda p: {"n": jnp.zeros(1)}, lambda u, s, p=None: (u, {})),
        r"state\['n'\] is given and not returned",
    ),
    "container": (
        optax.GradientTransformation(lambda p: (jnp.zeros(1),), lambda u, s, p=None: (u, [s[0]])),
        "state has a tuple and returns with a list",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_buffer_that_cannot_be_reused_is_named_once(change):
    tx, text = CHANGES[change]
    step = train_step(loss, tx)
    for again in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            params = start()
            step(params, tx.init(params), *batches(8))
        assert len(caught) == (not again)
        if caught:
            assert caught[0].category is UserWarning
            assert caught[0].filename == __file__
            message = f"train_step cannot reuse a donated buffer, .* again: {text}.*; give init"
            assert re.match(message, str(caught[0].message))
    with pytest.raises(TypeError, match=f"^{text}.*, which steps_per_call=2 cannot carry on; give"):
        train_step(loss, tx, steps_per_call=2)(start(), tx.init(start()), *batches(2, 8))
    train_step(loss, tx, donate=False)(start(), tx.init(start()), *batches(8))


# The compiled program, for every transformation and storage.

SIZE = 1 << 14


def audited(name, storage, k):
    """The case, and the costs of k steps on the loss g·θ, whose gradient is an argument."""
    case = TRANSFORMATIONS[name]
    made = case.make(**case.hyperparameters)

    def update(updates, state, params=None, **extra_args):
        return made.update(updates, state, params, **(case.extra(updates) | extra_args))

    tx = wrap(storage, optax.GradientTransformationExtraArgs(made.init, update))
    params = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    g = jax.ShapeDtypeStruct((k, SIZE) if k > 1 else (SIZE,), jnp.float32)
    step = train_step(jnp.vdot, tx, steps_per_call=k)
    return case, audit(step, params, jax.eval_shape(tx.init, params), args=(g,))


def require_low_costs(name, storage, k):
    """Copies are those that the case allows, all buffers are reused, and only a gradient is kept.

    Methods that sum over an encoded velocity may also keep it in float32.
    """
    case, found = audited(name, storage, k)
    assert len(found.copies) <= case.copies
    assert found.aliased == found.donated
    decoded = 4 * (3 if case.axes else 1) if storage else 0
    assert found.temporary <= case.temporary + 4 + decoded + 2000 / SIZE


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_program_keeps_only_the_gradient(name):
    require_low_costs(name, None, 1)


@pytest.mark.filterwarnings("ignore:beta = ")
# Without random bits the program of "bfloat16" is that of "bfloat16, nearest".
@pytest.mark.parametrize("storage", [name for name in STORAGES if name != "bfloat16"])
@pytest.mark.parametrize("name", METHODS)
def test_the_program_keeps_only_the_gradient_where_the_velocity_is_encoded(name, storage):
    require_low_costs(name, storage, 1)


@pytest.mark.parametrize("storage", [None, *STORAGES], ids=str)
@pytest.mark.parametrize("name", ["heavy_ball", "nesterov", "adan", "mars", "optimistic"])
def test_several_steps_in_one_program_allocate_no_more_memory(name, storage):
    """Copies in the body of the loop are counted too."""
    require_low_costs(name, storage, 3)


def test_accumulation_keeps_one_sum_of_gradients_and_nothing_between_calls():
    def program(**options):
        step = train_step(lambda p, x: jnp.mean(jnp.square(x @ p)), NESTEROV, **options)
        params = jax.ShapeDtypeStruct((128, 128), jnp.float32)
        x = jax.ShapeDtypeStruct((*options.values(), 4, 128), jnp.float32)
        return audit(step, params, jax.eval_shape(NESTEROV.init, params), args=(x,))

    found = program(accumulation=4)
    assert not found.copies
    assert found.aliased == found.donated == 4 * (2 * 128**2 + 4)  # And four counts.
    assert found.temporary <= 2 * 4 + 0.5  # The sum and one gradient; and the activations.


def test_the_value_is_computed_before_the_parameters_are_written():
    """The plain loop of Optax copies the parameters here: XLA reads them last, for the value."""

    def plain(params, state, g):
        value, g = jax.value_and_grad(jnp.vdot)(params, g)
        updates, state = NESTEROV.update(g, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    state = jax.eval_shape(NESTEROV.init, params)
    assert len(audit(plain, params, state, args=(params,)).copies) == 1
    step = train_step(jnp.vdot, NESTEROV)
    assert not audit(step, params, state, args=(params,)).copies


def network(p, x):
    for w, b in zip(p["w"], p["b"], strict=True):
        x = jax.nn.relu(x @ w + b)
    return jnp.mean(jnp.square(x))


@pytest.mark.parametrize(
    "transform", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "checkpoint"]
)
def test_no_layer_is_copied_for_the_backward_pass(transform):
    """And the gradients are not all kept until the last is known."""
    params = {"w": [jnp.ones((128, 128))] * 6, "b": [jnp.ones((1, 128))] * 6}
    params = jax.eval_shape(lambda: params)
    state = jax.eval_shape(NESTEROV.init, params)
    x = jax.ShapeDtypeStruct((4, 128), jnp.float32)
    step = train_step(transform(network), NESTEROV)
    found = audit(step, params, state, args=(x,))
    assert not [line for line in found.copies if "128,128" in line]
    assert found.aliased == found.donated
    assert found.temporary <= 3


def test_the_order_of_writes_changes_no_bit():
    rng = np.random.default_rng(0)
    params = {
        "w": [jnp.asarray(rng.normal(size=(128, 128)) / 11, jnp.float32) for _ in range(3)],
        "b": [jnp.zeros((1, 128))] * 3,
    }
    data = (jnp.asarray(rng.normal(size=(4, 8, 128)), jnp.float32),)
    got = run(train_step(network, NESTEROV), NESTEROV, params, data)
    chex.assert_trees_all_equal(got, loop(network, NESTEROV, params, data))


# Errors.

BAD_CALLS = {
    "shape": (
        lambda p, x, y: x @ p["w"],
        {},
        ValueError,
        r"one scalar, got an array of shape \(8, 3\); return its mean",
    ),
    "tuple": (
        lambda p, x, y: (loss(p, x, y), x),
        {},
        TypeError,
        "got a tuple of 2; .* has_aux=True",
    ),
    "no pair": (
        loss,
        {"has_aux": True},
        TypeError,
        r"pair \(value, aux\), got an array of shape \(\)",
    ),
    "list": (lambda p, x, y: [loss(p, x, y)], {}, ValueError, "one scalar, got a list of 1"),
    "three": (
        lambda p, x, y: (loss(p, x, y), x, y),
        {"has_aux": True},
        TypeError,
        r"pair \(value, aux\), got a tuple of 3",
    ),
    "complex": (
        lambda p, x, y: jax.lax.complex(loss(p, x, y), 0.0),
        {},
        ValueError,
        "real scalar, got complex64",
    ),
    "whole": (lambda p, x, y: 3, {}, ValueError, "real scalar, got int32"),
    "none": (lambda p, x, y: None, {}, ValueError, "one scalar, got None"),
    "dict": (lambda p, x, y: {"loss": loss(p, x, y)}, {}, ValueError, "one scalar, got {"),
    "k": (
        loss,
        {"steps_per_call": 3},
        ValueError,
        r"^batch\[0\] has shape \(8, 5\), and steps_per_call=3 needs leading axes of \(3,\); "
        r"stack .* x.reshape\(\(3, -1\)",
    ),
    "k and m": (
        loss,
        {"steps_per_call": 8, "accumulation": 3},
        ValueError,
        r"steps_per_call=8 and accumulation=3 needs leading axes of \(8, 3\)",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
@pytest.mark.parametrize("donate", [True, False])
def test_bad_calls(case, donate):
    function, options, error, text = BAD_CALLS[case]
    step = train_step(function, NESTEROV, donate=donate, **options)
    params = start()
    with pytest.raises(error, match=text):
        step(params, NESTEROV.init(params), *batches(8))
    assert not params["w"].is_deleted()


@pytest.mark.parametrize("leaf", [jnp.arange(3), 3, True, jax.random.key(0)], ids=str)
def test_a_parameter_without_a_gradient_is_named(leaf):
    params = {"net": {"w": jnp.ones(2), "steps": leaf}}
    text = r"^the parameter at \['net'\]\['steps'\] has dtype .*; keep it out .* nnx.split"
    with pytest.raises(TypeError, match=text):
        train_step(lambda p: square(p["net"]["w"]), NESTEROV)(params, NESTEROV.init(jnp.ones(2)))


BAD = {
    "loss": ({"loss": 3.0}, TypeError, "loss must be a function .*, got 3.0"),
    "tx": ({"tx": sgd}, TypeError, "tx must be a gradient transformation such as"),
    "MultiSteps": (
        {"tx": optax.MultiSteps(sgd(0.1), 2)},
        TypeError,
        r"got an optax.MultiSteps, .* write optax.MultiSteps\(...\).gradient_transformation\(\)",
    ),
    "donate": ({"donate": 1}, TypeError, "donate must be True or False, got 1"),
    "has_aux": ({"has_aux": None}, TypeError, "has_aux must be True or False, got None"),
    "half": ({"steps_per_call": 1.5}, TypeError, "steps_per_call must be a whole number, at"),
    "zero": ({"steps_per_call": 0}, ValueError, "at least 1, got 0"),
    "none": ({"accumulation": 0}, ValueError, "accumulation must be a whole number, at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    changed, error, text = BAD[case]
    with pytest.raises(error, match=text):
        train_step(**({"loss": loss, "tx": NESTEROV} | changed))


# Flax.


def entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def images():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(16, 6)), jnp.float32), jnp.asarray(rng.integers(3, size=16))


def test_nnx_with_batch_statistics_and_dropout():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm = nnx.Linear(6, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
            self.drop, self.last = nnx.Dropout(0.1, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(jax.nn.relu(self.norm(self.first(x)))))

    graph, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def net_loss(params, rest, x, y):
        model = nnx.merge(graph, params, rest)
        value = entropy(model(x), y)
        return value, nnx.split(model, nnx.Param, ...)[2]

    step = train_step(net_loss, NESTEROV, has_aux=True)
    state, values = NESTEROV.init(params), []
    before = jax.tree.map(np.array, rest["norm"])
    for _ in range(10):
        params, state, (value, rest) = step(params, state, rest, *images())
        values.append(value)
    assert values[-1] < values[0]
    assert (rest["norm"]["mean"][...] != before["mean"][...]).all()
    assert nnx.merge(graph, params, rest)(images()[0]).shape == (16, 3)


def test_linen_with_batch_statistics():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.BatchNorm(use_running_average=False)(linen.Dense(8)(x))
            return linen.Dense(3)(jax.nn.relu(x))

    model, (x, y) = Net(), images()
    variables = model.init(jax.random.key(0), x)

    def net_loss(params, stats, x, y):
        variables = {"params": params, "batch_stats": stats}
        logits, changed = model.apply(variables, x, mutable="batch_stats")
        return entropy(logits, y), changed["batch_stats"]

    step = train_step(net_loss, NESTEROV, has_aux=True)
    params, stats = variables["params"], variables["batch_stats"]
    state, values = NESTEROV.init(params), []
    for _ in range(10):
        params, state, (value, stats) = step(params, state, stats, x, y)
        values.append(value)
    assert values[-1] < values[0]
    assert (stats["BatchNorm_0"]["mean"] != 0).all()


@pytest.mark.parametrize("donate", [True, False])
def test_a_leaf_that_is_no_array_is_named(donate):
    w = jnp.ones(2)
    step = train_step(lambda w, *_: jnp.sum(w["a"] ** 2), momentax.sgd(0.1), donate=donate)
    assert repr(step).startswith("train_step(the function <lambda>, ")
    state = momentax.sgd(0.1).init({"a": w})
    with pytest.raises(TypeError, match=r"^params\['b'\] must be an array, got .*eqx.partition"):
        step({"a": w, "b": jnp.tanh}, state)
    with pytest.raises(TypeError, match=r"^batch\[0\]\['x'\] must be an array, got 'y'"):
        step({"a": w}, state, {"x": "y"})
