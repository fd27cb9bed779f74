"""A complete optimizer in the place of a method is refused; every kind of direction is not."""

import re
import warnings

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax import cautious, grams, heavy_ball, nesterov, optimistic, restart, sgd
from momentax._wrappers import _direction
from momentax.conventions import from_keras, from_torch
from tests.cases import METHODS

contrib = optax.contrib
PARAMS = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
KEY = jax.random.key(0)


def by_path(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key, params)


def injected(make, **hyperparameters):
    return optax.inject_hyperparams(make)(**hyperparameters)


ONLY_W = {"w": True, "b": False}
WARM_UP = optax.linear_schedule(0.0, 0.1, 1000)
DIRECTIONS = {
    **{name: getattr(optax, name)() for name in (
        "identity", "set_to_zero", "scale_by_adam", "scale_by_lion", "scale_by_sign",
        "scale_by_yogi", "scale_by_rms", "scale_by_stddev", "scale_by_rss", "scale_by_novograd",
        "scale_by_sm3", "scale_by_amsgrad", "scale_by_radam", "scale_by_adadelta",
        "scale_by_adan", "scale_by_polyak", "scale_by_belief", "scale_by_factored_rms",
        "zero_nans", "normalize_by_update_norm",
        "scale_by_optimistic_gradient",
    )},
    "trace": optax.trace(0.9),
    "ema": optax.ema(0.9),
    "rprop": optax.scale_by_rprop(0.1),
    "ademamix": contrib.scale_by_ademamix(),
    "muon": optax.masked(contrib.scale_by_muon(), ONLY_W),
    "clip": optax.chain(optax.clip(1.0), optax.clip_by_global_norm(1.0), optax.trace(0.9)),
    "centralize": optax.chain(optax.centralize(), optax.trace(0.9)),
    "decay": optax.chain(optax.add_decayed_weights(100.0), optax.trace(0.9)),
    "noise": optax.chain(optax.add_noise(1e6, 0.55, key=KEY), optax.trace(0.9)),
    "trust": optax.chain(optax.scale_by_adam(), optax.scale_by_trust_ratio()),
    "schedule": optax.scale_by_schedule(WARM_UP),
    "apply_every": optax.chain(optax.trace(0.9), optax.apply_every(3)),
    "apply_if_finite": optax.apply_if_finite(optax.trace(0.9), 3),
    "MultiSteps": optax.MultiSteps(optax.trace(0.9), 3).gradient_transformation(),
    "inject": injected(nesterov, beta=0.9),
    "masked": optax.masked(optax.trace(0.9), ONLY_W),
    "frozen": optax.partition({"w": heavy_ball(), "b": optax.set_to_zero()}, by_path),
    "scale": optax.scale_by_learning_rate(0.1, flip_sign=False),
    "maximize": optax.sgd(-0.1),
    "own learning rate": optax.chain(momentax.hypergradient(0.1), optax.clip(1.0)),
    "storm": optax.chain(momentax.storm(), optax.clip(1.0)),
    "polyak": optax.chain(momentax.momentum_polyak(), optax.clip(1.0)),
    **{wrap.__name__: wrap(heavy_ball(0.9)) for wrap in (cautious, grams, optimistic, restart)},
    "stored": momentax.stored(heavy_ball(0.9), momentax.storage.int8(), min_size=1),
}  # fmt: skip
COMPLETE = {
    **{name: getattr(optax, name)(0.1) for name in (
        "sgd", "adam", "adamw", "lion", "rmsprop", "adagrad", "lamb", "lars", "fromage", "novograd",
        "yogi", "rprop", "sm3", "adafactor", "adabelief", "adadelta", "amsgrad", "radam", "nadam",
        "adamax", "sign_sgd", "optimistic_gradient_descent", "polyak_sgd",
    )},
    **{name: getattr(contrib, name)() for name in (
        "cocob", "dowg", "momo", "momo_adam", "prodigy", "dadapt_adamw", "schedule_free_sgd",
        "schedule_free_adamw",
    )},
    "ademamix": contrib.ademamix(0.1),
    "muon": contrib.muon(0.1),
    "sophia": contrib.sophia(0.1),
    "noisy": optax.noisy_sgd(0.1, key=1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "sgd of momentax": sgd(0.1),
    "ascent": sgd(0.1, maximize=True),
    "parameter units": sgd(0.1, nesterov(), velocity_units="parameter", weight_decay=9.0),
    "from_torch": from_torch(lr=0.1, momentum=0.9, dampening=0.1),
    "from_keras": from_keras(0.1, clipnorm=1.0),
    "theory": momentax.theory.optimal_heavy_ball(0.1, 1.0).tx,
    "learning rate 0": sgd(0.0),
    "warm-up": optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1.0, 1000, 10000)),
    "negated": optax.chain(heavy_ball(0.9), optax.scale(-1.0)),
    "chain": optax.chain(optax.clip(1.0), optax.centralize(), optax.sgd(0.1)),
    "named chain": optax.named_chain(("a", optax.trace(0.9)), ("b", optax.scale(-0.1))),
    "masked": optax.masked(optax.sgd(0.1), {"w": False, "b": True}),
    "partition": optax.partition({"w": optax.trace(0.9), "b": optax.sgd(0.1)}, by_path),
    "inject": injected(optax.adam, learning_rate=WARM_UP),
    "MultiSteps": optax.MultiSteps(optax.adam(0.1), 8).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(optax.adam(0.1), 3),
    "flatten": optax.flatten(optax.adam(0.1)),
    **{wrap.__name__: wrap(optax.adam(0.1)) for wrap in (cautious, grams, optimistic, restart)},
    "stored": momentax.stored(optax.adam(0.1), momentax.storage.int8(), min_size=1),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLETE)
