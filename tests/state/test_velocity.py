"""Finding, measuring, replacing and resetting the velocity in any Optax state."""

import re
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax import replace_velocity, reset_velocity, velocity, velocity_norms

PARAMS = {"kernel": jnp.ones((4, 3)), "bias": jnp.full(3, 2.0)}
MATRICES = {"kernel": jnp.ones((4, 3)), "other": jnp.ones((2, 5))}


def state_after(tx, params=PARAMS, steps=2):
    state = tx.init(params)
    for _ in range(steps):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            _, state = tx.update(params, state, params)
    return state


# Each pipeline has one velocity. The function reads it without momentax.
PIPELINES = {
    "momentax.heavy_ball": (momentax.heavy_ball(), lambda s: s.velocity),
    "momentax.average": (momentax.average(), lambda s: s.velocity),
    "momentax.sgd": (momentax.sgd(0.1), lambda s: s[1].velocity),
    "trace": (optax.trace(0.9), lambda s: s.trace),
    "sgd": (optax.sgd(0.1, momentum=0.9), lambda s: s[0].trace),
    "ema": (optax.ema(0.9), lambda s: s.ema),
    "adam": (optax.adam(0.1), lambda s: s[0].mu),
    "adamw": (optax.adamw(0.1), lambda s: s[0].mu),
    "nadam": (optax.nadam(0.1), lambda s: s[0].mu),
    "adamax": (optax.adamax(0.1), lambda s: s[0].mu),
    "radam": (optax.radam(0.1), lambda s: s[0].mu),
    "lamb": (optax.lamb(0.1), lambda s: s[0].mu),
    "yogi": (optax.yogi(0.1), lambda s: s[0].mu),
    "adabelief": (optax.adabelief(0.1), lambda s: s[0].mu),
    "amsgrad": (optax.amsgrad(0.1), lambda s: s[0].mu),
    "novograd": (optax.novograd(0.1), lambda s: s[0].mu),
    "adan": (optax.adan(0.1), lambda s: s[0].m),
    "lion": (optax.lion(0.1), lambda s: s[0].mu),
    "signum": (optax.signum(0.1), lambda s: s[0].ema),
    "lars": (optax.lars(0.1), lambda s: s[-1].trace),
    "chain": (
        optax.chain(optax.clip(1.0), optax.chain(optax.trace(0.9)), optax.scale(-0.1)),
        lambda s: s[1][0].trace,
    ),
    "masked": (
        optax.masked(optax.trace(0.9), {"kernel": True, "bias": False}),
        lambda s: s.inner_state.trace,
    ),
    "partition": (
        optax.partition(
            {"slow": optax.sgd(0.1, momentum=0.9), "plain": optax.sgd(0.1)},
            {"kernel": "slow", "bias": "plain"},
        ),
        lambda s: s.inner_states["slow"].inner_state[0].trace,
    ),
    "inject_hyperparams": (
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
        lambda s: s.inner_state[0].trace,
    ),
    "MultiSteps": (
        optax.MultiSteps(optax.sgd(0.1, momentum=0.9), 1).gradient_transformation(),
        lambda s: s.inner_opt_state[0].trace,
    ),
    "apply_if_finite": (
        optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3),
        lambda s: s.inner_state[0].trace,
    ),
    "schedule_free": (
        optax.contrib.schedule_free(optax.sgd(0.1, momentum=0.9), 0.1),
        lambda s: s.base_optimizer_state[0].trace,
    ),
    "all at once": (
        optax.apply_if_finite(
            optax.chain(
                optax.clip(1.0),
                optax.masked(
                    optax.inject_hyperparams(momentax.heavy_ball)(beta=0.9),
                    {"kernel": True, "bias": False},
                ),
            ),
            3,
        ),
        lambda s: s.inner_state[1].inner_state.inner_state.velocity,
    ),
}


def name_of(path, separator="/"):
    """Return a path without brackets, dots and quotes."""
    return separator.join(re.sub(r"[\[\].']", "", jax.tree_util.keystr((key,))) for key in path)


