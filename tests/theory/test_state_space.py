"""The system that is read, against runs of the compiled transformation."""

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
from tests.theory.systems import QUICK

H = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]])
START, MINIMIZER = np.array([1.0, -2.0, 3.0]), np.array([0.4, -0.2, 0.1])


def observed(tx, steps, minimizer=MINIMIZER):
    """θ_0 .. θ_T of a run of the compiled transformation, in 64 bits."""
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
        return np.asarray(jax.jit(run, compiler_options=QUICK)(jnp.asarray(START)))


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
def test_runs_follow_the_system(name):
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
def test_runs_with_a_different_first_step_follow_the_characteristic_polynomial(tx):
    λ, basis = np.linalg.eigh(H)
    seen = observed(tx, 30, minimizer=0 * START) @ basis
    system = theory.state_space(tx)
    for each, M in zip(seen.T, theory.closed_loop(system, λ), strict=True):
        left = np.convolve(each[2:], np.poly(M), mode="valid")
        np.testing.assert_allclose(left, 0, atol=1e-12)


def test_a_controller_is_a_linear_method_after_its_first_step():
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


def test_the_precision_of_jax_does_not_matter_and_is_not_changed():
    method = momentax.nesterov(0.9)  # In 32 bits, where 0.9 is another number.
    single = theory.state_space(sgd(0.1, method))
    with jax.enable_x64(True):
        double = theory.state_space(sgd(0.1, method))
    assert jnp.asarray(0.1).dtype == jnp.float32
    for one, other in zip(single, double, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(single.A[1, 1], 0.9, rtol=1e-15)


def test_duplicate_unreachable_and_unobservable_states_are_left_out():
    sizes = {
        1: sgd(0.1, momentax.linear(1.0, 0.0, 0.9)),
        2: sgd(0.1, momentax.aggregated((0.9, 0.9, 0.9))),
        3: sgd(0.1, momentax.aggregated((0.9, 0.9, 0.5, 0.0))),
    }
    for size, tx in sizes.items():
        A, B, C = theory.state_space(tx)
        assert (A.shape, B.shape, C.shape) == ((size, size), (size,), (size,))
    # The units do not decide which states are negligible.
    A, B, C = theory.state_space(sgd(1e-14, momentax.heavy_ball(0.9)))
    np.testing.assert_allclose((A[1, 1], B[1] * A[0, 1] / B[0]), (0.9, 0.9), rtol=1e-12)


def test_a_debiased_average_at_each_step():
    tx = sgd(0.3, momentax.average(0.9))
    z, path = np.array([START, 0 * START]), [START]
    for k in range(3):
        A, B, C = theory.state_space(tx, step=k)
        np.testing.assert_allclose(A[0, 1], -0.3 * 0.9 / (1 - 0.9 ** (k + 1)), rtol=1e-12)
        z = A @ z + np.outer(B, H @ (C @ z - MINIMIZER))
        path.append(C @ z)
    np.testing.assert_allclose(path, observed(tx, 3), rtol=1e-12)


def test_a_smooth_transformation_has_a_system_around_a_point():
    tx = optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9))
    inside = theory.state_space(tx, around=(0.0, 0.1))
    for one, other in zip(inside, theory.state_space(optax.sgd(0.1, 0.9)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)
    np.testing.assert_array_equal(theory.state_space(tx, around=(0.0, 3.0)).B, [0])
    # Adam in a constant gradient for ever: its step is α m / (√v + ε), and m/√v = 1.
    A, B, C = theory.state_space(optax.adam(0.1, b1=0.9, b2=0.99, eps=1.0), around=(0.0, 2.0))
    push = -0.1 * (0.1 / 3 - 2 / (2 * 2 * 9) * 0.01 * 4)
    np.testing.assert_allclose(C @ B, push, rtol=1e-9)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(A)), [0.9, 0.99, 1.0], rtol=1e-9)


def decaying(mask):
    return optax.chain(optax.add_decayed_weights(0.1, mask), optax.sgd(0.1, 0.9))


def test_parameters_that_a_mask_treats_differently_have_a_system_each():
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
    # With a period too.
    tx = optax.chain(optax.apply_every(2), by_shape)
    with pytest.raises(ValueError, match="differently"):
        theory.state_space(tx)
    one = theory.rate(theory.state_space(tx, path="['2-d']"), 1.0, 2.0)
    other = theory.rate(optax.chain(optax.apply_every(2), decaying(None)), 1.0, 2.0)
    np.testing.assert_allclose(one, other, rtol=1e-12)


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


def test_parts_that_only_record_are_not_in_the_system():
    watched = optax.chain(optax.snapshot("norm", optax.tree.norm), optax.sgd(0.1, 0.9))
    for one, other in zip(
        theory.state_space(watched), theory.state_space(optax.sgd(0.1, 0.9)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_lookahead_may_be_a_part_of_a_chain():
    inside = optax.chain(optax.scale(2.0), optax.lookahead(optax.sgd(0.1, 0.9), 3, 0.5))
    plain = optax.lookahead(optax.sgd(0.2, 0.9), 3, 0.5)
    np.testing.assert_allclose(
        theory.rate_at(inside, [0.3, 2.0]), theory.rate_at(plain, [0.3, 2.0])
    )


def test_constant_transformations_are_read_within_a_jitted_program():
    rate = theory.rate(optax.sgd(0.1, 0.9), 1, 10)
    np.testing.assert_allclose(jax.jit(lambda: theory.rate(optax.sgd(0.1, 0.9), 1, 10))(), rate)
    with pytest.raises(TypeError, match="hyperparameters of tx must be concrete: the theory runs"):
        jax.vmap(lambda β: theory.rate(optax.sgd(0.1, β), 1, 10))(jnp.array([0.5, 0.9]))


PARTS = st.sampled_from(
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
@given(chain=st.lists(st.tuples(PARTS, st.floats(0, 0.9)), min_size=1, max_size=4))
def test_runs_of_any_chain_of_linear_parts_follow_its_system(chain):
    tx = optax.chain(*(part(c) for part, c in chain), optax.scale(-0.02))
    path = theory.trajectory(tx, H, START, 40, minimizer=MINIMIZER)
    seen = observed(tx, 40)
    np.testing.assert_allclose(path, seen, rtol=0, atol=1e-10 * np.abs(seen).max())
