import jax
import numpy as np
import optax
import pytest
from flax import nnx

import momentax
from momentax import _digits
from tests.benchmarks.measure import show

pytestmark = pytest.mark.benchmark


def test_sweep_against_the_loop_that_people_write():
    """16 settings of the digits network, 3 epochs, compilation included; one round of each."""
    import time

    α, β = np.geomspace(0.01, 0.3, 4), [0.0, 0.5, 0.8, 0.9]
    train, _ = _digits.load()
    definition, start = nnx.split(_digits.Network(nnx.Rngs(0)))

    def a_new_optimizer_per_setting():
        for learning_rate in α:
            for beta in β:
                tx = optax.sgd(learning_rate, momentum=beta)

                def loss(params, data):
                    logits = nnx.merge(definition, params)(data.images)
                    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.labels)
                    return losses.mean()

                @jax.jit
                def step(params, state, data, tx=tx, loss=loss):
                    updates, state = tx.update(jax.grad(loss)(params, data), state, params)
                    return optax.apply_updates(params, updates), state

                params, state = start, tx.init(start)
                for key in jax.random.split(jax.random.key(0), 3):
                    order = jax.random.permutation(key, 1437)[: 44 * 32].reshape(44, 32)
                    for rows in order:
                        data = jax.tree.map(lambda leaf, rows=rows: leaf[rows], train)
                        params, state = step(params, state, data)
                jax.block_until_ready(params)

    def one_at_a_time():
        run = jax.jit(_digits.training(momentax.heavy_ball, 3, 0, on_epoch=lambda: None))
        for learning_rate in α:
            for beta in β:
                jax.block_until_ready(run(learning_rate, beta))

    def all_at_once():
        run = _digits.training(momentax.heavy_ball, 3, 0, on_epoch=lambda: None)
        jax.block_until_ready(momentax.sweep(run, momentax.grid(learning_rate=α, beta=β)))

    times = {}
    for way in (all_at_once, one_at_a_time, a_new_optimizer_per_setting):
        begin = time.perf_counter()
        way()
        times[way.__name__] = time.perf_counter() - begin
    table = {name: taken / times["all_at_once"] for name, taken in times.items()}
    show("Time of a sweep of 16 settings against momentax.sweep, compilation included", table)
