"""Outer steps of several workers: their mean, dropped rounds, fragments, and maps around them."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import momentax
from momentax import heavy_ball, nesterov, outer, sgd, storage, theory
from momentax.states import OuterState
from tests import reference
from tests.wrappers.test_outer import INNER, OUTER

W = 4
RNG = np.random.default_rng(0)
SIZES = {"a": 6, "b": 5, "c": 3}
START = {name: RNG.normal(size=size) for name, size in SIZES.items()}
CENTRES = {name: RNG.normal(size=(W, size)) for name, size in SIZES.items()}
SCALES = RNG.uniform(0.2, 2.0, size=W)
P = PartitionSpec
SHARED = OuterState(None, None, 0, None, 0)  # The axes of a state for jax.vmap.


def slope(scale, centre, θ):
    return scale * (θ - centre) + jnp.sin(θ)


def copies(tree, count=W):
    return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * count), tree)


def step(tx, worker, θ, state, participating=None):
    """Make one update of one worker."""
    scale, centres = worker
    g = jax.tree.map(functools.partial(slope, scale), centres, θ)
    u, state = tx.update(g, state, θ, participating=participating)
    return optax.apply_updates(θ, u), state


def run(tx, steps, takes_part=None, state=None):
    """Return the parameters and the slow ones of all workers after each step, and the last state.

    The whole state has an axis of workers.
    """
    θ = copies(START)
    state = jax.vmap(tx.init)(θ) if state is None else state
    workers = jnp.asarray(SCALES), jax.tree.map(jnp.asarray, CENTRES)

    def all_workers(carry, takes_part):
        mapped = jax.vmap(functools.partial(step, tx), axis_name="workers")
        given = () if takes_part is None else (takes_part,)
        θ, state = mapped(workers, *carry, *given)
        return (θ, state), (θ, jax.vmap(momentax.eval_params)(θ, state))

    loop = jax.jit(lambda carry: jax.lax.scan(all_workers, carry, takes_part, length=steps))
    (_, state), (path, slow) = loop((θ, state))
    return path, slow, state


def vectors(path):
    """Return the leaves of a path side by side."""
    return np.concatenate([path[name] for name in SIZES], axis=-1)


def expected(steps, first, second, takes_part=None, fragments=(0, 0, 0), code=None, **options):
    (_, inner), (_, outer_step) = INNER[first], OUTER[second]

    def gradient(worker, θ):
        centres = [CENTRES[name][worker] for name in SIZES]
        return [SCALES[worker] * (x - c) + np.sin(x) for x, c in zip(θ, centres, strict=True)]

    if takes_part is None:
        takes_part = np.ones((steps, W), bool)
    return reference.outer_on_workers(
        gradient, list(START.values()), steps, inner=inner, step=outer_step, takes_part=takes_part,
        fragments=fragments, code=code, **options,
    )  # fmt: skip


DROPPED = RNG.random((20, W)) < 0.6
DROPPED[11] = False  # Nobody takes part in the round after the update 12.
NEAREST = functools.partial(reference.int8, block_size=2)


@pytest.mark.parametrize(
    ("first", "second", "options", "twin"),
    [
        ("nesterov", "snoo, schedules, decay", {}, {}),
        ("nesterov", "adam", {}, {"takes_part": DROPPED}),
        ("nesterov", "lookahead", {"inner_state": "reset"}, {"takes_part": DROPPED}),
        ("descent", "snoo, schedules, decay", {"fragments": {"a": 1, "b": 0, "c": 1}},
         {"fragments": (1, 0, 1), "takes_part": DROPPED}),
        ("nesterov", "lookahead", {"fragments": 3, "compression": storage.int8(2)},
         {"fragments": (0, 1, 2), "takes_part": DROPPED, "code": NEAREST}),
    ],
    ids=["all", "dropped rounds", "reset", "fragments", "int8"],
)  # fmt: skip
@pytest.mark.usefixtures("x64")
def test_equals_its_twin_in_float64(first, second, options, twin):
    K = 4
    tx = outer(INNER[first][0](), K, OUTER[second][0](), axis="workers", **options)
    path, slow, _ = run(tx, 20, twin.get("takes_part"))
    modes = {key: options[key] for key in options.keys() & {"inner_state"}}
    θ, w = expected(20, first, second, every=K, **twin, **modes)
    # The codes are computed in float32.
    tolerance = 1e-12 if "code" not in twin else 2e-6
    np.testing.assert_allclose(vectors(path), θ, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(vectors(slow)[:, 0], w, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("x64")
def test_with_plain_descent_and_a_round_at_each_update_it_is_data_parallel_momentum():
    for method in (heavy_ball(0.9), nesterov(0.9)):
        path, slow, _ = run(outer(optax.sgd(0.1), 1, sgd(0.7, method), axis="workers"), 30)
        tx = sgd(0.07, method)
        θ = jax.tree.map(jnp.asarray, START)
        state = tx.init(θ)
        for t in range(30):
            g = {
                name: np.mean(SCALES[:, None] * (np.asarray(x) - CENTRES[name]), 0) + np.sin(x)
                for name, x in θ.items()
            }
            u, state = tx.update(g, state, θ)
            θ = optax.apply_updates(θ, u)
            for name, x in θ.items():
                everywhere = np.stack([x] * W)
                np.testing.assert_allclose(path[name][t], everywhere, rtol=1e-12, atol=1e-14)
        chex.assert_trees_all_equal(path, slow)


@pytest.mark.parametrize("compression", [None, storage.int8(2)], ids=["plain", "int8"])
@pytest.mark.usefixtures("x64")
def test_every_way_to_map_over_workers_gives_the_same_steps(compression):
    tx = outer(sgd(0.1, nesterov(0.9)), 2, axis="workers", compression=compression)
    mesh = jax.make_mesh((2,), ("workers",), (jax.sharding.AxisType.Auto,))
    workers = jnp.asarray(SCALES[:2]), {"a": jnp.asarray(CENTRES["a"][:2])}
    start, given = {"a": jnp.asarray(START["a"])}, (workers, jnp.array([True, False]))

    def one(worker, participating, θ, state):
        def update(carry, participating):
            return step(tx, worker, *carry, participating), None

        carry, _ = update((θ, state), participating)  # θ differs between workers from here on.
        return jax.lax.scan(update, carry, jnp.stack([participating, True, True]))[0]

    def on_device(worker, participating, θ):
        worker, participating = jax.tree.map(lambda x: x[0], (worker, participating))
        θ, state = one(worker, participating, θ, tx.init(θ))
        return jax.tree.map(lambda x: x[None], θ), state.slow

    state = tx.init(start)
    own = {"inner_state": copies(state.inner_state, 2), "residual": copies(state.residual, 2)}
    axes = SHARED._replace(residual=None if compression is None else 0)
    mapped = jax.vmap(one, (0, 0, None, 0), (0, 0), axis_name="workers")
    shared = jax.vmap(one, (0, 0, None, axes), (0, axes), axis_name="workers")
    given_specs, returned = (P("workers"), P("workers"), P()), (P("workers"), P())
    by_device = jax.shard_map(on_device, mesh=mesh, in_specs=given_specs, out_specs=returned)

    @jax.jit
    def programs():
        θ, every = mapped(*given, start, copies(state, 2))
        first, once = shared(*given, start, state._replace(**own))
        return (θ, every.slow), (first, copies(once.slow, 2)), by_device(*given, start)

    found, second, (third, slow) = programs()
    for other in (second, (third, copies(slow, 2))):
        chex.assert_trees_all_close(other, found, rtol=1e-12, atol=1e-14)


def test_several_axes_are_one_axis_of_workers():
    results = []
    for shape, axis in (((4,), "workers"), ((2, 2), ("pods", "hosts"))):
        tx = outer(sgd(0.1), 2, axis=axis, compression=storage.int8(2))
        one = functools.partial(_some_steps, tx)
        for name in reversed((axis,) if isinstance(axis, str) else axis):
            one = jax.vmap(one, axis_name=name)
        rates = jnp.linspace(0.5, 2, 4).reshape(shape)
        θ, residual = jax.jit(one)(rates)
        results.append((θ.reshape(4, -1), residual.reshape(4, -1)))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)
    tx = outer(sgd(0.1), 2, axis=("workers", "rest"), compression=storage.int8(2))
    mesh = jax.make_mesh((2,), ("workers",), (jax.sharding.AxisType.Auto,))
    mixed = jax.vmap(functools.partial(_some_steps, tx), axis_name="rest")
    # JAX checks types of one kind of axes only.
    mixed = jax.shard_map(
        mixed, mesh=mesh, in_specs=P("workers"), out_specs=P("workers"), check_vma=False
    )
    θ, residual = jax.jit(mixed)(jnp.linspace(0.5, 2, 4))
    chex.assert_trees_all_close((θ, residual), results[0], rtol=1e-5, atol=1e-6)


def _some_steps(tx, rate):
    θ = jnp.linspace(-1, 1, 7)
    state = tx.init(θ)
    for _ in range(4):
        u, state = tx.update(rate * (θ - rate), state, θ)
        θ = optax.apply_updates(θ, u)
    return θ, state.residual


# Dropped rounds.


@pytest.mark.usefixtures("x64")
def test_what_a_dropped_worker_has_reaches_no_other_and_it_is_caught_up():
    tx = outer(sgd(0.1), 1, axis="workers")
    θ = copies(START)
    mapped = jax.jit(jax.vmap(functools.partial(step, tx), axis_name="workers"))
    workers = jnp.asarray(SCALES), jax.tree.map(jnp.asarray, CENTRES)
    takes_part = jnp.array([True, True, False, True])
    found = []
    for value in (0.0, 7.0, jnp.nan):
        start = jax.tree.map(lambda x, value=value: x.at[2].add(value), θ)
        found.append(mapped(workers, start, jax.vmap(tx.init)(θ), takes_part))
    (θ, state), (caught_up, other), (broken, last) = found
    chex.assert_trees_all_close((caught_up, other.slow), (θ, state.slow), rtol=1e-13, atol=1e-14)
    chex.assert_trees_all_equal((last.slow, last.outer_state), (state.slow, state.outer_state))
    chex.assert_trees_all_close(state.slow, θ, rtol=1e-13, atol=1e-14)
    others = jnp.array([0, 1, 3])
    chex.assert_trees_all_equal(*(jax.tree.map(lambda x: x[others], each) for each in (broken, θ)))


@pytest.mark.usefixtures("x64")
def test_a_round_without_workers_changes_no_slow_parameter_and_no_velocity():
    tx = outer(sgd(0.1), 2, axis="workers")
    takes_part = jnp.broadcast_to(jnp.arange(6)[:, None] < 4, (6, W))
    path, slow, after = run(tx, 6, takes_part)
    before = jax.tree.map(lambda x: x[3], slow)
    assert not np.allclose(before["a"], START["a"])
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[5], slow), before)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[5], path), before, rtol=1e-14)
    assert int(after.outer_state.count[0]) == 2
    assert not np.allclose(path["a"][4], before["a"])  # Local steps were made, and dropped.


# Fragments.


def test_the_leaves_of_a_fragment_move_after_its_update_of_a_period():
    tx = outer(sgd(0.1), 6, fragments=3)
    _, slow, _ = run(tx, 13)
    moved = {
        name: [t + 1 for t in range(1, 13) if np.any(x[t, 0] != x[t - 1, 0])]
        for name, x in slow.items()
    }
    assert moved == {"a": [2, 8], "b": [4, 10], "c": [6, 12]}


def test_fragments_have_about_equal_sizes_or_are_given():
    params = {"a": jnp.zeros(8), "b": [jnp.zeros(5), jnp.zeros(4)], "c": jnp.zeros(2)}
    state = outer(sgd(0.1), 4, fragments=2).init(params)
    sizes = [sum(x.size for x in jax.tree.leaves(part.velocity)) for part in state.outer_state]
    assert sizes == [10, 9]
    shapes = jax.eval_shape(lambda: params)
    abstract = outer(sgd(0.1), 4, fragments=2).init(shapes)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, state)
    given = outer(sgd(0.1), 4, fragments={"a": 0, "b": 1, "c": 0}).init(params)
    sizes = [sum(x.size for x in jax.tree.leaves(part.velocity)) for part in given.outer_state]
    assert sizes == [10, 9]


def test_the_hyperparameters_and_velocities_of_fragments_are_found():
    tx = outer(sgd(0.1, nesterov(0.8)), 4, fragments=2)
    params = jax.tree.map(jnp.float32, START)
    state = tx.init(params)
    for _ in range(6):
        _, state = tx.update(params, state, params)
    found = momentax.hyperparameters(state, tx)
    assert {key: found[key] for key in ("beta", "outer/beta", "count", "outer/count")} == {
        "beta": 0.8, "outer/beta": 0.9, "count": 5, "outer/count": 0
    }  # fmt: skip
    with pytest.raises(ValueError, match="outer_state"):  # It names the three velocities.
        momentax.velocity(state, path="nothing")
    chex.assert_trees_all_equal_shapes(momentax.eval_params(params, state), params)


# Other programs around it.


def test_a_map_over_hyperparameters_goes_around_or_within_the_workers():
    def final(η, order):
        def worker(rate, η):
            tx = outer(sgd(0.1), 2, sgd(η), axis="workers")
            θ = jnp.ones(3)
            state = tx.init(θ)
            for _ in range(4):
                u, state = tx.update(rate * θ, state, θ)
                θ = θ + u
            return θ

        rates = jnp.array([0.5, 1.5])
        if order == "within":
            mapped = jax.vmap(worker, (None, 0))
            return jax.vmap(mapped, (0, None), axis_name="workers")(rates, η).swapaxes(0, 1)
        return jax.vmap(lambda η: jax.vmap(worker, (0, None), axis_name="workers")(rates, η))(η)

    both = jax.jit(lambda η: (final(η, "within"), final(η, "around")))
    np.testing.assert_allclose(*both(jnp.array([0.3, 0.7])), rtol=1e-6)


@pytest.mark.oracles
@pytest.mark.filterwarnings("ignore:jax.interpreters.pxla:DeprecationWarning")  # DrJAX reads it.
@jax.numpy_dtype_promotion("standard")
def test_it_is_local_training_in_a_program_of_drjax_and_runs_within_one():
    drjax = pytest.importorskip("drjax")
    K, rates = 3, jnp.linspace(0.5, 2, W)
    slow_step = sgd(0.7, nesterov(0.9))
    tx = outer(optax.sgd(0.1), K, slow_step, axis="workers")

    @drjax.program(placements={"workers": W})
    def theirs(rates, w, b):
        def train(rate, θ):
            for _ in range(K):
                θ = θ - 0.1 * rate * θ
            return θ

        local = drjax.map_fn(train, (rates, drjax.broadcast(w)))
        Δ = w - drjax.reduce_mean(local)
        u, b = slow_step.update(Δ, b, w)
        return w + u, b

    @drjax.program(placements={"workers": W})
    def ours(rates, w):
        def worker(rate, θ):
            state = tx.init(θ)
            for _ in range(2 * K):
                u, state = tx.update(rate * θ, state, θ)
                θ = θ + u
            return θ

        θ = jax.vmap(worker, axis_name="workers")(rates, drjax.broadcast(w))
        return drjax.reduce_mean(θ)

    w = jnp.array([1.0, -2.0])
    first = theirs(rates, w, slow_step.init(w))
    expected, _ = theirs(rates, *first)
    np.testing.assert_allclose(ours(rates, w), expected, rtol=1e-6)


# What is refused.


def test_errors_say_what_to_write():
    params, grads = jnp.ones(3), jnp.ones(3)
    tx = outer(sgd(0.1), 2, axis="workers")
    with pytest.raises(ValueError, match=r"axis names 'workers', .* jax.vmap\(..., axis_name='wor"):
        tx.update(grads, tx.init(params), params)
    with pytest.raises(ValueError, match=r"axis names 'workers', which is not a mapped axis"):
        theory.analyze(tx, 0.5, 1.0)
    plain = outer(sgd(0.1), 2)
    with pytest.raises(ValueError, match=r"participating says .* axis=\"workers\""):
        plain.update(grads, plain.init(params), params, participating=True)
    for bad in (1, "yes", jnp.ones(1, bool), [True]):

        def update(g, bad=bad):
            return tx.update(g, tx.init(params), params, participating=bad)

        with pytest.raises(TypeError, match="participating must be one bool for this worker"):
            jax.eval_shape(jax.vmap(update, axis_name="workers"), grads[None])
    for bad in (3, "", ("a", "a"), (), ["a"]):
        with pytest.raises(TypeError, match="axis must be the name of a mapped axis"):
            outer(sgd(0.1), 2, axis=bad)
    with pytest.raises(ValueError, match=r"compression needs several workers"):
        outer(sgd(0.1), 2, compression=storage.int8())
    with pytest.raises(
        TypeError, match=r"compression must be what momentax\.storage\.bfloat16\(\)"
    ):
        outer(sgd(0.1), 2, axis="workers", compression="int8")
    with pytest.raises(ValueError, match=r"fragments must be at most every, .* got 3 and every=2"):
        outer(sgd(0.1), 2, fragments=3)
    with pytest.raises(ValueError, match=r"each of which occurs, got \[0, 2\]"):
        outer(sgd(0.1), 4, fragments={"a": 0, "b": 2})
    with pytest.raises(TypeError, match=r"of whole numbers .* got 0\.5"):
        outer(sgd(0.1), 4, fragments={"a": 0, "b": 0.5})
    with pytest.raises(ValueError, match="number of arrays in the parameters, 1, got 2"):
        outer(sgd(0.1), 4, fragments=2).init(params)
    with pytest.raises(ValueError, match="fragments must be a tree with the structure of params"):
        outer(sgd(0.1), 4, fragments={"a": 0, "b": 1}).init({"a": params})
    with pytest.raises(ValueError, match='inner_state must be "keep" with fragments'):
        outer(sgd(0.1), 4, fragments=2, inner_state="reset")
