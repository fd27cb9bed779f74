"""Lion: when its direction reverses, and its signs against float64 and Optax in both forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import momentax
from momentax import lion, sign_average
from tests.methods.runs import draw, follow, follow_peer

# FROM_NEW computes the direction from the new velocity, FROM_OLD from the old one.
FROM_NEW = [(0.9, 0.99), (0.95, 0.98), (0.5, 0.5), (0.99, 0.999), (1e-6, 1e-5), (0.7, 0.70001)]
FROM_OLD = [(0.99, 0.9), (0.9, 0.1), (0.9, 1e-7), (0.9, 1e-40), (0.9, 0.0), (0.0, 0.99), (0.0, 0.0)]
PAIRS = FROM_NEW + FROM_OLD
EPS = float(np.finfo(np.float32).eps)


def in_float64(g, β1, β2):
    """Return the mixtures whose signs are the directions, the sizes of their terms, and v."""
    v, mixtures, sizes = np.zeros(g.shape[1:]), [], []
    for each in g.astype(np.float64):
        mixtures.append(β1 * v + (1 - β1) * each)
        sizes.append(β1 * np.abs(v) + (1 - β1) * np.abs(each))
        v = β2 * v + (1 - β2) * each
    return np.stack(mixtures), np.stack(sizes), v


def rounded(*betas):
    """Round to float32 and return Python floats, which Optax needs."""
    return [float(np.float32(β)) for β in betas]


@pytest.mark.parametrize(("β1", "β2"), PAIRS)
def test_every_sign_is_right_where_rounding_does_not_decide_it(β1, β2):
    β1, β2 = rounded(β1, β2)
    g = draw(1000, 400).astype(np.float32)
    d, state = follow(lion(β1, β2), g)
    mixtures, sizes, v = in_float64(g, β1, β2)
    clear = np.abs(mixtures) > 8 * EPS * sizes
    assert clear.mean() > 0.9999
    np.testing.assert_array_equal(d[clear], np.sign(mixtures)[clear])
    np.testing.assert_allclose(state.velocity, v, rtol=1e-5, atol=1e-6)
    theirs, _ = follow_peer(optax.scale_by_lion(β1, β2), g)
    np.testing.assert_array_equal(d[clear], theirs[clear])


@pytest.mark.parametrize(("β1", "β2"), [pair for pair in PAIRS if pair[0]])
def test_signs_are_right_near_the_point_where_the_terms_cancel(β1, β2):
    """Both forms are right up to a few roundings, those of 1 - β included."""
    first = draw(20000)
    cancelling = -β1 * (1 - β2) * first / (1 - β1)
    g = np.stack([first, cancelling * (1 + 20 * EPS * draw(20000, seed=1))]).astype(np.float32)
    d, _ = follow(lion(β1, β2), g)
    mixtures, sizes, _ = in_float64(g, β1, β2)
    clear = np.abs(mixtures) > 2 * EPS * sizes
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(d[clear], np.sign(mixtures)[clear])


@pytest.mark.parametrize(("β1", "β2"), [*FROM_NEW[:3], *FROM_OLD[:2], (0.9, 0.0)])
def test_the_direction_reverses_when_new_gradients_outweigh_the_old_ones(β1, β2):
    """After n gradients of 1 and k of -1 the mixture is β1 (2 - β2ⁿ) β2ᵏ⁻¹ - 1."""
    n, k = 20, np.arange(1, 100)
    g = np.concatenate([np.ones(n), -np.ones(len(k))])[:, None].astype(np.float32)
    d, _ = follow(lion(β1, β2), g)
    np.testing.assert_array_equal(d[:n], 1)
    np.testing.assert_array_equal(d[n:, 0], np.sign(β1 * (2 - β2**n) * β2 ** (k - 1.0) - 1))


def test_under_schedules_a_step_takes_its_own_betas_and_beta2_may_be_zero():
    g, β1, β2 = draw(300, 40).astype(np.float32), np.float32([0.75, 0.5]), np.float32([0, 0.5, 0.9])
    d, _ = follow(lion(lambda t: jnp.asarray(β1)[t % 2], lambda t: jnp.asarray(β2)[t % 3]), g)
    v = np.zeros(40)
    for t, each in enumerate(g.astype(np.float64)):
        β, kept = np.float64(β1[t % 2]), np.float64(β2[t % 3])
        mixture = β * v + (1 - β) * each
        clear = np.abs(mixture) > 8 * EPS * (np.abs(v) + np.abs(each))
        np.testing.assert_array_equal(d[t][clear], np.sign(mixture)[clear])
        v = kept * v + (1 - kept) * each


@pytest.mark.parametrize(("β1", "β2"), [(0.9, 0.99), (1e-30, 1e-20), (0.9, 0.0)])
def test_the_unit_of_the_gradient_changes_no_sign(β1, β2):
    g = draw(200, 50).astype(np.float32)
    d, _ = follow(lion(β1, β2), g)
    for unit in (2.0**-90, 2.0**100):
        np.testing.assert_array_equal(follow(lion(β1, β2), g * np.float32(unit))[0], d)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.usefixtures("x64")
def test_directions_are_those_of_optax_lion(dtype):
    g = draw(1000, 20, dtype=dtype)
    for betas in ((0.9, 0.99), (0.99, 0.9)):
        ours, _ = follow(lion(*betas), g)
        theirs, _ = follow_peer(optax.scale_by_lion(*betas), g)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_equal_betas_are_sign_average():
    g = draw(500, 20)
    ours, state = follow(lion(0.9, 0.9), g)
    other, expected = follow(sign_average(0.9), g)
    np.testing.assert_array_equal(ours, other)
    np.testing.assert_array_equal(state.velocity, expected.velocity)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.99, 0.9)])
def test_the_sign_is_taken_before_the_mixture_is_rounded(betas):
    """A tenth of the smallest float16 number is 0 in float16."""
    g = jnp.full((1, 3), jnp.finfo(jnp.float16).smallest_subnormal, jnp.float16)
    d, _ = follow(lion(*betas), g)
    assert d.dtype == np.float16
    np.testing.assert_array_equal(d, 1)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.99, 0.9)])
def test_zero_has_the_sign_zero(betas):
    tx = lion(*betas)
    d, state = tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)))
    np.testing.assert_array_equal(d, 0)
    d, _ = tx.update(jnp.array([-1.0, 0.0]), state)
    np.testing.assert_array_equal(d, [-1, 0])


@pytest.mark.usefixtures("x64")
def test_digits_are_learned_as_with_optax_lion():
    """With decoupled decay, a linear model has the same parameters after 200 steps."""
    data = load_digits()
    images, labels = jnp.asarray(data.data / 16), jax.nn.one_hot(data.target, 10)

    def loss(params):
        logits = images @ params["w"] + params["b"][None]
        return optax.softmax_cross_entropy(logits, labels).mean()

    def trained(tx):
        def step(carry, _):
            params, state = carry
            u, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, u), state), None

        start = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
        return jax.lax.scan(step, (start, tx.init(start)), length=200)[0][0]

    ours = trained(momentax.sgd(0.01, lion(), weight_decay=0.1, decoupled=True))
    with jax.numpy_dtype_promotion("standard"):
        theirs = trained(optax.lion(0.01, weight_decay=0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)
    logits = images @ ours["w"] + ours["b"][None]
    assert (logits.argmax(1) == data.target).mean() > 0.95
