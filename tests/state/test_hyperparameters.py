"""The hyperparameters that are read are those that the last update has used.

They are compared with what the update itself did: without a gradient the velocity keeps the share
β, and the updates are the directions times -α.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import hyperparameters, sgd, storage
from tests.cases import METHODS, TRANSFORMATIONS
from tests.contracts.harness import build

PARAMS = {"w": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([0.5, -1.0])}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
LABELS = {"w": "x", "b": "y"}
ONLY_W = {"w": True, "b": False}
RATE = optax.linear_schedule(0.1, 0.0, 10)
BETA = optax.linear_schedule(0.5, 0.9, 10)


def after(tx, updates, params=PARAMS, **extra):
    """Return the state after some updates with the parameters as gradients."""
    state = tx.init(params)
    for _ in range(updates):
        _, state = tx.update(params, state, params, **extra)
    return state


def close(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-6, err_msg=key)


# What is found.


def described(learning_rate=None, beta=None, weight_decay=None, count=None):
    known = {"learning_rate": learning_rate, "beta": beta, "weight_decay": weight_decay}
    return {k: v for k, v in (known | {"count": count}).items() if v is not None}


# Each pipeline, and what is known of it at the update with the count t.
PIPELINES = {
    "sgd": (lambda: sgd(0.1), lambda t: described(0.1, 0.9, 0.0, t)),
    "sgd, schedules": (
        lambda: sgd(RATE, momentax.nesterov(BETA), weight_decay=lambda t: 0.01 * (t + 1)),
        lambda t: described(RATE(t), BETA(t), 0.01 * (t + 1), t),
    ),
    "sgd, parameter units": (
        lambda: sgd(RATE, velocity_units="parameter", decoupled=True, weight_decay=0.1),
        lambda t: described(RATE(t), 0.9, 0.1, t),
    ),
    "sgd, ascent": (lambda: sgd(0.1, maximize=True), lambda t: described(0.1, 0.9, 0.0, t)),
    "method": (lambda: momentax.heavy_ball(BETA), lambda t: described(beta=BETA(t), count=t)),
    "lion": (
        lambda: sgd(0.1, momentax.lion(0.8, 0.95)),
        lambda t: described(0.1, 0.95, 0.0, t),
    ),
    "lazy": (
        lambda: sgd(0.1, momentax.lazy(momentax.nesterov(0.7))),
        lambda t: described(0.1, 0.7, 0.0, t),
    ),
    "aggregated": (
        lambda: sgd(0.1, momentax.aggregated((0.0, 0.9))),
        lambda t: described(0.1, None, 0.0, t),
    ),
    "polyak": (
        lambda: sgd(1.0, momentax.momentum_polyak(0.8)),
        lambda t: described(None, 0.8, 0.0, t),
    ),
    "optax.sgd": (lambda: optax.sgd(0.1, 0.8), lambda t: described(0.1, 0.8)),
    "optax.sgd, schedule": (lambda: optax.sgd(RATE), lambda t: described(RATE(t), count=t)),
    "optax.adam": (lambda: optax.adam(RATE, b1=0.8), lambda t: described(RATE(t), 0.8, count=t)),
    "optax.adamw, masked decay": (
        lambda: optax.adamw(1e-3, weight_decay=0.1, mask={"w": True, "b": False}),
        lambda t: described(1e-3, 0.9, 0.1, t),
    ),
    "optax.lion": (lambda: optax.lion(1e-3, b2=0.9), lambda t: described(1e-3, 0.9, 1e-3, t)),
    "optax.ema": (lambda: optax.ema(0.7), lambda t: described(beta=0.7, count=t)),
    "optax.polyak_sgd": (lambda: optax.polyak_sgd(), lambda t: {}),
    "identity": (optax.identity, lambda t: {}),
    "chain": (
        lambda: optax.chain(
            optax.clip(1.0),
            optax.add_decayed_weights(0.2),
            optax.trace(0.6),
            optax.scale_by_schedule(lambda t: -0.1 / (t + 1)),
        ),
        lambda t: described(0.1 / (t + 1), 0.6, 0.2, t),
    ),
    "three decays": (
        lambda: optax.chain(
            optax.add_decayed_weights(0.5),
            optax.add_decayed_weights(0.25),
            sgd(0.1, weight_decay=0.125),
        ),
        lambda t: described(0.1, 0.9, 0.875, t),
    ),
    "a second decay of some parameters": (
        lambda: optax.chain(
            optax.add_decayed_weights(0.5), optax.add_decayed_weights(0.25, ONLY_W), sgd(0.1)
        ),
        lambda t: described(0.1, 0.9, None, t),
    ),
    "a decay around a partition": (
        lambda: optax.chain(
            optax.add_decayed_weights(0.5),
            optax.partition({"x": sgd(0.1, weight_decay=0.25), "y": optax.sgd(0.2, 0.8)}, LABELS),
        ),
        lambda t: {
            **{f"x/{k}": v for k, v in described(0.1, 0.9, 0.75, t).items()},
            **{f"y/{k}": v for k, v in described(0.2, 0.8, 0.5).items()},
        },
    ),
    "named chain, out of order": (
        lambda: optax.named_chain(("z", optax.trace(0.5)), ("a", optax.scale(-0.2))),
        lambda t: described(0.2, 0.5),
    ),
    "two scalings": (
        lambda: optax.chain(optax.scale(0.25), optax.trace(0.9), optax.scale(-0.1)),
        lambda t: described(0.025, 0.9),
    ),
    "two velocities": (
        lambda: optax.chain(optax.trace(0.5), optax.scale_by_adam(), optax.scale(-0.2)),
        lambda t: described(0.2, count=t),
    ),
    "a scaling of some parameters": (
        lambda: optax.chain(sgd(0.1), optax.masked(optax.scale(0.5), {"w": True, "b": False})),
        lambda t: described(None, 0.9, 0.0, t),
    ),
    "masked": (
        lambda: optax.masked(sgd(0.1), {"w": True, "b": False}),
        lambda t: described(0.1, 0.9, 0.0, t),
    ),
    "inject": (
        lambda: optax.inject_hyperparams(optax.adamw)(RATE, b1=0.7),
        lambda t: described(RATE(t), 0.7, 1e-4, t),
    ),
    "inject, lion": (
        lambda: optax.inject_hyperparams(optax.lion)(0.1, b2=0.95),
        lambda t: described(0.1, 0.95, 1e-3, t),
    ),
    "inject, sgd": (
        lambda: optax.inject_hyperparams(sgd)(RATE, weight_decay=0.3),
        lambda t: described(RATE(t), 0.9, 0.3, t),
    ),
    "partition": (
        lambda: optax.partition(
            {"x": sgd(RATE, momentax.nesterov(0.8)), "y": optax.adam(0.3)}, LABELS
        ),
        lambda t: {
            **{f"x/{k}": v for k, v in described(RATE(t), 0.8, 0.0, t).items()},
            **{f"y/{k}": v for k, v in described(0.3, 0.9, count=t).items()},
        },
    ),
    "partition in a chain": (
        lambda: optax.chain(
            optax.partition({"x": optax.trace(0.8), "y": optax.trace(0.3)}, LABELS),
            optax.scale_by_learning_rate(0.2),
        ),
        lambda t: {"x/beta": 0.8, "y/beta": 0.3, "learning_rate": 0.2},
    ),
    "partition with and without a scaling": (
        lambda: optax.chain(
            optax.partition({"x": optax.sgd(0.5, 0.8), "y": optax.trace(0.3)}, LABELS),
            optax.scale(0.2),
        ),
        lambda t: {
            "x/learning_rate": 0.1,
            "x/beta": 0.8,
            "y/learning_rate": 0.2,
            "y/beta": 0.3,
        },
    ),
    "MultiSteps": (
        lambda: optax.MultiSteps(sgd(RATE), 1).gradient_transformation(),
        lambda t: described(RATE(t), 0.9, 0.0, t),
    ),
    "stored": (
        lambda: momentax.stored(sgd(RATE), storage.bfloat16(), min_size=1),
        lambda t: described(RATE(t), 0.9, 0.0, t),
    ),
    "monitor": (lambda: momentax.monitor(sgd(RATE)), lambda t: described(RATE(t), 0.9, 0.0, t)),
    "hyperball": (lambda: momentax.hyperball(sgd(RATE)), lambda t: described(RATE(t), 0.9, 0.0, t)),
    "guard": (lambda: momentax.guard(sgd(RATE)), lambda t: described(RATE(t), 0.9, 0.0, t)),
    "restart": (
        lambda: momentax.restart(sgd(RATE), 2),
        lambda t: described(RATE(t), 0.9, 0.0, t),
    ),
    "cautious": (
        lambda: sgd(0.1, momentax.cautious(optax.trace(0.6))),
        lambda t: described(0.1, 0.6, 0.0, t),
    ),
    "apply_if_finite": (
        lambda: optax.apply_if_finite(optax.sgd(0.1, 0.9), 3),
        lambda t: described(0.1, 0.9),
    ),
    "flatten": (lambda: optax.flatten(optax.sgd(0.1, 0.9)), lambda t: described(0.1, 0.9)),
    "schedule_free": (lambda: optax.contrib.schedule_free_sgd(0.1), lambda t: {}),
}


@pytest.mark.parametrize("name", PIPELINES)
@jax.numpy_dtype_promotion("standard")
def test_the_values_are_those_of_the_last_update(name):
    make, expected = PIPELINES[name]
    tx = make()
    update = jax.jit(optax.with_extra_args_support(tx).update)
    state = tx.init(PARAMS)
    for used in (0, 0, 1, 2):  # Before the first update, and after each.
        found = hyperparameters(state, tx)
        close(found, expected(used))
        assert all(type(value) in (int, float) for value in found.values())
        _, state = update(PARAMS, state, PARAMS, value=1.0)
    traced = jax.jit(lambda state: hyperparameters(state, tx))(state)
    close(traced, expected(3))
    alone = hyperparameters(state)  # What the state alone says is never something else.
    close(alone, {key: value for key, value in expected(3).items() if key in alone})


# What the update does.


# The first update of recursive_momentum keeps nothing, whatever β is.
@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].decay])
@pytest.mark.parametrize("updates", [1, 3])
def test_beta_is_the_share_of_the_velocity_that_is_kept(name, updates):
    tx = build(name)
    state = after(tx, updates)
    v = jax.tree.map(jnp.ones_like, momentax.velocity(state))
    _, state = tx.update(ZEROS, momentax.replace_velocity(state, v), ZEROS)
    kept = float(jax.tree.leaves(momentax.velocity(state))[0].ravel()[0])
    plain = TRANSFORMATIONS[name].make(**TRANSFORMATIONS[name].hyperparameters)
    assert hyperparameters(state, plain)["beta"] == pytest.approx(kept, rel=1e-5)


METHODS_OF_OPTAX = {
    "trace": lambda: optax.trace(0.8),
    "ema": lambda: optax.ema(0.8),
    "adam": lambda: optax.scale_by_adam(b1=0.8),
    "amsgrad": lambda: optax.scale_by_amsgrad(b1=0.8),
    "adan": lambda: optax.scale_by_adan(b1=0.8),
    "belief": lambda: optax.scale_by_belief(b1=0.8),
    "lion": lambda: optax.scale_by_lion(b1=0.7, b2=0.8),
    "muon": lambda: optax.contrib.scale_by_muon(beta=0.8),
    "sophia": lambda: (
        optax.contrib.scale_by_sophia(b1=0.8)
        if hasattr(optax.contrib, "scale_by_sophia")
        else optax.trace(0.8)
    ),
}


@pytest.mark.parametrize("name", METHODS_OF_OPTAX)
@jax.numpy_dtype_promotion("standard")
def test_beta_of_optax_is_the_share_that_is_kept(name):
    tx, params = METHODS_OF_OPTAX[name](), jnp.ones((3, 3))
    state = momentax.replace_velocity(tx.init(params), params)
    extra = {"obj_fn": lambda p: jnp.sum(p**2)} if name == "sophia" else {}
    _, state = optax.with_extra_args_support(tx).update(0 * params, state, 0 * params, **extra)
    kept = float(momentax.velocity(state)[0, 0])
    assert hyperparameters(state, tx)["beta"] == pytest.approx(kept, rel=1e-6)
    assert kept == pytest.approx(0.8, rel=1e-6)


@jax.numpy_dtype_promotion("standard")
@pytest.mark.parametrize("updates", [0, 1, 4])
@pytest.mark.parametrize(
    ("make", "method"),
    [
        (lambda m: sgd(RATE, m, weight_decay=0.2, decoupled=True), momentax.nesterov(0.9)),
        (lambda m: optax.chain(m, optax.scale(0.5), optax.scale_by_learning_rate(RATE)),
         momentax.heavy_ball()),
        (lambda m: optax.chain(m, optax.add_decayed_weights(0.3), optax.scale(-0.1)),
         optax.scale_by_adam()),
        (lambda m: optax.inject_hyperparams(
            lambda learning_rate: optax.chain(m, optax.scale(-learning_rate)))(RATE),
         optax.trace(0.9)),
    ],
)  # fmt: skip
def test_the_learning_rate_and_the_decay_multiply_direction_and_parameters(make, method, updates):
    tx = make(method)
    state, inner = after(tx, updates), after(method, updates)
    d, _ = method.update(PARAMS, inner, PARAMS)
    u, new = tx.update(PARAMS, state, ZEROS)
    known = hyperparameters(new, tx)
    np.testing.assert_allclose(u["w"], -known["learning_rate"] * d["w"], rtol=1e-5)
    if "weight_decay" in known:
        with_decay, _ = tx.update(PARAMS, state, PARAMS)
        shown = -(with_decay["w"] - u["w"]) / known["learning_rate"] / PARAMS["w"]
        np.testing.assert_allclose(shown, known["weight_decay"], rtol=1e-4)


# Special cases.


def test_accumulating_updates_and_skipped_steps_are_none():
    tx = optax.MultiSteps(sgd(RATE), 2).gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):
        counts = [hyperparameters(after(tx, n), tx)["count"] for n in range(7)]
    assert counts == [0, 0, 0, 0, 1, 1, 2]
    tx = momentax.guard(sgd(RATE))
    state = after(tx, 2)
    _, skipped = tx.update(jax.tree.map(lambda x: x * jnp.nan, PARAMS), state, PARAMS)
    assert hyperparameters(skipped, tx) == hyperparameters(state, tx)


def test_adaptive_methods_keep_their_values_in_the_state():
    for method in (momentax.hypergradient(0.1, 0.8), momentax.yellowfin(0.5, 0.3)):
        tx = sgd(0.5, method)
        state = after(tx, 3)
        found = hyperparameters(state, tx)
        np.testing.assert_allclose(found["learning_rate"], 0.5 * state[1].learning_rate, rtol=1e-6)
        np.testing.assert_allclose(found["beta"], state[1].beta, rtol=1e-6)
        assert "learning_rate" not in hyperparameters(state)  # The factor 0.5 is not in it.
        assert "learning_rate" in hyperparameters(state[1])


def test_the_numbers_are_short_decimals_and_arrays_of_a_vmap_stay_arrays():
    assert hyperparameters(sgd(0.1).init(PARAMS), sgd(0.1))["learning_rate"] == 0.1
    tx = sgd(RATE)
    states = jax.vmap(tx.init)(jnp.ones((4, 2)))
    _, states = jax.vmap(tx.update)(jnp.ones((4, 2)), states)
    _, states = jax.vmap(tx.update)(jnp.ones((4, 2)), states)
    found = hyperparameters(states, tx)
    np.testing.assert_array_equal(found["count"], [1, 1, 1, 1])
    np.testing.assert_allclose(found["learning_rate"], [0.09] * 4, rtol=1e-6)


def test_a_count_that_has_stopped_stays():
    last = np.iinfo(np.int32).max
    tx = sgd(0.1)
    state = jax.tree.map(
        lambda x: jnp.full_like(x, last) if x.dtype == jnp.int32 else x, tx.init(PARAMS)
    )
    _, state = tx.update(PARAMS, state, PARAMS)
    assert hyperparameters(state, tx)["count"] == last


def test_what_a_user_writes_into_an_injected_state_is_read():
    tx = optax.inject_hyperparams(sgd)(0.1)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(0.05)
    assert hyperparameters(state)["learning_rate"] == 0.05
    assert hyperparameters(state, tx)["learning_rate"] == 0.05


def test_transformations_of_other_libraries_hide_nothing_that_the_state_holds():
    def update(g, state, params=None):
        return optax.trace(0.5).update(g, state, params)

    own = optax.GradientTransformation(optax.trace(0.5).init, update)
    tx = optax.chain(own, optax.inject_hyperparams(optax.scale_by_learning_rate)(0.1))
    state = tx.init(PARAMS)
    assert hyperparameters(state, tx) == {"learning_rate": 0.1, "count": 0}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (optax.adam(0.1), "tx has a chain of 2 transformations, and state has a tuple of 4"),
        (optax.masked(sgd(0.1), True), "with the field inner_state, and state has a tuple of 4"),
        (optax.trace(0.9), "a part of tx is no chain, and state has a tuple of 4"),
        (momentax.heavy_ball(), "a state of the class momentax.states.LinearState, and state has"),
        (sgd(0.1, momentax.yellowfin()), "a state of the class momentax.states.YellowFinState, "),
    ],
)
def test_the_state_of_another_transformation_is_refused(other, message):
    with pytest.raises((TypeError, ValueError), match=f"^state does not belong to tx: .*{message}"):
        hyperparameters(sgd(0.1).init(PARAMS), other)


@pytest.mark.parametrize(
    ("made_by", "tx"),
    [
        (optax.adam(0.1), optax.sgd(0.1, 0.9)),
        (optax.adam(0.1), optax.sgd(0.1)),
        (optax.sgd(0.1, 0.9), optax.adam(0.1)),
        (optax.sgd(0.1, 0.9), optax.sgd(RATE, 0.9)),
        (optax.sgd(RATE), optax.chain(optax.identity(), optax.trace(0.9))),
    ],
)
def test_the_state_of_another_chain_of_the_same_length_is_refused(made_by, tx):
    with pytest.raises(ValueError, match=r"state does not belong to tx: .* a state of the class"):
        hyperparameters(made_by.init(PARAMS), tx)


@pytest.mark.parametrize("state", [None, 0.9, "state", [], {}, PARAMS, jnp.ones(3), sgd(0.1)])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(TypeError, match="state must be that of an optimizer, got"):
        hyperparameters(state)


def test_the_variables_of_optax_have_the_names_that_are_looked_up():
    """A new version of Optax that renames them must be noticed, since unknown values are absent."""
    from momentax._state import _closures

    for maker, variable in (_closures._BETAS | _closures._SCALINGS).items():
        function = getattr(optax, maker, None) or getattr(optax.contrib, maker, None)
        if function is not None:
            assert variable in inspect.signature(function).parameters, maker


@jax.numpy_dtype_promotion("standard")
def test_the_states_of_optax_have_the_classes_that_are_looked_up():
    from momentax._state import _closures

    checked = 0
    for maker, classes in _closures._STATES.items():
        function = getattr(optax, maker, None) or getattr(optax.contrib, maker, None)
        if function is None:
            continue
        needed = [
            name
            for name, each in inspect.signature(function).parameters.items()
            if each.default is inspect.Parameter.empty and each.kind is not each.VAR_KEYWORD
        ]
        for given in {"weight_decay": (0.1, RATE)}.get(needed[0] if needed else "", (0.9,)):
            tx = function(**dict.fromkeys(needed, given))
            assert _closures._maker(inspect.unwrap(tx.update)) == ("optax", maker)
            assert type(tx.init(jnp.ones((3, 3)))).__name__ in classes, maker
            assert hyperparameters((tx.init(jnp.ones((3, 3))),), optax.chain(tx)) is not None
            checked += 1
    assert checked > 20
