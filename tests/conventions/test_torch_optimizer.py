"""from_torch against the steps of torch.optim.SGD that record_torch.py recorded."""

import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.conventions import from_torch
from momentax.states import DampedState
from tests.conventions import trajectories
from tests.conventions.trajectories import RECORDED_STEPS, TORCH, as_schedule, deviation

RECORDED = trajectories.read("torch.json")
PARAMS = {"w": jnp.ones((2, 3)), "rest": (jnp.float32(2), None, jnp.zeros((0,)))}


def build(name):
    options = {key: as_schedule(value) for key, value in TORCH[name].items() if key != "late"}
    return from_torch(**options)


LATE = {name: options["late"] for name, options in TORCH.items() if "late" in options}


def similar_optimizers():
    """Return optimizers without one of PyTorch's rules, by the case that shows the rule."""
    rate = as_schedule(trajectories.decreasing_rate)
    look_ahead = momentax.nesterov(as_schedule(trajectories.rising_momentum))
    paused = momentax.heavy_ball(as_schedule(trajectories.paused_momentum))
    return {
        "dampening": momentax.sgd(0.02, momentax.heavy_ball(0.9, dampening=0.5)),
        "momentum schedule": momentax.sgd(0.02, look_ahead),
        "momentum pauses": momentax.sgd(rate, paused, weight_decay=0.1),
        "lr schedule": momentax.sgd(rate, momentax.nesterov(0.9), velocity_units="parameter"),
    }


@pytest.fixture(scope="module")
def paths():
    """The path of from_torch in each case, and of each similar optimizer."""
    with jax.enable_x64(True):
        optimizers = {name: build(name) for name in TORCH}
        similar = {f"similar to {name}": tx for name, tx in similar_optimizers().items()}
        return trajectories.run(optimizers | similar, LATE)


def test_every_case_is_recorded_with_the_version():
    assert RECORDED["cases"].keys() == TORCH.keys()
    assert RECORDED["versions"]["torch"].startswith("2.13.")


@pytest.mark.parametrize("name", TORCH)
def test_the_steps_are_pytorchs(paths, name):
    for key, expected in RECORDED["cases"][name].items():
        np.testing.assert_allclose(paths[name][key][RECORDED_STEPS], expected, rtol=0, atol=1e-12)


def test_the_cases_distinguish_pytorchs_rules_from_similar_ones(paths):
    """Without one of PyTorch's rules, a path deviates by far more than the tolerance."""
    for name in similar_optimizers():
        least = 1e-5 if name == "momentum schedule" else 1e-3
        assert deviation(paths[f"similar to {name}"], RECORDED["cases"][name]) > least, name


def test_constant_hyperparameters_compile_to_the_methods_of_momentax():
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


def describe(state):
    """Return the structure of a state, and the shape, dtype and weak type of each leaf."""
    structure = jax.tree.structure(state)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]


def test_the_state_keeps_its_structure_and_dtypes():
    """This holds for each form of the state and each dtype of the parameters."""
    names = ["decay", "momentum pauses", "dampened momentum pauses"]
    dtypes = [jnp.float32, jnp.bfloat16, jnp.complex64]
    cases = [
        (build(name), jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), PARAMS), dtype)
        for name, dtype in itertools.product(names, dtypes)
    ]
    initial = [tx.init(params) for tx, params, _ in cases]

    @jax.jit
    def update(states):
        pairs = zip(cases, states, strict=True)
        results = [tx.update(params, state, params) for (tx, params, _), state in pairs]
        updates, states = zip(*results, strict=True)
        return updates, list(states)

    updates, after = update(initial)
    _, after = update(after)
    assert update._cache_size() == 1
    jax.eval_shape(  # A scan raises an error if its carry changes.
        lambda states: jax.lax.scan(lambda carry, _: (update(carry)[1], None), states, length=2),
        initial,
    )
    for i, (tx, params, dtype) in enumerate(cases):
        abstract = jax.eval_shape(tx.init, params)
        assert describe(abstract) == describe(initial[i]) == describe(after[i])
        assert {leaf.dtype for leaf in jax.tree.leaves(updates[i])} == {jnp.dtype(dtype)}


def test_dampening_spares_the_first_gradient_of_each_parameter():
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


@jax.jit
def third_updates(momentum, lr, dampening, weight_decay):
    tx = from_torch(lr, momentum, dampening, weight_decay)
    state, grads = tx.init(PARAMS), jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(3):
        updates, state = tx.update(grads, state, PARAMS)
    return updates


def test_every_hyperparameter_can_be_vmapped():
    momentum = jnp.array([0.0, 0.5, 0.9, 0.0, 0.5, 0.9])
    dampening = momentum * jnp.array([0.0, 0.0, 0.0, 0.25, 0.25, 0.25])
    lr = jnp.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    batched = jax.vmap(third_updates)(momentum, lr, dampening, lr)
    for i, point in enumerate(zip(momentum, lr, dampening, lr, strict=True)):
        single = jax.tree.map(lambda leaf, i=i: leaf[i], batched)
        chex.assert_trees_all_close(single, third_updates(*point), rtol=1e-6)


class Tensor:
    """A stand-in for a torch tensor of one number."""

    def __init__(self, value):
        self.value = value

    def detach(self):
        return self

    def item(self):
        return self.value


def test_a_param_group_is_accepted_unchanged():
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
        ({"name": "head"}, TypeError, "remove entries of your own from a param group"),
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
def test_a_wrong_argument_is_explained(options, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        from_torch(**options)
