"""The monitor: every reading beside its twin in NumPy, and updates that stay what they were."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import measurements, monitor, sgd
from momentax._state import _sums
from tests.compiled import audit
from tests.contracts.harness import build, types


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing mixes dtypes.
        yield


@pytest.fixture(params=[1, 2], ids=["one device", "two devices"], autouse=True)
def _number_of_devices(request, monkeypatch):
    """With one device small leaves are joined, and the axes of a leaf are merged."""
    monkeypatch.setattr(jax, "device_count", lambda: request.param)


SHAPES = {"dense": {"kernel": (40, 7), "bias": (7,)}, "rest": [(), (3, 2, 5)]}
NAMES = ["dense/bias", "dense/kernel", "rest/0", "rest/1"]


def random_tree(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)

    def array(shape):
        x = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        return jnp.asarray(x if jnp.issubdtype(dtype, jnp.complexfloating) else x.real, dtype)

    return jax.tree.map(array, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def flat(tree):
    """Return all entries as real float64 numbers; a complex one is two."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    wide = [np.asarray(x, complex if np.iscomplexobj(x) else np.float64).ravel() for x in leaves]
    return np.concatenate(
        [np.stack([x.real, x.imag], 1).ravel() if np.iscomplexobj(x) else x for x in wide]
    )


def entries(tree):
    """Return all entries as complex128 numbers."""
    return np.concatenate([np.asarray(x).astype(complex).ravel() for x in jax.tree.leaves(tree)])


def twin(now, before=None):
    """Return the readings of one update that does not clip, from trees, in float64."""
    g, v, u, θ = (flat(now[name]) for name in ("g", "v", "u", "θ"))
    size = np.linalg.norm
    along = (entries(now["v"]).conj() * entries(now["g"])).real
    cosine = v @ g / size(v) / size(g)
    found = {
        "gradient_norm": size(g),
        "clipped_gradient_norm": size(g),
        "velocity_norm": size(v),
        "update_norm": size(u),
        "parameter_norm": size(θ),
        "cos": cosine,
        "angle": np.degrees(np.arctan2(size(g - v * (v @ g) / (v @ v)), v @ g / size(v))),
        "gain": size(v) / size(g),
        "effective_learning_rate": size(u) / size(g),
        "update_ratio": size(u) / size(θ),
        "opposing_share": np.mean(along < 0),
        "nonfinite": 0.0,
        "headroom": np.log10(np.finfo(np.float32).max / np.abs(v).max()),
    }
    if before is not None:
        h, step = flat(before["g"]), flat(before["u"])
        found["gradient_snr"] = g @ h / (size(g - h) ** 2 / 2)
        found["curvature"] = (g - h) @ step / (step @ step)
        found["alpha"] = -(g @ step) / (h @ step)
    return found


def run(tx, steps=5, dtype=jnp.float32):
    """Return the trees of each update, and the states after them."""
    params, moments, states = random_tree(100, dtype), [], []
    state = tx.init(params)
    update = jax.jit(tx.update)
    for seed in range(steps):
        g = random_tree(seed, dtype)
        u, state = update(g, state, params)
        v = momentax.velocity(state)
        moments.append({"g": g, "v": v, "u": u, "θ": params})
        states.append(state)
        params = optax.apply_updates(params, u)
    return moments, states


def of_leaf(now, i):
    return {name: jax.tree.leaves(tree)[i] for name, tree in now.items()}


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.complex64], ids=lambda d: d.__name__
)
@pytest.mark.parametrize("every", [1, 3])
def test_every_reading_equals_its_twin(dtype, every):
    tx = monitor(sgd(0.1), every=every, history=2, curvature=True)
    moments, states = run(tx, 7, dtype)
    measured = measurements(states[-1])
    assert measured.every == every
    assert list(measured.counts) == ([5, 6] if every == 1 else [3, 6])
    assert measured.count == 6
    for row, count in enumerate(measured.counts):
        expected = twin(moments[count], moments[count - 1])
        expected |= {"age": 9.0, "edge": 38.0}
        assert set(measured.history) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(
                measured.history[key][row], value, rtol=2e-4, atol=1e-5, err_msg=key
            )
    chex.assert_trees_all_equal(dict(measured), {k: x[-1] for k, x in measured.history.items()})


