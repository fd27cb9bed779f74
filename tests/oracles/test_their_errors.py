"""Known errors of other libraries. A failure here means that a library has fixed its error.

Each error was measured with the versions of the extra `oracles`. When one is
fixed, remove its test and compare with the library in test_oracles.py instead.
"""

import importlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import nesterov, sgd
from tests import reference
from tests.oracles.peers import (
    RUNS,
    Run,
    follow,
    in_keras,
    in_optax,
    in_torch,
    in_torch_32,
    in_torch_by_default,
    load,
    relaxed,
    scan,
)
from tests.oracles.problem import BETAS, RATES, START, STEPS, gap, gradient

pytestmark = [pytest.mark.oracles, pytest.mark.filterwarnings("ignore")]

FAR = 1e-3  # Relative to the size of the path, so it is not rounding.
CLOSE = 1e-12


def twin_path(step, **hyperparameters):
    """Return the path of a NumPy twin with the learning rate 0.02."""
    constants = {name: lambda t, value=value: value for name, value in hyperparameters.items()}
    return reference.sgd(step, gradient, START, STEPS, learning_rate=lambda t: 0.02, **constants)


def nadam(psi=0.004, eps=1e-8):
    return twin_path(reference.nadam, beta1=0.9, beta2=0.999, eps=eps, psi=psi)


def test_optax_adan_weights_differences_by_the_complement_of_the_weight():
    options = {"learning_rate": 0.02, "eps_root": 0.0}
    theirs = Run(in_optax, "optax:adan", options)()
    betas = {"beta1": 0.98, "beta2": 0.92, "beta3": 0.99}
    assert gap(theirs, twin_path(reference.adan, **betas, eps=1e-8)) > FAR


def test_bitsandbytes_ignores_nesterov_and_dampening():
    def path(**options):
        return Run(
            in_torch_32, "bitsandbytes.optim:SGD32bit", {"lr": 0.02, "momentum": 0.9} | options
        )()

    np.testing.assert_array_equal(path(nesterov=True), path())
    np.testing.assert_array_equal(path(dampening=0.5), path())


def test_qhoptim_converts_two_state_optimizers_with_a_wrong_nu():
    short, kappa, xi, c = 0.1, 100.0, 5.0, 0.7
    keep = 1 - c**2 * xi / kappa
    mix = c / (c + 1 - keep)
    long = (1 - keep) * short * kappa / c
    h, k, l, m = keep, 1 - keep, -long, (1 - mix) * keep  # noqa: E741 - the letters of qhoptim
    q, z = mix + (1 - mix) * (1 - keep), -mix * short - (1 - mix) * long
    alpha, nu, beta = load("qhoptim.common.param_conv:from_accsgd")(short, kappa, xi, c)
    theirs = load("qhoptim.common.param_conv:from_two_state_optimizer")(h, k, l, m, q, z)
    np.testing.assert_allclose((theirs.nu, nu), (0.8275, 0.5952), atol=5e-5)

    right_beta = h * q - k * m
    right_alpha = -(z + (m * l + (q - 1) * z) / (1 - right_beta))
    right_nu = (1 + z / right_alpha) / right_beta
    np.testing.assert_allclose((right_alpha, right_nu, right_beta), (alpha, nu, beta), rtol=CLOSE)


def test_keras_nadam_warms_up_250_times_too_fast():
    theirs = RUNS["keras.Nadam"]()
    assert gap(theirs, nadam(eps=1e-7)) > FAR
    assert gap(theirs, nadam(eps=1e-7, psi=1.0)) < CLOSE


def test_optax_nadam_has_no_schedule_of_beta():
    theirs = Run(in_optax, "optax:nadam", {"learning_rate": 0.02})()
    for psi in (0.004, 0.0):  # With psi = 0 the correct method halves β, which is different.
        assert gap(theirs, nadam(psi=psi)) > FAR


def test_torch_nadam_multiplies_its_weights_in_the_default_dtype():
    theirs = Run(in_torch_by_default, "torch.optim:NAdam", {"lr": 0.02})()
    assert 1e-12 < gap(theirs, nadam()) < 1e-6


