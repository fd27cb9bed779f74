"""The methods against every library that has them: as recorded always, live with -m oracles."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import average, heavy_ball, linear, nesterov, quasi_hyperbolic, sgd
from tests.oracles import record, twins
from tests.oracles.peers import RUNS, follow, relaxed, scan
from tests.oracles.problem import BETAS, NUS, RATES, STEPS, gap

alpha, beta, nu = follow(RATES), follow(BETAS), follow(NUS)


def torch_sgd(lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """PyTorch's first gradient is not dampened, and its nesterov takes β_t twice."""
    method = linear(
        gradient_weight=1.0 if nesterov else 0.0,
        velocity_weight=momentum if nesterov else 1.0,
        beta=momentum,
        gain=lambda t: jnp.where(t == 0, 1.0, 1.0 - dampening),
    )
    return sgd(lr, method, weight_decay=weight_decay, maximize=maximize)


def keras_sgd(learning_rate, momentum, nesterov=False, weight_decay=0.0):
    method = linear(
        gradient_weight=1.0 if nesterov else 0.0,
        velocity_weight=momentum if nesterov else 1.0,
        beta=momentum,
    )
    decay = {"weight_decay": weight_decay, "decoupled": True}
    return sgd(learning_rate, method, velocity_units="parameter", **decay)


def synthesized_nesterov(alpha, beta1, beta2):
    ratio = beta2 / beta1
    return sgd(alpha, linear(gradient_weight=ratio, velocity_weight=1 + beta2 - ratio, beta=beta1))


def robust_momentum(L, kappa, rho):
    slack = (1 - rho) ** 2 * (1 + rho)
    return synthesized_nesterov(
        kappa * slack / L, kappa * rho**3 / (kappa - 1), rho**3 / ((kappa - 1) * slack)
    )


def accelerated_sgd(learning_rate, kappa, xi, c):
    method = quasi_hyperbolic(
        beta=(kappa - c**2 * xi) / (kappa + c * xi), nu=(c * xi - 1) / (c * (1 + xi))
    )
    scaled = optax.chain(method, optax.scale(c * (1 + xi) / (1 + c)))
    return sgd(learning_rate, scaled, velocity_units="parameter")


def fista(learning_rate):
    t = [1.0]
    for _ in range(STEPS + 1):
        t.append((1 + np.sqrt(1 + 4 * t[-1] ** 2)) / 2)
    t = np.array(t)
    momentum = np.concatenate([[0.0], (t[:-1] - 1) / t[1:]])
    return sgd(
        learning_rate,
        linear(
            gradient_weight=1.0,
            velocity_weight=lambda k: follow(momentum)(k + 1),
            beta=follow(momentum),
        ),
    )


def schedule_free(learning_rate, kept):
    return sgd(
        learning_rate,
        linear(
            gradient_weight=1 - kept,
            velocity_weight=lambda t: kept / (t + 1.0),
            beta=lambda t: jnp.where(t == 0, 0.0, 1 - 1 / jnp.maximum(t, 1).astype(float)),
        ),
    )


