"""sgd: velocity units, weight decay, ascent, and its steps before and after the method."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentax
from momentax import average, heavy_ball, nesterov, sgd
from tests import reference

STEPS = 30


def run(tx, gradient, start, steps=STEPS):
    def step(carry, t):
        θ, state = carry
        u, state = tx.update(gradient(θ, t), state, θ)
        θ = optax.apply_updates(θ, u)
        return (θ, state), θ

    _, path = jax.lax.scan(step, (start, tx.init(start)), jnp.arange(steps, dtype=start.dtype))
    return jnp.concatenate([start[None], path])


OPTIONS = list(itertools.product(("gradient", "parameter"), (False, True), (False, True)))


@pytest.mark.parametrize(("units", "decoupled", "maximize"), OPTIONS)
@pytest.mark.parametrize("method", ["heavy_ball", "nesterov"])
@pytest.mark.usefixtures("x64")
def test_every_option_equals_the_twin_under_schedules(method, units, decoupled, maximize):
    options = {"velocity_units": units, "decoupled": decoupled, "maximize": maximize}
    mask = np.array([1.0, 0.0, 1.0])

    @jax.jit
    def ours(α, β, λ):
        make = {"heavy_ball": heavy_ball, "nesterov": nesterov}[method]
        tx = sgd(
            lambda t: α[t],
            make(lambda t: β[t]),
            weight_decay=lambda t: λ[t],
            mask={"decays": True, "stays": False},
            **options,
        )

        def split(θ):
            return {"decays": θ[::2], "stays": θ[1]}

        def step(carry, _):
            θ, state = carry
            g = {key: jnp.sin(leaf) + leaf for key, leaf in θ.items()}
            u, state = tx.update(g, state, θ)
            θ = optax.apply_updates(θ, u)
            return (θ, state), θ

        θ = split(jnp.array([1.0, -2.0, 3.0]))
        return jax.lax.scan(step, (θ, tx.init(θ)), length=STEPS)[1]

    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        α, β, λ = rng.uniform(0, [[0.3], [0.95], [0.2]], (3, STEPS + 1))
        hyperparameters = {"dampening": lambda t: 0.0} if method == "heavy_ball" else {}
        path = reference.sgd(
            getattr(reference, method),
            lambda θ, t: np.sin(θ) + θ,
            np.array([1.0, -2.0, 3.0]),
            STEPS,
            learning_rate=α.__getitem__,
            weight_decay=λ.__getitem__,
            mask=mask,
            beta=β.__getitem__,
            **hyperparameters,
            **options,
        )[1:]
        expected = {"decays": path[:, ::2], "stays": path[:, 1]}
        chex.assert_trees_all_close(ours(α, β, λ), expected, rtol=1e-11, atol=1e-12)

    check()


@pytest.mark.parametrize("units", ["gradient", "parameter"])
@pytest.mark.parametrize("decay", ["uniform", "cautious"])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.usefixtures("x64")
def test_decay_that_is_cautious_or_follows_the_learning_rate_equals_the_twin(
    units, decay, maximize
):
    rng = np.random.default_rng(0)
    α, λ = rng.uniform(0.01, [[0.3], [0.4]], (2, STEPS))
    start, target = rng.normal(size=(2, 6))
    start[0] = 0.0
    sign = -1 if maximize else 1
    for coupled, peak in ((False, None), (False, α.max()), (True, α.max())):
        if coupled and decay == "cautious":
            continue
        options = {"decay": decay, "decoupled": not coupled, "maximize": maximize}
        tx = sgd(
            lambda t: jnp.asarray(α)[t],
            nesterov(0.8),
            weight_decay=lambda t: jnp.asarray(λ)[t],
            velocity_units=units,
            peak_learning_rate=peak,
            **options,
        )
        found = run(tx, lambda θ, t: sign * jnp.sin(θ - target), jnp.asarray(start))
        expected = reference.sgd(
            reference.nesterov,
            lambda θ, t: sign * np.sin(θ - target),
            start,
            STEPS,
            learning_rate=α.__getitem__,
            weight_decay=λ.__getitem__,
            velocity_units=units,
            peak=peak,
            beta=lambda t: 0.8,
            **options,
        )
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_cautious_decay_leaves_out_the_entries_that_the_step_makes_larger():
    θ = jnp.array([2.0, 2.0, -2.0, -2.0, 2.0, 1e-30])
    g = jnp.array([1.0, -1.0, 1.0, -1.0, 0.0, -1e-30])  # The product of the last two underflows.
    for units in ("gradient", "parameter"):
        tx = sgd(0.1, heavy_ball(0.0), weight_decay=0.5, decoupled=True, decay="cautious",
                 velocity_units=units)  # fmt: skip
        u, _ = tx.update(g, tx.init(θ), θ)
        decays = np.float32([1, 0, 0, 1, 1, 0])
        np.testing.assert_allclose(u, -0.1 * (g + 0.5 * θ * decays), rtol=1e-6)
    z = jnp.array([1 + 1j, 1 + 1j])
    u, _ = tx.update(jnp.array([1 - 0.5j, -1 + 0.5j]), tx.init(z), z)
    np.testing.assert_allclose(u, [-0.1 * (1.5 + 0j), -0.1 * (-1 + 0.5j)], rtol=1e-6)


def test_decay_that_follows_the_learning_rate_is_read_and_bounded_by_the_peak():
    α = optax.linear_schedule(0.4, 0.0, 4)
    tx = sgd(α, nesterov(0.9), weight_decay=0.1, decoupled=True, peak_learning_rate=0.4)
    θ = jnp.ones(3)
    state = tx.init(θ)
    for t in range(4):
        _, state = tx.update(jnp.zeros(3), state, θ)
        found = momentax.hyperparameters(state, tx)
        np.testing.assert_allclose(found["weight_decay"], 0.1 * (1 - t / 4), rtol=1e-6)
    # At its peak the decay is the ordinary one.
    plain = sgd(0.4, nesterov(0.9), weight_decay=0.1, decoupled=True)
    followed = sgd(0.4, nesterov(0.9), weight_decay=0.1, decoupled=True, peak_learning_rate=0.4)
    for tx in (plain, followed):
        chex.assert_trees_all_equal(*(t.update(θ, t.init(θ), θ)[0] for t in (plain, tx)))
    message = (
        r"peak_learning_rate must be the largest value of learning_rate, got 0.1 and a le.* 0.4"
    )
    with pytest.raises(ValueError, match=message):
        sgd(0.4, weight_decay=0.1, peak_learning_rate=0.1)
    with pytest.raises(ValueError, match=message):
        sgd(α, weight_decay=0.1, peak_learning_rate=0.1).init(θ)
    theory = momentax.theory.analyze(
        sgd(0.2, weight_decay=0.1, decoupled=True, peak_learning_rate=0.4), 1.0, 2.0
    )
    np.testing.assert_allclose(theory.decay, 1 - 0.2 * 0.05, rtol=1e-6)


@pytest.mark.oracles
@pytest.mark.usefixtures("x64")
@jax.numpy_dtype_promotion("standard")
def test_decay_that_follows_the_learning_rate_is_that_of_adamc():
    torch = pytest.importorskip("torch")
    AdamC = pytest.importorskip("pytorch_optimizer").AdamC
    α = np.linspace(0.3, 0.05, STEPS)
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    groups = [{"params": [w], "normalized": True}]
    peer = AdamC(groups, lr=0.3, betas=(0.9, 0.999), weight_decay=0.2, eps=1e-30)
    path = [w.detach().numpy().copy()]
    for rate in α:
        peer.param_groups[0]["lr"] = rate
        w.grad = torch.sin(w.detach()) + w.detach()
        peer.step()
        path.append(w.detach().numpy().copy())
    adam = optax.scale_by_adam(eps=1e-30)
    tx = sgd(lambda t: jnp.asarray(α)[t], adam, weight_decay=0.2, decoupled=True,
             peak_learning_rate=0.3)  # fmt: skip
    found = run(tx, lambda θ, t: jnp.sin(θ) + θ, jnp.asarray(path[0]))
    np.testing.assert_allclose(found, path, rtol=1e-10)


@pytest.mark.parametrize("nesterov_flag", [False, True])
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.usefixtures("x64")
def test_equals_optax_sgd(nesterov_flag, scheduled):
    rng = np.random.default_rng(0)
    rates, noise = jnp.asarray(rng.uniform(0.01, 0.2, STEPS)), jnp.asarray(rng.normal(size=STEPS))
    α = (lambda t: rates[t]) if scheduled else 0.05

    def gradient(θ, t):
        return jnp.sin(θ) + noise[t.astype(int)]

    method = nesterov(0.9) if nesterov_flag else heavy_ball(0.9)
    peer = optax.sgd(α, momentum=0.9, nesterov=nesterov_flag)
    start = jnp.asarray(rng.normal(size=5))
    chex.assert_trees_all_close(
        run(sgd(α, method), gradient, start), run(peer, gradient, start), rtol=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_equals_optax_with_coupled_and_decoupled_decay():
    def gradient(θ, t):
        return jnp.sin(θ) * (1 + t)

    start = jnp.arange(1.0, 4)
    decay = optax.add_decayed_weights(0.1)
    trace, rate = optax.trace(0.9), optax.scale_by_learning_rate(0.05)
    for decoupled, peer in ((False, (decay, trace, rate)), (True, (trace, decay, rate))):
        ours = sgd(0.05, weight_decay=0.1, decoupled=decoupled)
        chex.assert_trees_all_close(
            run(ours, gradient, start), run(optax.chain(*peer), gradient, start), rtol=1e-12
        )


@pytest.mark.usefixtures("x64")
def test_units_agree_for_a_constant_learning_rate_only():
    def gradient(θ, t):
        return jnp.sin(θ) + θ * jnp.cos(t)

    def paths(α):
        units = ("gradient", "parameter")
        return [run(sgd(α, nesterov(0.9), velocity_units=u), gradient, jnp.ones(3)) for u in units]

    chex.assert_trees_all_close(*paths(0.05), rtol=1e-12)
    halved = paths(lambda t: jnp.where(t < 10, 0.1, 0.05))
    np.testing.assert_allclose(halved[0][:11], halved[1][:11], rtol=1e-12)
    assert np.abs(halved[0] - halved[1]).max() > 1e-2


def test_maximize_negates_the_gradient_but_not_the_decay():
    tx = sgd(0.1, heavy_ball(0.0), weight_decay=0.5, maximize=True)
    θ = jnp.array([2.0])
    u, _ = tx.update(jnp.array([3.0]), tx.init(θ), θ)
    np.testing.assert_allclose(u, 0.1 * (3.0 - 0.5 * 2.0), rtol=1e-6)


def test_learning_rate_keeps_float32_precision_on_bfloat16():
    θ = jnp.ones(3, jnp.bfloat16)
    for method in (heavy_ball(0.0), nesterov(0.0)):
        tx = sgd(jnp.float32(0.003), method)
        u, _ = tx.update(θ, tx.init(θ), θ)
        np.testing.assert_array_equal(u, np.full(3, -0.003).astype(jnp.bfloat16))


@pytest.mark.parametrize("form", ["tree", "prefix", "function"])
@pytest.mark.parametrize("decoupled", [False, True])
def test_the_forms_of_a_mask_agree_and_accept_none_gradients(form, decoupled):
    params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": jnp.ones((3, 1))}
    mask = {
        "tree": {"dense": {"kernel": True, "bias": True}, "head": False},
        "prefix": {"dense": True, "head": False},
        "function": lambda p: {"dense": jax.tree.map(lambda _: True, p["dense"]), "head": False},
    }[form]
    tx = sgd(1.0, heavy_ball(0.0), weight_decay=0.5, mask=mask, decoupled=decoupled)
    zero = jax.tree.map(jnp.zeros_like, params)
    u, _ = tx.update(zero, tx.init(params), params)
    expected = {"dense": {"kernel": -0.5, "bias": -0.5}, "head": 0.0}
    chex.assert_trees_all_equal(u, jax.tree.map(jnp.full_like, params, expected))
    zero["dense"]["bias"] = None
    u, _ = tx.update(zero, tx.init(params), params)
    expected["dense"]["bias"] = 0.0
    chex.assert_trees_all_equal(u, jax.tree.map(jnp.full_like, params, expected))


def test_a_schedule_may_start_at_zero():
    tx = sgd(optax.linear_schedule(0.0, 1.0, 4), heavy_ball(0.0))
    θ = jnp.ones(1)
    u, state = tx.update(θ, tx.init(θ), θ)
    np.testing.assert_array_equal(u, 0)
    u, _ = tx.update(θ, state, θ)
    np.testing.assert_allclose(u, -0.25)


@pytest.mark.parametrize("jit", [False, True])
def test_inject_hyperparams_may_supply_a_learning_rate_of_zero(jit):
    θ = jnp.ones(2)
    tx = optax.inject_hyperparams(sgd)(optax.linear_schedule(0.0, 1.0, 4))
    update, state = jax.jit(tx.update) if jit else tx.update, tx.init(θ)
    moved = []
    for _ in range(3):
        u, state = update(θ, state, θ)
        moved.append(float(u[0]))
    np.testing.assert_allclose(moved, [0, -0.25 * 1.9, -0.5 * 2.71], rtol=1e-6)


def test_any_optax_transformation_can_be_the_method():
    θ = jnp.ones(2)
    ours, peer = sgd(0.1, optax.scale_by_adam()), optax.adam(0.1)
    with jax.numpy_dtype_promotion("standard"):  # Adam mixes dtypes.
        updates = [tx.update(θ, tx.init(θ), θ)[0] for tx in (ours, peer)]
    chex.assert_trees_all_close(*updates, rtol=1e-6)


def test_the_default_method_has_full_precision_in_64_bits():
    with jax.enable_x64(True):
        tx, θ = sgd(1.0), jnp.ones(1)
        _, state = tx.update(θ, tx.init(θ), θ)
        _, state = tx.update(0 * θ, state, θ)
        np.testing.assert_allclose(momentax.velocity(state), 0.9, rtol=1e-15)


def test_vmap_over_every_hyperparameter_at_once():
    θ = jnp.arange(1.0, 4)

    def final(α, β, λ):
        tx = sgd(α, average(β), weight_decay=λ, decoupled=True, velocity_units="parameter")
        return run(tx, lambda θ, t: jnp.sin(θ), θ, 5)[-1]

    points = jnp.array([[0.1, 0.2], [0.5, 0.9], [0.0, 0.3]])
    loop = jnp.stack([final(*point) for point in points.T])
    chex.assert_trees_all_close(jax.vmap(final)(*points), loop, rtol=1e-6)


BAD = {
    "learning_rate=None": (lambda: sgd(None), TypeError, r"learning_rate must be in \[0, inf\)"),
    "learning_rate<0": (lambda: sgd(-0.1), ValueError, r"learning_rate .*, got -0.1$"),
    "learning_rate=nan": (lambda: sgd(float("nan")), ValueError, "learning_rate .*, got nan"),
    "method uncalled": (lambda: sgd(0.1, heavy_ball), TypeError, "method must be a gradient tran"),
    "method a number": (lambda: sgd(0.1, 0.9), TypeError, r"method must be .*got 0.9"),
    "units": (
        lambda: sgd(0.1, velocity_units="parameters"),
        ValueError,
        "velocity_units must be one of 'gradient', 'parameter', got 'parameters'",
    ),
    "decay<0": (lambda: sgd(0.1, weight_decay=-1), ValueError, r"weight_decay must be in \[0, inf"),
    "decoupled": (lambda: sgd(0.1, decoupled="yes"), TypeError, "decoupled must be True or False"),
    "decay": (
        lambda: sgd(0.1, decay="constant", decoupled=True),
        ValueError,
        "decay must be one of 'uniform', 'cautious', got 'constant'",
    ),
    "coupled cautious decay": (
        lambda: sgd(0.1, weight_decay=0.1, decay="cautious"),
        ValueError,
        'decay="cautious" needs decoupled=True, got decoupled=False: coupled decay is a part',
    ),
    "peak": (
        lambda: sgd(0.1, peak_learning_rate=0),
        ValueError,
        r"peak_learning_rate must be in \(0, inf\), got 0",
    ),
    "maximize": (lambda: sgd(0.1, maximize=1), TypeError, "maximize must be True or False, got 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, error, text = BAD[case]
    with pytest.raises(error, match=text):
        call()


def test_the_error_for_decay_without_params_shows_the_call():
    tx, θ = sgd(0.1, weight_decay=0.1), jnp.ones(2)
    with pytest.raises(ValueError, match=r"weight_decay needs the parameters: call update\(grads"):
        tx.update(θ, tx.init(θ))


@pytest.mark.parametrize(
    ("mask", "error"), [({"a": True}, ValueError), ({"a": 1.0, "b": True}, TypeError)]
)
def test_bad_masks(mask, error):
    θ = {"a": jnp.ones(2), "b": jnp.ones(2)}

    def step():
        tx = sgd(0.1, weight_decay=0.1, mask=mask)
        return tx.update(θ, tx.init(θ), θ)

    with pytest.raises(error, match="mask"):
        step()


def test_the_error_names_the_parameter_that_does_not_fit_its_gradient():
    tx, θ = sgd(0.1), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"\['a'\] does not fit the parameter: shape \(2,\)"):
        tx.update(θ, tx.init(θ), {"a": jnp.ones(3)})
