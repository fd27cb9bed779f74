"""Schedules of β."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import heavy_ball, schedules


def test_warmup_is_a_line_and_then_constant():
    schedule = schedules.warmup(0.5, 0.9, steps=4)
    values = [schedule(jnp.int32(t)) for t in range(7)]
    np.testing.assert_allclose(values, [0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9], rtol=1e-6)
    assert values[0].shape == ()
    assert values[0].dtype == jnp.float32


def test_warmup_defaults_and_agreement_with_optax():
    schedule, peer = schedules.warmup(), optax.linear_schedule(0.5, 0.9, 1000)
    np.testing.assert_allclose(schedule(jnp.arange(0, 2000, 7)), peer(jnp.arange(0, 2000, 7)), 1e-6)


def test_warmup_is_exact_in_64_bits_and_traceable():
    with jax.enable_x64(True):
        value = schedules.warmup(0.5, 0.9, 3)(jnp.int32(1))
        np.testing.assert_allclose(value, 0.5 + 0.4 / 3, rtol=1e-15)
    ends = jax.vmap(lambda end: schedules.warmup(0.0, end, 2)(jnp.int32(1)))(jnp.array([0.2, 0.8]))
    np.testing.assert_allclose(ends, [0.1, 0.4], rtol=1e-6)


def test_warmup_drives_a_method():
    tx, g = heavy_ball(schedules.warmup(0.0, 0.8, 2)), jnp.ones(1)
    state = tx.init(g)
    for expected in (1.0, 1.4, 1.0 + 0.8 * 1.4):
        d, state = tx.update(g, state)
        np.testing.assert_allclose(d, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"start": 1.0}, ValueError, r"start must be in \[0, 1\), got 1.0"),
        ({"end": -0.1}, ValueError, r"end must be in \[0, 1\), got -0.1"),
        ({"start": lambda count: 0.5}, TypeError, "start must be a number or a 0-d array"),
        ({"steps": 0}, ValueError, "steps must be a whole number, at least 1, got 0"),
        ({"steps": 2.5}, TypeError, "steps must be a whole number, at least 1, got 2.5"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        schedules.warmup(**arguments)
