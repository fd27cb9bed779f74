"""Every run of another library as data: which optimizer, with which options.

An option that is an array is a schedule with one value for each step. Peers are
imported when they run, so the table can be read without them.
"""

import contextlib
import functools
import importlib
import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.oracles.problem import BETAS, NUS, RATES, START, STEPS, gradient, value

os.environ["KERAS_BACKEND"] = "jax"  # Before Keras is imported.


class Run(NamedTuple):
    """The optimizer of a peer, its options, and the tolerance of a comparison."""

    drive: Callable[..., np.ndarray]
    maker: str  # module:attribute
    options: dict[str, Any]
    sign: float = 1.0  # -1 negates the problem, for a peer that maximizes.
    tolerance: float = 1e-12

    def __call__(self) -> np.ndarray:
        """Return the parameters after 0 .. STEPS steps."""
        with relaxed():
            return self.drive(load(self.maker), self.options, self.sign)


def load(maker: str) -> Any:
    module, _, attribute = maker.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def at(options, t):
    """Return the options of step t; a schedule may also be in a tuple."""

    def now(option):
        if isinstance(option, tuple):
            return tuple(map(now, option))
        return float(option[t]) if isinstance(option, np.ndarray) else option

    return {name: now(option) for name, option in options.items()}


@contextlib.contextmanager
def relaxed():
    """Set JAX to 64 bits and to the promotions that peers expect."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def scan_all(transformations, signs):
    """Return the path of each Optax transformation, all compiled as one program.

    The dtypes are the default ones of the caller.
    """
    transformations = [optax.with_extra_args_support(tx) for tx in transformations]

    def move(tx, sign, x, state, t):
        g = sign * gradient(x, t, jnp)
        u, state = tx.update(g, state, x, value=value(x, t, jnp))
        return optax.apply_updates(x, u), state

    def step(carry, t):
        runs = zip(transformations, signs, carry, strict=True)
        after = [move(tx, sign, x, state, t) for tx, sign, (x, state) in runs]
        return after, [x for x, _ in after]

    def run(x):
        carry = [(x, tx.init(x)) for tx in transformations]
        return jax.lax.scan(step, carry, jnp.arange(STEPS))[1]

    return [np.concatenate([START[None], path]) for path in jax.jit(run)(jnp.asarray(START))]


def scan(transformation, sign=1.0):
    """Return the path of one Optax transformation."""
    return scan_all([transformation], [sign])[0]


def follow(values):
    """Return an array as an Optax schedule."""
    return lambda t: jnp.asarray(values)[t]


def followed(options):
    return {k: follow(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@contextlib.contextmanager
def torch_in(dtype):
    """Set the default dtype of PyTorch, in which some optimizers compute their weights."""
    torch = importlib.import_module("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield torch
    finally:
        torch.set_default_dtype(before)


def in_torch(make, options, sign, dtype="float64", default=None, valued=False):
    with torch_in(default or dtype) as torch:
        x = torch.nn.Parameter(torch.tensor(START, dtype=getattr(torch, dtype)))
        optimizer = make([x], **at(options, 0))
        getattr(optimizer, "train", lambda: None)()  # Schedule-free SGD needs this call.
        path = [START]
        for t in range(STEPS):
            for group in optimizer.param_groups:
                group.update({k: v for k, v in at(options, t).items() if k in group})
            theta = path[-1].astype(np.float64)
            x.grad = torch.tensor(sign * gradient(theta, t)).to(x.dtype)
            optimizer.step(**({"loss": torch.tensor(value(theta, t))} if valued else {}))
            path.append(x.detach().numpy().copy())
    return np.stack(path)


def in_torch_with_value(make, options, sign):
    return in_torch(make, options, sign, valued=True)


def in_torch_32(make, options, sign):
    return in_torch(make, options, sign, dtype="float32")


def in_torch_by_default(make, options, sign):
    """Run with parameters in float64 while the default dtype of PyTorch is float32, as usual."""
    return in_torch(make, options, sign, default="float32")


def in_keras(make, options, sign):
    keras = importlib.import_module("keras")
    keras.config.set_floatx("float64")  # The dtype of the learning rate.
    x = keras.Variable(START, dtype="float64")
    optimizer = make(**at(options, 0))
    optimizer.build([x])
    path = [START]
    for t in range(STEPS):
        for name, option in at(options, t).items():
            setattr(optimizer, name, option)
        optimizer.apply([jnp.asarray(sign * gradient(path[-1], t))], [x])
        path.append(np.asarray(x.value))
    return np.stack(path)


def in_optax(make, options, sign):
    return scan(make(**followed(options)), sign)


def in_jaxopt(make, options, sign):
    """Return the points where jaxopt takes its gradients, which it calls the velocity."""
    solver = make(lambda x, t: sign * value(x, t, jnp), **followed(options))

    def step(carry, t):
        x, state = solver.update(*carry, t)
        return (x, state), state.velocity

    def run(x):
        return jax.lax.scan(step, (x, solver.init_state(x, 0)), jnp.arange(STEPS))[1]

    return np.concatenate([START[None], jax.jit(run)(jnp.asarray(START))])


def in_qhoptim(make, options, sign):
    """Run QHM with the hyperparameters that one of qhoptim's conversions returns."""
    qhm = load("qhoptim.pyt:QHM")
    return in_torch(qhm, make(**options), sign)