@pytest.mark.parametrize("name", PIPELINES)
def test_finds_measures_replaces_and_resets(name):
    tx, read = PIPELINES[name]
    state = state_after(tx)
    v = velocity(state)
    chex.assert_trees_all_equal(v, read(state))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(v))

    norms = jax.jit(velocity_norms)(state)
    leaves = jax.tree_util.tree_leaves_with_path(v)
    assert list(norms) == [name_of(path) for path, _ in leaves]
    for norm, (_, leaf) in zip(norms.values(), leaves, strict=True):
        np.testing.assert_allclose(norm, np.linalg.norm(leaf), rtol=1e-6)

    halved = jax.jit(lambda s: replace_velocity(s, jax.tree.map(lambda x: x / 2, velocity(s))))(
        state
    )
    chex.assert_trees_all_equal(read(halved), jax.tree.map(lambda x: x / 2, v))
    chex.assert_trees_all_equal(replace_velocity(halved, v), state)

    reset = jax.jit(reset_velocity)(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(reset, state)
    chex.assert_trees_all_equal(read(reset), jax.tree.map(jnp.zeros_like, v))
    if name not in ("ema", "signum", "momentax.average"):
        chex.assert_trees_all_equal(replace_velocity(reset, v), state)  # Nothing else changed.


@pytest.mark.parametrize(
    ("tx", "read"),
    [
        (optax.contrib.momo(0.1), lambda s: s.exp_avg),
        (optax.contrib.momo_adam(0.1), lambda s: s.exp_avg),
        (optax.contrib.prodigy(), lambda s: s.exp_avg),
        (optax.contrib.dadapt_adamw(0.1), lambda s: s.exp_avg),
        (optax.contrib.simplified_ademamix(0.1), lambda s: s[0].m),
        (optax.contrib.sophia(0.1), lambda s: s[0].mu),
    ],
    ids=["momo", "momo_adam", "prodigy", "dadapt_adamw", "simplified_ademamix", "sophia"],
)
def test_finds_the_velocity_in_contrib(tx, read):
    state = tx.init(PARAMS)
    chex.assert_trees_all_equal(velocity(state), jax.tree.map(jnp.zeros_like, PARAMS))
    marked = replace_velocity(state, PARAMS)
    chex.assert_trees_all_equal(read(marked), PARAMS)


def test_muon_has_one_velocity_on_matrices_and_two_with_vectors():
    state = state_after(optax.contrib.muon(0.1), MATRICES)
    chex.assert_trees_all_equal_shapes(velocity(state), MATRICES)
    assert int(reset_velocity(state).inner_states["muon"].inner_state[0].count) == 0
    mixed = state_after(optax.contrib.muon(0.1), PARAMS)
    with pytest.raises(ValueError, match="the state holds 2 velocities") as error:
        velocity(mixed)
    places = re.findall(r"\.inner_states\S+\.mu", str(error.value))[:2]
    kernel, bias = sorted(
        (velocity(mixed, path=p) for p in places), key=lambda v: v["bias"] is None
    )
    found = jax.tree.leaves(kernel) + jax.tree.leaves(bias)
    assert sorted(leaf.shape for leaf in found) == [(3,), (4, 3)]


def test_several_velocities_are_listed_and_a_path_picks_one():
    state = state_after(optax.chain(optax.trace(0.9), momentax.heavy_ball(0.5)))
    with pytest.raises(ValueError, match=r"2 velocities, at \[0\].trace, \[1\].velocity") as error:
        velocity(state)
    path = re.search(r"path='(.*)'", str(error.value))[1]
    assert path == "[0].trace"
    chex.assert_trees_all_equal(velocity(state, path=path), state[0].trace)
    chex.assert_trees_all_equal(velocity(state, path="[1].velocity"), state[1].velocity)
    reset = reset_velocity(state, path="[1].velocity")
    chex.assert_trees_all_equal(reset[0], state[0])
    assert not jnp.any(reset[1].velocity["bias"])
    assert velocity_norms(reset, path="[1].velocity")["bias"] == 0
    with pytest.raises(ValueError, match=r"no velocity at path='\[9\]'; .*\[0\].trace"):
        velocity(state, path="[9]")


def test_two_velocities_in_one_state():
    state = state_after(optax.contrib.ademamix(0.1))
    with pytest.raises(ValueError, match=r"\[0\].m1, \[0\].m2"):
        velocity(state)
    replaced = replace_velocity(state, PARAMS, path="[0].m2")
    chex.assert_trees_all_equal(replaced[0].m2, PARAMS)
    chex.assert_trees_all_equal(replaced[0].m1, state[0].m1)


@pytest.mark.parametrize("tx", [optax.sgd(0.1), optax.adagrad(0.1), optax.identity()])
def test_a_state_without_a_velocity_is_refused(tx):
    for call in (velocity, velocity_norms, reset_velocity):
        with pytest.raises(ValueError, match="the state holds no velocity"):
            call(tx.init(PARAMS))


def test_a_third_party_state_with_a_velocity_field_is_found():
    from typing import Any, NamedTuple

    class Theirs(NamedTuple):
        velocity: Any
        mu: Any  # Only in Optax's states does this name mean a velocity.

    state = (Theirs(velocity=PARAMS, mu=jnp.ones(2)),)
    chex.assert_trees_all_equal(velocity(state), PARAMS)

    class Unrelated(NamedTuple):
        mu: Any

    class TraceState(NamedTuple):
        trace: Any  # The class has the name of Optax's class, but is another one.

    for state in (Unrelated(jnp.ones(2)), TraceState(jnp.ones(2))):
        with pytest.raises(ValueError, match="no velocity"):
            velocity(state)


def test_empty_parameters_have_an_empty_velocity():
    assert velocity(momentax.heavy_ball().init({})) == {}


@pytest.mark.parametrize("tx", [momentax.average(0.9), optax.ema(0.9)], ids=["average", "ema"])
def test_reset_restarts_debiasing(tx):
    state = state_after(tx, steps=50)
    g = jax.tree.map(lambda leaf: 3 * leaf, PARAMS)
    with jax.numpy_dtype_promotion("standard"):  # optax.ema raises a float to an integer power.
        d, _ = tx.update(g, reset_velocity(state))
    chex.assert_trees_all_close(d, g, rtol=1e-6)


def test_reset_keeps_the_count_of_a_beta_schedule():
    tx = momentax.heavy_ball(momentax.schedules.warmup(0.0, 0.9, 10))
    assert int(reset_velocity(state_after(tx, steps=7)).count) == 7


def test_reset_of_adam_keeps_the_second_moment_and_its_debiasing():
    state = state_after(optax.adam(0.1), steps=5)
    reset = reset_velocity(state)
    chex.assert_trees_all_equal(reset[0].nu, state[0].nu)
    assert int(reset[0].count) == 5


def test_replacement_keeps_the_dtype_and_refuses_trees_that_do_not_fit():
    state = state_after(optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16))
    replaced = replace_velocity(state, jax.tree.map(np.asarray, PARAMS))
    chex.assert_trees_all_equal_dtypes(replaced, state)
    for new, path, text in (
        ({"kernel": jnp.ones((4, 3))}, r"\['bias'\]", "nothing where an array"),
        (PARAMS | {"bias": jnp.ones(1)}, r"\['bias'\]", r"shape \(1,\) where shape \(3,\)"),
        (PARAMS | {"bias": None}, r"\['bias'\]", "None where an array"),
    ):
        with pytest.raises(ValueError, match=f"new_velocity at {path} does not fit .*{text}"):
            replace_velocity(state, new)
    with pytest.raises(TypeError, match=r"\['bias'\].*dtype complex64"):
        replace_velocity(state, PARAMS | {"bias": jnp.ones(3, jnp.complex64)})


