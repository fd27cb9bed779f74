"""from_torch against what torch.optim.SGD did (recorded by record_torch.py)."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.conventions import DampedState, from_torch
from tests.conventions import trajectories
from tests.conventions.trajectories import SHOWN, TORCH, scheduled

RECORDED = trajectories.read("torch.json")
PARAMS = {"w": jnp.ones((2, 3)), "rest": (jnp.float32(2), None, jnp.zeros((0,)))}


def build(name):
    options = {key: scheduled(value) for key, value in TORCH[name].items() if key != "late"}
    return from_torch(**options)


def test_every_case_is_recorded_with_the_version():
    assert RECORDED["cases"].keys() == TORCH.keys()
    assert RECORDED["versions"]["torch"].startswith("2.13.")


@pytest.mark.parametrize("name", TORCH)
def test_steps_as_pytorch_does(x64, name):
    path = trajectories.run(build(name), TORCH[name].get("late", 0))
    for key, expected in RECORDED["cases"][name].items():
        np.testing.assert_allclose(path[key][SHOWN], expected, rtol=0, atol=1e-12)


def test_the_cases_tell_pytorchs_rules_from_their_neighbours(x64):
    """What a plainer translation would do is off by far more than the tolerance."""

    def gap(name, tx):
        path = trajectories.run(tx, TORCH[name].get("late", 0))
        expected = RECORDED["cases"][name]
        return max(abs(path[key][SHOWN] - expected[key]).max() for key in expected)

    dampened = momentax.heavy_ball(0.9, dampening=0.5)
    assert gap("dampening", momentax.sgd(0.02, dampened)) > 1e-3
    look_ahead = momentax.nesterov(scheduled(trajectories.rise))
    assert gap("momentum schedule", momentax.sgd(0.02, look_ahead)) > 1e-5
    resting = momentax.heavy_ball(scheduled(trajectories.rest))
    rate = scheduled(trajectories.drop)
    assert gap("momentum rests", momentax.sgd(rate, resting, weight_decay=0.1)) > 1e-3
    parameter = momentax.sgd(rate, momentax.nesterov(0.9), velocity_units="parameter")
    assert gap("lr schedule", parameter) > 1e-3


def test_constant_hyperparameters_make_the_methods_that_momentax_has():
    for options, method in (
        ({"momentum": 0.9}, momentax.heavy_ball(0.9)),
        ({"momentum": 0.9, "nesterov": True}, momentax.nesterov(0.9)),
    ):
        texts = [
            jax.jit(tx.update).lower(PARAMS, tx.init(PARAMS), PARAMS).as_text()
            for tx in (
                from_torch(0.1, weight_decay=0.01, **options),
                momentax.sgd(0.1, method, weight_decay=0.01),
            )
        ]
        assert texts[0] == texts[1]


def avals(state):
    structure = jax.tree.structure(state)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("name", ["decay", "momentum rests", "dampened momentum rests"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64], ids=str)
def test_the_state_never_changes_its_form(name, dtype):
    tx = build(name)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    state = tx.init(params)
    assert avals(jax.eval_shape(tx.init, params)) == avals(state)

    step = jax.jit(tx.update)
    updates, after = step(params, state, params)
    _, after = step(params, after, params)
    assert step._cache_size() == 1
    assert avals(after) == avals(state)
    assert jax.tree.map(lambda leaf: leaf.dtype, updates) == jax.tree.map(lambda _: dtype, params)
    final, _ = jax.lax.scan(
        lambda state, _: (tx.update(params, state, params)[1], None), state, length=2
    )
    chex.assert_trees_all_close(final, after)


def test_dampening_remembers_which_parameters_have_had_a_gradient():
    tx = from_torch(0.1, 0.9, 0.25)
    state = tx.init(PARAMS)
    (_, held, *_) = state
    assert isinstance(held, DampedState)
    masked = {"w": optax.MaskedNode(), "rest": PARAMS["rest"]}
    assert isinstance(tx.init(masked)[1], DampedState)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(3):
        updates, state = tx.update(grads | {"w": None}, state, PARAMS)
        assert not updates["w"].any()
    updates, state = tx.update(grads, state, PARAMS)
    np.testing.assert_allclose(state[1].velocity["w"], 1.0)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)
    _, state = tx.update(grads, state, PARAMS)
    np.testing.assert_allclose(state[1].velocity["w"], 0.9 + 0.75, rtol=1e-6)
    expected = 0.9**4 + 0.75 * sum(0.9**k for k in range(4))
    np.testing.assert_allclose(state[1].velocity["rest"][0], expected, rtol=1e-6)


@pytest.mark.parametrize("dampening", [0.0, 0.25])
def test_every_hyperparameter_vmaps(dampening):
    grads = jax.tree.map(jnp.ones_like, PARAMS)

    @jax.jit
    def run(momentum, lr, dampening, weight_decay):
        tx = from_torch(lr, momentum, dampening, weight_decay)
        state = tx.init(PARAMS)
        for _ in range(3):
            updates, state = tx.update(grads, state, PARAMS)
        return updates

    points = jnp.array([[0.0, 0.1], [0.5, 0.2], [0.9, 0.3]])
    many = jax.vmap(lambda p: run(p[0], p[1], p[0] * dampening, p[1]))(points)
    for i, (momentum, lr) in enumerate(points.tolist()):
        alone = run(momentum, lr, momentum * dampening, lr)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], many), alone, rtol=1e-6)


class Tensor:
    """One number as torch holds it."""

    def __init__(self, value):
        self.value = value

    def detach(self):
        return self

    def item(self):
        return self.value


def test_a_param_group_is_taken_as_it_is():
    group = {
        "lr": Tensor(0.1),
        "momentum": 0.9,
        "dampening": 0,
        "weight_decay": 0.01,
        "nesterov": True,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
        "initial_lr": 0.4,
        "params": [0, 1],
        "param_names": ["w", "b"],
    }
    plain = from_torch(0.1, 0.9, 0, 0.01, True)
    grouped, rescheduled = from_torch(**group), from_torch(**group | {"lr": lambda _: 0.1})
    updates = [
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0] for tx in (plain, grouped, rescheduled)
    ]
    chex.assert_trees_all_close(*updates)


def test_the_defaults_are_pytorchs():
    tx = from_torch()
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["w"], -1e-3)
    assert not momentax.velocity(state)["w"].any()  # Without momentum PyTorch keeps no buffer.


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"lr": -0.1}, ValueError, "lr must be in [0, inf), got -0.1"),
        ({"lr": True}, TypeError, "lr must be in [0, inf), got True"),
        ({"momentum": 1.0}, ValueError, "momentum must be in [0, 1), got 1.0"),
        ({"momentum": float("nan")}, ValueError, "momentum must be in [0, 1), got nan"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be in [0, inf), got -1"),
        ({"dampening": "half"}, TypeError, "dampening must be in (-inf, inf), got 'half'"),
        ({"nesterov": 1}, TypeError, "nesterov must be True or False, got 1"),
        ({"maximize": None}, TypeError, "maximize must be True or False, got None"),
        ({"betas": (0.9, 0.999)}, TypeError, "from_torch has no argument 'betas'"),
        ({"name": "head"}, TypeError, "drop from a param group the entries that are your own"),
        (
            {"nesterov": True},
            ValueError,
            "nesterov needs momentum above 0 and dampening 0, got momentum=0.0 and dampening=0.0",
        ),
        (
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "nesterov needs momentum above 0 and dampening 0, got momentum=0.9 and dampening=0.1",
        ),
    ],
)
def test_a_wrong_argument_is_a_sentence(options, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        from_torch(**options)