# Leaves of one row and of many, and one whose size is prime, so that no equal rows make it up.
LARGE = [(3, 3, 64, 32), (64,), (3, 3, 32, 64), (32,), (96, 1000), (10007,), (1000,), ()]


def test_large_and_small_leaves_are_measured_together():
    rng = np.random.default_rng(0)
    tx = monitor(sgd(0.1), curvature=True)
    trees = [[jnp.asarray(rng.normal(size=s), jnp.float32) for s in LARGE] for _ in range(4)]
    params, *grads = trees
    state, moments = tx.init(params), []
    for g in grads:
        u, state = jax.jit(tx.update)(g, state, params)
        moments.append({"g": g, "v": momentax.velocity(state), "u": u, "θ": params})
        params = optax.apply_updates(params, u)
    measured, expected = measurements(state), twin(moments[-1], moments[-2])
    assert measured["gradient_snr"] == pytest.approx(expected.pop("gradient_snr"), abs=0.05)
    for key, value in (expected | {"age": 9.0, "edge": 38.0}).items():
        np.testing.assert_allclose(measured[key], value, rtol=2e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("per", ["leaf", "labels", "function"])
def test_leaves_and_labels_are_measured_separately(per):
    labels = {"dense": "first", "rest": ["second", "first"]}
    given = {"leaf": "leaf", "labels": labels, "function": lambda params: labels}[per]
    moments, states = run(monitor(sgd(0.1), per=given, curvature=True), 2)
    measured = measurements(states[-1])
    groups = {name: [i] for i, name in enumerate(NAMES)}
    if per != "leaf":
        groups = {"first": [0, 1, 3], "second": [2]}
    expected = {}
    for name, members in groups.items():
        now, before = (
            {key: [jax.tree.leaves(tree)[i] for i in members] for key, tree in m.items()}
            for m in moments[::-1]
        )
        readings = twin(now, before) | {"age": 9.0, "edge": 38.0}
        expected |= {f"{name}/{key}": value for key, value in readings.items()}
    assert set(measured) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(measured[key], value, rtol=2e-4, atol=2e-3, err_msg=key)


def test_the_first_update_has_no_readings_of_two_gradients():
    _, states = run(monitor(sgd(0.1), curvature=True, history=3), 2)
    later = {"gradient_snr", "curvature", "alpha"}
    assert set(measurements(states[1])) - set(measurements(states[0])) == later
    history = measurements(states[1]).history
    assert all(np.isnan(history[key][0]) and np.isfinite(history[key][1]) for key in later)


@pytest.mark.parametrize("units", ["gradient", "parameter"])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_angle_is_0_where_the_velocity_agrees_with_the_gradient(units, maximize):
    _, states = run(monitor(sgd(0.1, velocity_units=units, maximize=maximize)), 1)
    measured = measurements(states[0])
    np.testing.assert_allclose(measured["angle"], 0, atol=1e-4)
    assert measured["cos"] == pytest.approx(1)
    assert ("gain" in measured) == (units == "gradient")


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e22, 1e37])
def test_extreme_gradients_have_finite_norms(size):
    tx, params = monitor(momentax.heavy_ball(0.5)), jnp.ones(3)
    g, h = np.array([3.0, -4.0, 0.0]), np.array([1.0, 1.0, 2.0])
    state = tx.init(params)
    for each in (g, h):
        _, state = jax.jit(tx.update)(jnp.asarray(each * size, jnp.float32), state, params)
    v = g / 2 + h
    measured = measurements(state)
    np.testing.assert_allclose(measured["gradient_norm"], np.sqrt(6) * size, rtol=1e-5)
    np.testing.assert_allclose(measured["velocity_norm"], np.linalg.norm(v) * size, rtol=1e-5)
    np.testing.assert_allclose(measured["cos"], v @ h / np.linalg.norm(v) / np.sqrt(6), rtol=1e-4)
    np.testing.assert_allclose(measured["gradient_snr"], g @ h / ((g - h) @ (g - h) / 2), rtol=1e-4)
    assert measured["opposing_share"] == pytest.approx(np.mean(v * h < 0))