def test_norms_are_taken_in_float32():
    state = optax.TraceState(jnp.full(4096, 1.0, jnp.bfloat16))
    assert velocity_norms(state)[""] == 64
    state = optax.TraceState(jnp.full(100, 300.0, jnp.float16))  # The squares overflow float16.
    assert velocity_norms(state)[""] == 3000


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_neither_underflow_nor_overflow(size):
    tree = {"a": jnp.full(9, size), "z": jnp.full((2, 2), -1j * size, jnp.complex64)}
    state = optax.TraceState(tree | {"none": None, "empty": jnp.ones(0), "zero": jnp.zeros(2)})
    norms = jax.jit(velocity_norms)(state)
    np.testing.assert_allclose(norms["a"], 3 * size, rtol=1e-6)
    np.testing.assert_allclose(norms["z"], 2 * size, rtol=1e-6)
    assert norms["empty"] == norms["zero"] == 0
    for bad, norm in ((jnp.nan, jnp.nan), (jnp.inf, jnp.inf), (-jnp.inf, jnp.inf)):
        state = optax.TraceState(jnp.array([size, bad]))
        np.testing.assert_array_equal(velocity_norms(state)[""], norm)


def test_weak_types_are_kept():
    state = optax.TraceState({"a": jnp.asarray(1.0), "b": jnp.ones(2)})
    assert (state.trace["a"].weak_type, state.trace["b"].weak_type) == (True, False)
    new = {"a": np.float32(2.0), "b": jnp.full(2, 3.0)}
    for after_ in (replace_velocity(state, new), jax.jit(replace_velocity)(state, new)):
        assert (after_.trace["a"].weak_type, after_.trace["b"].weak_type) == (True, False)
        chex.assert_trees_all_equal(after_.trace, new)
    reset = reset_velocity(state)
    assert (reset.trace["a"].weak_type, reset.trace["b"].weak_type) == (True, False)


