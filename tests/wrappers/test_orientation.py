"""Cautious and grams, around methods (updates along g) and optimizers (updates against g)."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import cautious, grams, heavy_ball, nesterov, sgd
from momentax.states import OrientedState
from tests.wrappers import record

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
SHAPES = {"kernel": (4, 3), "bias": (5,), "scale": ()}


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing mixes dtypes.
        yield


def trees(steps, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [{key: rng.normal(size=shape) for key, shape in shapes.items()} for _ in range(steps)]


def updates(tx, gradients, params=None):
    """Return the updates for a sequence of gradients at fixed parameters, and the state."""
    params = gradients[0] if params is None else params
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)

    def step(state, g):
        u, state = tx.update(g, state, params)
        return state, u

    state, out = jax.jit(lambda: jax.lax.scan(step, tx.init(params), stacked))()
    return [jax.tree.map(lambda leaf, t=t: leaf[t], out) for t in range(len(gradients))], state


def masked(u, h):
    φ = (u * h > 0).astype(float)
    return u * φ / max(φ.mean(), 1e-3)


def signed(u, h):
    return np.sign(h) * np.abs(u)


KINDS = {"cautious": (cautious, masked), "grams": (grams, signed)}
every_kind = pytest.mark.parametrize("kind", KINDS)
# Each transformation, and whether its updates follow the gradient.
ORIENTED = {
    "heavy_ball": (heavy_ball(0.9), 1),
    "average": (momentax.average(0.9), 1),
    "sgd": (sgd(0.1, nesterov(0.9)), -1),
    "sgd, parameter units": (sgd(0.1, nesterov(0.9), velocity_units="parameter"), -1),
    "sgd, maximize": (sgd(0.1, nesterov(0.9), maximize=True), 1),
    "scale_by_adam": (optax.scale_by_adam(), 1),
    "adam": (optax.adam(0.1), -1),
    "lion": (optax.lion(0.1), -1),
    "warm-up from 0": (optax.lion(optax.linear_schedule(0.0, 1.0, 3)), -1),
    "chain": (optax.chain(optax.clip_by_global_norm(1.0), heavy_ball(0.9), optax.scale(-1.0)), -1),
    "MultiSteps": (optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation(), -1),
    "decayed, coupled": (sgd(0.1, heavy_ball(0.9), weight_decay=9.0), -1),
    "decayed, decoupled": (sgd(0.1, heavy_ball(0.9), weight_decay=9.0, decoupled=True), -1),
}


@every_kind
@pytest.mark.parametrize("name", ORIENTED)
@pytest.mark.usefixtures("x64")
def test_compares_each_update_with_the_gradient_or_its_negative(kind, name):
    (wrap, formula), (tx, sign), g = KINDS[kind], ORIENTED[name], trees(10)
    params = jax.tree.map(lambda leaf: -5 * leaf, g[0])  # Decay opposes the first gradient.
    plain, _ = updates(tx, g, params)
    out, state = updates(wrap(tx), g, params)
    for each, u, d in zip(g, plain, out, strict=True):
        expected = jax.tree.map(lambda u, g: formula(np.asarray(u), sign * g), u, each)
        chex.assert_trees_all_close(d, expected, rtol=1e-12, atol=1e-15)
    assert isinstance(state, OrientedState)
    assert all(int(o) == sign for o in jax.tree.leaves(state.orientation))


@every_kind
def test_each_leaf_is_oriented_separately(kind):
    # optax.masked passes on the gradients that it leaves to a later transformation.
    wrap, g = KINDS[kind][0], trees(6)
    inside = {"kernel": True, "bias": False, "scale": True}
    out, state = updates(wrap(optax.masked(optax.adam(0.1), inside)), g)
    for each, d in zip(g, out, strict=True):
        np.testing.assert_allclose(d["bias"], each["bias"], rtol=1e-6)
    assert {key: int(o) for key, o in state.orientation.items()} == {
        key: -1 if chosen else 1 for key, chosen in inside.items()
    }
    whole, _ = updates(wrap(optax.adam(0.1)), g)
    chex.assert_trees_all_close([d["kernel"] for d in out], [d["kernel"] for d in whole], rtol=1e-6)


@every_kind
def test_leaves_that_cannot_be_compared_pass(kind):
    tx = KINDS[kind][0](optax.masked(optax.sgd(0.1), {"a": True, "steps": False, "empty": True}))
    params = {"a": jnp.ones(2), "steps": jnp.arange(3), "empty": jnp.zeros(0)}
    g = {"a": jnp.ones(2), "steps": np.zeros(3, jax.dtypes.float0), "empty": jnp.zeros(0)}
    u, state = tx.update(g, tx.init(params), params)
    np.testing.assert_allclose(u["a"], -0.1, rtol=1e-6)
    assert u["steps"].dtype == jax.dtypes.float0
    assert {key: int(o) for key, o in state.orientation.items()} == {
        "a": -1,
        "steps": 1,
        "empty": 1,
    }


@every_kind
def test_none_keeps_the_update_that_the_transformation_gives(kind):
    tx = KINDS[kind][0](sgd(0.1))
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    u, state = tx.update({"a": jnp.ones(2), "b": None}, tx.init(params), params)
    np.testing.assert_array_equal(u["b"], jnp.zeros(3))
    assert {key: int(o) for key, o in state.orientation.items()} == {"a": -1, "b": 0}


@pytest.mark.usefixtures("x64")
def test_complex_leaves_agree_by_the_real_part_and_take_the_phase_of_the_gradient():
    rng = np.random.default_rng(0)
    g = [rng.normal(size=7) + 1j * rng.normal(size=7) for _ in range(5)]
    plain, _ = updates(heavy_ball(0.9), g)
    for each, u, kept, turned in zip(
        g, plain, updates(cautious(heavy_ball(0.9)), g)[0], updates(grams(heavy_ball(0.9)), g)[0],
        strict=True,
    ):  # fmt: skip
        u = np.asarray(u)
        φ = (np.conj(u) * each).real > 0
        np.testing.assert_allclose(kept, u * φ / max(φ.mean(), 1e-3), rtol=1e-12)
        np.testing.assert_allclose(turned, np.abs(u) * each / np.abs(each), rtol=1e-12)


def test_a_leaf_that_disagrees_everywhere_does_not_move_and_one_that_agrees_moves_fully():
    tx = cautious(heavy_ball(0.9))
    state = tx.init(jnp.ones(3))
    d, state = tx.update(jnp.ones(3), state)
    np.testing.assert_array_equal(d, jnp.ones(3))
    d, state = tx.update(jnp.full(3, -0.1), state)
    np.testing.assert_array_equal(d, jnp.zeros(3))
    d, _ = tx.update(jnp.array([-1e-30, 1e-30, -1.0]), state)  # Their products would underflow.
    np.testing.assert_allclose(d, [0.0, 0.72 * 1.5, -0.28 * 1.5], rtol=1e-5)


def test_the_share_that_agrees_is_at_least_a_thousandth():
    n = 4000
    tx = cautious(heavy_ball(0.9))
    _, state = tx.update(jnp.ones(n), tx.init(jnp.ones(n)))
    d, _ = tx.update(jnp.full(n, -0.1).at[0].set(0.1), state)
    np.testing.assert_allclose(d[0], 1.0 / 1e-3, rtol=1e-5)
    np.testing.assert_array_equal(d[1:], 0)


# Against pytorch_optimizer.


def test_the_recorded_gradients_are_those_of_the_script():
    for given, expected in zip(recorded("gradients"), record.gradients(), strict=True):
        chex.assert_trees_all_close(given, expected, rtol=1e-15)


def recorded(name):
    return [{key: np.asarray(leaf) for key, leaf in step.items()} for step in RECORDED[name]]


@pytest.mark.usefixtures("x64")
def test_cautious_lion_equals_pytorch_optimizer_up_to_its_additional_count():
    # pytorch_optimizer scales the mask by n / (k + 1), as the paper's first version, not by n / k.
    out, _ = updates(cautious(optax.lion(1.0, weight_decay=0.0)), recorded("gradients"))
    for d, step in zip(out, recorded("cautious lion"), strict=True):
        for key, leaf in step.items():
            k = np.count_nonzero(leaf)
            np.testing.assert_allclose(d[key] * k, leaf * (k + 1), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_grams_equals_pytorch_optimizer():
    g = recorded("gradients")
    bare = optax.chain(grams(optax.scale_by_adam(eps=1e-6)), optax.scale(-1.0))
    for tx in (grams(optax.adam(1.0, eps=1e-6)), bare):
        chex.assert_trees_all_close(updates(tx, g)[0], recorded("grams"), rtol=1e-12, atol=1e-12)


@every_kind
def test_errors_of_bad_arguments(kind):
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        KINDS[kind][0](heavy_ball)
