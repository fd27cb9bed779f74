"""Every optimizer of momentax as Optax's tests need it: a function of named numbers.

The transformations are those of tests/cases.py. Methods and wrappers return directions, so that
they become optimizers in `momentax.sgd`. The learning rates are such that the optimizer solves the
problems of Optax's tests in the steps that these make.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import momentax
from tests.cases import METHODS, NESTED, OPTIMIZERS, TRANSFORMATIONS, WRAPPERS
from tests.contracts.harness import with_extra_args


class Optimizer(NamedTuple):
    """An optimizer and the numbers that it is made with.

    make: a function with a parameter for each number.
    numbers: the numbers by name.
    """

    make: Callable[..., optax.GradientTransformation]
    numbers: dict[str, float]


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


# Complete optimizers, which return updates to be added.
_COMPLETE = {*OPTIMIZERS, *NESTED, "ema_nesterov"}
_EXTRA = {
    "guard, spikes": lambda tx: with_extra_args("guard, spikes", tx),
    **dict.fromkeys(("recursive_momentum", "storm", "mars, exact"), _with_previous_gradient),
}
# Numbers that differ from those of tests/cases.py.
_NUMBERS: dict[str, dict[str, float]] = {}
_LEARNING_RATES: dict[str, float] = {}
_LEARNING_RATE = 1e-3


def _optimizer(name: str) -> Optimizer:
    case = TRANSFORMATIONS[name]
    numbers = case.hyperparameters | _NUMBERS.get(name, {})
    supply = _EXTRA.get(name, lambda tx: tx)
    if name in _COMPLETE:
        names = list(numbers)

        def make(**given):
            return supply(case.make(**given))
    elif "learning_rate" in numbers:  # The method adapts it, and returns the whole step.
        names = list(numbers)

        def make(**given):
            return supply(momentax.sgd(1.0, case.make(**given)))
    else:
        rate = _LEARNING_RATES.get(name, _LEARNING_RATE)
        numbers = {"learning_rate": rate, **numbers}
        names = list(numbers)

        def make(learning_rate, **given):
            return supply(momentax.sgd(learning_rate, case.make(**given)))

    # `optax.inject_hyperparams` reads the names from the signature, and a test the annotation.
    def takes(each: str) -> inspect.Parameter:
        is_constant = each in case.fixed or each not in ("learning_rate",)
        kind = float if is_constant else optax.ScalarOrSchedule
        return inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, annotation=kind)

    def factory(**given):
        return make(**given)

    factory.__signature__ = inspect.Signature([takes(each) for each in names])
    return Optimizer(factory, numbers)


def every_optimizer() -> dict[str, Optimizer]:
    """Return each optimizer by a name that can be a part of the name of a test."""
    names = [*OPTIMIZERS, *METHODS, *WRAPPERS, *NESTED]
    return {as_part_of_a_name(name): _optimizer(name) for name in names}


def as_part_of_a_name(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def plain_descent() -> dict[str, Callable[[], optax.GradientTransformation]]:
    """Return optimizers that descend without momentum, by θ ← θ - g."""
    directions = {
        "heavy_ball": lambda: momentax.heavy_ball(0.0),
        "nesterov": lambda: momentax.nesterov(0.0),
        "average": lambda: momentax.average(0.0),
        "average_plain": lambda: momentax.average(0.0, debias=False),
        "quasi_hyperbolic": lambda: momentax.quasi_hyperbolic(0.9, nu=0.0),
        "linear": lambda: momentax.linear(1.0, 0.0, 0.9),
        "aggregated": lambda: momentax.aggregated((0.0,)),
        "generalized_primal_averaging": lambda: momentax.generalized_primal_averaging(0.0, 1.0),
        "proportional_integral_derivative": lambda: momentax.proportional_integral_derivative(
            0.0, ki=1.0, kd=0.0
        ),
        "amplified": lambda: momentax.amplified(0.0, factor=0.0),
        "lazy": lambda: momentax.lazy(momentax.heavy_ball(0.0)),
        "recursive_momentum": lambda: _with_previous_gradient(momentax.recursive_momentum(0.0)),
        "restart": lambda: momentax.restart(momentax.heavy_ball(0.0)),
        "monitor": lambda: momentax.monitor(momentax.heavy_ball(0.0)),
        "guard": lambda: momentax.guard(momentax.heavy_ball(0.0)),
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
        "outer": lambda: momentax.outer(
            momentax.sgd(1.0, momentax.heavy_ball(0.0)), 1, optax.sgd(1.0)
        ),
    }
