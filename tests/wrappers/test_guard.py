"""The guard: which steps are skipped, what stays, how it counts, and how it raises."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

import momentax
from momentax import diagnostics, guard, sgd, storage
from momentax._state._velocity import velocities
from tests.compilation import fully_optimized
from tests.compiled import audit

PARAMS = {"a": jnp.array([1.0, -0.0, 3.0]), "b": jnp.ones((2, 2))}
ORDINARY = {"a": jnp.array([0.1, -0.2, 0.3]), "b": jnp.full((2, 2), 0.5)}


def faulty(value, key="a"):
    return ORDINARY | {key: ORDINARY[key].at[(0,) * ORDINARY[key].ndim].set(value)}


def assert_same_bits(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for one, two in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert one.dtype == two.dtype
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def counts(state):
    return {name: int(getattr(state, name)) for name in state._fields[:4] if getattr(state, name)}


def started(tx, params=PARAMS, **extra):
    return tx.update(ORDINARY, tx.init(params), params, **extra)[1]


# What is skipped.


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_a_step_that_is_not_finite_changes_no_bit(jit, fault):
    tx = guard(sgd(optax.linear_schedule(0.1, 0.0, 9), momentax.nesterov(0.9), weight_decay=0.1))
    state = started(tx)
    update = jax.jit(tx.update) if jit else tx.update
    u, after = update(faulty(fault), state, PARAMS)
    assert_same_bits(optax.apply_updates(PARAMS, u), PARAMS)
    assert_same_bits(after.inner_state, state.inner_state)
    assert counts(after) == {"skipped_nonfinite": 1}
    chex.assert_trees_all_equal(u, jax.tree.map(jnp.zeros_like, PARAMS))


@pytest.mark.parametrize("jit", [False, True])
def test_other_arrays_and_overflow_are_seen(jit):
    cases = [
        (sgd(0.1), ORDINARY, {"value": jnp.float32(np.nan)}),
        (sgd(0.1, momentax.recursive_momentum()), ORDINARY, {"prev_grad": faulty(np.inf)}),
        (sgd(0.1, momentax.nesterov(0.9)), faulty(3e38), {}),  # Twice as much overflows.
        (optax.scale(1e10), faulty(1e38), {}),
    ]
    for inner, g, extra in cases:
        tx = guard(inner)
        state = started(tx, prev_grad=ORDINARY)
        update = jax.jit(tx.update) if jit else tx.update
        u, after = update(g, state, PARAMS, **({"prev_grad": ORDINARY} | extra))
        assert counts(after) == {"skipped_nonfinite": 1}
        assert_same_bits(optax.apply_updates(PARAMS, u), PARAMS)
        assert_same_bits(after.inner_state, state.inner_state)


def test_an_infinite_start_of_a_state_is_no_fault():
    tx = guard(momentax.restart(sgd(0.1), "function"))
    state = tx.init(PARAMS)
    assert not jnp.isfinite(state.inner_state.previous)
    _, after = jax.jit(tx.update)(ORDINARY, state, PARAMS, value=jnp.float32(1.0))
    assert counts(after) == {}
    assert after.inner_state.previous == 1


@pytest.mark.parametrize("jit", [False, True])
def test_zero_makes_the_step_without_the_entry(jit):
    tx = guard(sgd(0.1), on_nonfinite="zero")
    state = started(tx)
    update = jax.jit(tx.update) if jit else tx.update
    g = faulty(np.nan)
    u, after = update(g, state, PARAMS, grad=g)
    expected, _ = update(faulty(0.0), state, PARAMS)
    chex.assert_trees_all_equal(u, expected)
    assert counts(after) == {"zeroed": 1}
    _, after = update(ORDINARY, after, PARAMS, value=jnp.float32(np.inf))
    assert counts(after) == {"zeroed": 1, "skipped_nonfinite": 1}


def test_a_long_gradient_is_skipped_and_not_clipped():
    tx = guard(sgd(0.1), max_gradient_norm=2.0)
    state = started(tx)
    for size, skipped in ((1.9, 0), (2.1, 1), (1e38, 1), (np.nan, 0)):
        g = {"a": jnp.array([size, 0.0, 0.0]), "b": jnp.zeros((2, 2))}
        u, after = tx.update(g, state, PARAMS)
        assert after.skipped_norm == skipped
        assert (after.skipped_nonfinite == 1) == np.isnan(size)
        if skipped:
            assert_same_bits(after.inner_state, state.inner_state)
            assert_same_bits(optax.apply_updates(PARAMS, u), PARAMS)


# Spikes.


def twin_of_spikes(norms, factor, window=128, warm_up=16, patience=10):
    """Return which steps are spikes, in NumPy as in the docstring."""
    recent, streak, found = [], 0, []
    for x in norms:
        m, s = (np.mean(recent), np.std(recent)) if recent else (0, 0)
        s = max(s, abs(m) / 100)
        spike = len(recent) >= warm_up and s > 0 and x > m + factor * s
        if spike and streak >= patience:
            spike, recent = False, []
        streak = streak + 1 if spike else 0
        recent = recent if spike or x == 0 else [*recent, x][-window:]
        found.append(bool(spike))
    return np.array(found)


def run_spikes(tx, norms, values=None):
    def step(state, row):
        x, value = row
        extra = {} if values is None else {"value": value}
        _, state = tx.update(jnp.stack([x, 0 * x]), state, jnp.ones(2), **extra)
        return state, state.skipped_spike

    rows = jnp.asarray(norms, jnp.float32), jnp.asarray(norms if values is None else values)
    state, found = jax.jit(lambda rows: jax.lax.scan(step, tx.init(jnp.ones(2)), rows))(rows)
    return state, np.diff(found, prepend=0) > 0


def noisy(seed=0, steps=600):
    return np.exp(np.random.default_rng(seed).normal(0, 0.2, steps))


@pytest.mark.parametrize("factor", [3.0, 6.0])
def test_spikes_are_those_of_the_twin(factor):
    norms = noisy()
    norms[[40, 41, 300, 301, 302]] *= 20
    norms[100:105] = 0  # They say nothing.
    norms[450:] *= 30  # A lasting change of level.
    _, found = run_spikes(guard(sgd(0.1), spike=factor), norms)
    np.testing.assert_array_equal(found, twin_of_spikes(norms, factor))
    assert found[[40, 41, 300, 301, 302]].all()
    assert found[450:460].all()
    assert not found[460:480].any()  # The new level is accepted, with another warm-up.


def test_no_spike_is_found_before_sixteen_values_are_known():
    norms = noisy()[:40]
    norms[[3, 15]] = 1e6
    _, found = run_spikes(guard(sgd(0.1), spike=6.0), norms)
    assert not found.any()


def test_ordinary_noise_and_slow_trends_have_no_spikes():
    for norms in (noisy(1), noisy(2) * np.geomspace(100, 1, 600), np.ones(600), np.zeros(600)):
        _, found = run_spikes(guard(sgd(0.1), spike=6.0), norms)
        assert not found.any()


def test_a_first_gradient_after_zeros_is_no_spike():
    norms = np.concatenate([np.zeros(50), np.ones(50)])
    assert not run_spikes(guard(sgd(0.1), spike=6.0), norms)[1].any()


def test_a_spike_of_the_loss_is_skipped_and_statistics_are_in_the_state():
    values = np.random.default_rng(0).normal(2.0, 0.1, 200).astype(np.float32)
    values[[60, 150]] = 4.0
    state, found = run_spikes(guard(sgd(0.1), spike=6.0), np.ones(200), values)
    np.testing.assert_array_equal(np.flatnonzero(found), [60, 150])
    assert state.recent.shape == (2, 128)
    assert state.recent[1].max() < 3  # Skipped values do not enter.
    np.testing.assert_allclose(state.recent[1], np.delete(values, [60, 150])[-128:])


def test_a_loss_that_is_no_scalar_is_refused():
    tx = guard(sgd(0.1), spike=6.0)
    with pytest.raises(ValueError, match="value must be a real scalar"):
        tx.update(ORDINARY, tx.init(PARAMS), PARAMS, value=jnp.ones(2))


# The velocity.


PIPELINES = {
    "sgd": lambda: sgd(0.1, momentax.nesterov(0.9)),
    "adam": lambda: optax.adam(0.1),
    "stored": lambda: momentax.stored(sgd(0.1), storage.bfloat16(stochastic=False), min_size=1),
    "aggregated": lambda: sgd(0.1, momentax.aggregated((0.0, 0.9))),
    "partition": lambda: optax.partition(
        {"x": sgd(0.1), "y": optax.sgd(0.1, 0.9)}, {"a": "x", "b": "y"}
    ),
    "MultiSteps": lambda: optax.MultiSteps(sgd(0.1), 2).gradient_transformation(),
}


@pytest.mark.parametrize("name", PIPELINES)
@jax.numpy_dtype_promotion("standard")
def test_the_velocity_stays_below_its_limit(name):
    tx, limit = guard(PIPELINES[name](), max_velocity_norm=0.5), 0.5
    bare = PIPELINES[name]()
    state, free = tx.init(PARAMS), bare.init(PARAMS)
    norms, ours = [], []
    for _ in range(6):
        _, state = jax.jit(tx.update)(ORDINARY, state, PARAMS)
        _, free = jax.jit(bare.update)(ORDINARY, free, PARAMS)
        ours.append(float(optax.tree.norm(velocities(state.inner_state))))
        norms.append(float(optax.tree.norm(velocities(free))))
    assert max(norms) > limit
    assert max(ours) <= limit * (1 + 2.0**-8)  # Half a unit of the last place of bfloat16.
    v, raw = (jnp.concatenate(list(map(jnp.ravel, jax.tree.leaves(velocities(s)))))
              for s in (state.inner_state, free))  # fmt: skip
    cosine = v @ raw / (jnp.linalg.norm(v) * jnp.linalg.norm(raw))
    assert cosine > 0.9


def test_a_transformation_without_a_velocity_has_none_to_limit():
    with pytest.raises(ValueError, match="max_velocity_norm needs a velocity, and the state holds"):
        guard(optax.scale(0.1), max_velocity_norm=1.0).init(PARAMS)


# Raising.


def test_raise_outside_of_jit_names_the_place():
    tx = guard(sgd(0.1, momentax.nesterov(0.9)), on_nonfinite="raise")
    state = started(tx)
    cases = {
        r"the gradient at \['b'\] has 1 entry that is infinite or NaN": (faulty(np.nan, "b"), {}),
        r"value= at the root has 1 entry": (ORDINARY, {"value": jnp.float32(np.inf)}),
        "tx has overflowed": (faulty(3e38), {}),
    }
    for message, (g, extra) in cases.items():
        with pytest.raises(FloatingPointError, match=message):
            tx.update(g, state, PARAMS, **extra)


def test_raise_under_jit_is_recorded_and_skipped():
    tx = guard(sgd(0.1), on_nonfinite="raise")
    state = started(tx)
    diagnostics.require_finite(state)
    u, after = jax.jit(tx.update)(faulty(np.nan), state, PARAMS)
    assert_same_bits(optax.apply_updates(PARAMS, u), PARAMS)
    assert_same_bits(after.inner_state, state.inner_state)
    _, after = jax.jit(tx.update)(ORDINARY, after, PARAMS)  # A later step does not hide it.
    with pytest.raises(FloatingPointError, match="a step was not finite and was skipped"):
        diagnostics.require_finite({"optimizer": after})
    for other in (sgd(0.1).init(PARAMS), guard(sgd(0.1)).init(PARAMS), tx):
        with pytest.raises(TypeError, match="state must contain that of momentax"):
            diagnostics.require_finite(other)


def test_raise_is_a_check_of_checkify():
    tx = guard(sgd(0.1), on_nonfinite="raise")

    def run(gradients):
        def step(state, g):
            return tx.update(g, state, PARAMS)[::-1]

        return jax.lax.scan(step, tx.init(PARAMS), gradients)

    run = jax.jit(checkify.checkify(run))
    stack = lambda *rows: jax.tree.map(lambda *x: jnp.stack(x), *rows)  # noqa: E731
    error, _ = run(stack(ORDINARY, ORDINARY))
    assert error.get() is None
    error, _ = run(stack(ORDINARY, faulty(np.nan)))
    with pytest.raises(checkify.JaxRuntimeError, match="a step was not finite"):
        error.throw()


@pytest.mark.parametrize("donate", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_train_step_raises_after_the_call_and_gives_back_what_to_go_on_with(donate, k):
    def loss(w, x):
        return jnp.sum((w - x) ** 2)

    tx = guard(sgd(0.1), on_nonfinite="raise")
    step = momentax.train_step(loss, tx, donate=donate, steps_per_call=k)
    good = jnp.ones(3) if k == 1 else jnp.ones((k, 3))
    bad = good.at[..., 0].set(jnp.nan)
    w, state, _ = step(jnp.zeros(3), tx.init(jnp.zeros(3)), good)
    kept, velocity = np.asarray(w), np.asarray(momentax.velocity(state))
    with pytest.raises(FloatingPointError) as raised:
        step(w, state, bad)
    error = raised.value
    np.testing.assert_array_equal(error.params, kept)
    np.testing.assert_array_equal(momentax.velocity(error.state), velocity)
    assert error.state.skipped_nonfinite == k
    w, state, value = step(error.params, error.state, good)
    assert np.isfinite(value).all()
    assert (np.asarray(w) != kept).any()


def test_a_train_step_within_jit_raises_nothing():
    tx = guard(sgd(0.1), on_nonfinite="raise")
    step = momentax.train_step(lambda w, x: jnp.sum((w - x) ** 2), tx, donate=False)
    _, state, _ = jax.jit(step)(jnp.ones(2), tx.init(jnp.ones(2)), jnp.full(2, jnp.nan))
    assert state.failed


# Trees, dtypes and other transformations.


@pytest.mark.parametrize("jit", [False, True])
def test_missing_gradients_beside_a_fault_and_alone(jit):
    tx = guard(sgd(0.1))
    state = started(tx)
    update = jax.jit(tx.update) if jit else tx.update
    u, after = update({"a": faulty(np.nan)["a"], "b": None}, state, PARAMS)
    assert_same_bits(optax.apply_updates(PARAMS, u), PARAMS)
    assert_same_bits(after.inner_state, state.inner_state)
    u, after = update({"a": None, "b": None}, state, PARAMS)
    chex.assert_trees_all_equal(optax.apply_updates(PARAMS, u), PARAMS)
    assert counts(after) == {}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
@pytest.mark.parametrize("make", [lambda: sgd(0.1), lambda: optax.adam(0.1)], ids=["sgd", "adam"])
@jax.numpy_dtype_promotion("standard")
def test_other_dtypes_keep_their_bits_and_types(dtype, make):
    params = jnp.array([1.0, -0.0, 0.1], dtype)
    tx = guard(make(), spike=6.0)
    run = jax.jit(tx.update, donate_argnums=1)
    wide = jnp.complex64 if dtype == jnp.complex64 else jnp.float32
    state = tx.init(params)
    for t in range(4):
        # The gradient is wider than the parameters, and the state of Optax keeps its dtype.
        g = jnp.array([1.0, jnp.nan if t == 2 else 0.1, 2.0], wide)
        before = jax.tree.map(np.asarray, state)
        u, state = run(g, state, params)
        new = optax.apply_updates(params, u)
        if t == 2:
            assert_same_bits(new, params)
            assert_same_bits(before.inner_state, state.inner_state)
        params = new
    assert counts(state) == {"skipped_nonfinite": 1}


def test_one_nan_costs_no_entry_of_its_block_in_int8():
    params = jnp.ones(512)
    tx = guard(momentax.stored(sgd(0.1), storage.int8(), min_size=1))
    g = jnp.linspace(-1, 1, 512)
    state = tx.update(g, tx.init(params), params)[1]
    u, after = jax.jit(tx.update)(g.at[7].set(jnp.inf), state, params)
    assert_same_bits(after.inner_state, state.inner_state)
    assert_same_bits(optax.apply_updates(params, u), params)


def test_gradients_that_do_not_fit_are_refused_for_optax_too():
    for make in (lambda: optax.sgd(0.1, 0.9), lambda: optax.adam(0.1), lambda: sgd(0.1)):
        tx = guard(make())
        state = tx.init(PARAMS)
        for params in (PARAMS, None):
            with pytest.raises(ValueError, match=r"the gradient at \['a'\] does not fit .*shape"):
                tx.update(ORDINARY | {"a": jnp.ones((1, 3))}, state, params)
            with pytest.raises(TypeError, match=r"the gradient at \['a'\] does not fit .*int32"):
                tx.update(ORDINARY | {"a": jnp.ones(3, jnp.int32)}, state, params)


def test_the_remedy_for_gradients_fits_each_fault():
    tx = guard(sgd(0.1))
    state = tx.init(PARAMS)
    for g in (
        ORDINARY | {"a": jnp.ones(3, jnp.complex64)},
        {"a": ORDINARY["a"]},
        ORDINARY | {"c": jnp.ones(2)},
        ORDINARY | {"a": "no array"},
    ):
        with pytest.raises((TypeError, ValueError), match=r"pass the gradients as jax.grad re"):
            tx.update(g, state, PARAMS)


def test_multi_steps_is_refused_with_what_to_write_instead():
    with pytest.raises(TypeError, match=r"write optax.MultiSteps\(...\).gradient_transformation"):
        guard(optax.MultiSteps(sgd(0.1), 2))


def test_a_state_that_changes_its_shape_is_refused():
    growing = optax.GradientTransformation(
        lambda params: jnp.zeros(1), lambda g, state, params=None: (g, jnp.append(state, 0.0))
    )
    tx = guard(growing)
    with pytest.raises(ValueError, match=r"tx changes its state at the root: shape \(1,\) becomes"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_vmap_skips_each_run_by_itself():
    tx = guard(sgd(0.1))
    g = jnp.array([[1.0, 2.0], [jnp.nan, 2.0], [3.0, 4.0]])
    state = jax.vmap(tx.init)(jnp.ones((3, 2)))
    u, state = jax.vmap(tx.update)(g, state)
    np.testing.assert_array_equal(state.skipped_nonfinite, [0, 1, 0])
    np.testing.assert_allclose(u, -0.1 * jnp.where(jnp.isnan(g[:, :1]), 0, g), rtol=1e-6)


def test_limits_may_be_traced():
    def skipped(limit):
        tx = guard(sgd(0.1), max_gradient_norm=limit)
        return tx.update(jnp.ones(4), tx.init(jnp.ones(4)))[1].skipped_norm

    np.testing.assert_array_equal(jax.vmap(skipped)(jnp.array([1.0, 3.0])), [1, 0])


# The program.


def test_an_expensive_step_is_computed_once():
    def project(g, state, params=None):
        return state @ g, state @ state

    inner = optax.GradientTransformation(lambda p: jnp.eye(64), project)
    g = jax.ShapeDtypeStruct((64, 64), jnp.float32)

    def products(tx):
        lowered = jax.jit(tx.update).lower(g, jax.eval_shape(tx.init, g))
        return fully_optimized(lowered).as_text().count(" dot(")

    assert products(guard(inner)) == products(inner) == 2


def test_the_check_of_extra_arguments_reads_the_gradient_once():
    """train_step passes the gradient a second time, as grad."""
    params = jax.ShapeDtypeStruct((1 << 16,), jnp.float32)
    tx = guard(sgd(0.1))

    def cost(twice):
        def step(params, state, g):
            u, state = tx.update(g, state, params, **({"grad": g} if twice else {}))
            return optax.apply_updates(params, u), state

        return audit(step, params, jax.eval_shape(tx.init, params), args=(params,)).accessed

    assert cost(True) == pytest.approx(cost(False), abs=0.01)


@jax.numpy_dtype_promotion("standard")
def test_weak_types_and_dtypes_of_the_state_never_change():
    tx = guard(optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9), spike=6.0)
    params = jnp.ones(3, jnp.bfloat16)
    state = tx.init(params)
    traces = []

    @jax.jit
    def update(g, state):
        traces.append(1)
        return tx.update(g, state, params)

    for _ in range(3):
        _, after = update(jnp.ones(3, jnp.float32), state)
        chex.assert_trees_all_equal_dtypes(after, state)
        state = after
    assert len(traces) == 1
