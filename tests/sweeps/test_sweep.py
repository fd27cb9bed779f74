"""The sweep against a Python loop over the same points, in batches of any size."""

import gc
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import momentax
from momentax import grid, halve, sweep
from momentax.sweeps import repeat, zipped

PROBLEM = momentax.problems.rosenbrock()


def run(learning_rate, beta):
    tx = momentax.sgd(learning_rate, momentax.nesterov(beta))
    result = momentax.rollout(PROBLEM.loss, PROBLEM.start, tx, 50, record=("loss", "params"))
    return {"params": result.params, "history": result.history}


GRID = grid(learning_rate=[1e-4, 5e-4, 1e-3], beta=[0.0, 0.5, 0.9, 0.95])


def take_point(values, points, index):
    """Return the values at a point."""
    position = np.unravel_index(index, points.shape)
    return jax.tree.map(lambda leaf: leaf[position], values)


@pytest.fixture(scope="module")
def looped():
    compiled = jax.jit(run)
    return [jax.device_get(compiled(**point)) for point in GRID]


@pytest.mark.parametrize("batch_size", ["auto", 1, 5, 12, 100])
def test_a_sweep_equals_a_loop_over_the_same_points(batch_size, looped):
    result = sweep(run, GRID, batch_size=batch_size)
    chex.assert_tree_shape_prefix(result.values, (3, 4))
    for index, single in enumerate(looped):
        here = take_point(result.values, GRID, index)
        chex.assert_trees_all_close(here, single, rtol=1e-6, atol=1e-7)
        if (
            result.report.batch_size == result.report.devices
        ):  # It is the same program as the loop's.
            chex.assert_trees_all_equal(here, single)
    assert not result.diverged.any()


@settings(max_examples=40)
@given(
    count=st.sampled_from([1, 2, 3, 8, 15, 17, 31, 40]),
    batch_size=st.sampled_from([1, 2, 3, 8, 17, 50]),
    data=st.data(),
)
def test_no_point_is_lost_doubled_or_swapped_in_any_batch(count, batch_size, data):
    a = np.arange(count, dtype=np.float32)
    order = data.draw(st.permutations(range(count)))
    result = sweep(doubled, zipped(a=a, b=np.array(order)), batch_size=batch_size)
    np.testing.assert_array_equal(result["twice"], 2 * a)
    np.testing.assert_array_equal(result["b"], order)
    shards = result.report.devices
    assert result.report.batch_size == shards * -(-min(batch_size, count) // shards)


def doubled(a, b):
    return {"twice": 2 * a, "b": b}


def test_every_point_gets_its_own_values():
    points = grid(a=[1, 2], b=[0.5, 1.5, 2.5], c=[7.0])
    result = sweep(lambda **point: point | {"constant": jnp.ones(2)}, points)
    assert points.shape == (2, 3, 1)
    np.testing.assert_array_equal(result["a"][:, 0, 0], [1, 2])
    np.testing.assert_array_equal(result["b"][0, :, 0], [0.5, 1.5, 2.5])
    assert (result["a"].dtype, result["b"].dtype) == (jnp.int32, jnp.float32)
    assert result["constant"].shape == (2, 3, 1, 2)


def test_a_run_is_traced_once_for_all_batches_and_all_sweeps():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted(beta):
        # Under jit, a constant operation is traced too; vmap alone would compute it.
        assert isinstance(jnp.zeros(()) + 1, jax.core.Tracer)
        return beta

    for batch_size in ("auto", 8, 8, 64, 2):
        result = sweep(counted, grid(beta=np.linspace(0, 0.99, 100)), batch_size=batch_size)
        assert result.report.programs == 1


def test_a_last_batch_that_is_not_full_needs_no_second_program():
    result = sweep(lambda beta: beta, grid(beta=np.linspace(0, 0.9, 31)), batch_size=8)
    assert (result.report.batch_size, result.report.programs) == (8, 1)


def test_programs_are_deleted_with_their_function():
    data = jnp.ones(3)

    def run(beta):
        return beta * data

    sweep(run, grid(beta=[0.1, 0.2]))
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None


def test_bound_methods_and_unhashable_functions_run():
    class Model:
        __hash__ = None

        def train(self, beta):
            return 2 * beta

        def __call__(self, beta):
            return 3 * beta

    for function, factor in ((Model().train, 2), (Model(), 3)):
        result = sweep(function, grid(beta=[0.25, 0.5]))
        np.testing.assert_array_equal(result.values, [factor * 0.25, factor * 0.5])


def test_axes_are_kept_in_float64_in_64_bits(x64):
    assert sweep(lambda beta: beta, grid(beta=[0.9])).values[0] == np.float64(0.9)


def test_points_may_differ_in_loop_length_and_branch():
    def collatz(n):
        def step(carry):
            n, steps = carry
            return jax.lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n), steps + 1

        return jax.lax.while_loop(lambda carry: carry[0] != 1, step, (n, 0))[1]

    for batch_size in (2, 8):
        result = sweep(collatz, grid(n=[1, 2, 3, 6, 7, 27]), batch_size=batch_size)
        np.testing.assert_array_equal(result.values, [0, 1, 7, 8, 16, 111])


