"""The base iterate is the one of each paper, whose sequences are written out here."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import eval_params, nesterov, restart, sgd

STEPS = 60
SLOPES = np.random.default_rng(1).uniform(0.5, 2, size=5)


def gradient(x, xp=np):
    """Return the gradient of a smooth strongly convex function that is not quadratic."""
    return 0.2 * x + SLOPES * xp.tanh(SLOPES * (x - 1))


# Each method in the sequences of its paper yields after each step the point where gradients are
# taken and the point to evaluate. Its hyperparameters are functions of the count.


def look_ahead(x, α, beta):
    v, y = 0.0, x
    for t in range(STEPS):
        v = beta(t) * v - α * gradient(y)
        x = x + v
        y = x + beta(t + 1) * v
        yield y, x


def synthesized_nesterov(x, α, beta1, beta2, delta):
    before, y = x, x
    for t in range(STEPS):
        before, x = x, x + beta1(t) * (x - before) - α * gradient(y)
        y = x + beta2(t + 1) * (x - before)
        yield y, x + delta(t) * (x - before)


def overshoot(x, α, beta, gamma):
    yield from synthesized_nesterov(x, α, beta, gamma, lambda t: 0.0)


def mass(w, α, beta, compensation):
    u = w
    for t in range(STEPS):
        g = gradient(u)
        before, w = w, u - α * g
        u = w + beta(t + 1) * (w - before) + α * compensation(t + 1) * g
        yield u, w


def generalized_primal_averaging(x, α, mu_x, mu_y):
    y = z = x
    for t in range(STEPS):
        z = z - α * gradient(y)
        x = mu_x(t) * x + (1 - mu_x(t)) * z
        y = mu_y(t) * x + (1 - mu_y(t)) * z
        yield y, x


def primal_averaging(x, α, c):
    sequences = generalized_primal_averaging(x, α, lambda t: 1 - c(t), lambda t: 1.0)
    yield from ((average, average) for _, average in sequences)


SEQUENCES = {
    momentax.nesterov: (look_ahead, {"beta": (0, 0.95)}),
    momentax.synthesized_nesterov: (
        synthesized_nesterov,
        {"beta1": (0.1, 0.95), "beta2": (0, 1), "delta": (-1, 1)},
    ),
    momentax.overshoot: (overshoot, {"beta": (0.1, 0.95), "gamma": (0, 2)}),
    momentax.mass: (mass, {"beta": (0, 0.95), "compensation": (0, 0.5)}),
    momentax.generalized_primal_averaging: (
        generalized_primal_averaging,
        {"mu_x": (0, 0.95), "mu_y": (0, 1)},
    ),
    momentax.primal_averaging: (primal_averaging, {"c": (0.05, 1)}),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("units", ["gradient", "parameter"])
@pytest.mark.parametrize("method", SEQUENCES, ids=lambda method: method.__name__)
def test_parameters_and_base_iterate_are_the_sequences_of_the_paper_under_schedules(method, units):
    sequences, ranges = SEQUENCES[method]

    @jax.jit
    def run(start, α, values):
        given = {key: lambda t, value=value: value[t] for key, value in values.items()}
        tx = sgd(α, method(**given), velocity_units=units)

        def step(carry, _):
            θ, state = carry
            u, state = tx.update(gradient(θ, jnp), state, θ)
            θ = θ + u
            rate = None if units == "parameter" else α
            return (θ, state), (θ, eval_params(θ, state, learning_rate=rate))

        return jax.lax.scan(step, (start, tx.init(start)), length=STEPS)[1]

    @given(seed=st.integers(0, 2**32 - 1), α=st.floats(0.001, 0.05))
    def check(seed, α):
        rng = np.random.default_rng(seed)
        values = {key: rng.uniform(*bounds, size=STEPS + 1) for key, bounds in ranges.items()}
        start = rng.normal(size=5)
        twin = sequences(start, α, **{key: v.__getitem__ for key, v in values.items()})
        expected = tuple(map(np.stack, zip(*twin, strict=True)))
        chex.assert_trees_all_close(run(start, α, values), expected, rtol=1e-11, atol=1e-12)

    check()


@pytest.mark.usefixtures("x64")
def test_nesterov_in_parameter_units_is_exact_under_a_learning_rate_schedule():
    """Sutskever's method takes the gradient at θ + μ_t v, and each gradient has its own rate."""
    rng = np.random.default_rng(3)
    rates, betas = rng.uniform(0.001, 0.05, STEPS + 1), rng.uniform(0, 0.95, STEPS + 1)
    α, β = jnp.asarray(rates), jnp.asarray(betas)
    tx = sgd(lambda t: α[t], momentax.nesterov(lambda t: β[t]), velocity_units="parameter")
    x = start = rng.normal(size=5)
    v, params, state = 0.0, jnp.asarray(start), tx.init(jnp.asarray(start))
    for t in range(STEPS):
        v = betas[t] * v - rates[t] * gradient(x + betas[t] * v)
        x = x + v
        updates, state = tx.update(gradient(params, jnp), state, params)
        params = params + updates
        np.testing.assert_allclose(eval_params(params, state), x, rtol=1e-12)


