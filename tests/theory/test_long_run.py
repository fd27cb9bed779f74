"""Coefficients that evolve by themselves: the long run, and periods."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory


def test_the_long_run_is_past_debiasing_and_warm_up():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 1000, 0.1)
    plain = theory.state_space(sgd(0.1, momentax.heavy_ball(0.9, dampening=0.1)))
    for tx in (
        sgd(schedule, momentax.heavy_ball(0.9, dampening=0.1)),
        optax.inject_hyperparams(sgd)(schedule, momentax.heavy_ball(0.9, dampening=0.1)),
    ):
        for one, other in zip(theory.state_space(tx), plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7)  # It divides counts in 32 bits.
        A, B, _ = theory.state_space(tx, step=5)
        np.testing.assert_allclose((A[0, 1], B[0]), (-0.45, -0.45), rtol=1e-7)
    for average in (momentax.average(0.9999), optax.ema(0.9999)):
        A, B, _ = theory.state_space(optax.chain(average, optax.scale(-1)))
        np.testing.assert_allclose(A[1, 1], 0.9999, rtol=1e-12)
        np.testing.assert_allclose((A[0, 1] * B[1], B[0]), (-0.9999e-4, -1e-4), rtol=1e-11)


def test_sequences_settle_or_the_error_asks_for_a_step():
    q = 0.1  # In the long run this method is triple momentum.
    item = theory.state_space(sgd(1.0, momentax.item(q, 1.0)))
    assert abs(theory.rate(item, q, 1.0) - (1 - np.sqrt(q))) < 1e-7
    assert round(item.A[1, 1], 6) == 0.355215  # Its β at κ = 10.
    tx = sgd(0.1, momentax.accelerated())
    A, _, _ = theory.state_space(tx, step=7)
    np.testing.assert_allclose(A[1, 1], 6 / 9, rtol=1e-12)  # β_7 = (7 - 1) / (7 + 2).
    with pytest.raises(ValueError, match=r"never settle, the state at \[1\].sequence; give the st"):
        theory.state_space(tx)


def every(k, tx):
    return optax.conditionally_transform(tx, lambda step: step % k == 0)


@pytest.mark.parametrize(
    ("tx", "steps"),
    [
        (optax.sgd(lambda count: 0.1 * (1 + count % 3), 0.9), [(0.1, 0.9), (0.2, 0.9), (0.3, 0.9)]),
        (optax.chain(every(2, optax.scale(0)), optax.sgd(0.1)), [(0.0, 0.0), (0.1, 0.0)]),
    ],
    ids=["periodic learning rate", "every other gradient"],
)
def test_coefficients_that_repeat_with_the_count_have_a_period(tx, steps):
    λ, p, system = np.array([0.3, 2.0]), len(steps), theory.state_space(tx)
    for each, radius in zip(λ, theory.rate_at(system, λ), strict=True):
        M = np.eye(2)
        for α, β in steps:
            M = np.array([[1 - α * each, -α * β], [each, β]]) @ M
        np.testing.assert_allclose(radius, np.abs(np.linalg.eigvals(M)).max() ** (1 / p), rtol=1e-7)
    assert system.B.shape[1] == p


def test_coefficients_that_never_repeat_raise_and_so_does_a_late_nonlinearity():
    for schedule in (
        lambda count: 0.1 * (1.1 + jnp.sin(count)),
        lambda count: 0.1 + count % 100,
        lambda count: 0.1 / (1 + count),
        lambda count: 0.1 / jnp.sqrt(1.0 + count),
        lambda count: 0.1 / (1 + count) * (1 + count % 2),
        optax.linear_schedule(0.1, 0.0, 2**26),
    ):
        with pytest.raises(ValueError, match="neither settle nor repeat within 64 steps; give"):
            theory.state_space(optax.sgd(schedule, 0.9))
    with pytest.raises(ValueError, match="linear only within a range"):
        theory.state_space(optax.chain(every(10, optax.clip(1.0)), optax.sgd(0.1, 0.9)))
    with pytest.raises(ValueError, match="not linear"):  # Four gradients a step from step 5000 on.
        theory.state_space(optax.MultiSteps(optax.sgd(0.1), lambda n: jnp.where(n < 5000, 1, 4)))


def test_accumulating_three_gradients_makes_one_step_of_three():
    tx = optax.MultiSteps(optax.sgd(0.1, 0.5), 3)  # Its sums are float32 whatever the precision.
    slow = theory.rate_at(optax.sgd(0.1, 0.5), 2.0)
    np.testing.assert_allclose(theory.rate_at(tx, 2.0) ** 3, slow, rtol=1e-6)
