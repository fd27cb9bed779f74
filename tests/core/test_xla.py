"""The functions that keep XLA from copying: they change no value, and they add the dependence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax._core import xla
from tests.compiled import audit

N = 1 << 14
FLAT = jax.ShapeDtypeStruct((N,), jnp.float32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)


@pytest.mark.parametrize("β", [0.5, 0.9])
def test_decay_and_add_is_the_sum(β):
    v, g, h = (jnp.asarray(np.random.default_rng(i).normal(size=5), jnp.float32) for i in range(3))
    found = xla.decay_and_add(jnp.int32(3), β, v, (0.5, g), (0.25, h))
    np.testing.assert_allclose(found, β * v + 0.5 * g + 0.25 * h, rtol=1e-6)


def step_of(add):
    """A step that reads its new velocity twice, with equal shares of velocity and gradient."""

    def step(params, v, count, g):
        v = add(count, v, g)
        return params - 0.1 * (v + 0.5 * g), v, count + 1

    return step


def test_decay_and_add_copies_nothing_where_the_plain_sum_does_or_not():
    found = audit(
        step_of(lambda count, v, g: xla.decay_and_add(count, 0.5, v, (0.5, g))),
        FLAT,
        FLAT,
        COUNT,
        args=(FLAT,),
    )
    assert not found.copies
    assert found.aliased == found.donated


def swap(after):
    """A step that stores g and still needs the old stored value for its update."""

    def step(params, stored, count, g):
        update = g - stored
        return params - update, after(count, g + 0.0, update), count + 1

    return step


def test_computed_after_changes_no_value():
    tree, earlier = {"a": jnp.arange(3.0)}, {"a": jnp.full(3, jnp.inf)}
    found = xla.computed_after(jnp.int32(0), tree, earlier)
    np.testing.assert_array_equal(found["a"], tree["a"])


def test_evaluate_runs_a_traced_program():
    closed = jax.make_jaxpr(lambda x, y: (x + y, x * y))(1.0, 2.0)
    assert [float(x) for x in xla.evaluate(closed, 3.0, 4.0)] == [7.0, 12.0]


@pytest.mark.parametrize("single_device", [True, False])
def test_value_and_gradients_are_those_of_jax(single_device):
    def loss(p):
        h = jnp.tanh(p["x"] @ p["w"])
        return jnp.mean(jnp.square(h @ p["u"])), {"mean": h.mean()}

    rng = np.random.default_rng(0)
    shapes = {"w": (64, 128), "u": (128, 64), "x": (2, 64)}
    params = {name: jnp.asarray(rng.normal(size=s) / 8, jnp.float32) for name, s in shapes.items()}
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    found = jax.jit(lambda p: xla.value_and_grad_before_writes(loss, p, single_device))(params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