def test_fields_of_other_states_do_not_restart():
    from typing import Any, NamedTuple

    class EmaState(NamedTuple):
        velocity: Any  # The class has the name of Optax's class, but no count.

    class AverageState(NamedTuple):
        velocity: Any
        weight: Any  # This weight does not debias the velocity.

    assert reset_velocity(EmaState(jnp.ones(2))).velocity.tolist() == [0, 0]
    reset = reset_velocity(AverageState(jnp.ones(2), jnp.float32(3)))
    assert (reset.velocity.tolist(), float(reset.weight)) == ([0, 0], 3)


def test_parameters_with_a_field_called_velocity_need_a_path():
    from typing import Any, NamedTuple

    class Body(NamedTuple):
        position: Any
        velocity: Any

    params = Body(jnp.ones(2), jnp.full(2, 2.0))
    chex.assert_trees_all_equal(velocity(state_after(momentax.sgd(0.1), params, 1)), params)
    slow = optax.MultiSteps(momentax.sgd(0.1), 2).gradient_transformation()
    state = state_after(slow, params, 2)  # It has a sum of gradients, shaped like params.
    with pytest.raises(ValueError, match=r"2 velocities, .*\.acc_grads\.velocity"):
        velocity(state)
    path = ".inner_opt_state[1].velocity"
    chex.assert_trees_all_equal(velocity(state, path=path), params)


@pytest.mark.parametrize("tx", [momentax.average(0.9), optax.ema(0.9)], ids=["average", "ema"])
def test_reset_restarts_debiasing_inside_flax_containers(tx):
    """An nnx.Optimizer wraps every leaf of the state, also the weight and the count."""
    model = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.chain(tx, optax.scale(-1.0)), wrt=nnx.Param)
    gradients = nnx.state(model, nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # optax.ema raises a float to an integer power.
        for _ in range(3):
            optimizer.update(model, gradients)
        held = jax.tree.leaves(optimizer.opt_state, is_leaf=_is_variable)
        assert any(map(_is_variable, held))
        reset = reset_velocity(optimizer.opt_state)
        assert jax.tree.structure(reset) == jax.tree.structure(optimizer.opt_state)
        optimizer.opt_state = reset
        before = np.asarray(model.kernel[...])
        g = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3.0), gradients)
        optimizer.update(model, g)
    moved = before - model.kernel[...]  # The average is the gradient.
    np.testing.assert_allclose(moved, 3.0, rtol=1e-6)


def _is_variable(node):
    return isinstance(node, nnx.Variable)


def test_a_transformation_and_swapped_arguments_are_named():
    params = jnp.ones(2)
    tx = momentax.sgd(0.1, momentax.nesterov(0.9))
    with pytest.raises(TypeError, match=r"pass its state, tx.init\(params\)"):
        velocity(tx)
    for function in (momentax.eval_params, momentax.catch_up):
        with pytest.raises(TypeError, match=rf"params come first: {function.__name__}\(params, s"):
            function(tx.init(params), params, learning_rate=0.1)


# Flax NNX.