# Static axes


def test_each_static_value_has_a_program_and_is_passed_as_it_is():
    seen = []

    def run(method, steps, beta):
        seen.append((method, steps))
        tx = momentax.sgd(0.1, method(beta))
        return momentax.rollout(lambda x: (x**2).sum(), jnp.ones(2), tx, steps).params

    methods = [momentax.heavy_ball, momentax.nesterov]
    points = grid(beta=[0.0, 0.5, 0.9], method=methods, steps=[3, 5])
    result = sweep(run, points, static="steps")
    assert result.values.shape == (3, 2, 2, 2)
    assert sorted(seen, key=str) == sorted(((m, s) for m in methods for s in (3, 5)), key=str)
    assert all(type(steps) is int for _, steps in seen)
    assert result.report.programs == 4
    for index, point in enumerate(points):
        single = run(**point | {"steps": int(point["steps"])})
        np.testing.assert_allclose(take_point(result.values, points, index), single, rtol=1e-6)


def test_equal_values_of_different_types_have_different_programs():
    result = sweep(
        lambda flag, x: {"bool": jnp.asarray(isinstance(flag, bool)), "x": x},
        zipped(flag=[True, 1, 1.0, None, True], x=[1.0, 2.0, 3.0, 4.0, 5.0]),
    )
    np.testing.assert_array_equal(result["bool"], [True, False, False, False, True])
    np.testing.assert_array_equal(result["x"], [1, 2, 3, 4, 5])


def test_points_may_have_only_static_axes():
    result = sweep(lambda word: jnp.asarray(len(word)), grid(word=["a", "bcd"]))
    np.testing.assert_array_equal(result.values, [1, 3])


# Divergence and reduction


def test_a_diverged_point_is_marked_and_does_not_affect_others():
    points = grid(learning_rate=[5e-4, 1e3], beta=[0.9])
    result = sweep(run, points, batch_size=2)
    np.testing.assert_array_equal(result.diverged, [[False], [True]])
    single = sweep(run, grid(learning_rate=[5e-4], beta=[0.9]), batch_size=2)
    chex.assert_trees_all_equal(
        take_point(result.values, points, 0), take_point(single.values, single.points, 0)
    )