def test_sgd_refuses_a_complete_optimizer(name):
    with pytest.raises(ValueError, match=r"it is a complete optimizer, and sgd would .* Use"):
        sgd(0.1, COMPLETE[name]).init(PARAMS)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_sgd_takes_everything_that_follows_the_gradient(name):
    sgd(0.1, DIRECTIONS[name]).init(PARAMS)


@pytest.mark.parametrize("name", METHODS)
def test_no_method_is_refused_alone_or_in_a_chain(name):
    method = METHODS[name].make(**METHODS[name].hyperparameters)
    assert _direction.opposed_parameter(method, PARAMS) is None
    sgd(0.1, optax.chain(optax.clip(1.0), method)).init(PARAMS)


@pytest.mark.parametrize("name", ["sgd", "adam", "sgd of momentax", "chain", "warm-up", "stored"])
def test_most_are_refused_when_the_optimizer_is_made(name):
    with pytest.raises(ValueError, match="method must return directions"):
        sgd(0.1, COMPLETE[name])


@pytest.mark.parametrize("name", ["partition", "masked"])
def test_the_error_names_the_parameter_also_under_jit(name):
    tx = sgd(0.1, COMPLETE[name])
    for init in (tx.init, jax.jit(tx.init), lambda params: jax.eval_shape(tx.init, params)):
        with pytest.raises(ValueError, match=r"parameter at \['b'\] already descend"):
            init(PARAMS)


def test_traced_hyperparameters_pass_and_a_traced_sgd_does_not():
    def norm(make, α):
        tx = sgd(0.1, make(α))
        u, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
        return optax.tree_utils.tree_norm(u)

    rates = jnp.array([0.1, 0.2])
    assert jnp.all(jax.vmap(lambda β: norm(optax.trace, β))(rates) > 0)
    with pytest.raises(ValueError, match="complete optimizer"):
        jax.vmap(lambda α: norm(sgd, α))(rates)


def test_a_refusal_runs_no_callback_of_the_user():
    calls = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return updates, state

    tx = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    sgd(0.1, tx).init(PARAMS)
    assert not calls


def test_the_compiled_init_does_not_contain_the_probe():
    tx, method = sgd(0.1, optax.trace(0.9)), optax.trace(0.9)
    counted = jax.make_jaxpr(tx.init)(PARAMS), jax.make_jaxpr(method.init)(PARAMS)
    assert len(counted[0].eqns) <= len(counted[1].eqns) + 2  # Two counts.


@pytest.mark.parametrize("wrap", [cautious, grams, optimistic, restart])
@pytest.mark.parametrize(
    ("inner", "units"),
    [
        (heavy_ball(0.5), "gradient"),
        (heavy_ball(0.5), "parameter"),
        (nesterov(0.5), "gradient"),
        (nesterov(0.5), "parameter"),
        (optax.scale_by_adam(), "gradient"),
    ],
)
def test_wrappers_descend_around_a_method_and_around_an_optimizer(wrap, inner, units):
    curvatures = jnp.array([1.0, 4.0])

    @jax.numpy_dtype_promotion("standard")  # Optax's debiasing mixes dtypes.
    def last(tx):
        def step(carry, _):
            θ, state = carry
            u, state = tx.update(curvatures * θ, state, θ)
            return (optax.apply_updates(θ, u), state), None

        θ = jnp.ones(2)
        return jax.lax.scan(step, (θ, tx.init(θ)), length=200)[0][0]

    around_method = sgd(0.02, wrap(inner), velocity_units=units)
    around_optimizer = wrap(sgd(0.02, inner, velocity_units=units))
    for tx in (around_method, around_optimizer):
        assert jnp.linalg.norm(last(tx)) < 0.1


def test_the_answer_is_the_same_for_every_dtype():
    for dtype in (jnp.bfloat16, jnp.float16, jnp.complex64):
        params = {key: leaf.astype(dtype) for key, leaf in PARAMS.items()}
        assert _direction.opposed_parameter(optax.trace(0.9), params) is None
        assert _direction.opposed_parameter(optax.sgd(0.1), params) == "['b']"


def test_a_method_that_cannot_be_probed_is_accepted():
    def update(updates, state, params=None):
        raise RuntimeError("not now")

    tx = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    sgd(0.1, tx).init(PARAMS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chex.assert_trees_all_equal(jax.tree.leaves(sgd(0.1, optax.identity()).init({})), [0, 0])


def test_labels_that_read_the_shapes_are_followed():
    def by_size(params):
        return jax.tree.map(lambda leaf: "large" if leaf.size > 100 else "small", params)

    tx = optax.partition({"large": optax.sgd(0.1), "small": optax.trace(0.9)}, by_size)
    sgd(0.1, tx).init(PARAMS)
    with pytest.raises(ValueError, match=r"of the parameter at \['k'\] already descend"):
        sgd(0.1, tx).init({"k": jnp.ones((16, 16)), "b": jnp.ones(2)})


@pytest.mark.parametrize("function", [optax.adam, optax.sgd, sgd])
def test_a_function_that_makes_a_complete_optimizer_is_not_recommended(function):
    with pytest.raises(TypeError, match=r"write momentax\.heavy_ball\(0\.9\) or another method"):
        sgd(0.1, function)


@pytest.mark.parametrize("value", [None, object(), optax.trace, True, 1.5, "sgd"])
def test_the_message_for_a_wrong_method_recommends_no_complete_optimizer(value):
    with pytest.raises(TypeError, match="method must be a gradient transformation") as error:
        sgd(0.1, value)
    assert not re.search(r"such as (momentax|optax)\.(sgd|adam)", str(error.value))