def test_nearly_parallel_vectors_have_an_accurate_angle():
    tx, rng = monitor(momentax.linear(0.0, 1.0, 0.5)), np.random.default_rng(0)
    g, across = rng.normal(size=(2, 5000))
    across -= g * (across @ g) / (g @ g)
    h = g + 1e-4 * across * np.linalg.norm(g) / np.linalg.norm(across)
    state = tx.init(jnp.zeros(5000))
    for each in (h, g):
        _, state = jax.jit(tx.update)(jnp.asarray(each, jnp.float32), state)
    expected = np.degrees(1e-4 * 0.5 / 1.5)
    np.testing.assert_allclose(measurements(state)["angle"], expected, rtol=2e-3)


def test_entries_that_are_not_finite_are_counted():
    tx = monitor(sgd(0.1), per="leaf")
    params = {"a": jnp.ones(4), "b": jnp.ones(2)}
    g = {"a": jnp.array([jnp.nan, 1.0, jnp.inf, -jnp.inf]), "b": jnp.ones(2)}
    _, state = jax.jit(tx.update)(g, tx.init(params), params)
    measured = measurements(state)
    assert (measured["a/nonfinite"], measured["b/nonfinite"]) == (3, 0)
    assert np.isnan(measured["a/gradient_norm"])
    np.testing.assert_allclose(measured["b/gradient_norm"], np.sqrt(2), rtol=1e-6)


def test_the_gradient_is_measured_before_and_after_clipping():
    params = random_tree(0)
    norm = np.linalg.norm(flat(params))
    pipelines = {
        "chain": optax.chain(optax.clip_by_global_norm(0.5), optax.trace(0.9), optax.scale(-0.1)),
        "sgd": optax.chain(optax.clip_by_global_norm(0.5), sgd(0.1)),
        "nested": optax.chain(optax.chain(optax.clip_by_global_norm(0.5)), optax.adam(0.1)),
    }
    for tx in pipelines.values():
        tx = monitor(tx)
        _, state = jax.jit(tx.update)(params, tx.init(params), params)
        measured = measurements(state)
        np.testing.assert_allclose(measured["gradient_norm"], norm, rtol=1e-5)
        np.testing.assert_allclose(measured["clipped_gradient_norm"], 0.5, rtol=1e-5)
    decayed = monitor(sgd(0.1, weight_decay=0.5))
    _, state = jax.jit(decayed.update)(params, decayed.init(params), params)
    np.testing.assert_allclose(measurements(state)["clipped_gradient_norm"], 1.5 * norm, rtol=1e-5)
    hidden = monitor(optax.MultiSteps(sgd(0.1), 2).gradient_transformation())
    _, state = jax.jit(hidden.update)(params, hidden.init(params), params)
    assert "clipped_gradient_norm" not in measurements(state)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_derivative_through_the_updates_is_that_without_a_monitor(every, transform):
    def loss_after(α, wrap):
        tx, params = wrap(sgd(α, weight_decay=α)), random_tree(0)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
            params = optax.apply_updates(params, updates)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    def watched(tx):
        return monitor(tx, every=every, curvature=True, history=2)

    derivatives = [
        transform(jax.grad(lambda α, wrap=wrap: loss_after(α, wrap)))(0.1)
        for wrap in (lambda tx: tx, watched)
    ]
    np.testing.assert_allclose(*derivatives, rtol=1e-5)


def test_a_gradient_that_is_not_clipped_is_measured_once(monkeypatch):
    names = set()
    reduce_all = _sums.reduce_all

    def record(columns, **kwargs):
        names.update(columns.sums)
        return reduce_all(columns, **kwargs)

    monkeypatch.setattr(_sums, "reduce_all", record)
    run(monitor(sgd(0.1)), 1)
    assert "gradient" in names
    assert "clipped" not in names
    run(monitor(optax.chain(optax.clip(0.1), sgd(0.1))), 1)
    assert "clipped" in names


@pytest.mark.optimized
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("make", "g_dtype"),
    [
        (lambda: sgd(0.1), jnp.float32),
        (lambda: sgd(0.1), jnp.float64),
        (lambda: optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.float64), jnp.float32),
        (lambda: optax.adam(0.1, mu_dtype=jnp.float64), jnp.float32),
    ],
    ids=["single", "double", "accumulator_dtype", "mu_dtype"],
)
def test_arrays_of_several_precisions_are_measured(make, g_dtype):
    tx = make()  # Not before, since Optax would take float32.
    params = {"a": jnp.ones((40, 130), g_dtype), "b": jnp.ones(3, g_dtype)}
    g = jax.tree.map(lambda x: jnp.full_like(x, 0.5), params)
    watched = monitor(tx)
    u, state = jax.jit(watched.update)(g, watched.init(params), params)
    v = momentax.velocity(state)
    expected = twin({"g": g, "v": v, "u": u, "θ": params})
    for key in ("gradient_norm", "velocity_norm", "update_norm", "parameter_norm", "cos"):
        assert measurements(state)[key] == pytest.approx(expected[key], rel=1e-6), key


