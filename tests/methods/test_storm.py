"""STORM and recursive momentum: the paper's algorithm, and the variance of the velocity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import recursive_momentum, storm

PARAMS = {"a": jnp.ones(2), "b": jnp.ones(3)}


def gradient(x, batch):
    """Return the gradient of the mean of |sin(A x) - y|² over a batch of rows."""
    A, y = batch[:, :-1], batch[:, -1]
    return 2 * A.T @ (np.cos(A @ x) * (np.sin(A @ x) - y)) / len(y)


@pytest.mark.usefixtures("x64")
def test_storm_is_the_papers_algorithm():
    k, w, c, steps = 0.3, 0.2, 5.0, 40
    batches = np.random.default_rng(0).normal(size=(steps, 4, 6))
    start = np.linspace(-1, 1, 5)

    x, path = [start], []
    g = gradient(x[0], batches[0])
    d, squares = g, g @ g
    for t in range(1, steps):
        η = k / (w + squares) ** (1 / 3)
        x.append(x[-1] - η * d)
        a = c * η**2
        assert a < 1
        g = gradient(x[-1], batches[t])
        squares += g @ g
        d = g + (1 - a) * (d - gradient(x[-2], batches[t]))

    tx = momentax.sgd(1.0, storm(k, w, c))
    params = {"head": jnp.asarray(start[:2]), "tail": jnp.asarray(start[2:])}
    state, before = tx.init(params), params

    def split(g):
        return {"head": jnp.asarray(g[:2]), "tail": jnp.asarray(g[2:])}

    def join(tree):
        return np.concatenate([tree["head"], tree["tail"]])

    for t in range(steps - 1):
        path.append(join(params))
        grads, prev_grad = (split(gradient(join(p), batches[t])) for p in (params, before))
        updates, state = tx.update(grads, state, params, prev_grad=prev_grad)
        before, params = params, optax.apply_updates(params, updates)
    np.testing.assert_allclose([*path, join(params)], x, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_recursive_momentum_without_noise_is_plain_descent():
    H = jnp.diag(jnp.array([1.0, 3.0, 10.0]))
    tx = momentax.sgd(0.05, recursive_momentum(0.9))
    before = θ = plain = jnp.array([1.0, -2.0, 0.5])
    state = tx.init(θ)
    for _ in range(30):
        updates, state = tx.update(H @ θ, state, θ, prev_grad=H @ before)
        before, θ, plain = θ, θ + updates, plain - 0.05 * H @ plain
    np.testing.assert_allclose(θ, plain, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_recursive_momentum_at_fixed_parameters_is_an_average():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
    tx, average = recursive_momentum(0.8), momentax.average(0.8, debias=False)
    state = tx.init(g[0])
    reference = average.init(g[0])._replace(velocity=g[0])
    _, state = tx.update(g[0], state, prev_grad=g[0])
    for each in g[1:]:
        d, state = tx.update(each, state, prev_grad=each)
        expected, reference = average.update(each, reference)
        np.testing.assert_allclose(d, expected, rtol=1e-12)


@pytest.mark.parametrize("make", [recursive_momentum, storm])
def test_the_velocity_is_the_gradient_in_the_first_step_and_after_a_reset(make):
    tx, g = make(), jnp.array([1.0, -2.0])
    state = tx.init(g)
    for _ in range(2):
        _, state = tx.update(g, state, prev_grad=7 * g)
        np.testing.assert_array_equal(momentax.velocity(state), g)
        _, state = tx.update(3 * g, state, prev_grad=-g)
        assert not jnp.array_equal(momentax.velocity(state), 3 * g)
        state = momentax.reset_velocity(state)


def test_storm_limits_a_to_one():
    tx, g = storm(k=1.0, w=0.1, c=1e6), jnp.array([0.1])
    state = tx.init(g)
    for _ in range(3):
        _, state = tx.update(g, state, prev_grad=5 * g)
    np.testing.assert_array_equal(state.velocity, g)
    assert isinstance(state, momentax.states.StormState)
    assert isinstance(recursive_momentum().init(g), momentax.states.RecursiveState)


METHODS = {
    "recursive_momentum": recursive_momentum(),
    "storm": storm(),
    "mars": momentax.mars(approximate=False),
}
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
def test_a_missing_previous_gradient_raises_while_tracing(name):
    tx = momentax.sgd(1.0, METHODS[name])
    with pytest.raises(ValueError, match=f"^{name} needs the gradient .* prev_grad=jax.grad"):
        jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)


@every_method
@pytest.mark.parametrize(
    ("prev_grad", "text"),
    [
        ({"a": jnp.ones(2), "b": jnp.ones(1)}, r"\['b'\] does not fit .* shape \(1,\) where"),
        ({"a": jnp.ones(2), "b": None}, r"\['b'\] does not fit .* None where an array"),
        ({"a": jnp.ones(2)}, r"\['b'\] does not fit .* nothing where"),
        ([jnp.ones(2), jnp.ones(3)], "the root does not fit .* a list where a dict"),
        ({"a": jnp.ones(2), "b": jnp.ones(3, complex)}, r"\['b'\] does not fit .* complex64 where"),
    ],
)
def test_the_error_names_a_previous_gradient_that_does_not_fit(name, prev_grad, text):
    tx = METHODS[name]
    with pytest.raises((ValueError, TypeError), match=rf"^prev_grad at {text}"):
        tx.update(PARAMS, tx.init(PARAMS), prev_grad=prev_grad)


@every_method
def test_masked_and_partition_pass_on_the_whole_previous_gradient(name):
    tx = METHODS[name]
    alone = {"a": jnp.ones(2), "b": optax.MaskedNode()}
    _, expected = tx.update(alone, tx.init(alone), prev_grad=PARAMS)
    both = [
        optax.masked(tx, {"a": True, "b": False}),
        optax.masked(tx, {"a": True, "b": False}, mask_compatible_extra_args=True),
        optax.partition({"m": tx, "p": optax.sgd(0.1)}, {"a": "m", "b": "p"}),
    ]
    for outer in both:
        _, state = outer.update(PARAMS, outer.init(PARAMS), PARAMS, prev_grad=PARAMS)
        held = momentax.velocity(state)
        chex.assert_trees_all_equal(held, expected.velocity)


@every_method
def test_a_gradient_that_is_none_needs_no_previous_one(name):
    tx, part = METHODS[name], {"a": jnp.ones(2), "b": None}
    state = tx.init(PARAMS)
    _, state = tx.update(PARAMS, state, prev_grad=PARAMS)
    for prev_grad in (PARAMS, part):
        d, after = tx.update(part, state, prev_grad=prev_grad)
        assert d["b"] is None
        chex.assert_trees_all_equal(after.velocity["b"], state.velocity["b"])
