"""The methods against every library that has them: its recorded path, and live with -m oracles."""

import functools
import importlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import (
    accelerated,
    accelerated_sgd,
    adan,
    aggregated,
    amplified,
    cautious,
    conventions,
    generalized_primal_averaging,
    grams,
    heavy_ball,
    lion,
    mars,
    momentum_polyak,
    nadam,
    nesterov,
    optimistic,
    pid,
    positive_negative,
    proportional_integral_derivative,
    quasi_hyperbolic,
    quasi_hyperbolic_adam,
    schedules,
    sgd,
    sign_average,
    synthesized_nesterov,
)
from tests.oracles import record
from tests.oracles.peers import RUNS, follow, followed, relaxed, scan_all
from tests.oracles.problem import BETAS, NUS, RATES, START, STEPS, gap, value

alpha, beta, nu = follow(RATES), follow(BETAS), follow(NUS)


def robust_momentum(L, kappa, rho):
    slack = (1 - rho) ** 2 * (1 + rho)
    method = synthesized_nesterov(kappa * rho**3 / (kappa - 1), rho**3 / ((kappa - 1) * slack))
    return sgd(kappa * slack / L, method)


def frequency_sgd(learning_rate, stages, steps, weight_decay, c=0.033):
    length = steps // stages
    start = (np.arange(1, STEPS + 2) // length) * length
    kept = follow(start / (start + c * steps))
    return sgd(learning_rate, heavy_ball(kept), weight_decay=weight_decay)


# The transformation of momentax, or of Optax where that is correct, for each run of a peer.
TRANSFORMATIONS = {
    name: functools.partial(convention, **followed(run.options))
    for maker, convention in (
        ("torch.optim:SGD", conventions.from_torch),
        ("keras.optimizers:SGD", conventions.from_keras),
    )
    for name, run in RUNS.items()
    if run.maker == maker
} | {
    "torch.SGD, foreach": lambda: sgd(alpha, heavy_ball(beta)),
    "torch.SGD, fused": lambda: sgd(alpha, heavy_ball(beta)),
    "torch.NAdam": lambda: sgd(0.02, nadam()),
    "torch.NAdam, schedule": lambda: sgd(alpha, nadam(psi=0.01)),
    "keras.Nadam": lambda: sgd(0.02, nadam(psi=1.0, eps=1e-7)),
    "keras.Lion": lambda: sgd(0.02, lion()),
    "optax.sgd": lambda: sgd(0.02, heavy_ball(0.9)),
    "optax.sgd, schedule, nesterov": lambda: sgd(alpha, nesterov(0.9)),
    "optax.lars, schedule": lambda: sgd(alpha, heavy_ball(0.9), velocity_units="parameter"),
    "optax.lars, schedule, nesterov": lambda: sgd(alpha, nesterov(0.9), velocity_units="parameter"),
    "optax.lion, schedule, decay": lambda: sgd(
        alpha, lion(0.95, 0.98), weight_decay=0.05, decoupled=True
    ),
    "optax.signum, schedule": lambda: sgd(alpha, sign_average()),
    "optax.optimistic_gradient_descent": lambda: optimistic(optax.sgd(0.05)),
    "qhoptim.QHM": lambda: sgd(0.1, quasi_hyperbolic(0.95, 0.7)),
    "qhoptim.QHM, schedules": lambda: sgd(alpha, quasi_hyperbolic(beta, nu)),
    "qhoptim.QHM.from_synthesized_nesterov": lambda: sgd(0.02, synthesized_nesterov(0.9, 0.6)),
    "qhoptim.QHM.from_robust_momentum": lambda: robust_momentum(4.0, 20.0, 0.85),
    "qhoptim.QHM.from_robust_momentum, triple": lambda: robust_momentum(
        4.0, 20.0, 1 - 1 / np.sqrt(20.0)
    ),
    "qhoptim.QHM.from_accsgd": lambda: sgd(0.02, accelerated_sgd(100.0, 5.0, 0.6)),
    "qhoptim.QHM.from_pid": lambda: sgd(1.0, pid(-0.2, 0.1, 2.0)),
    "qhoptim.QHAdam": lambda: sgd(0.02, quasi_hyperbolic_adam(0.95, 0.99, 0.7, 0.9)),
    "qhoptim.QHAdam, schedules": lambda: sgd(alpha, quasi_hyperbolic_adam(0.9, 0.999, nu, beta)),
    "pytorch_optimizer.QHAdam": lambda: sgd(0.02, quasi_hyperbolic_adam(0.95, 0.99, 0.7, 0.9)),
    "pytorch_optimizer.AccSGD": lambda: sgd(0.02, accelerated_sgd(100.0, 5.0)),
    "pytorch_optimizer.AccSGD, schedule": lambda: sgd(
        alpha, accelerated_sgd(100.0, 5.0, 0.6), velocity_units="parameter"
    ),
    "pytorch_optimizer.Adan": lambda: sgd(0.02, adan()),
    "pytorch_optimizer.Adan, schedule, decay": lambda: sgd(
        alpha, adan(), weight_decay=0.05, decoupled=True
    ),
    "pytorch_optimizer.AggMo": lambda: sgd(0.02, aggregated()),
    "pytorch_optimizer.AggMo, schedule": lambda: sgd(alpha, aggregated((0.0, 0.5, 0.9, 0.99))),
    "pytorch_optimizer.AggMo, two": lambda: sgd(0.02, aggregated((0.0, 0.9))),
    "pytorch_optimizer.Grams": lambda: sgd(0.02, grams(optax.scale_by_adam(eps=1e-6))),
    "pytorch_optimizer.PID": lambda: sgd(0.005, proportional_integral_derivative()),
    "pytorch_optimizer.PID, schedule": lambda: sgd(
        lambda t: alpha(t) / 4, proportional_integral_derivative(beta, 2.0, 7.0)
    ),
    "pytorch_optimizer.PNM": lambda: sgd(0.05, positive_negative()),
    "pytorch_optimizer.PNM, schedule": lambda: sgd(alpha, positive_negative(beta, nu)),
    "pytorch_optimizer.gradfilter_ema": lambda: sgd(0.02, amplified(0.9, 2.0)),
    "pytorch_optimizer.AdEMAMix": lambda: optax.contrib.ademamix(0.01),
    "pytorch_optimizer.Lion": lambda: sgd(0.02, lion()),
    "pytorch_optimizer.QHM": lambda: sgd(alpha, quasi_hyperbolic(beta, nu)),
    "pytorch_optimizer.SGDW": lambda: sgd(
        alpha, heavy_ball(0.9), weight_decay=0.05, decoupled=True
    ),
    "pytorch_optimizer.SignSGD": lambda: sgd(0.02, sign_average()),
    "pytorch_optimizer.SignSGD, schedules, decay": lambda: sgd(
        alpha, sign_average(beta), weight_decay=0.05
    ),
    "jaxopt.GradientDescent": lambda: sgd(0.1, accelerated("fista")),
    "schedulefree.SGDScheduleFree": lambda: sgd(
        0.1, generalized_primal_averaging(lambda t: t / (t + 1.0), 0.9)
    ),
    "jaxopt.GradientDescent, schedule": lambda: sgd(
        lambda t: 5 * alpha(t), accelerated("fista"), velocity_units="parameter"
    ),
    "momo.Momo, schedule": lambda: optax.contrib.momo(lambda t: 4 * alpha(t), beta=0.9),
    "momo.Momo": lambda: optax.contrib.momo(0.1, beta=0.9),
    "momsps.MomSPS": lambda: sgd(1.0, momentum_polyak(0.9, c=20.0, gamma_max=0.2)),
    "pytorch_optimizer.MARS": lambda: sgd(0.02, optax.chain(mars(), optax.scale_by_sign())),
    "fsgdm.FSGDM": lambda: frequency_sgd(alpha, 30, STEPS, 0.05),
    "lion_pytorch.Lion": lambda: sgd(0.02, lion()),
    "lion_pytorch.Lion, forgetful, decay": lambda: sgd(
        alpha, lion(0.9, 0.0), weight_decay=0.05, decoupled=True
    ),
    "lion_pytorch.Lion, schedules": lambda: sgd(alpha, lion(nu, beta)),
    "heavyball.SGD": lambda: sgd(0.02, heavy_ball(0.9)),
    "heavyball.SGD, caution": lambda: cautious(sgd(0.02, heavy_ball(0.9))),
    "bitsandbytes.SGD32bit": lambda: sgd(0.02, heavy_ball(0.9)),
}


VERSIONS, RECORDED = record.read()


@pytest.fixture(scope="module")
def paths():
    """The path of momentax for each run of a peer."""
    with relaxed():
        transformations = [make() for make in TRANSFORMATIONS.values()]
        signs = [RUNS[name].sign for name in TRANSFORMATIONS]
        found = dict(zip(TRANSFORMATIONS, scan_all(transformations, signs), strict=True))
        momenta = [[schedules.one_cycle(STEPS - 1)(t)] for t in range(STEPS + 1)]
        return found | {"torch.OneCycleLR": np.array(momenta)}


def test_every_run_has_a_record_and_a_transformation():
    assert set(RUNS) == set(RECORDED) == {"torch.OneCycleLR", *TRANSFORMATIONS}


def test_the_record_has_the_versions_of_the_extra():
    assert {name: VERSIONS[name] for name in record.pins()} == record.pins()


@pytest.mark.parametrize("name", RUNS)
def test_momentax_follows_the_recorded_path(paths, name):
    assert gap(paths[name][record.RECORDED_STEPS], RECORDED[name]) <= RUNS[name].tolerance


@pytest.mark.oracles
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_momentax_follows_the_peer_at_every_step(paths, name):
    live = RUNS[name]()
    assert gap(paths[name], live) <= RUNS[name].tolerance
    assert gap(live[record.RECORDED_STEPS], RECORDED[name]) <= RUNS[name].tolerance


@pytest.mark.oracles
@pytest.mark.filterwarnings("ignore")
def test_optimistix_descends_with_momentax_as_with_optax():
    optimistix = importlib.import_module("optimistix")

    def minimise(optimizer):
        solver = optimistix.OptaxMinimiser(optimizer, rtol=1e-10, atol=1e-10)
        return optimistix.minimise(lambda x, _: value(x, 0, jnp), solver, START, max_steps=2000)

    with relaxed():
        ours = minimise(sgd(0.02, heavy_ball(0.9)))
        theirs = minimise(optax.sgd(0.02, momentum=0.9))
    assert ours.stats["num_steps"] == theirs.stats["num_steps"]
    assert gap(ours.value, theirs.value) <= 1e-12