class Branch(nnx.Module):
    """A module with a list, so that the paths of its parameters hold numbers."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(4, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)])

    def __call__(self, x):
        for layer in self.rest:
            x = layer(x) if x.shape[-1] != 3 else layer(self.first(x))
        return x


NNX = {
    "sgd": lambda: momentax.sgd(0.1, momentax.nesterov(0.9)),
    "sgd, parameter units": lambda: momentax.sgd(
        0.1, momentax.nesterov(0.9), velocity_units="parameter"
    ),
    "average": lambda: optax.chain(momentax.average(0.9), optax.scale(-0.1)),
    "optax.sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(1e-3),
    "int8": lambda: momentax.stored(momentax.sgd(0.1), momentax.storage.int8(), min_size=5),
    "bfloat16": lambda: momentax.stored(
        momentax.sgd(0.1), momentax.storage.bfloat16(False), min_size=5
    ),
    "nothing stored": lambda: momentax.stored(optax.trace(0.9), momentax.storage.int8()),
    "nested": lambda: optax.chain(optax.clip(1.0), optax.apply_if_finite(momentax.sgd(0.1), 3)),
}
VIEWS = {
    "the optimizer": lambda optimizer: optimizer,
    "its opt_state": lambda optimizer: optimizer.opt_state,
    "nnx.state": nnx.state,
    "nnx.split": lambda optimizer: nnx.split(optimizer)[1],
}


@cache
def trained(name):
    """An optimizer of NNX after two steps, and the state of the same pipeline without NNX."""
    model, tx = Branch(nnx.Rngs(0)), NNX[name]()
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer, state = nnx.Optimizer(model, tx, wrt=nnx.Param), tx.init(params)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(2):
            grads = nnx.grad(lambda m: jnp.mean(m(jnp.ones((5, 3))) ** 2))(model)
            updates, state = tx.update(nnx.to_pure_dict(grads), state, params)
            params = optax.apply_updates(params, updates)
            optimizer.update(model, grads)
    return model, optimizer, params, state


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", NNX)
def test_the_containers_of_nnx_are_seen_through(name, view):
    model, optimizer, params, plain = trained(name)
    state = VIEWS[view](optimizer)
    v = velocity(plain)
    chex.assert_trees_all_close(velocity(state), v, rtol=1e-6)
    norms, expected = velocity_norms(state), velocity_norms(plain)
    assert list(norms) == list(expected)
    assert "first/kernel" in norms
    chex.assert_trees_all_close(norms, expected, rtol=1e-6)

    for new in (jax.tree.map(lambda x: 2 * x, v), velocity(state)):
        replaced = replace_velocity(state, new)
        assert type(replaced) is type(state)
        assert jax.tree.structure(replaced) == jax.tree.structure(state)
        chex.assert_trees_all_close(velocity(replaced), new, rtol=1e-6)
        chex.assert_trees_all_equal_shapes_and_dtypes(
            jax.tree.leaves(replaced), jax.tree.leaves(state)
        )
    chex.assert_trees_all_equal(jax.tree.leaves(replaced), jax.tree.leaves(state))
    wrapped = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    ones = velocity(replace_velocity(state, wrapped))
    assert all(float(jnp.min(leaf)) == 1 for leaf in jax.tree.leaves(ones))
    with pytest.raises(ValueError, match=r"new_velocity at \['first'\]"):
        replace_velocity(state, {"first": {}})

    reset = reset_velocity(state)
    assert jax.tree.structure(reset) == jax.tree.structure(state)
    changed = jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), reset, state))
    expected = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), reset_velocity(plain), plain)
    assert sum(changed) == sum(jax.tree.leaves(expected))
    rescaled = momentax.rescale_velocity(state, 0.1, 0.2)
    chex.assert_trees_all_close(
        velocity(rescaled), velocity(momentax.rescale_velocity(plain, 0.1, 0.2)), rtol=1e-6
    )
    exact = momentax.storage.bytes_per_parameter(plain, params=params)
    step = 4 / 32 if view != "its opt_state" else 0  # The optimizer counts its steps.
    found = momentax.storage.bytes_per_parameter(state, params=nnx.state(model, nnx.Param))
    assert found == pytest.approx(exact + step)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["sgd", "sgd, parameter units"])
def test_the_base_iterate_is_found_in_nnx(name, view):
    model, optimizer, params, plain = trained(name)
    state, held = VIEWS[view](optimizer), nnx.state(model, nnx.Param)
    learning_rate = 0.1 if name == "sgd" else None
    expected = momentax.eval_params(params, plain, learning_rate=learning_rate)
    if name != "sgd" and view.startswith("nnx."):
        learning_rate = -1  # The order of the chain's parts is not known.
    base = momentax.eval_params(held, state, learning_rate=learning_rate)
    assert jax.tree.structure(base) == jax.tree.structure(held)
    chex.assert_trees_all_close(nnx.to_pure_dict(base), expected, rtol=1e-6)


def test_rows_of_a_lazy_method_catch_up_in_nnx():
    model = nnx.Embed(8, 4, rngs=nnx.Rngs(0))
    tx = momentax.sgd(0.1, momentax.lazy(momentax.heavy_ball(0.9)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    held = nnx.state(model, nnx.Param)
    params = nnx.to_pure_dict(held)
    state = tx.init(params)
    g = {"embedding": jnp.zeros((8, 4)).at[:3].set(1.0)}
    for rows in (3, 6):
        g = {"embedding": jnp.zeros((8, 4)).at[rows - 3 : rows].set(1.0)}
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        grads = nnx.state(model, nnx.Param)
        nnx.replace_by_pure_dict(grads, g)
        optimizer.update(model, grads)
    expected = momentax.catch_up(params, state, learning_rate=0.1)
    held = nnx.state(model, nnx.Param)
    for view in VIEWS.values():
        after, kept = momentax.catch_up(held, view(optimizer), learning_rate=0.1)
        assert jax.tree.structure(after) == jax.tree.structure(held)
        chex.assert_trees_all_close(nnx.to_pure_dict(after), expected[0])
        chex.assert_trees_all_close(velocity(kept), velocity(expected[1]))


def test_parameters_with_names_of_fields_are_not_taken_for_states():
    class Odd(nnx.Module):
        def __init__(self):
            self.count, self.velocity = nnx.Param(jnp.ones(2)), nnx.Param(jnp.ones(3))
            self.values = nnx.Param(jnp.ones(4))

    model = Odd()
    for tx in (momentax.sgd(0.1), momentax.stored(momentax.sgd(0.1), momentax.storage.int8())):
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for view in VIEWS.values():
            assert set(velocity(view(optimizer))) == {"count", "velocity", "values"}


def test_a_parameter_with_a_field_called_value_keeps_its_path():
    from typing import Any, NamedTuple

    class Pair(NamedTuple):
        value: Any
        grad: Any

    state = momentax.heavy_ball().init(Pair(jnp.ones(2), jnp.ones(3)))
    assert list(velocity_norms(state)) == ["value", "grad"]


def test_a_path_that_is_no_text_is_refused():
    state = momentax.heavy_ball().init(PARAMS)
    for path in ([".velocity"], 0, True, ("a",)):
        for call in (velocity, velocity_norms, reset_velocity):
            with pytest.raises(TypeError, match="path must be the path of a velocity"):
                call(state, path=path)


def test_names_are_alike_in_every_container_and_joined_by_the_separator():
    import equinox as eqx
    from flax import linen as nn
    from flax import nnx

    class Equinox(eqx.Module):
        dense: eqx.nn.Linear

    class Nnx(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="dense")(x)

    key = jax.random.key(0)
    trees = {
        "linen": (Linen().init(key, jnp.ones(2))["params"], ["dense/bias", "dense/kernel"]),
        "nnx": (nnx.state(Nnx(), nnx.Param), ["dense/bias", "dense/kernel"]),
        "equinox": (Equinox(eqx.nn.Linear(2, 3, key=key)), ["dense/weight", "dense/bias"]),
        "plain": ({"dense": [jnp.ones(2), (jnp.ones(3),)]}, ["dense/0", "dense/1/0"]),
    }
    for params, names in trees.values():
        state = momentax.heavy_ball().init(params)
        assert list(velocity_norms(state)) == names
        dotted = [name.replace("/", ".") for name in names]
        assert list(velocity_norms(state, separator=".")) == dotted
        tx = momentax.monitor(momentax.heavy_ball(), per="leaf")
        _, state = jax.jit(tx.update)(params, tx.init(params))
        found = {key.rpartition("/")[0] for key in momentax.measurements(state)}
        assert found == set(names)


def test_two_leaves_of_one_name_are_refused():
    state = momentax.heavy_ball().init({"a/b": jnp.ones(2), "a": {"b": jnp.ones(3)}})
    with pytest.raises(ValueError, match="two leaves are both called 'a/b' with separator='/'"):
        velocity_norms(state)
    assert set(velocity_norms(state, separator=".")) == {"a/b", "a.b"}
    with pytest.raises(TypeError, match="separator must be a string"):
        velocity_norms(state, separator=None)