def amplified(make, options, sign):
    """Run plain descent along gradients to which a filter of the peer was applied."""
    torch = importlib.import_module("torch")
    model = torch.nn.ParameterDict({"x": torch.nn.Parameter(torch.tensor(START))})
    filtered, path, x = None, [START], model["x"]
    for t in range(STEPS):
        x.grad = torch.tensor(sign * gradient(path[-1], t))
        filtered = make(model, filtered, **options)
        x.data.add_(x.grad, alpha=-0.02)
        path.append(x.detach().numpy().copy())
    return np.stack(path)


def one_cycle(make, options, sign):
    """Return the momentum of every step instead of parameters."""
    torch = importlib.import_module("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    scheduler = make(optimizer, **options)
    group, path = optimizer.param_groups[0], []
    for t in range(STEPS):
        path.append([group["momentum"]])
        optimizer.step()
        if t < STEPS - 1:
            scheduler.step()
    return np.array([*path, path[-1]])


def in_heavyball(make, options, sign):
    utils = importlib.import_module("heavyball.utils")
    utils.compile_mode = None
    return in_torch_32(make, options, sign)


HB = {"lr": 0.02, "momentum": 0.9}
SCHEDULED = {"lr": RATES, "momentum": BETAS}
LEARNING_RATE = {"learning_rate": 0.02, "momentum": 0.9}
LEARNING_RATES = {"learning_rate": RATES, "momentum": 0.9}


def _torch_grid():
    """Yield a run of torch.optim.SGD for each combination of options that it allows."""
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (0.0, 0.05), (False, True), (False, True)
    ):
        if (nesterov and (dampening or not momentum)) or (dampening and not momentum):
            continue
        options = {"lr": 0.02, "momentum": momentum, "dampening": dampening}
        options |= {"weight_decay": decay, "nesterov": nesterov, "maximize": maximize}
        name = ", ".join(f"{k}={v}" for k, v in options.items() if v and k != "lr")
        yield (
            f"torch.SGD({name})",
            Run(in_torch, "torch.optim:SGD", options, sign=-1.0 if maximize else 1.0),
        )