def test_the_headroom_is_that_of_the_dtype_of_the_velocity():
    params = jnp.ones(3, jnp.float16)
    tx = monitor(optax.sgd(0.1, momentum=0.9))
    _, state = jax.jit(tx.update)(jnp.full(3, 30000, jnp.float16), tx.init(params), params)
    expected = np.log10(np.finfo(np.float16).max.astype(float) / 30000)
    assert measurements(state)["headroom"] == pytest.approx(expected, rel=1e-3)


def test_learning_rates_under_vmap_have_their_own_readings():
    params = random_tree(0)

    def one(α):
        tx = monitor(sgd(α), curvature=True)
        return tx.update(params, tx.init(params), params)[1]

    states = jax.jit(jax.vmap(one))(jnp.array([0.1, 0.2]))
    for i, α in enumerate((0.1, 0.2)):
        measured = measurements(jax.tree.map(lambda leaf, i=i: leaf[i], states))
        assert measured["edge"] == pytest.approx(3.8 / α, rel=1e-4)
        assert measured["effective_learning_rate"] == pytest.approx(α, rel=1e-5)
    with pytest.raises(ValueError, match=r"state has leading axes of \(2,\)"):
        measurements(states)


def test_a_sample_stands_for_all_entries_of_its_leaf():
    params = {"large": jnp.zeros((64, 1000)), "small": jnp.zeros(1000)}
    tx = monitor(sgd(0.1))
    state = tx.init(params)
    for large, small in ((1.0, 3.0), (1.2, -3.0)):
        g = {"large": jnp.full((64, 1000), large), "small": jnp.full(1000, small)}
        _, state = jax.jit(tx.update)(g, state, params)
    expected = (64 * 1.2 - 9) / ((64 * 0.2**2 + 36) / 2)
    assert measurements(state)["gradient_snr"] == pytest.approx(expected, rel=1e-3)


# Transformations with one and with several buffers, with statistics of all entries, and whole
# optimizers. Each takes seconds to compile with a monitor.
SEVERAL_KINDS = [
    "nesterov",
    "aggregated",
    "proportional_integral_derivative",
    "adan",
    "yellowfin",
    "sgd, coupled",
    "sgd, decoupled",
]


def follow(tx, update):
    params = {"a": jnp.linspace(-1, 2, 6).reshape(2, 3), "b": jnp.linspace(0.1, 1, 3)}
    state, all_updates = tx.init(params), []
    for i in range(3):
        g = jax.tree.map(lambda leaf, i=i: jnp.sin(leaf * (i + 1)), params)
        u, state = update(g, state, params)
        all_updates.append(u)
    return all_updates, state


@pytest.mark.optimized
@pytest.mark.parametrize("name", SEVERAL_KINDS)
def test_the_updates_are_unchanged_to_the_bit(name):
    plain = build(name)
    watched = monitor(plain, every=2, history=2, per="leaf")
    (expected, before), (found, after) = (follow(tx, jax.jit(tx.update)) for tx in (plain, watched))
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(after.inner_state, before)


@pytest.mark.parametrize("name", ["nesterov", "sgd, coupled", "average", "aggregated"])
def test_eager_updates_are_unchanged_to_the_bit(name):
    plain = build(name)
    expected, found = (follow(tx, tx.update)[0] for tx in (plain, monitor(plain, every=2)))
    chex.assert_trees_all_equal(found, expected)