@pytest.mark.parametrize("name", ["TAM", "SGDSaI", "Grams", "SGDP", "AdamP", "AdamWSN"])
def test_pytorch_optimizer_ignores_coupled_decay(name):
    def path(weight_decay):
        options = {"lr": 0.02, "weight_decay": weight_decay, "weight_decouple": False}
        return Run(in_torch, f"pytorch_optimizer:{name}", options)()

    np.testing.assert_array_equal(path(0.5), path(0.0))


def test_pytorch_optimizer_computes_the_torque_for_each_entry():
    theirs = Run(in_torch, "pytorch_optimizer:TAM", {"lr": 0.02})()
    assert gap(theirs, twin_path(reference.torque_aware, beta=0.9, gamma=0.9, eps=1e-8)) > FAR


def test_pytorch_optimizer_qhadam_computes_weights_in_float32():
    theirs = RUNS["pytorch_optimizer.QHAdam"]()
    assert 1e-9 < gap(theirs, RUNS["qhoptim.QHAdam"]()) < 1e-6


def test_optax_muon_gives_the_gradient_more_weight_in_early_steps():
    """Without Newton-Schulz the entries of a direction are the weights of the gradients."""
    beta, size = 0.95, 11
    with relaxed():
        muon = optax.contrib.scale_by_muon(ns_coeffs=(1.0, 0.0, 0.0), ns_steps=1, beta=beta)
        state, ratios = muon.init(jnp.zeros((size, size))), {}
        for t in range(1, size):
            d, state = muon.update(jnp.zeros((size, size)).at[t, t].set(1.0), state)
            ratios[t] = (beta * d[t, t] / d[t - 1, t - 1] - 1) * (1 - beta)
    measured = [ratios[t] for t in (2, 3, 5, 10)]
    np.testing.assert_allclose(measured, [0.0770, 0.0685, 0.0616, 0.0566], atol=5e-5)
    assert min(measured) > (1 - beta) / beta + FAR


def test_heavyball_amplifies_slow_gradients_by_one():
    """The docstring of nesterov_ema says that it is Grokfast, which adds the average twice."""
    torch = importlib.import_module("torch")
    utils = importlib.import_module("heavyball.utils")
    utils.compile_mode = None
    average, gradients = 0.0, np.random.default_rng(0).normal(size=(5, 3))
    buffer = [torch.zeros(3, dtype=torch.float64)]
    for g in gradients:
        average = 0.9 * average + 0.1 * g
        theirs = [torch.tensor(g)]
        utils.nesterov_ema(buffer, theirs, 0.9)
        np.testing.assert_allclose(theirs[0].numpy(), g + average, atol=1e-6)


@pytest.mark.parametrize(
    "run",
    [
        Run(in_torch, "torch.optim:SGD", {"lr": RATES, "momentum": BETAS, "nesterov": True}),
        Run(
            in_keras,
            "keras.optimizers:SGD",
            {"learning_rate": RATES, "momentum": BETAS, "nesterov": True},
        ),
        Run(
            lambda make, options, sign: in_optax(
                lambda momentum, **rest: optax.inject_hyperparams(
                    lambda momentum: make(momentum=momentum, **rest)
                )(momentum),
                options,
                sign,
            ),
            "optax:sgd",
            {"learning_rate": RATES, "momentum": BETAS, "nesterov": True},
        ),
    ],
    ids=lambda run: run.maker,
)
def test_other_libraries_look_ahead_with_the_momentum_of_the_last_step(run):
    exact = reference.sutskever(gradient, START, STEPS, learning_rate=RATES.item, beta=BETAS.item)
    assert gap(run(), exact) > FAR
    with relaxed():
        method = nesterov(follow(BETAS))
        assert gap(scan(sgd(follow(RATES), method, velocity_units="parameter")), exact) < CLOSE


def test_optax_has_the_learning_rate_inside_the_velocity_in_lars_and_outside_in_sgd():
    options = {"learning_rate": RATES, "momentum": 0.9}
    outside = Run(in_optax, "optax:sgd", options)()
    inside = Run(in_optax, "optax:lars", options | {"trust_ratio_mask": False})()
    assert gap(outside, inside) > FAR


def test_the_docstring_of_pepits_robust_momentum_has_wrong_formulas():
    """The code has κ (1-ρ)² (1+ρ) / L, as in the paper."""
    text = load("PEPit.examples.unconstrained_convex_minimization:wc_robust_momentum").__doc__
    assert r"\kappa (1 - \rho^2)(1 + \rho)" in text
    assert r"\kappa = \frac{\mu}{L}" in text