RUNS = dict(_torch_grid()) | {
    "torch.SGD, schedules": Run(in_torch, "torch.optim:SGD", SCHEDULED),
    "torch.SGD, schedules, nesterov": Run(
        in_torch, "torch.optim:SGD", SCHEDULED | {"nesterov": True}
    ),
    "torch.SGD, schedules, dampening": Run(
        in_torch, "torch.optim:SGD", SCHEDULED | {"dampening": 0.3}
    ),
    "torch.SGD, foreach": Run(in_torch, "torch.optim:SGD", SCHEDULED | {"foreach": True}),
    "torch.SGD, fused": Run(in_torch, "torch.optim:SGD", SCHEDULED | {"fused": True}),
    "torch.NAdam": Run(in_torch, "torch.optim:NAdam", {"lr": 0.02}),
    "torch.NAdam, schedule": Run(
        in_torch, "torch.optim:NAdam", {"lr": RATES, "momentum_decay": 0.01}
    ),
    "torch.OneCycleLR": Run(
        one_cycle, "torch.optim.lr_scheduler:OneCycleLR", {"max_lr": 0.1, "total_steps": STEPS}
    ),
    "keras.SGD": Run(in_keras, "keras.optimizers:SGD", LEARNING_RATE),
    "keras.SGD, nesterov": Run(
        in_keras, "keras.optimizers:SGD", LEARNING_RATE | {"nesterov": True}
    ),
    "keras.SGD, schedule": Run(in_keras, "keras.optimizers:SGD", LEARNING_RATES),
    "keras.SGD, schedules, nesterov": Run(
        in_keras,
        "keras.optimizers:SGD",
        {"learning_rate": RATES, "momentum": BETAS, "nesterov": True},
    ),
    "keras.SGD, decay": Run(
        in_keras, "keras.optimizers:SGD", LEARNING_RATE | {"weight_decay": 0.05}
    ),
    "keras.Nadam": Run(in_keras, "keras.optimizers:Nadam", {"learning_rate": 0.02}),
    "keras.Lion": Run(in_keras, "keras.optimizers:Lion", {"learning_rate": 0.02}),
    "optax.sgd": Run(in_optax, "optax:sgd", LEARNING_RATE),
    "optax.sgd, schedule, nesterov": Run(
        in_optax, "optax:sgd", LEARNING_RATES | {"nesterov": True}
    ),
    "optax.lars, schedule": Run(
        in_optax, "optax:lars", LEARNING_RATES | {"trust_ratio_mask": False}
    ),
    "optax.lars, schedule, nesterov": Run(
        in_optax, "optax:lars", LEARNING_RATES | {"trust_ratio_mask": False, "nesterov": True}
    ),
    "optax.lion, schedule, decay": Run(
        in_optax,
        "optax:lion",
        {"learning_rate": RATES, "b1": 0.95, "b2": 0.98, "weight_decay": 0.05},
    ),
    "optax.signum, schedule": Run(in_optax, "optax:signum", {"learning_rate": RATES}),
    "optax.optimistic_gradient_descent": Run(
        in_optax, "optax:optimistic_gradient_descent", {"learning_rate": 0.05}
    ),
    "qhoptim.QHM": Run(in_torch, "qhoptim.pyt:QHM", {"lr": 0.1, "momentum": 0.95, "nu": 0.7}),
    "qhoptim.QHM, schedules": Run(
        in_torch, "qhoptim.pyt:QHM", {"lr": RATES, "momentum": BETAS, "nu": NUS}
    ),
    "qhoptim.QHM.from_synthesized_nesterov": Run(
        in_qhoptim,
        "qhoptim.pyt:QHM.from_synthesized_nesterov",
        {"alpha": 0.02, "beta1": 0.9, "beta2": 0.6},
    ),
    "qhoptim.QHM.from_robust_momentum": Run(
        in_qhoptim, "qhoptim.pyt:QHM.from_robust_momentum", {"l": 4.0, "kappa": 20.0, "rho": 0.85}
    ),
    "qhoptim.QHM.from_robust_momentum, triple": Run(
        in_qhoptim, "qhoptim.pyt:QHM.from_robust_momentum", {"l": 4.0, "kappa": 20.0}
    ),
    "qhoptim.QHM.from_accsgd": Run(
        in_qhoptim,
        "qhoptim.pyt:QHM.from_accsgd",
        {"delta": 0.02, "kappa": 100.0, "xi": 5.0, "eps": 0.6},
    ),
    "qhoptim.QHM.from_pid": Run(
        in_qhoptim, "qhoptim.pyt:QHM.from_pid", {"k_p": -0.2, "k_i": 0.1, "k_d": 2.0}
    ),
    "qhoptim.QHAdam": Run(
        in_torch, "qhoptim.pyt:QHAdam", {"lr": 0.02, "nus": (0.7, 0.9), "betas": (0.95, 0.99)}
    ),
    "qhoptim.QHAdam, schedules": Run(
        in_torch, "qhoptim.pyt:QHAdam", {"lr": RATES, "nus": (NUS, BETAS), "betas": (0.9, 0.999)}
    ),
    "pytorch_optimizer.AggMo": Run(in_torch, "pytorch_optimizer:AggMo", {"lr": 0.02}),
    "pytorch_optimizer.AggMo, schedule": Run(
        in_torch, "pytorch_optimizer:AggMo", {"lr": RATES, "betas": (0.0, 0.5, 0.9, 0.99)}
    ),
    "pytorch_optimizer.AggMo, two": Run(
        in_torch, "pytorch_optimizer:AggMo", {"lr": 0.02, "betas": (0.0, 0.9)}
    ),
    "pytorch_optimizer.QHM": Run(
        in_torch, "pytorch_optimizer:QHM", {"lr": RATES, "momentum": BETAS, "nu": NUS}
    ),
    "pytorch_optimizer.PID": Run(in_torch, "pytorch_optimizer:PID", {"lr": 0.005, "momentum": 0.9}),
    "pytorch_optimizer.PID, schedule": Run(
        in_torch,
        "pytorch_optimizer:PID",
        {"lr": RATES / 4, "momentum": BETAS, "integral": 2.0, "derivative": 7.0},
    ),
    "pytorch_optimizer.AccSGD": Run(
        in_torch, "pytorch_optimizer:AccSGD", {"lr": 0.02, "kappa": 100.0, "xi": 5.0}
    ),
    "pytorch_optimizer.AccSGD, schedule": Run(
        in_torch,
        "pytorch_optimizer:AccSGD",
        {"lr": RATES, "kappa": 100.0, "xi": 5.0, "constant": 0.6},
    ),
    "pytorch_optimizer.PNM": Run(in_torch, "pytorch_optimizer:PNM", {"lr": 0.05}),
    "pytorch_optimizer.PNM, schedule": Run(
        in_torch, "pytorch_optimizer:PNM", {"lr": RATES, "betas": (BETAS, NUS)}
    ),
    "pytorch_optimizer.QHAdam": Run(
        in_torch,
        "pytorch_optimizer:QHAdam",
        {"lr": 0.02, "nus": (0.7, 0.9), "betas": (0.95, 0.99)},
        tolerance=1e-6,  # It computes the weights of its averages in float32.
    ),
    "pytorch_optimizer.Adan": Run(in_torch, "pytorch_optimizer:Adan", {"lr": 0.02}),
    "pytorch_optimizer.Adan, schedule, decay": Run(
        in_torch,
        "pytorch_optimizer:Adan",
        {"lr": RATES, "weight_decay": 0.05, "weight_decouple": True},
    ),
    "pytorch_optimizer.AdEMAMix": Run(in_torch, "pytorch_optimizer:AdEMAMix", {"lr": 0.01}),
    "pytorch_optimizer.Grams": Run(in_torch, "pytorch_optimizer:Grams", {"lr": 0.02}),
    "pytorch_optimizer.Lion": Run(in_torch, "pytorch_optimizer:Lion", {"lr": 0.02}),
    "pytorch_optimizer.MARS": Run(
        in_torch, "pytorch_optimizer:MARS", {"lr": 0.02, "optimize_1d": True, "mars_type": "lion"}
    ),
    "pytorch_optimizer.SGDW": Run(
        in_torch, "pytorch_optimizer:SGDW", {"lr": RATES, "momentum": 0.9, "weight_decay": 0.05}
    ),
    "pytorch_optimizer.SignSGD": Run(
        in_torch, "pytorch_optimizer:SignSGD", {"lr": 0.02, "momentum": 0.9}
    ),
    "pytorch_optimizer.SignSGD, schedules, decay": Run(
        in_torch,
        "pytorch_optimizer:SignSGD",
        {"lr": RATES, "momentum": BETAS, "weight_decay": 0.05, "weight_decouple": False},
    ),
    "pytorch_optimizer.gradfilter_ema": Run(
        amplified,
        "pytorch_optimizer.optimizer.grokfast:gradfilter_ema",
        {"alpha": 0.9, "lamb": 2.0},
    ),
    "jaxopt.GradientDescent": Run(
        in_jaxopt, "jaxopt:GradientDescent", {"stepsize": 0.1, "acceleration": True}
    ),
    "jaxopt.GradientDescent, schedule": Run(
        in_jaxopt, "jaxopt:GradientDescent", {"stepsize": 5 * RATES, "acceleration": True}
    ),
    "schedulefree.SGDScheduleFree": Run(
        in_torch, "schedulefree:SGDScheduleFree", {"lr": 0.1, "momentum": 0.9}
    ),
    "momo.Momo": Run(in_torch_with_value, "momo:Momo", {"lr": 0.1}),
    "momo.Momo, schedule": Run(in_torch_with_value, "momo:Momo", {"lr": 4 * RATES}),
    "momsps.MomSPS": Run(
        in_torch_with_value, "momsps:MomSPS", {"c": 20.0, "gamma_max": 0.2, "beta": 0.9}
    ),
    "fsgdm.FSGDM": Run(
        in_torch, "fsgdm:FSGDM", {"lr": RATES, "weight_decay": 0.05, "n_stages": 30, "sigma": STEPS}
    ),
    "lion_pytorch.Lion": Run(in_torch, "lion_pytorch:Lion", {"lr": 0.02}),
    "lion_pytorch.Lion, forgetful, decay": Run(
        in_torch, "lion_pytorch:Lion", {"lr": RATES, "betas": (0.9, 0.0), "weight_decay": 0.05}
    ),
    "lion_pytorch.Lion, schedules": Run(
        in_torch, "lion_pytorch:Lion", {"lr": RATES, "betas": (NUS, BETAS)}
    ),
    "heavyball.SGD": Run(
        in_heavyball,
        "heavyball:SGD",
        {"lr": 0.02, "beta": 0.9, "compile_step": False},
        tolerance=1e-5,
    ),
    "heavyball.SGD, caution": Run(
        in_heavyball,
        "heavyball:SGD",
        {"lr": 0.02, "beta": 0.9, "caution": True, "compile_step": False},
        tolerance=1e-5,
    ),
    "bitsandbytes.SGD32bit": Run(in_torch_32, "bitsandbytes.optim:SGD32bit", HB, tolerance=1e-5),
}
