"""The optimizers of momentax as Optax's tests need them: functions of named numbers.

The transformations are those of tests/cases.py. Methods and wrappers return directions, so that
they become optimizers in `momentax.sgd`. The learning rates are such that the optimizer solves the
problems of Optax's tests in the steps that these make.
"""

import inspect
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import momentax
from tests.cases import OPTIMIZERS, TRANSFORMATIONS
from tests.contracts.harness import with_extra_args


class Optimizer(NamedTuple):
    """An optimizer and the numbers that it is made with.

    make: a function with a parameter for each number.
    numbers: the numbers, or schedules of them, by name.
    """

    make: Callable[..., optax.GradientTransformation]
    numbers: dict[str, Any]


class _PreviousState(NamedTuple):
    inner_state: Any
    prev_grad: Any


def _with_previous_gradient(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that keeps the last gradient, and gives it to `tx` as `prev_grad`."""

    def init(params):
        return _PreviousState(tx.init(params), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None, **extra_args):
        extra_args["prev_grad"] = state.prev_grad
        new, inner_state = tx.update(updates, state.inner_state, params, **extra_args)
        last = jax.tree.map(lambda g, like: g.astype(like.dtype), updates, state.prev_grad)
        return new, _PreviousState(inner_state, last)

    return optax.GradientTransformationExtraArgs(init, update)


def _descent(learning_rate: Any) -> optax.GradientTransformation:
    return momentax.sgd(learning_rate, momentax.heavy_ball(0.0))


# Wrappers of complete optimizers, with the learning rate of the inner one as a number.
_COMPLETE: dict[str, Callable[..., Any]] = {
    **{name: case.make for name, case in OPTIMIZERS.items()},
    "ema_nesterov": lambda learning_rate, beta, gamma: momentax.ema_nesterov(
        _descent(learning_rate), beta, gamma
    ),
    "outer": lambda learning_rate, beta: momentax.outer(
        _descent(learning_rate), 1, momentax.sgd(0.7, momentax.nesterov(beta))
    ),
    # The learning rate multiplies the one that the method finds.
    "yellowfin": lambda learning_rate, beta, smoothing: momentax.sgd(
        learning_rate, momentax.yellowfin(1.0, beta, smoothing=smoothing)
    ),
    "outer, every 3": lambda learning_rate, beta: momentax.outer(
        momentax.sgd(learning_rate, momentax.nesterov(beta)), 3, _descent(0.5)
    ),
}
_SUPPLY: dict[str, Callable[[Any], Any]] = {
    "guard, spikes": lambda tx: with_extra_args("guard, spikes", tx),
    "momentum_polyak": lambda tx: with_extra_args("momentum_polyak", tx),
    "sgd, parameter units, decoupled": lambda tx: optax.chain(optax.scale(-1.0), tx),  # It ascends.
    **dict.fromkeys(("recursive_momentum", "storm", "mars, exact"), _with_previous_gradient),
}

# Learning rates with which the optimizers solve Optax's problems, Rosenbrock's function of complex
# numbers included, within the 10,000 steps of its test. For most of them a rate from half to one
# and a quarter of the given one does. All others have this one.
_RATE = 5e-4
# Methods whose steps do not become smaller towards the minimum need a falling learning rate.
_FALLING = optax.linear_schedule(3e-3, 1e-4, 10_000)
_RATES: dict[Any, tuple[str, ...]] = {
    1.6e-4: ("overshoot", "optimistic", "proportional_integral_derivative"),
    3.5e-4: ("accelerated, ogm", "memory.method, filter"),
    4.5e-4: ("item",),
    1e-3: ("accelerated_sgd", "recursive_momentum"),
    1.2e-3: ("pid",),
    1.5e-3: ("linear", "memory.method, weights", "positive_negative"),
    2e-3: ("quasi_hyperbolic", "generalized_primal_averaging"),
    3e-3: ("momentum_polyak",),
    5e-3: ("yellowfin",),
    1e-2: (
        *("quasi_hyperbolic_adam", "nadam", "adan", "mars", "mars, exact"),
        *("average", "average, plain", "aggregated, averages", "primal_averaging"),
    ),
    0.3: ("storm",),
    _FALLING: ("sign_average", "lion", "hyperball"),
    optax.linear_schedule(0.3, 1e-3, 10_000): ("muon",),
}
_RATE_OF = {name: rate for rate, names in _RATES.items() for name in names}
# Numbers that differ from those of tests/cases.py. A larger decay would move the minimum away.
_NUMBERS = {
    "hypergradient": {"learning_rate_step": 1e-9, "beta_step": 1e-9},
    "hypergradient, constant beta": {"learning_rate_step": 1e-9},
    "yellowfin": {"smoothing": 0.999},
    **{
        name: {"weight_decay": 1e-3}
        for name in ("sgd, coupled", "sgd, parameter units", "hyperball")
    },
}


def _maker(name: str) -> Callable[..., Any]:
    """Return a function from numbers to the optimizer of a case."""
    if name in _COMPLETE:
        return _COMPLETE[name]
    case = TRANSFORMATIONS[name]
    if "learning_rate" in case.hyperparameters:  # The method returns the whole step.
        return lambda **numbers: momentax.sgd(1.0, case.make(**numbers))
    return lambda learning_rate, **numbers: momentax.sgd(learning_rate, case.make(**numbers))


def _optimizer(name: str) -> Optimizer:
    case, make, supply = TRANSFORMATIONS[name], _maker(name), _SUPPLY.get(name, lambda tx: tx)
    numbers = {"learning_rate": 0.0} | case.hyperparameters | _NUMBERS.get(name, {})
    numbers["learning_rate"] = _RATE_OF.get(name, _RATE)

    def factory(**given):
        return supply(make(**given))

    # `optax.inject_hyperparams` reads the names from the signature, and a test the annotation.
    factory.__signature__ = inspect.Signature(
        inspect.Parameter(
            each,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=optax.ScalarOrSchedule if each not in case.fixed else float,
        )
        for each in numbers
    )
    return Optimizer(factory, numbers)


# One of each kind. All of them take a quarter of an hour of processor time.
_OF_EACH_KIND = (
    *("heavy_ball", "average", "aggregated, averages", "quasi_hyperbolic_adam", "lion", "sgd"),
    *("sgd, parameter units, decoupled", "muon", "restart, every 4", "guard", "monitor"),
    *("stored, int8", "outer, every 3"),
)


def chosen_names() -> list[str]:
    """Return the transformations to test: one of each kind, or all if the environment says so."""
    everything = os.environ.get("MOMENTAX_OPTAX_SUITE") == "all"
    return list(TRANSFORMATIONS) if everything else list(_OF_EACH_KIND)


def chosen_optimizers() -> dict[str, Optimizer]:
    """Return each optimizer by a name that can be a part of the name of a test."""
    return {as_part_of_a_name(name): _optimizer(name) for name in chosen_names()}


def as_part_of_a_name(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def plain_descent() -> dict[str, Callable[[], optax.GradientTransformation]]:
    """Return optimizers that descend without momentum, by θ ← θ - g.

    Optax's tests of masks pass no parameters, which `outer` needs. Its test of `apply_if_finite`
    expects that a gradient that is not finite reaches the updates, which `guard` prevents.
    """
    directions = {
        "heavy_ball": lambda: momentax.heavy_ball(0.0),
        "nesterov": lambda: momentax.nesterov(0.0),
        "average": lambda: momentax.average(0.0),
        "average_plain": lambda: momentax.average(0.0, debias=False),
        "quasi_hyperbolic": lambda: momentax.quasi_hyperbolic(0.9, nu=0.0),
        "linear": lambda: momentax.linear(1.0, 0.0, 0.9),
        "aggregated": lambda: momentax.aggregated((0.0,)),
        "generalized_primal_averaging": lambda: momentax.generalized_primal_averaging(0.0, 1.0),
        "amplified": lambda: momentax.amplified(0.0, factor=0.0),
        "lazy": lambda: momentax.lazy(momentax.heavy_ball(0.0)),
        "recursive_momentum": lambda: _with_previous_gradient(momentax.recursive_momentum(0.0)),
        "restart": lambda: momentax.restart(momentax.heavy_ball(0.0)),
        "monitor": lambda: momentax.monitor(momentax.heavy_ball(0.0)),
        "grams": lambda: momentax.grams(momentax.heavy_ball(0.0)),
        "stored": lambda: momentax.stored(
            momentax.linear(1.0, 0.0, 0.9), momentax.storage.int8(), min_size=1
        ),
    }
    made = {
        name: lambda method=method: momentax.sgd(1.0, method())
        for name, method in directions.items()
    }
    return made | {
        "parameter_units": lambda: momentax.sgd(
            1.0, momentax.heavy_ball(0.0), velocity_units="parameter"
        ),
    }
