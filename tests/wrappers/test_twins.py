"""Every wrapper around Nesterov's momentum, under a schedule of β, against its NumPy twin."""

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from tests.cases import WRAPPERS


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_equals_its_twin(name):
    case = WRAPPERS[name]

    @jax.jit
    def run(betas, gradients):
        tx = case.make(lambda count: betas[count])

        def step(state, g):
            d, state = tx.update(g, state)
            return state, d

        state, out = jax.lax.scan(step, tx.init(gradients[0]), gradients)
        return out, momentax.velocity(state)

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        betas, g = rng.uniform(0, 0.95, size=32), rng.normal(size=(30, 2, 3))
        v, expected = 0.0, []
        for t, each in enumerate(g):
            d, v = case.twin(v, each, t, beta=betas.__getitem__)
            expected.append(d)
        v = v[0] if isinstance(v, tuple) else v
        chex.assert_trees_all_close(run(betas, g), (np.stack(expected), v), rtol=1e-12, atol=1e-13)

    check()
