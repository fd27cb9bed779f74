"""Pitfalls of Optax, and the behaviour of momentax in their place.

Each test first shows what Optax does, so that it fails when Optax changes.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from tests import reference


def steps(tx, gradients, params):
    """Return the update for each gradient of a sequence, and the last state."""
    state, out = tx.init(params), []
    for g in gradients:
        u, state = tx.update(g, state, params)
        out.append(u)
    return out, state


def test_a_none_gradient_drops_the_velocity_in_optax():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    missing = {"a": jnp.ones(2), "b": None}
    _, state = steps(optax.trace(0.9), [params, missing], params)
    assert state.trace["b"] is None
    with pytest.raises(TypeError):
        optax.trace(0.9).update(params, state)

    out, state = steps(momentax.heavy_ball(0.9), [params, missing, params], params)
    assert out[1]["b"] is None
    np.testing.assert_allclose(state.velocity["b"], 1.9)
    np.testing.assert_allclose(state.velocity["a"], 2.71, rtol=1e-6)


def test_sgd_leaves_a_parameter_without_a_gradient_exactly_as_it_is():
    params = {"a": jnp.ones(2), "b": jnp.ones(3, jnp.bfloat16)}
    missing = {"a": jnp.ones(2), "b": None}
    decayed = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    updates, _ = decayed.update(missing, decayed.init(params), params)
    with pytest.raises((TypeError, ValueError)):
        optax.apply_updates(params, updates)

    for decoupled in (True, False):
        tx = momentax.sgd(0.1, weight_decay=0.1, decoupled=decoupled)
        updates, _ = tx.update(missing, tx.init(params), params)
        after = optax.apply_updates(params, updates)
        assert after["b"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(after["b"], params["b"])
        assert (after["a"] != params["a"]).all()


def test_a_bfloat16_trace_neither_decays_at_0_999_nor_reaches_100_at_0_99():
    one, zero = jnp.ones((), jnp.bfloat16), jnp.zeros((), jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        _, kept = steps(optax.trace(0.999), [one] + [zero] * 100, one)
        _, long_run = steps(optax.trace(0.99), [one] * 1000, one)
    assert float(kept.trace) == 1.0  # The first gradient has not decayed.
    assert float(long_run.trace) == 64.0

    _, kept = steps(momentax.heavy_ball(0.999), [one] + [zero] * 100, one)
    np.testing.assert_allclose(kept.velocity, 0.999**100, rtol=1e-5)
    _, long_run = steps(momentax.heavy_ball(0.99), [one] * 1000, one)
    np.testing.assert_allclose(long_run.velocity, 100, rtol=1e-4)


def test_inject_hyperparams_changes_the_type_of_a_bfloat16_trace():
    params = jnp.ones(2, jnp.bfloat16)

    def scan(tx):
        def step(state, _):
            return tx.update(params, state, params)[1], None

        return jax.lax.scan(step, tx.init(params), length=2)[0]

    def injected(factory, **hyperparameters):
        return optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32)(**hyperparameters)

    with jax.numpy_dtype_promotion("standard"), pytest.raises(TypeError, match="carry"):
        scan(injected(optax.sgd, learning_rate=0.1, momentum=0.999))

    state = scan(injected(momentax.heavy_ball, beta=0.999))
    np.testing.assert_allclose(state.hyperparams["beta"], 0.999, rtol=1e-6)
    np.testing.assert_allclose(momentax.velocity(state), 1.999, rtol=1e-6)
    # By default inject_hyperparams rounds β to 1 in bfloat16, which momentax refuses.
    with pytest.raises(ValueError, match="beta must be in"):
        optax.inject_hyperparams(momentax.heavy_ball)(beta=0.999).init(params)


def test_a_beta_schedule_fails_at_update_in_optax():
    params, schedule = jnp.ones(2), optax.linear_schedule(0.5, 0.9, 10)
    tx = optax.sgd(0.1, momentum=schedule)
    state = tx.init(params)  # This does not raise.
    with pytest.raises(TypeError, match="operand"):
        tx.update(params, state, params)

    _, state = steps(momentax.heavy_ball(schedule), [params] * 2, params)
    np.testing.assert_allclose(state.velocity, 1 + schedule(1), rtol=1e-6)


@pytest.mark.parametrize("beta", [1.5, float("nan"), True, np.ones((2, 1))], ids=repr)
def test_optax_accepts_bad_momentum(beta):
    params = jnp.ones((2, 2))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        steps(optax.sgd(0.1, momentum=beta), [params] * 2, params)
    with pytest.raises((TypeError, ValueError), match=r"beta must be in \[0, 1\), got"):
        momentax.heavy_ball(beta)


def test_learning_rate_none_ascends_in_optax():
    params = jnp.ones(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Later versions may warn.
        (update,), _ = steps(optax.sgd(None), [params], params)
    assert (update > 0).all()
    with pytest.raises(TypeError, match=r"learning_rate must be in \[0, inf\), got None"):
        momentax.sgd(None)


def test_the_velocity_stays_nan_after_one_nan_gradient():
    params, bad = jnp.ones(2), jnp.array([jnp.nan, 1.0])
    _, state = steps(optax.trace(0.9), [params, bad] + [params] * 1000, params)
    assert jnp.isnan(state.trace[0])

    # In momentax a NaN reaches the velocity, too, as the recurrence says. Optax's apply_if_finite
    # keeps it out of any method, and the velocity tools remove it from any state, Optax's too.
    guarded = optax.apply_if_finite(momentax.sgd(0.1), max_consecutive_errors=10)
    out, guarded_state = steps(guarded, [params, bad, params], params)
    np.testing.assert_array_equal(out[1], 0)
    np.testing.assert_allclose(momentax.velocity(guarded_state), 1.9)
    healed = momentax.replace_velocity(state, jnp.nan_to_num(momentax.velocity(state)))
    _, healed = optax.trace(0.9).update(params, healed)
    assert jnp.isfinite(healed.trace).all()
    _, reset = optax.trace(0.9).update(params, momentax.reset_velocity(state))
    np.testing.assert_array_equal(reset.trace, 1)


def test_apply_if_finite_reads_the_gradients_alone_and_gives_up_after_some_steps():
    params, nan = jnp.ones(2), float("nan")

    def guarded(method, count=10):
        tx = optax.apply_if_finite(momentax.sgd(1.0, method), count)
        return tx, tx.init(params)

    tx, state = guarded(momentax.momentum_polyak())
    updates, _ = tx.update(params, state, params, value=nan)
    assert jnp.isnan(updates).all()
    for method in (
        momentax.recursive_momentum(),
        momentax.storm(),
        momentax.mars(approximate=False),
    ):
        tx, state = guarded(method)
        _, state = tx.update(params, state, params, prev_grad=params)
        updates, _ = tx.update(params, state, params, prev_grad=nan * params)
        assert jnp.isnan(updates).all()
    tx, state = guarded(momentax.nesterov(0.9))
    updates, _ = tx.update(3e38 * params, state, params)  # Twice as much overflows.
    assert jnp.isinf(updates).all()
    tx, state = guarded(momentax.heavy_ball(), count=2)
    for skipped in (True, True, False):
        updates, state = tx.update(nan * params, state, params)
        assert jnp.isfinite(updates).all() == skipped


def test_apply_if_finite_accepts_missing_gradients_around_the_method_but_not_around_sgd():
    """Skipped updates are zeros like the gradients in Optax, and like the parameters in sgd."""
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    missing = {"a": jnp.ones(2), "b": None}
    bad = {"a": jnp.array([jnp.nan, 1.0]), "b": None}
    outside = optax.apply_if_finite(momentax.sgd(0.1), 10)
    with pytest.raises(TypeError, match="cond branch outputs"):
        steps(outside, [missing], params)
    accumulated = optax.MultiSteps(momentax.sgd(0.1), 2).gradient_transformation()
    with pytest.raises(ValueError, match="tree"):  # MultiSteps raises before it calls momentax.
        steps(accumulated, [missing], params)

    inside = momentax.sgd(0.1, optax.apply_if_finite(momentax.heavy_ball(0.9), 10))
    out, state = steps(inside, [missing, bad, missing], params)
    np.testing.assert_allclose(out[0]["a"], -0.1)
    np.testing.assert_array_equal(out[1]["a"], 0)
    np.testing.assert_allclose(out[2]["a"], -0.19, rtol=1e-6)
    for updates in out:
        np.testing.assert_array_equal(updates["b"], np.zeros(3))
    np.testing.assert_allclose(momentax.velocity(state)["a"], 1.9)


@pytest.mark.optimized
@pytest.mark.usefixtures("x64")
def test_nesterov_under_schedules_is_sutskevers_look_ahead():
    """Optax uses β_t twice, and multiplies old gradients by the current learning rate."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(4, 4))
    H = A @ A.T / 4 + np.eye(4)
    α, β = rng.uniform(0.01, 0.1, 60), rng.uniform(0.2, 0.95, 60)

    def gradient(θ, t):
        return H @ θ + np.sin(θ)

    exact = reference.sutskever(
        gradient, np.ones(4), 50, learning_rate=α.__getitem__, beta=β.__getitem__
    )

    def run(tx):
        def step(carry, _):
            θ, state = carry
            u, state = tx.update(H @ θ + jnp.sin(θ), state, θ)
            θ = optax.apply_updates(θ, u)
            return (θ, state), θ

        θ = jnp.ones(4)
        return np.concatenate([θ[None], jax.lax.scan(step, (θ, tx.init(θ)), length=50)[1]])

    def rate(t):
        return jnp.asarray(α)[t]

    def keep(t):
        return jnp.asarray(β)[t]

    ours = run(momentax.sgd(rate, momentax.nesterov(keep), velocity_units="parameter"))
    np.testing.assert_allclose(ours, exact, rtol=1e-12)
    optaxes = run(optax.inject_hyperparams(optax.sgd)(rate, momentum=keep, nesterov=True))
    assert np.abs(optaxes - exact).max() > 1e-3


def test_optax_monitor_fails_in_scan_and_rollout_records_the_angle():
    params = jnp.ones(2)
    tx = optax.chain(optax.monitor({"norm": jnp.linalg.norm}))
    with pytest.raises(TypeError, match="carry"):
        jax.lax.scan(lambda s, _: (tx.update(params, s)[1], None), tx.init(params), length=2)

    problem = momentax.problems.ravine()
    run = momentax.rollout(problem.loss, problem.start, momentax.sgd(0.001), 5, record="angle")
    assert run.history["angle"].shape == (5,)
    assert run.history["angle"][0] == 0


def test_velocity_finds_the_fields_that_optax_calls_by_five_names():
    """Optax calls the velocity trace, ema, mu, m or exp_avg."""
    params = jnp.ones((2, 2))
    named = {
        "trace": optax.trace(0.9),
        "ema": optax.ema(0.9, debias=False),
        "mu": optax.scale_by_lion(),
        "m": optax.scale_by_adan(),
        "exp_avg": optax.contrib.momo(),
    }
    for name, tx in named.items():
        state = tx.init(params)
        assert name in state._fields
        np.testing.assert_array_equal(momentax.velocity(state), getattr(state, name))