def test_a_scan_equals_a_loop_and_types_never_change():
    tx, params = monitor(sgd(0.1), every=2, history=3, curvature=True), random_tree(0)
    grads = [random_tree(seed) for seed in range(5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        _, state = update(g, state, params)
    assert types(state) == types(tx.init(params))
    assert update._cache_size() == 1
    scanned = jax.lax.scan(
        lambda s, g: (tx.update(g, s, params)[1], None), tx.init(params), stacked
    )
    chex.assert_trees_all_close(scanned[0], state, rtol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(tx.init, params), state)


def test_a_gradient_of_none_and_masked_parts_are_left_out():
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    tx = monitor(sgd(0.1), per="leaf")
    _, state = jax.jit(tx.update)({"a": jnp.ones(3), "b": None}, tx.init(params), params)
    measured = measurements(state)
    assert {key for key in measured if key.startswith("b/")} <= {
        *("b/velocity_norm", "b/parameter_norm", "b/headroom", "b/age"),
        *("b/update_norm", "b/update_ratio"),  # They are 0: `sgd` keeps the parameter.
    }
    assert measured["b/update_norm"] == measured["b/update_ratio"] == 0
    assert measured["a/gain"] == 1
    parts = {"x": monitor(sgd(0.1)), "y": optax.sgd(0.1)}
    split = optax.partition(parts, {"a": "x", "b": "y"})
    _, state = jax.jit(split.update)(params, split.init(params), params)
    assert measurements(state)["gradient_norm"] == pytest.approx(np.sqrt(3))
    masked = monitor(optax.masked(sgd(0.1), {"a": True, "b": False}), per="leaf")
    _, state = jax.jit(masked.update)(params, masked.init(params), params)
    assert "a/cos" in measurements(state)
    assert "b/cos" not in measurements(state)
    masked = monitor(optax.masked(sgd(0.1), {"a": True, "b": False}))
    _, state = jax.jit(masked.update)(params, masked.init(params), params)
    assert measurements(state)["headroom"] == pytest.approx(38.53, abs=0.01)


def test_the_velocity_is_seen_through_the_monitor_and_there_is_one_count():
    tx, params = monitor(momentax.heavy_ball(0.9)), {"w": jnp.ones(3)}
    _, state = tx.update(params, tx.init(params))
    chex.assert_trees_all_equal(momentax.velocity(state), params)
    assert int(optax.tree_utils.tree_get(state, "count")) == 1
    reset = momentax.reset_velocity(state)
    assert measurements(reset) == measurements(state)


TREES = {  # Parameters with more entries than a sample.
    "flat": jax.ShapeDtypeStruct((1 << 16,), jnp.float32),
    "matrices": [jax.ShapeDtypeStruct((3, 3, 64, 64 + i), jnp.float32) for i in range(4)],
}


def costs(tx, params=TREES["flat"]):
    """Return the costs of an update and its application with donated parameters and state."""

    def step(params, state, g):
        u, state = tx.update(g, state, params)
        return optax.apply_updates(params, u), state

    return audit(step, params, jax.eval_shape(tx.init, params), args=(params,))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("every", [1, 10])
def test_a_step_copies_and_allocates_nothing(every, tree):
    found = costs(monitor(sgd(0.1), every=every), TREES[tree])
    copies = found.copies
    if tree == "matrices":  # XLA changes the layout of the stacks of their sums inside of fusions.
        copies = [line for line in copies if "/cond/branch_0_fun/stack" not in line]
    assert copies == []
    assert found.aliased == found.donated
    assert found.temporary <= 1  # The rows of the sums, and samples of 4,096 of the entries.


def test_the_curvature_allocates_no_more_than_two_arrays_like_the_parameters():
    found = costs(monitor(sgd(0.1), curvature=True))
    assert found.copies == []
    assert found.aliased == found.donated
    assert found.temporary <= 10


def test_a_tree_without_parameters_has_no_readings():
    for per in ("model", "leaf"):
        tx = monitor(sgd(0.1), per=per, history=1, curvature=True)
        _, state = jax.jit(tx.update)({}, tx.init({}), {})
        assert not measurements(state)
        assert measurements(state).count == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be a whole number, at least 1, got 0"),
        ({"history": -1}, ValueError, "history must be a whole number, at least 0, got -1"),
        ({"per": "leaves"}, ValueError, "per must be one of 'model', 'leaf', got 'leaves'"),
        ({"per": 3}, TypeError, 'per must be "model", "leaf", a tree of strings'),
        ({"curvature": 1}, TypeError, "curvature must be True or False, got 1"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        monitor(sgd(0.1), **options)
    with pytest.raises(ValueError, match="per must be a tree of labels with the structure"):
        monitor(sgd(0.1), per={"other": "x"}).init({"w": jnp.ones(2)})
