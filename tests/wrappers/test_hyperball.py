"""Hyperball: norms stay, angles are known, and what has no direction is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import heavy_ball, hyperball, nesterov, sgd
from tests import reference

RNG = np.random.default_rng(0)
PARAMS = {
    "dense": {"kernel": RNG.normal(size=(4, 3)), "bias": RNG.normal(size=3)},
    "layers": {"kernel": RNG.normal(size=(2, 3, 5)), "bias": RNG.normal(size=(2, 5))},
}
GRADS = jax.tree.map(lambda x: RNG.normal(size=(40, *x.shape)), PARAMS)


def path(tx, params, gradients):
    """Return the parameters after each of some steps, and the last state."""

    def step(carry, g):
        params, state = carry
        u, state = tx.update(g, state, params)
        params = optax.apply_updates(params, u)
        return (params, state), params

    carry, steps = jax.jit(
        lambda p, s, g: jax.lax.scan(step, (p, s), g)
    )(params, tx.init(params), gradients)  # fmt: skip
    return steps, carry[1]


@pytest.mark.usefixtures("x64")
def test_equals_its_twin_with_one_norm_for_each_matrix():
    params, gradients = jax.tree.map(jnp.asarray, (PARAMS, GRADS))
    steps, state = path(hyperball(sgd(0.3, nesterov(0.9))), params, gradients)

    def twin(θ, g):
        return reference.on_the_ball(θ, g, learning_rate=0.3, beta=lambda t: 0.9)

    expected = twin(PARAMS["dense"]["kernel"], GRADS["dense"]["kernel"])
    np.testing.assert_allclose(steps["dense"]["kernel"], expected, rtol=1e-12)
    for layer in range(2):
        expected = twin(PARAMS["layers"]["kernel"][layer], GRADS["layers"]["kernel"][:, layer])
        np.testing.assert_allclose(steps["layers"]["kernel"][:, layer], expected, rtol=1e-12)
    plain, _ = path(sgd(0.3, nesterov(0.9)), params, gradients)
    for module in params:
        chex.assert_trees_all_close(steps[module]["bias"], plain[module]["bias"], rtol=1e-12)
    assert state.radii["dense"]["bias"] is None
    assert state.radii["dense"]["kernel"].shape == ()
    assert state.radii["layers"]["kernel"].shape == (2, 1, 1)


@pytest.mark.usefixtures("x64")
def test_an_update_at_a_right_angle_turns_by_the_arc_tangent_of_its_length():
    θ = jnp.asarray(RNG.normal(size=(6, 5)))
    u = jnp.asarray(RNG.normal(size=(6, 5)))
    u -= jnp.sum(u * θ) / jnp.sum(θ**2) * θ
    for α in (1e-3, 0.1, 2.0):
        step = α * u * jnp.linalg.norm(θ) / jnp.linalg.norm(u)
        tx = hyperball(optax.stateless(lambda g, params, step=step: step))
        new = θ + tx.update(u, tx.init(θ), θ)[0]
        cosine = jnp.sum(new * θ) / jnp.sum(θ**2)
        np.testing.assert_allclose(jnp.arccos(cosine), np.arctan(α), rtol=1e-9)
        np.testing.assert_allclose(jnp.linalg.norm(new), jnp.linalg.norm(θ), rtol=1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("bfloat16", 3e-3)])
def test_the_norm_does_not_drift_in_many_steps(dtype, tolerance):
    θ = jnp.asarray(RNG.normal(size=(8, 8)), dtype)
    tx = hyperball(sgd(0.1, heavy_ball(0.9)))
    g = jnp.asarray(RNG.normal(size=(500, 8, 8)), dtype)
    steps, _ = path(tx, θ, g)
    norms = np.linalg.norm(np.asarray(steps, np.float64).reshape(500, -1), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(np.asarray(θ, np.float64)), rtol=tolerance)
    assert np.abs(np.asarray(steps[-1] - θ, np.float64)).max() > 0.1


def test_zeros_are_refused_by_name_and_seen_under_jit():
    params = {"head": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}, "w": jnp.ones((2, 3))}
    tx = hyperball(sgd(0.1))
    with pytest.raises(ValueError, match=r"\['head'\]\['kernel'\] has the norm 0, .* where="):
        tx.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    u, _ = tx.update(ones, jax.jit(tx.init)(params), params)
    assert np.isnan(u["head"]["kernel"]).all()
    assert np.isfinite(u["w"]).all()
    tx = hyperball(sgd(0.1), where=lambda params: {"head": False, "w": True})
    state = tx.init(params)
    assert state.radii["head"] == {"kernel": None, "bias": None}
    stack = {"kernel": jnp.ones((2, 3, 3)).at[1].set(0), "bias": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"\['kernel'\] has the norm 0 in matrix 1, so"):
        hyperball(sgd(0.1)).init(stack)


def test_what_does_not_move_keeps_every_bit():
    params = {"a": jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)}
    g = {"a": jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)}
    for tx in (
        hyperball(sgd(0.0)),
        hyperball(optax.MultiSteps(sgd(0.1), 2).gradient_transformation()),
        hyperball(momentax.guard(sgd(0.1), max_gradient_norm=1e-3)),
    ):
        with jax.numpy_dtype_promotion("standard"):  # MultiSteps divides a float by an int.
            u, _ = tx.update(g, tx.init(params), params)
        assert not u["a"].any()
    both = params | {"b": params["a"]}
    tx = hyperball(sgd(0.1, weight_decay=0.1, decoupled=True))
    u, _ = tx.update(g | {"b": None}, tx.init(both), both)
    assert not u["b"].any()
    assert u["a"].any()


WRAPPED = {
    "adam": lambda: hyperball(optax.adam(0.1)),
    "guard": lambda: momentax.guard(hyperball(sgd(0.1))),
    "monitor": lambda: momentax.monitor(hyperball(sgd(0.1))),
    "stored": lambda: momentax.stored(
        hyperball(sgd(0.1)), momentax.storage.int8(), min_size=1
    ),
    "around stored": lambda: hyperball(
        momentax.stored(sgd(0.1), momentax.storage.bfloat16(), min_size=1)
    ),
    "MultiSteps": lambda: optax.MultiSteps(hyperball(sgd(0.1)), 2).gradient_transformation(),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), hyperball(sgd(0.1))),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_composes(name):
    tx = WRAPPED[name]()

    def loss(params, batch):
        return jnp.sum((batch @ params["kernel"] + params["bias"][None]) ** 2)

    params = {"kernel": jnp.asarray(PARAMS["dense"]["kernel"], jnp.float32), "bias": jnp.ones(3)}
    step, start = momentax.train_step(loss, tx, donate=False), params
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(4):
            params, state, _ = step(params, state, jnp.ones((2, 4)))
    for key, same in (("kernel", True), ("bias", False)):
        norms = [float(jnp.linalg.norm(each[key])) for each in (start, params)]
        assert (abs(norms[1] / norms[0] - 1) < 1e-6) is same
    assert float(jnp.abs(params["kernel"] - start["kernel"]).max()) > 1e-3


def test_hyperparameters_are_read_through_it_and_mistakes_are_explained():
    tx, params = hyperball(sgd(0.1, nesterov(0.9))), jnp.ones((2, 2))
    state = tx.init(params)
    assert momentax.hyperparameters(state, tx)["beta"] == 0.9
    with pytest.raises(ValueError, match=r"hyperball needs the parameters: call update\("):
        tx.update(params, state)
    with pytest.raises(TypeError, match=r"write momentax.hyperball\(momentax.sgd\(0.1, method\)\)"):
        hyperball(nesterov(0.9))
    with pytest.raises(ValueError, match=r"roles has the name 'head', which matches no parameter"):
        hyperball(sgd(0.1), roles={"head": "hidden"}).init({"w": params})
    # The axes that the table cannot know are given by letters.
    tx = hyperball(sgd(0.1), roles={"w": "hidden iio"})
    assert tx.init({"w": jnp.ones((2, 3, 4))}).radii["w"].shape == ()
    tx = hyperball(sgd(0.1), roles={"w": "hidden ibo"})
    assert tx.init({"w": jnp.ones((2, 3, 4))}).radii["w"].shape == (1, 3, 1)
