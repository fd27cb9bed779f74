"""Outputs of a program are computed again from other outputs, or the answer is that they cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentax._core.recompute import recompute

SIZE = 100  # More entries than what is computed again without a look at how.


def again(update, *, hidden=(1,)):
    """Return the update of a step, computed from its new state v and its arguments."""
    g, v, θ = (jnp.arange(SIZE, dtype=jnp.float32) + i for i in range(3))
    u, new = update(g, v, θ)
    closed = jax.make_jaxpr(update)(g, v, θ)
    found = recompute(closed, [g, v, θ], {1: new}, range(1), set(hidden))
    if found is not None:
        np.testing.assert_array_equal(found[0], u)
    return found is not None


def nesterov(g, v, θ):
    v = 0.5 * v + g
    return -0.1 * (g + 0.5 * v), v


def jitted(g, v, θ):
    v = 0.5 * v + g
    return jax.jit(lambda v: -0.1 * v)(v), v


def of_the_old_velocity(g, v, θ):
    return -0.1 * v, 0.5 * v + g


def clipped(g, v, θ):
    v = 0.5 * v + g
    return v / jnp.sum(v), v


def of_scalars(g, v, θ):
    return v[:1] * g, 0.5 * v + g


def constant(g, v, θ):
    return jnp.zeros(3), 0.5 * v + g


@pytest.mark.parametrize("update", [nesterov, jitted, constant])
def test_elementwise_updates_are_computed_from_the_new_state(update):
    assert again(update)


@pytest.mark.parametrize("update", [of_the_old_velocity, of_scalars, clipped])
def test_updates_that_need_the_old_state_or_a_sum_are_not(update):
    assert not again(update)


def test_an_argument_that_is_not_overwritten_may_be_read():
    assert again(of_the_old_velocity, hidden=())