def frequency_sgd(learning_rate, stages, steps, weight_decay, c=0.033):
    length = steps // stages
    start = (np.arange(1, STEPS + 2) // length) * length
    kept = follow(start / (start + c * steps))
    return sgd(learning_rate, heavy_ball(kept), weight_decay=weight_decay)


# What momentax, or Optax where it is right, has for each run of a peer.
TRANSFORMATIONS = {
    name: functools.partial(torch_sgd, **run.options)
    for name, run in RUNS.items()
    if name.startswith("torch.SGD(")
} | {
    "torch.SGD, schedules": lambda: sgd(alpha, heavy_ball(beta)),
    "torch.SGD, foreach": lambda: sgd(alpha, heavy_ball(beta)),
    "torch.SGD, fused": lambda: sgd(alpha, heavy_ball(beta)),
    "torch.SGD, schedules, nesterov": lambda: torch_sgd(alpha, beta, nesterov=True),
    "torch.SGD, schedules, dampening": lambda: torch_sgd(alpha, beta, dampening=0.3),
    "keras.SGD": lambda: sgd(0.02, heavy_ball(0.9)),
    "keras.SGD, nesterov": lambda: sgd(0.02, nesterov(0.9)),
    "keras.SGD, schedule": lambda: sgd(alpha, heavy_ball(0.9), velocity_units="parameter"),
    "keras.SGD, schedules, nesterov": lambda: keras_sgd(alpha, beta, nesterov=True),
    "keras.SGD, decay": lambda: keras_sgd(0.02, 0.9, weight_decay=0.05),
    "keras.Lion": lambda: optax.lion(0.02, b1=0.9, b2=0.99, weight_decay=0.0),
    "optax.sgd": lambda: sgd(0.02, heavy_ball(0.9)),
    "optax.sgd, schedule, nesterov": lambda: sgd(alpha, nesterov(0.9)),
    "optax.lars, schedule": lambda: sgd(alpha, heavy_ball(0.9), velocity_units="parameter"),
    "optax.lars, schedule, nesterov": lambda: sgd(alpha, nesterov(0.9), velocity_units="parameter"),
    "qhoptim.QHM": lambda: sgd(0.1, quasi_hyperbolic(0.95, 0.7)),
    "qhoptim.QHM, schedules": lambda: sgd(alpha, quasi_hyperbolic(beta, nu)),
    "qhoptim.QHM.from_synthesized_nesterov": lambda: synthesized_nesterov(0.02, 0.9, 0.6),
    "qhoptim.QHM.from_robust_momentum": lambda: robust_momentum(4.0, 20.0, 0.85),
    "qhoptim.QHM.from_robust_momentum, triple": lambda: robust_momentum(
        4.0, 20.0, 1 - 1 / np.sqrt(20.0)
    ),
    "qhoptim.QHM.from_accsgd": lambda: accelerated_sgd(0.02, 100.0, 5.0, 0.6),
    "qhoptim.QHM.from_pid": lambda: sgd(0.1, quasi_hyperbolic(2.0 / 2.2, 0.04 / 0.2)),
    "pytorch_optimizer.AccSGD": lambda: accelerated_sgd(0.02, 100.0, 5.0, 0.7),
    "pytorch_optimizer.AccSGD, schedule": lambda: accelerated_sgd(alpha, 100.0, 5.0, 0.6),
    "pytorch_optimizer.AggMo, two": lambda: sgd(
        0.02, linear(gradient_weight=0.5, velocity_weight=0.5, beta=0.9)
    ),
    "pytorch_optimizer.AdEMAMix": lambda: optax.contrib.ademamix(0.01),
    "pytorch_optimizer.Lion": lambda: optax.lion(0.02, b1=0.9, b2=0.99, weight_decay=0.0),
    "pytorch_optimizer.QHM": lambda: sgd(alpha, quasi_hyperbolic(beta, nu)),
    "pytorch_optimizer.SGDW": lambda: sgd(
        alpha, heavy_ball(0.9), weight_decay=0.05, decoupled=True
    ),
    "pytorch_optimizer.SignSGD": lambda: optax.chain(
        average(0.9, debias=False), optax.sign_sgd(0.02)
    ),
    "jaxopt.GradientDescent": lambda: fista(0.1),
    "schedulefree.SGDScheduleFree": lambda: schedule_free(0.1, 0.9),
    "momo.Momo": lambda: optax.contrib.momo(0.1, beta=0.9),
    "fsgdm.FSGDM": lambda: frequency_sgd(alpha, 30, STEPS, 0.05),
    "lion_pytorch.Lion": lambda: optax.lion(0.02, b1=0.9, b2=0.99, weight_decay=0.0),
    "heavyball.SGD": lambda: sgd(0.02, heavy_ball(0.9)),
    "bitsandbytes.SGD32bit": lambda: sgd(0.02, heavy_ball(0.9)),
}

# The equations themselves, where momentax has no such method.
PATHS = {
    "torch.NAdam": lambda: twins.descend(twins.nadam(), 0.02),
    "torch.NAdam, schedule": lambda: twins.descend(twins.nadam(psi=0.01), RATES),
    "torch.OneCycleLR": lambda: twins.one_cycle(0.1, STEPS),
    "keras.Nadam": lambda: twins.descend(twins.nadam(psi=1.0, eps=1e-7), 0.02),
    "optax.optimistic_gradient_descent": lambda: twins.descend(twins.optimistic, 0.05),
    "qhoptim.QHAdam": lambda: twins.descend(
        twins.quasi_hyperbolic_adam((0.95, 0.99), (0.7, 0.9)), 0.02
    ),
    "pytorch_optimizer.QHAdam": lambda: twins.descend(
        twins.quasi_hyperbolic_adam((0.95, 0.99), (0.7, 0.9)), 0.02
    ),
    "pytorch_optimizer.AggMo": lambda: twins.descend(twins.aggregated((0.0, 0.9, 0.99)), 0.02),
    "pytorch_optimizer.AggMo, schedule": lambda: twins.descend(
        twins.aggregated((0.0, 0.5, 0.9, 0.99)), RATES
    ),
    "pytorch_optimizer.PID": lambda: twins.descend(
        twins.proportional_integral_derivative(0.9, 5.0, 10.0), 0.005
    ),
    "pytorch_optimizer.PID, schedule": lambda: twins.descend(
        twins.proportional_integral_derivative(0.8, 2.0, 7.0), RATES / 4
    ),
    "pytorch_optimizer.PNM": lambda: twins.descend(twins.positive_negative(0.9, 1.0), 0.05),
    "pytorch_optimizer.PNM, schedule": lambda: twins.descend(
        twins.positive_negative(0.8, 0.5), RATES
    ),
    "pytorch_optimizer.Adan": lambda: twins.descend(twins.adan(), 0.02),
    "pytorch_optimizer.Adan, schedule, decay": lambda: twins.descend(
        twins.adan(), RATES, shrink=0.05
    ),
    "pytorch_optimizer.Grams": lambda: twins.descend(twins.grams(), 0.02),
    "pytorch_optimizer.MARS": lambda: twins.descend(twins.mars(), 0.02),
    "pytorch_optimizer.gradfilter_ema": lambda: twins.descend(twins.amplified(0.9, 2.0), 0.02),
    "momsps.MomSPS": lambda: twins.polyak_momentum(0.9, 20.0, 0.2),
}

VERSIONS, RECORDED = record.read()


@functools.cache
def path(name):
    if name in PATHS:
        return PATHS[name]()
    with relaxed():
        return scan(TRANSFORMATIONS[name](), RUNS[name].sign)


def test_every_peer_is_recorded_once_and_followed_once():
    assert not set(PATHS) & set(TRANSFORMATIONS)
    assert set(RUNS) == set(RECORDED) == set(PATHS) | set(TRANSFORMATIONS)


def test_the_record_was_made_with_the_versions_that_the_extra_asks_for():
    assert {name: VERSIONS[name] for name in record.pins()} == record.pins()


@pytest.mark.parametrize("name", RUNS)
def test_the_recorded_path_is_followed(name):
    assert gap(path(name)[record.STEPS_KEPT], RECORDED[name]) <= RUNS[name].tolerance


@pytest.mark.oracles
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_the_peer_itself_is_followed_at_every_step(name):
    live = RUNS[name]()
    assert gap(path(name), live) <= RUNS[name].tolerance
    assert gap(live[record.STEPS_KEPT], RECORDED[name]) <= RUNS[name].tolerance
