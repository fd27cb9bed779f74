"""Numbers: every method and wrapper equals its twin in NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from tests.cases import METHODS, RANGES, TRANSFORMATIONS
from tests.contracts.harness import (
    as_function,
    build,
    every_method,
    every_method_and_wrapper,
    with_extra_args,
)
from tests.reference import directions


def draw(rng, case):
    """Draw each hyperparameter in its range: 32 steps of a schedule, or a number if fixed."""
    ranges = RANGES | dict(case.ranges)
    values = {
        key: rng.uniform(*ranges.get(key, (0, 0.95)), size=32) for key in case.hyperparameters
    }
    return {key: v[0] if key in case.fixed else v for key, v in values.items()}


@every_method_and_wrapper
@pytest.mark.usefixtures("x64")
def test_equals_its_twin_in_float64(name):
    case = TRANSFORMATIONS[name]

    @jax.jit
    def run(values, gradients):
        given = {
            key: value if key in case.fixed else lambda count, value=value: value[count]
            for key, value in values.items()
        }
        tx = with_extra_args(name, case.make(**given))

        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        state, out = jax.lax.scan(step, tx.init(gradients[0]), gradients)
        return out, momentax.velocity(state)

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        values, g = draw(rng, case), rng.normal(size=(30, 2, 3))
        twins = {key: as_function(value) for key, value in values.items()}
        expected = directions(case.twin, g, extra=case.extra, **twins)
        scale = max(1.0, *(float(np.abs(each).max()) for each in expected))
        chex.assert_trees_all_close(run(values, g), expected, rtol=1e-12, atol=1e-13 * scale)

    check()


@every_method
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_equals_its_twin_to_the_precision_of_the_dtype(name, dtype):
    case, rng = METHODS[name], np.random.default_rng(0)
    g = jnp.asarray(rng.normal(size=(40, 5)), dtype)
    tx = build(name)

    @jax.jit
    def run(g):
        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        return jax.lax.scan(step, tx.init(g[0]), g)

    state, out = run(g)
    constant = {key: as_function(value) for key, value in case.hyperparameters.items()}
    d, v = directions(case.twin, np.asarray(g, np.float64), extra=case.extra, **constant)
    scale = max(1.0, float(np.abs(v).max()), float(np.abs(d).max()))
    np.testing.assert_allclose(momentax.velocity(state), v, rtol=1e-5, atol=1e-6 * scale)
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(out, np.float64), d, rtol=rounding, atol=1e-5 * scale)
