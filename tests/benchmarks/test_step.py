import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from tests.benchmarks.measure import ratios, show

pytestmark = pytest.mark.benchmark

N = 10_000_000
STEPS = {
    "optax.sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "heavy_ball": lambda: momentax.sgd(0.1),
    "heavy_ball, parameter units": lambda: momentax.sgd(0.1, velocity_units="parameter"),
    "average": lambda: momentax.sgd(0.1, momentax.average()),
    "optax.sgd, nesterov": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "nesterov": lambda: momentax.sgd(0.1, momentax.nesterov()),
    "quasi_hyperbolic": lambda: momentax.sgd(0.1, momentax.quasi_hyperbolic()),
    "heavy_ball, coupled decay": lambda: momentax.sgd(0.1, weight_decay=1e-4),
}


def stepper(tx):
    """One donated step, update and apply in one program, on a flat float32 vector."""
    params, grads = jnp.ones(N), jnp.full(N, 0.01)
    carry = [params, tx.init(params)]

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*carry, grads).compile()

    def run():
        carry[:] = compiled(*carry, grads)
        return carry[0]

    return run


def test_step_time_against_optax():
    runs = {name: stepper(make()) for name, make in STEPS.items()}
    show(f"Time of a donated step on {N:.0e} float32", ratios(runs, "optax.sgd"))
