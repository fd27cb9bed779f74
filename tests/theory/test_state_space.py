"""The system that is read against the compiled transformation that runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import momentax
from momentax import sgd, theory

H = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]])
START, MINIMIZER = np.array([1.0, -2.0, 3.0]), np.array([0.4, -0.2, 0.1])


def observed(tx, steps, minimizer=MINIMIZER):
    """θ_0 .. θ_T of the compiled transformation, in 64 bits."""
    pair = isinstance(tx, type(LOOKAHEAD)) and tx.init.__module__ == LOOKAHEAD.init.__module__

    def step(carried, _):
        params, state = carried
        θ = params.fast if pair else params
        updates, state = tx.update(jnp.asarray(H) @ (θ - minimizer), state, params)
        return (optax.apply_updates(params, updates), state), θ

    def run(θ):
        params = optax.LookaheadParams.init_synced(θ) if pair else θ
        return jax.lax.scan(step, (params, tx.init(params)), length=steps + 1)[1]

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.jit(run)(jnp.asarray(START)))


LOOKAHEAD = optax.lookahead(optax.sgd(0.1, 0.9), 3, 0.5)
OPTAX = {
    "sgd": optax.sgd(0.3),
    "sgd, momentum": optax.sgd(0.1, 0.9),
    "sgd, nesterov": optax.sgd(0.1, 0.8, nesterov=True),
    "trace, decoupled decay": optax.chain(
        optax.trace(0.9), optax.add_decayed_weights(0.05), optax.scale(-0.1)
    ),
    "trace, coupled decay": optax.chain(
        optax.add_decayed_weights(0.05), optax.trace(0.9), optax.scale_by_learning_rate(0.1)
    ),
    "ema": optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.4)),
    "two traces": optax.chain(optax.trace(0.5), optax.trace(0.7), optax.scale(-0.05)),
    "trace of an ema": optax.chain(optax.ema(0.7, debias=False), optax.trace(0.8), optax.sgd(0.05)),
    "masked decay": optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), lambda p: jax.tree.map(lambda _: True, p)),
        optax.sgd(0.1, 0.9),
    ),
    "partition": optax.partition(
        {"all": optax.sgd(0.2, 0.5)}, lambda p: jax.tree.map(lambda _: "all", p)
    ),
    "injected": optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9),
    "apply_if_finite": optax.apply_if_finite(optax.sgd(0.1, 0.9), 3),
    "lookahead": LOOKAHEAD,
    "lookahead, reset": optax.lookahead(optax.sgd(0.2, 0.7), 2, 0.3, reset_state=True),
    "apply_every": optax.chain(optax.apply_every(4), optax.sgd(0.05, 0.5)),
}
MOMENTAX = {
    "heavy_ball": sgd(0.1, momentax.heavy_ball(0.9, dampening=0.25)),
    "nesterov": sgd(0.1, momentax.nesterov(0.9)),
    "linear": sgd(0.1, momentax.linear(0.3, 0.7, 0.8, 0.5, shift=0.2)),
    "aggregated": sgd(0.1, momentax.aggregated((0.0, 0.7, 0.9))),
    "positive_negative": sgd(0.1, momentax.positive_negative(0.9, 1.0)),
    "pid": sgd(0.1, momentax.pid(-0.5, 1.0, 2.0)),
    "generalized_primal_averaging": sgd(0.1, momentax.generalized_primal_averaging(0.9, 0.7)),
    "lazy": sgd(0.1, momentax.lazy(momentax.nesterov(0.9))),
    "restart, every 4": sgd(0.1, momentax.restart(momentax.heavy_ball(0.9), 4)),
    **{
        f"sgd, {units}, decoupled={decoupled}": sgd(
            0.1,
            momentax.nesterov(0.8),
            velocity_units=units,
            weight_decay=0.1,
            decoupled=decoupled,
        )
        for units in ("gradient", "parameter")
        for decoupled in (False, True)
    },
}


@pytest.mark.parametrize("name", OPTAX | MOMENTAX)
def test_the_compiled_transformation_runs_as_the_system_says(name):
    tx = (OPTAX | MOMENTAX)[name]
    path = theory.trajectory(tx, H, START, 60, minimizer=MINIMIZER)
    np.testing.assert_allclose(path, observed(tx, 60), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "tx",
    [
        optax.optimistic_gradient_descent(0.1, 0.9, 0.4),
        momentax.optimistic(sgd(0.1, momentax.heavy_ball(0.5))),
    ],
    ids=["optax", "momentax"],
)
def test_after_a_first_step_of_its_own_a_run_keeps_to_the_characteristic_polynomial(tx):
    λ, basis = np.linalg.eigh(H)
    seen = observed(tx, 30, minimizer=0 * START) @ basis
    system = theory.state_space(tx)
    for each, M in zip(seen.T, theory.closed_loop(system, λ), strict=True):
        left = np.convolve(each[2:], np.poly(M), mode="valid")
        np.testing.assert_allclose(left, 0, atol=1e-12)


def test_a_controller_is_a_linear_method_once_its_first_step_has_faded():
    β, kI, kD = 0.9, 2.0, 3.0
    a, b = 1 + kD * (1 - β) / β, kI - kD * (1 - β) ** 2 / β
    system = theory.state_space(sgd(0.1, momentax.proportional_integral_derivative(β, kI, kD)))
    λ = np.array([0.3, 1.0, 4.0])
    assert isinstance(system, theory.StateSpace)
    assert len(system.A) == 2
    np.testing.assert_allclose(
        theory.rate_at(system, λ),
        theory.spectral_radius(0.1, λ, β, gradient_weight=a, velocity_weight=b),
        rtol=1e-12,
    )


def test_the_system_of_heavy_ball_is_its_recurrence():
    A, B, C = theory.state_space(sgd(0.1, momentax.heavy_ball(0.9)))
    np.testing.assert_allclose(A, [[1, -0.09], [0, 0.9]], rtol=1e-15)
    np.testing.assert_allclose(B, [-0.1, 1], rtol=1e-15)
    np.testing.assert_array_equal(C, [1, 0])
    assert {part.dtype for part in (A, B, C)} == {np.dtype(np.float64)}


def test_the_precision_of_jax_is_neither_asked_for_nor_changed():
    method = momentax.nesterov(0.9)  # In 32 bits, where 0.9 is another number.
    narrow = theory.state_space(sgd(0.1, method))
    with jax.enable_x64(True):
        wide = theory.state_space(sgd(0.1, method))
    assert jnp.asarray(0.1).dtype == jnp.float32
    for one, other in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(narrow.A[1, 1], 0.9, rtol=1e-15)


def test_states_that_are_duplicate_or_beyond_reach_or_sight_are_left_out():
    sizes = {
        1: sgd(0.1, momentax.linear(1.0, 0.0, 0.9)),
        2: sgd(0.1, momentax.aggregated((0.9, 0.9, 0.9))),
        3: sgd(0.1, momentax.aggregated((0.9, 0.9, 0.5, 0.0))),
    }
    for size, tx in sizes.items():
        A, B, C = theory.state_space(tx)
        assert (A.shape, B.shape, C.shape) == ((size, size), (size,), (size,))
    # Nor do units decide what is negligible.
    A, B, C = theory.state_space(sgd(1e-14, momentax.heavy_ball(0.9)))
    np.testing.assert_allclose((A[1, 1], B[1] * A[0, 1] / B[0]), (0.9, 0.9), rtol=1e-12)


def test_a_debiased_average_step_by_step():
    tx = sgd(0.3, momentax.average(0.9))
    z, path = np.array([START, 0 * START]), [START]
    for k in range(3):
        A, B, C = theory.state_space(tx, step=k)
        np.testing.assert_allclose(A[0, 1], -0.3 * 0.9 / (1 - 0.9 ** (k + 1)), rtol=1e-12)
        z = A @ z + np.outer(B, H @ (C @ z - MINIMIZER))
        path.append(C @ z)
    np.testing.assert_allclose(path, observed(tx, 3), rtol=1e-12)


def test_the_long_run_has_forgotten_debiasing_and_warm_up():
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


def test_sequences_settle_or_ask_for_a_step():
    q = 0.1  # In the long run the optimal method is triple momentum.
    item = theory.state_space(sgd(1.0, momentax.item(q, 1.0)))
    assert abs(theory.rate(item, q, 1.0) - (1 - np.sqrt(q))) < 1e-7
    assert round(item.A[1, 1], 6) == 0.355215  # Its β at κ = 10.
    tx = sgd(0.1, momentax.accelerated())
    A, _, _ = theory.state_space(tx, step=7)
    np.testing.assert_allclose(A[1, 1], 6 / 9, rtol=1e-12)  # β_7 = (7 - 1) / (7 + 2).
    with pytest.raises(ValueError, match=r"never settle, the state at \[1\].sequence; give the st"):
        theory.state_space(tx)


NONLINEAR = {
    "sign": (
        optax.sign_sgd(0.1),
        "not linear: a step from twice the .* does not give twice the parameters",
    ),
    "adam": (
        optax.adam(0.1),
        "not linear: a step from zero .* does not leave the parameters at zero",
    ),
    "lion": (optax.lion(0.1), "not linear: a step from twice the"),
    "normalized": (
        optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
        "not linear: a step from twice the",
    ),
    "clip": (
        optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9)),
        "linear only within a range.* for gradients from rest up to about 0.5. Beyond it, a step",
    ),
    "clip after": (
        optax.chain(optax.trace(0.9), optax.scale(-0.1), optax.clip(0.5)),
        "linear only within a range.* for gradients from rest up to about 5. Beyond it, a step",
    ),
    "global norm": (
        optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(0.1)),
        "linear only within a range.* for gradients from rest up to about 2. Beyond it, a step",
    ),
    "far clip": (
        optax.chain(optax.clip(1e6), optax.sgd(0.1)),
        r"linear only within a range.* for gradients from rest up to about 1e\+06. Beyond it, a step",
    ),
    "adaptive clip": (
        optax.chain(optax.adaptive_grad_clip(100.0), optax.sgd(0.1)),
        "linear only within a range.* for gradients from rest up to about 0.1. Beyond it, a step",
    ),
    "mars": (
        sgd(0.1, momentax.mars(0.9, 0.025)),
        "linear only within a range.* for gradients from rest up to about 0.8163. Beyond it, a st",
    ),
    "restart": (
        sgd(0.1, momentax.restart(momentax.heavy_ball(0.9))),
        "not linear: a step from the sum of two sets of .* does not give the sum",
    ),
    "cautious": (
        sgd(0.1, momentax.cautious(momentax.heavy_ball(0.9))),
        "not linear: a step from the sum of two sets of .* does not give the sum",
    ),
    "noise": (
        optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)),
        "a step from zero .* does not leave the parameters at zero",
    ),
    "torque": (sgd(0.1, momentax.torque_aware()), "not linear: "),
    "centralized": (
        optax.chain(optax.centralize(), optax.sgd(0.1)),
        "couples the entries of a parameter: the gradient of one moves another",
    ),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_what_is_not_linear_is_told_what_fails(name):
    tx, text = NONLINEAR[name]
    with pytest.raises(ValueError, match=text):
        theory.state_space(tx)


def test_around_a_point_anything_smooth_has_a_system():
    tx = optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9))
    inside = theory.state_space(tx, around=(0.0, 0.1))
    for one, other in zip(inside, theory.state_space(optax.sgd(0.1, 0.9)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)
    np.testing.assert_array_equal(theory.state_space(tx, around=(0.0, 3.0)).B, [0])
    # Adam at rest in a constant gradient: its step is α m / (√v + ε), and m/√v = 1.
    A, B, C = theory.state_space(optax.adam(0.1, b1=0.9, b2=0.99, eps=1.0), around=(0.0, 2.0))
    push = -0.1 * (0.1 / 3 - 2 / (2 * 2 * 9) * 0.01 * 4)
    np.testing.assert_allclose(C @ B, push, rtol=1e-9)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(A)), [0.9, 0.99, 1.0], rtol=1e-9)


def decaying(mask):
    return optax.chain(optax.add_decayed_weights(0.1, mask), optax.sgd(0.1, 0.9))


def test_what_a_mask_treats_differently_has_a_system_each():
    params = {"dense": {"kernel": np.zeros((784, 128)), "bias": jnp.zeros(128)}}
    decayed, plain = (theory.state_space(decaying(mask)) for mask in (None, False))
    assert decayed.A[0, 0] < plain.A[0, 0]
    by_tree = decaying({"dense": {"kernel": True, "bias": False}})
    by_shape = decaying(lambda params: jax.tree.map(lambda leaf: np.ndim(leaf) > 1, params))
    labels = {"dense": {"kernel": "a", "bias": "b"}}
    by_label = optax.partition({"a": decaying(None), "b": decaying(False)}, labels)
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.zeros_like, params))
    for tx, like in ((by_tree, params), (by_shape, params), (by_label, shapes)):
        for path, expected in (("kernel", decayed), ("bias", plain)):
            read = theory.state_space(tx, params=like, path=f"['dense']['{path}']")
            for one, other in zip(read, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-14)
        with pytest.raises(
            ValueError,
            match=r"\['dense'\]\['bias'\] and \['dense'\]\['kernel'\] differently.* the path of",
        ):
            theory.state_space(tx, params=like)
    with pytest.raises(ValueError, match=r"at \['0-d'\] and \['2-d'\] differently, as a mask"):
        theory.rate(by_shape, 1.0, 2.0)
    # In the middle of a period too.
    tx = optax.chain(optax.apply_every(2), by_shape)
    with pytest.raises(ValueError, match="differently"):
        theory.state_space(tx)
    one = theory.rate(theory.state_space(tx, path="['2-d']"), 1.0, 2.0)
    other = theory.rate(optax.chain(optax.apply_every(2), decaying(None)), 1.0, 2.0)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_coarse_state_hides_no_curve():
    tx = optax.chain(
        optax.stateless(lambda g, _: jax.tree.map(lambda u: u * (1 + 0.1 * jnp.tanh(u) ** 2), g)),
        optax.sgd(0.1, 0.9, accumulator_dtype=jnp.bfloat16),
    )
    with pytest.raises(ValueError, match="linear only within a range"):
        theory.state_space(tx)
    coarse = theory.state_space(optax.sgd(0.1, 0.9, accumulator_dtype=jnp.bfloat16))
    np.testing.assert_allclose(coarse.A[1, 1], 0.9, rtol=1e-2)


def test_whole_numbers_that_follow_the_gradients_are_refused():
    def counting(g, state, params=None):
        signs = [jnp.sum(leaf > 0) for leaf in jax.tree.leaves(g)]
        return jax.tree.map(lambda leaf: -0.1 * leaf, g), {"seen": state["seen"] + sum(signs)}

    tx = optax.GradientTransformation(lambda params: {"seen": jnp.zeros((), jnp.int32)}, counting)
    with pytest.raises(ValueError, match=r"state at \['seen'\] holds whole numbers that depend"):
        theory.state_space(tx)


def test_bad_arguments():
    with pytest.raises(TypeError, match="tx must be a gradient transformation"):
        theory.state_space(momentax.sgd)
    with pytest.raises(TypeError, match="step must be a whole number, at least 0"):
        theory.state_space(optax.sgd(0.1), step=0.5)
    with pytest.raises(ValueError, match=r"around must be a pair \(θ, g\), got shape \(3,\)"):
        theory.state_space(optax.sgd(0.1), around=(1, 2, 3))
    with pytest.raises(ValueError, match=r"\['1-d'\], \['2-d'\]; give theory.state_space params "):
        theory.state_space(optax.masked(optax.sgd(0.1), {"kernel": True}))
    nnx_state = {"kernel": nnx.Param(jnp.zeros((3, 2)))}
    for path in ("['kernel']", "['kernel'].value"):
        theory.state_space(optax.sgd(0.1), params=nnx_state, path=path)
    params = {"a": np.zeros(3), "b": [np.zeros(())]}
    with pytest.raises(ValueError, match=r"path must be one of \['a'\], \['b'\]\[0\], got 'b'"):
        theory.state_space(optax.sgd(0.1), params=params, path="b")
    with pytest.raises(ValueError, match="params must hold at least one array, got none"):
        theory.state_space(optax.sgd(0.1), params={})
    with pytest.raises(TypeError, match=r"params must hold arrays, got 'x' at \['a'\]"):
        theory.state_space(optax.sgd(0.1), params={"a": "x"})
    with pytest.raises(ValueError, match="around is a point of a single scalar; leave params out"):
        theory.state_space(optax.adam(0.1), around=(0.0, 1.0), params=params)
    with pytest.raises(ValueError, match=r"no finite derivative at \(θ, g\) = \(0, 0\)"):
        theory.state_space(optax.adam(0.1), step=3, around=(0.0, 0.0))
    with pytest.raises(ValueError, match="period of more than 64 steps"):
        theory.state_space(optax.MultiSteps(optax.sgd(0.1), 100))
    with pytest.raises(ValueError, match="recursive_momentum needs the gradient"):
        theory.state_space(sgd(0.1, momentax.recursive_momentum(0.9)))


def test_what_only_watches_is_no_part_of_the_system():
    watched = optax.chain(optax.snapshot("norm", optax.tree.norm), optax.sgd(0.1, 0.9))
    for one, other in zip(
        theory.state_space(watched), theory.state_space(optax.sgd(0.1, 0.9)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_lookahead_may_be_a_link():
    inside = optax.chain(optax.scale(2.0), optax.lookahead(optax.sgd(0.1, 0.9), 3, 0.5))
    plain = optax.lookahead(optax.sgd(0.2, 0.9), 3, 0.5)
    np.testing.assert_allclose(
        theory.rate_at(inside, [0.3, 2.0]), theory.rate_at(plain, [0.3, 2.0])
    )


def test_within_a_program_it_takes_what_is_constant():
    rate = theory.rate(optax.sgd(0.1, 0.9), 1, 10)
    np.testing.assert_allclose(jax.jit(lambda: theory.rate(optax.sgd(0.1, 0.9), 1, 10))(), rate)
    with pytest.raises(TypeError, match="hyperparameters of tx must be concrete: the theory runs"):
        jax.vmap(lambda β: theory.rate(optax.sgd(0.1, β), 1, 10))(jnp.array([0.5, 0.9]))


def test_what_needs_more_than_gradients_is_told_so():
    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    for tx, needed in ((plateau, "value"), (optax.lbfgs(0.1), "value_fn"), (optax.sm3(0.1), "")):
        with pytest.raises(ValueError, match=f"from their gradients alone, as.*such as.*{needed}"):
            theory.state_space(tx)


def every(k, tx):
    return optax.conditionally_transform(tx, lambda step: step % k == 0)


@pytest.mark.parametrize(
    ("tx", "steps"),
    [
        (optax.sgd(lambda count: 0.1 * (1 + count % 3), 0.9), [(0.1, 0.9), (0.2, 0.9), (0.3, 0.9)]),
        (optax.chain(every(2, optax.scale(0)), optax.sgd(0.1)), [(0.0, 0.0), (0.1, 0.0)]),
    ],
    ids=["a learning rate that goes round", "every other gradient"],
)
def test_what_goes_round_with_the_count_alone_is_a_period(tx, steps):
    λ, p = np.array([0.3, 2.0]), len(steps)
    for each, radius in zip(λ, theory.rate_at(tx, λ), strict=True):
        M = np.eye(2)
        for α, β in steps:
            M = np.array([[1 - α * each, -α * β], [each, β]]) @ M
        np.testing.assert_allclose(radius, np.abs(np.linalg.eigvals(M)).max() ** (1 / p), rtol=1e-7)
    assert theory.state_space(tx).B.shape[1] == p


def test_what_never_comes_round_asks_for_a_step_and_nothing_waits_for_its_turn_unseen():
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


def test_accumulated_gradients_are_one_step_in_as_many():
    tx = optax.MultiSteps(optax.sgd(0.1, 0.5), 3)  # It keeps float32 sums whatever the precision.
    slow = theory.rate_at(optax.sgd(0.1, 0.5), 2.0)
    np.testing.assert_allclose(theory.rate_at(tx, 2.0) ** 3, slow, rtol=1e-6)


links = st.sampled_from(
    [
        lambda c: optax.trace(c),
        lambda c: optax.trace(c, nesterov=True),
        lambda c: optax.ema(c, debias=False),
        lambda c: optax.add_decayed_weights(c / 10),
        lambda c: momentax.nesterov(c),
        lambda c: momentax.quasi_hyperbolic(c, 0.7),
        lambda c: momentax.aggregated((c, c / 2)),
        lambda c: optax.scale(c),
    ]
)


@settings(max_examples=5)
@given(chain=st.lists(st.tuples(links, st.floats(0, 0.9)), min_size=1, max_size=4))
def test_any_chain_of_linear_links_runs_as_its_system_says(chain):
    tx = optax.chain(*(link(c) for link, c in chain), optax.scale(-0.02))
    path = theory.trajectory(tx, H, START, 40, minimizer=MINIMIZER)
    seen = observed(tx, 40)
    np.testing.assert_allclose(path, seen, rtol=0, atol=1e-10 * np.abs(seen).max())