def test_parameters_that_are_the_base_iterate_are_returned():
    params = {"a": jnp.ones(2)}
    for tx in (
        sgd(0.1),
        momentax.average(),
        momentax.quasi_hyperbolic(),
        optax.chain(optax.clip(1.0), momentax.heavy_ball()),
    ):
        _, state = tx.update(params, tx.init(params), params)
        assert eval_params(params, state) is params


@pytest.mark.parametrize("b1", [0.5, 0.9])
def test_schedule_free_agrees_with_the_function_of_optax(b1):
    params = {"a": jnp.ones(2), "b": jnp.full(3, -1.0)}
    tx = optax.chain(optax.clip(1.0), optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=b1))
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    own = optax.contrib.schedule_free_eval_params(state[1], params)
    chex.assert_trees_all_close(eval_params(params, state), own, rtol=1e-5)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_state_of_sgd_records_its_units(decoupled):
    params = jnp.ones(2)
    for units, wrong, text in (
        ("gradient", None, "give learning_rate, the value"),
        ("parameter", 0.1, r"in parameter units, .*: leave learning_rate out, got 0\.1"),
    ):
        tx = sgd(0.1, momentax.nesterov(), velocity_units=units, decoupled=decoupled)
        tx = optax.inject_hyperparams(lambda clip, tx=tx: optax.chain(optax.clip(clip), tx))(1.0)
        _, state = tx.update(params, tx.init(params), params)
        with pytest.raises(ValueError, match=text):
            eval_params(params, state, learning_rate=wrong)
        eval_params(params, state, learning_rate=None if units == "parameter" else 0.1)


@pytest.mark.parametrize(
    "inner",
    [
        restart(nesterov()),
        optax.chain(optax.clip(9.0), nesterov()),
        optax.masked(nesterov(), True),
        optax.inject_hyperparams(nesterov)(0.9),
    ],
    ids=["restart", "chain", "masked", "inject_hyperparams"],
)
def test_the_state_records_the_units_of_a_nested_method(inner):
    params = jnp.array([1.0, -2.0])
    for units, rate in (("gradient", 0.1), ("parameter", None)):
        plain, tx = (sgd(0.1, method, velocity_units=units) for method in (nesterov(), inner))
        other = optax.scale_by_schedule(lambda count: 1.0)  # It does not scale the velocity.
        tx = optax.chain(other, tx)
        _, expected = plain.update(params, plain.init(params), params)
        _, state = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_close(
            eval_params(params, state, learning_rate=rate),
            eval_params(params, expected, learning_rate=rate),
        )


def test_a_chain_with_names_needs_the_learning_rate_or_minus_one():
    params = jnp.array([1.0, -2.0])
    scale, own = optax.scale_by_schedule(lambda count: -0.1), nesterov()
    for parts, rate in (((own, scale), 0.1), ((scale, own), -1)):
        plain = optax.chain(*parts)
        tx = optax.named_chain(*zip(("first", "second"), parts, strict=True))
        _, expected = plain.update(params, plain.init(params), params)
        _, state = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_close(
            eval_params(params, state, learning_rate=rate),
            eval_params(params, expected, learning_rate=None if rate == -1 else rate),
        )


def test_another_chain_in_parameter_units_takes_the_learning_rate_minus_one():
    params = jnp.array([1.0, -2.0])
    own = optax.chain(optax.scale(-0.1), momentax.nesterov())
    ours = sgd(0.1, momentax.nesterov(), velocity_units="parameter")
    _, state = own.update(params, own.init(params), params)
    with pytest.raises(ValueError, match="before the method, give learning_rate=-1"):
        eval_params(params, state)
    _, expected = ours.update(params, ours.init(params), params)
    chex.assert_trees_all_close(
        eval_params(params, state, learning_rate=-1), eval_params(params, expected)
    )


