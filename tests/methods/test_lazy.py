"""Lazy rows: every row that is read equals that of the dense method, up to rounding."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import momentax
from momentax import catch_up, lazy, sgd

ROWS, WIDTH, STEPS = 7, 3, 40
METHODS = {
    "heavy_ball": momentax.heavy_ball(0.9),
    "slow": momentax.heavy_ball(0.999),
    "dampened": momentax.heavy_ball(0.8, dampening=0.3),
    "plain": momentax.heavy_ball(0.0),
    "nesterov": momentax.nesterov(0.9),
    "quasi_hyperbolic": momentax.quasi_hyperbolic(0.95, 0.7),
    "average": momentax.average(0.9, debias=False),
    "linear": momentax.linear(0.3, 0.7, 0.8, gain=0.5),
}


def gradient(θ, t):
    """Return the gradient of a nonlinear loss that differs from step to step."""
    return jnp.sin(2 * θ + t) + 0.3 * θ


def patterns(seed):
    """Draw the rows that each step reads: the first always, the last never, others at random."""
    rng = np.random.default_rng(seed)
    present = rng.random((STEPS, ROWS)) < rng.choice([0.05, 0.5], size=ROWS)
    present[:, 0], present[:, -1] = True, False
    return present


def start():
    return jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, WIDTH)))


def compiled(name, units="gradient"):
    """Compile a dense and a lazy run that return what they read at every step."""
    α = 0.05
    rate = {"learning_rate": α} if units == "gradient" else {}
    dense = sgd(α, METHODS[name], velocity_units=units)
    tx = sgd(α, lazy(METHODS[name]), velocity_units=units)

    @jax.jit
    def run(present, times):
        def dense_step(carry, each):
            on, t = each
            θ, state = carry
            read = jnp.where(on[:, None], θ, 0)
            g = jnp.where(on[:, None], gradient(θ, t), 0)
            u, state = dense.update(g, state, θ)
            return (θ + u, state), read

        def lazy_step(carry, each):
            on, t = each
            θ, state = carry
            # The rows read, padded with an index beyond the last; the first occurs twice.
            rows = jnp.nonzero(on, size=ROWS, fill_value=ROWS)[0]
            rows = jnp.concatenate([jnp.zeros(1, rows.dtype), rows])
            θ, state = catch_up(θ, state, rows, **rate)
            read = jnp.where(on[:, None], θ, 0)
            g = jnp.where(on[:, None], gradient(θ, t), 0)
            u, state = tx.update(g, state, θ)
            return (θ + u, state), read

        (θ, state), read = jax.lax.scan(
            dense_step, (start(), dense.init(start())), (present, times)
        )
        late = jax.lax.scan(lazy_step, (start(), tx.init(start())), (present, times))
        (θ_late, state_late), read_late = late
        caught_up = catch_up(θ_late, state_late, **rate)
        return (read, θ, momentax.velocity(state)), (
            read_late,
            caught_up[0],
            momentax.velocity(caught_up[1]),
        )

    return run


@pytest.mark.parametrize(
    ("name", "units"), [*((name, "gradient") for name in METHODS), ("nesterov", "parameter")]
)
@pytest.mark.usefixtures("x64")
def test_every_row_that_is_read_equals_that_of_the_dense_method(name, units):
    run = compiled(name, units)

    @settings(max_examples=10)
    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        dense, late = run(patterns(seed), jnp.arange(STEPS, dtype=float))
        chex.assert_trees_all_close(late, dense, rtol=1e-11, atol=1e-13)

    check()


@pytest.mark.parametrize("name", ["heavy_ball", "nesterov"])
@pytest.mark.usefixtures("x64")
def test_gradients_of_a_few_rows_update_only_these_rows(name):
    """With `rows` only these are read and written; the result is that of a dense gradient."""
    α, tx = 0.05, lazy(METHODS[name])
    dense = optax.chain(tx, optax.scale(-α))
    θ = other = start()
    state, expected = tx.init(θ), dense.init(θ)
    for t, on in enumerate(patterns(3)[:15]):
        ids = jnp.asarray(np.flatnonzero(on)[[0, *range(on.sum())]])  # One row occurs twice.
        rows = jnp.unique(ids, size=ROWS, fill_value=ROWS)
        θ, state = catch_up(θ, state, rows, learning_rate=α)
        read = θ.at[rows].get(mode="fill", fill_value=0)
        d, state = tx.update(gradient(read, t), state, rows=rows)
        assert d.shape == read.shape
        θ = θ.at[rows].add(-α * d, mode="drop")

        other, expected = catch_up(other, expected, learning_rate=α)
        u, expected = dense.update(jnp.where(on[:, None], gradient(other, t), 0), expected)
        other = other + u
    caught_up = (
        catch_up(θ, state, learning_rate=α)[0],
        catch_up(other, expected, learning_rate=α)[0],
    )
    np.testing.assert_allclose(*caught_up, rtol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("k", [0, 1, 5, 10**6])
@pytest.mark.parametrize("β", [0.0, 0.9, 0.999999])
def test_the_sum_of_the_series(k, β):
    tx = lazy(momentax.heavy_ball(β))
    θ, v = jnp.array([[2.0]]), jnp.array([[3.0]])
    state = tx.init(θ)._replace(velocity=v, count=jnp.int32(k))
    moved, state = catch_up(θ, state, learning_rate=0.1)
    series = np.sum(β ** np.arange(1.0, k + 1))
    np.testing.assert_allclose(moved, 2 - 0.1 * 3 * series, rtol=1e-12)
    np.testing.assert_allclose(state.velocity, 3 * β**k, rtol=1e-9)
    again = catch_up(moved, state, learning_rate=0.1)
    chex.assert_trees_all_equal(again, (moved, state))


@pytest.mark.usefixtures("x64")
def test_caught_up_rows_have_the_base_iterate_of_the_dense_method():
    dense, tx = (sgd(0.1, wrap(momentax.nesterov(0.9))) for wrap in (lambda m: m, lazy))
    θ = other = start()
    state, expected = tx.init(θ), dense.init(θ)
    for t in range(6):
        g = gradient(other, t) * float(t != 3)  # No row has a gradient at step 3.
        u, expected = dense.update(g, expected, other)
        other = other + u
        θ, state = catch_up(θ, state, learning_rate=0.1)
        u, state = tx.update(g, state, θ)
        θ = θ + u
    ours, theirs = (
        momentax.eval_params(*each, learning_rate=0.1)
        for each in (catch_up(θ, state, learning_rate=0.1), (other, expected))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_row_without_a_gradient_does_not_change():
    tx = sgd(0.1, lazy(momentax.heavy_ball(0.9)))
    θ = jnp.ones((3, 2))
    state = tx.init(θ)
    g = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    for _ in range(3):
        u, state = tx.update(g, state, θ)
        np.testing.assert_array_equal(u[1], 0)
    v = momentax.velocity(state)
    np.testing.assert_array_equal(v[1], 0)
    np.testing.assert_allclose(v[0, 0], 2.71, rtol=1e-6)
    np.testing.assert_array_equal(state[1].last, [3, 0, 3])
    assert isinstance(state[1], momentax.states.LazyState)


def test_a_gradient_of_none_does_not_delay_any_row():
    tx = lazy(momentax.heavy_ball(0.9))
    θ = {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}
    _, state = tx.update(θ, tx.init(θ))
    _, state = tx.update({"a": None, "b": jnp.zeros(3)}, state)
    np.testing.assert_array_equal(state.last["a"], 2)
    np.testing.assert_array_equal(state.last["b"], 1)


def test_optax_partition_can_make_one_leaf_lazy():
    params = {"table": jnp.ones((5, 2)), "head": jnp.ones(3)}
    labels = {"table": "lazy", "head": "plain"}
    tx = optax.partition(
        {"lazy": sgd(0.1, lazy(momentax.nesterov(0.9))), "plain": optax.sgd(0.1)}, labels
    )
    state = tx.init(params)
    first = jax.tree.map(jnp.copy, params)
    first["table"] = first["table"].at[1:].set(0)
    updates, state = tx.update(first, state, params)
    params = optax.apply_updates(params, updates)
    _, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
    for rows in (None, {"table": jnp.array([0, 4, 0]), "head": None}):
        caught, after = jax.jit(catch_up)(params, state, rows, learning_rate=0.1)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        np.testing.assert_array_equal(caught["head"], params["head"])
        np.testing.assert_allclose(caught["table"][0], params["table"][0] - 0.1 * 0.81, rtol=1e-6)
        np.testing.assert_array_equal(caught["table"][1:], 1)


def test_hyperparameters_can_be_traced():
    θ = jnp.ones((3, 2))

    def run(β, α):
        tx = sgd(α, lazy(momentax.nesterov(β)))
        _, state = tx.update(θ, tx.init(θ), θ)
        _, state = tx.update(jnp.zeros_like(θ), state, θ)
        return catch_up(θ, state, learning_rate=α)[0]

    β = jnp.array([0.0, 0.5, 0.9])
    swept = jax.jit(jax.vmap(run, in_axes=(0, None)))(β, 0.1)
    for each, b in zip(swept, β, strict=True):
        np.testing.assert_allclose(each, 1 - 0.1 * b**2, rtol=1e-6)
        np.testing.assert_allclose(run(b, 0.1), each, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
@pytest.mark.parametrize("rows", [None, jnp.array([2, 0, 2, 9])])
def test_catching_up_keeps_every_type(dtype, rows):
    θ = jnp.ones((3, 2), dtype)
    tx = lazy(momentax.heavy_ball(0.999))
    _, state = tx.update(θ, tx.init(θ))
    for _ in range(2):
        _, state = tx.update(jnp.zeros_like(θ), state)
    given = θ, state
    caught, after = jax.jit(lambda θ, state: catch_up(θ, state, rows, learning_rate=0.1))(*given)
    chex.assert_trees_all_equal_shapes_and_dtypes((caught, after), given)
    waits = np.array([False, rows is not None, False])
    expected = 1 - 0.1 * (0.999 + 0.999**2)
    np.testing.assert_allclose(caught[~waits].astype(complex), expected, rtol=1e-2)
    np.testing.assert_allclose(after.velocity[~waits], 0.999**2, rtol=1e-6)
    np.testing.assert_array_equal(caught[waits], 1)
    np.testing.assert_array_equal(after.last, np.where(waits, 1, 3))


def test_methods_that_cannot_catch_up_in_one_step_are_refused():
    with pytest.raises(ValueError, match=r"constant coefficients: .* under a schedule"):
        lazy(momentax.heavy_ball(optax.linear_schedule(0.5, 0.9, 100)))
    with pytest.raises(ValueError, match=r"linear family, .* got one with the state AverageState"):
        lazy(momentax.average(0.9))
    with pytest.raises(ValueError, match=r"linear family, .* got one with the state tuple"):
        lazy(sgd(0.1))
    for method in (momentax.lion(), momentax.sign_average()):
        with pytest.raises(ValueError, match=r"linear family, .* got one whose directions are not"):
            lazy(method)
    with pytest.raises(TypeError, match="method must be a gradient transformation"):
        lazy(momentax.heavy_ball)


def test_errors_of_catch_up():
    θ = jnp.ones((3, 2))
    state = sgd(0.1, lazy(momentax.heavy_ball())).init(θ)
    with pytest.raises(ValueError, match=r"needs the state of momentax.lazy, got .* LinearState"):
        catch_up(θ, momentax.heavy_ball().init(θ), learning_rate=0.1)
    with pytest.raises(ValueError, match="give learning_rate, the value that the last update used"):
        catch_up(θ, state)
    with pytest.raises(
        TypeError, match="learning_rate must be a number or a 0-d array, got the func"
    ):
        catch_up(θ, state, learning_rate=lambda count: 0.1)
    with pytest.raises(ValueError, match=r"params at .* does not fit the velocity"):
        catch_up(jnp.ones((4, 2)), state, learning_rate=0.1)
    for rows in (jnp.ones(2), jnp.int32(1), {"a": jnp.arange(2)}):
        with pytest.raises(ValueError, match="rows must be a tree like the parameters of 1-d"):
            catch_up(θ, state, rows, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"gradient at .* shape \(3, 2\) where shape \(1, 2\)"):
        lazy(momentax.heavy_ball()).update(
            θ, lazy(momentax.heavy_ball()).init(θ), rows=jnp.array([1])
        )


OUTSIDE = {
    "int32": jnp.array([1, -1, 5, -6, 2**31 - 1, -(2**31)]),
    "int8": jnp.array([1, -1, 5, -6, 127, -128], jnp.int8),
    "uint8": jnp.array([1, 255, 5, 254, 253, 6], jnp.uint8),
    "uint32": jnp.array([1, 2**32 - 1, 5, 2**31, 7, 6], jnp.uint32),
    "NumPy": np.array([1, -1, 5, 2**32 + 2, -(2**32), 2**62]),
}


@pytest.mark.parametrize("rows", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("jit", [True, False])
def test_numbers_that_are_no_rows_are_ignored_on_both_sides(rows, jit):
    """The row 1 is read and written; all other numbers name no row of 5."""
    tx, θ = lazy(momentax.nesterov(0.9)), jnp.arange(10.0).reshape(5, 2)
    _, state = tx.update(jnp.ones((5, 2)), tx.init(θ))
    _, state = tx.update(jnp.zeros((5, 2)), state)
    one = jnp.array([1])

    def run(rows):
        caught, after = catch_up(θ, state, rows, learning_rate=0.1)
        d, last = tx.update(jnp.full((len(rows), 2), 7.0), after, rows=rows)
        return caught, after, d, last

    many = (jax.jit if jit and isinstance(rows, jax.Array) else lambda f: f)(run)(rows)
    caught, after, d, last = run(one)
    chex.assert_trees_all_close(many[:2], (caught, after), rtol=1e-6)
    np.testing.assert_allclose(many[2], [*np.asarray(d), *np.zeros((len(rows) - 1, 2))], rtol=1e-6)
    chex.assert_trees_all_close(many[3], last, rtol=1e-6)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto])
@pytest.mark.parametrize("spec", [("x", None), (None, "x"), (None, None)], ids=str)
def test_the_types_of_a_state_on_a_mesh_stay_those_of_init(kind, spec):
    mesh = jax.make_mesh((2,), ("x",), (kind,))
    sharding, whole = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in (spec, (None, spec[1]))
    )
    with jax.set_mesh(mesh):
        θ, few = jax.device_put(jnp.ones((4, 2)), sharding), jax.device_put(jnp.ones((3, 2)), whole)
        tx, rows = sgd(0.1, lazy(momentax.nesterov(0.9))), jnp.array([0, -1, 3])
        inner = lazy(momentax.nesterov(0.9))
        state: Any = tx.init(θ)
        types = [jax.typeof(leaf) for leaf in jax.tree.leaves(state)]

        def step(carry, _=None):
            θ, state = carry
            θ, state = catch_up(θ, state, rows, learning_rate=0.1)
            updated: Any = tx.update(θ, state, θ)
            u, (decay, waiting, *rest) = updated
            _, waiting = inner.update(few, waiting, rows=rows)
            return (θ + u, (decay, waiting, *rest)), None

        (_, state), _ = jax.jit(lambda *carry: jax.lax.scan(step, carry, length=3))(θ, state)
    assert [jax.typeof(leaf) for leaf in jax.tree.leaves(state)] == types
    np.testing.assert_array_equal(state[1].last, [6, 5, 5, 6])