def test_run_may_report_the_divergence_itself():
    def run(x):
        return {"x": jnp.where(x > 2, jnp.nan, x), "diverged": x < 1, "count": jnp.int32(3)}

    result = sweep(run, grid(x=[0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(result.diverged, [True, False, False])
    without = sweep(lambda x: (run(x)["x"], jnp.int32(3)), grid(x=[0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(without.diverged, [False, False, True])


def test_reduce_drops_values_but_not_their_divergence():
    points = grid(learning_rate=[5e-4, 1e3], beta=[0.9])
    result = sweep(run, points, reduce=lambda value: value["history"]["loss"][0])
    np.testing.assert_allclose(result.values, [[24.2], [24.2]], rtol=1e-6)
    np.testing.assert_array_equal(result.diverged, [[False], [True]])
    for wrong, error, text in (
        (lambda value: None, TypeError, "TypeError: reduce must return at least one array, got"),
        (lambda value: value["x"], RuntimeError, "KeyError: 'x'"),
        (lambda value: "word", TypeError, "TypeError: "),
    ):
        with pytest.raises(error, match=rf"^reduce failed at the point .*: {text}"):
            sweep(run, points, reduce=wrong)
    with pytest.raises(TypeError, match="reduce must be a function of a result, got 3"):
        sweep(run, points, reduce=3)


def test_seeds_are_ordinary_points():
    points = repeat(grid(x=[1.0, 2.0]), seeds=[3, 5])
    result = sweep(lambda x, seed: x * jax.random.normal(jax.random.key(seed)), points)
    single = jnp.array([jax.random.normal(jax.random.key(seed)) for seed in (3, 5)])
    np.testing.assert_allclose(result.values, jnp.outer(jnp.array([1.0, 2.0]), single), rtol=1e-6)


# Errors


def test_a_run_that_raises_names_the_point():
    def picky(method, beta):
        if method == "b":
            raise KeyError("no such method")
        return beta

    with pytest.raises(RuntimeError, match=r"run failed at the point method=b, beta=0.5: KeyError"):
        sweep(picky, grid(method=["a", "b"], beta=[0.5, 0.9]))
    with pytest.raises(TypeError, match=r"point beta=0.5: TypeError: .*unexpected keyword"):
        sweep(lambda learning_rate: learning_rate, grid(beta=[0.5]))
    with pytest.raises(ValueError, match=r"point beta=0\.5: ValueError: too bad"):
        sweep(raises, grid(beta=[0.5]))


def raises(beta):
    raise ValueError("too bad")


def test_a_run_that_cannot_be_traced_names_the_point_and_the_remedy():
    def sized(size):
        return jnp.zeros(int(size)).sum()

    with pytest.raises(TypeError, match=r"run failed at the point size=3(.|\n)*static=\['size'\]"):
        sweep(sized, grid(size=[3, 4]))
    np.testing.assert_array_equal(sweep(sized, grid(size=[3, 4]), static=["size"]).values, [0, 0])


def test_results_that_cannot_be_stacked_name_both_points():
    def run(size, beta):
        return {"beta": beta, "weights": jnp.ones(size)}

    text = (
        r"at the points size=3, beta=0.5 and size=4, beta=0.5 it does not: "
        r"result\['weights'\] is float32\[3\] and float32\[4\]"
    )
    with pytest.raises(ValueError, match=text):
        sweep(run, grid(size=[3, 4], beta=[0.5]), static=("size",))
    with pytest.raises(ValueError, match=r"result\['a'\] is an array and nothing"):
        sweep(lambda name, x: {name: x}, grid(name=["a", "b"], x=[1.0]))
    with pytest.raises(ValueError, match="it does not: result is a list and a tuple"):
        sweep(lambda make, x: make([x]), grid(make=[list, tuple], x=[1.0]))


def test_a_failure_while_running_names_the_points():
    def fails(x):
        def check(x):
            if x > 2:
                raise ValueError("above 2")
            return x

        return jax.pure_callback(check, jax.ShapeDtypeStruct((), x.dtype), x)

    points = grid(x=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(RuntimeError, match=r"(?s)at a point from x=3.0 to x=4.0: .*above 2"):
        sweep(fails, points, batch_size=2)


def test_random_keys_and_words_are_refused_as_results():
    with pytest.raises(TypeError, match=r"random keys at result\['key'\]; return jax.random.key_d"):
        sweep(lambda seed: {"key": jax.random.key(seed)}, grid(seed=[1]))
    with pytest.raises(TypeError, match=r"run failed at the point x=1\.0"):
        sweep(lambda x: {"name": "word"}, grid(x=[1.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"points": {"beta": [0.9]}},
            TypeError,
            "points must be momentax.sweeps.Points, such as momentax.grid",
        ),
        ({"run": 3}, TypeError, "run must be a function of a point, got 3"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number, at least 1, got 0"),
        ({"batch_size": "all"}, ValueError, 'batch_size must be "auto" or a whole number, got'),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number"),
        ({"static": ("gamma",)}, ValueError, r"static must name axes .*\['beta'\], got 'gamma'"),
        ({"progress": "yes"}, TypeError, "progress must be True or False, got 'yes'"),
        ({"mesh": 2}, TypeError, "mesh must be a jax.sharding.Mesh, .*got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, text):
    arguments = {"run": lambda beta: beta, "points": grid(beta=[0.9])} | arguments
    with pytest.raises(error, match=text):
        sweep(**arguments)


def test_an_optax_chain_runs_under_strict_types():
    def run(learning_rate):
        tx = optax.chain(optax.clip(1.0), optax.sgd(learning_rate, momentum=0.9))
        return momentax.rollout(PROBLEM.loss, PROBLEM.start, tx, 5).params

    result = sweep(run, grid(learning_rate=[0.01, 0.1]))
    for i, learning_rate in enumerate((0.01, 0.1)):
        np.testing.assert_allclose(result.values[i], run(jnp.float32(learning_rate)), rtol=1e-5)


# Inside of a function that JAX traces


HALVED = lambda rate: rate, lambda x, rate: x - rate * x, lambda x: x**2
POINT = grid(rate=[0.5])


def sweep_one(factor=1.0):
    return sweep(lambda rate: rate * factor, POINT).values


def halve_one(factor=1.0):
    return halve(HALVED[0], lambda x, rate: x * factor, HALVED[2], POINT, rungs=1).values["score"]


@pytest.mark.parametrize("call", [sweep_one, halve_one])
def test_a_call_in_a_traced_function_is_refused_in_a_sentence(call):
    name = call.__name__.partition("_")[0]
    inside = f"{name} cannot run inside of a function that JAX traces, as under jax.jit"
    over = "uses an array that JAX traces, .* call this outside of the traced function, or make"

    def scan(carry, _):
        return carry + call()[0], None

    for trace in (
        lambda: jax.jit(lambda x: x + call()[0])(1.0),
        lambda: jax.jit(call)(1.0),
        lambda: jax.lax.scan(scan, 0.0, length=2),
        lambda: jax.eval_shape(call, 1.0),
        lambda: jax.make_jaxpr(call)(1.0),
    ):
        with pytest.raises(TypeError, match=inside):
            trace()
    for trace in (
        lambda: jax.grad(lambda x: call(x)[0])(1.0),
        lambda: jax.vmap(call)(jnp.ones(2)),
        lambda: jax.jvp(call, (1.0,), (1.0,)),
    ):
        with pytest.raises(TypeError, match=over):
            trace()
    kept = []
    jax.jit(lambda x: kept.append(x))(1.0)
    with pytest.raises(TypeError, match=over):
        call(kept[0])
    # Without anything that is traced, the call is a constant of the derivative.
    assert jax.grad(lambda x: x * call()[0])(1.0) == call()[0]


def test_points_that_are_traced_are_refused():
    def total(points):
        return sweep(lambda rate: rate, points).values.sum()

    with pytest.raises(TypeError, match="sweep cannot run inside of"):
        jax.jit(total)(POINT)
    with pytest.raises(TypeError, match="points must hold arrays whose numbers are known"):
        jax.grad(total)(POINT)


# What is returned and given


@pytest.mark.parametrize("nothing", [None, {}, [], (), {"loss": None}])
def test_a_function_that_returns_no_array_is_refused(nothing):
    with pytest.raises(TypeError, match=r"run must return at least one array, got .* is a return"):
        sweep(lambda rate: nothing, POINT)
    with pytest.raises(TypeError, match="reduce must return at least one array, got"):
        sweep(lambda rate: rate, POINT, reduce=lambda x: nothing)
    with pytest.raises(ValueError, match="score must return one real number, got"):
        halve(*HALVED[:2], lambda x: nothing, POINT, rungs=1)


@pytest.mark.parametrize("static", [None, 3, 1.0, True, object(), b"rate", {"rate": 1}])
def test_static_that_is_no_list_of_names_is_refused(static):
    with pytest.raises(TypeError, match=r"static must name axes of the points, \['rate'\], got"):
        sweep(lambda rate: rate, POINT, static=static)


@pytest.mark.parametrize("static", ["x", ["x"], [["rate"]], [{}], [None], [1]])
def test_static_that_names_no_axis_is_refused(static):
    with pytest.raises(ValueError, match=r"static must name axes of the points, \['rate'\], got"):
        sweep(lambda rate: rate, POINT, static=static)