def test_masked_parts_none_and_low_precision():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3), "none": None}
    tx = optax.masked(sgd(0.1, momentax.nesterov(0.5)), {"a": True, "b": False, "none": False})
    _, state = tx.update(params, tx.init(params), params)
    base = jax.jit(lambda p, s: eval_params(p, s, learning_rate=0.1))(params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(base, params)
    chex.assert_trees_all_equal(base["b"], params["b"])
    chex.assert_trees_all_close(base["a"], jnp.full(2, 1.05, jnp.bfloat16))


def test_a_state_or_a_learning_rate_that_does_not_fit_is_refused():
    params = {"a": jnp.ones(2)}
    nesterov_of_optax = optax.sgd(0.1, momentum=0.9, nesterov=True)
    with pytest.raises(ValueError, match=r"a TraceState does not say .* momentax\.nesterov"):
        eval_params(params, nesterov_of_optax.init(params), learning_rate=0.1)
    with pytest.raises(ValueError, match="the state holds no velocity"):
        eval_params(params, optax.sgd(0.1).init(params), learning_rate=0.1)
    tx = sgd(0.1, momentax.nesterov())
    with pytest.raises(ValueError, match=r"params at \['a'\] does not fit the velocity"):
        eval_params({"a": jnp.ones(3)}, tx.init(params), learning_rate=0.1)
    with pytest.raises(ValueError, match="learning_rate must be in"):
        eval_params(params, tx.init(params), learning_rate=float("nan"))
    with pytest.raises(
        TypeError, match=r"^learning_rate must be a number or a 0-d array, got the f"
    ):
        eval_params(params, tx.init(params), learning_rate=lambda count: 0.1)


def test_frameworks_that_look_ahead_give_their_base_iterate():
    """φ = θ - α μ b in PyTorch and θ + μ v in Keras, for the same gradients."""
    params = jnp.array([1.0, -2.0])
    from_torch, from_keras = momentax.conventions.from_torch, momentax.conventions.from_keras
    for tx, rate in (
        (from_torch(0.1, 0.9, nesterov=True), 0.1),
        (from_keras(0.1, 0.9, True), None),
    ):
        state = tx.init(params)
        θ, s, φ = params, jnp.zeros(2), params
        for _ in range(3):
            s = 0.9 * s + φ
            θ = θ - 0.1 * s
            updates, state = tx.update(φ, state, φ)
            φ = φ + updates
        chex.assert_trees_all_close(eval_params(φ, state, learning_rate=rate), θ, rtol=1e-5)


def test_a_named_chain_does_not_record_its_units():
    tx = optax.named_chain(
        ("method", momentax.nesterov()), ("descent", optax.scale_by_learning_rate(lambda _: 0.1))
    )
    params = jnp.ones(2)
    updates, state = tx.update(params, tx.init(params))
    params = params + updates
    with pytest.raises(ValueError, match="give learning_rate, the value"):
        eval_params(params, state)
    expected = params + 0.1 * 0.9 * jnp.ones(2)
    chex.assert_trees_all_close(eval_params(params, state, learning_rate=0.1), expected)


def test_the_state_keeps_the_shift():
    state = momentax.nesterov(0.75).init(jnp.ones(2))
    assert isinstance(state, momentax.states.ShiftedState)
    _, state = momentax.nesterov(0.75).update(jnp.ones(2), state)
    assert float(state.shift) == 0.75


def test_params_that_are_no_arrays_are_named_as_params():
    state = momentax.sgd(0.1, momentax.nesterov(0.9)).init({"w": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"got 'x'; give a number or a 0-d array$"):
        momentax.eval_params({"w": jnp.ones(2)}, state, learning_rate="x")
    for params, text in (
        (None, "params at the root does not fit the velocity: None where a dict belongs"),
        ({"w": "x"}, r"params at \['w'\] does not fit the velocity: a str where an array"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            momentax.eval_params(params, state, learning_rate=0.1)
    with pytest.raises(ValueError, match="a str where a dict belongs"):
        momentax.replace_velocity(state, "x")


@pytest.mark.parametrize("method", [momentax.heavy_ball(0.9), momentax.nesterov(0.9)])
def test_what_is_returned_shares_no_memory_with_arrays_of_numpy(method):
    params = {"w": np.ones(3, np.float32), "b": np.zeros(2, np.float32)}
    state = jax.tree.map(np.asarray, method.init(params))
    for returned in (
        momentax.eval_params(params, state, learning_rate=0.1),
        momentax.velocity(state),
        momentax.reset_velocity(state),
        momentax.replace_velocity(state, params),
    ):
        for leaf in filter(lambda x: isinstance(x, np.ndarray), jax.tree.leaves(returned)):
            for other in jax.tree.leaves((params, state)):
                assert not np.shares_memory(leaf, other)
