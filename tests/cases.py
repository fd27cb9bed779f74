"""Every public name, and for every transformation what the contract tests need of it.

That nothing is missing here is a test (tests/test_package.py).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import momentax
from momentax import sgd
from tests import reference


class Case(NamedTuple):
    """A transformation as a function of its hyperparameters, and its twin."""

    make: Callable[..., Any]
    hyperparameters: dict[str, float]  # Names and ordinary values.
    twin: Callable[..., Any]


METHODS = {
    "linear": Case(
        momentax.linear,
        {"gradient_weight": 0.3, "velocity_weight": 0.7, "beta": 0.8, "gain": 0.5},
        reference.linear,
    ),
    "heavy_ball": Case(momentax.heavy_ball, {"beta": 0.9, "dampening": 0.25}, reference.heavy_ball),
    "nesterov": Case(momentax.nesterov, {"beta": 0.9}, reference.nesterov),
    "average": Case(momentax.average, {"beta": 0.9}, reference.average),
    "average, plain": Case(
        lambda beta: momentax.average(beta, debias=False), {"beta": 0.9}, reference.plain_average
    ),
    "quasi_hyperbolic": Case(
        momentax.quasi_hyperbolic, {"beta": 0.9, "nu": 0.7}, reference.quasi_hyperbolic
    ),
}


def _descent(**options: Any) -> Callable[..., Any]:
    def make(learning_rate, beta, weight_decay=0.0):
        method = momentax.nesterov(beta)
        return sgd(learning_rate, method, weight_decay=weight_decay, **options)

    return make


_DECAYING = {"learning_rate": 0.1, "beta": 0.9, "weight_decay": 0.01}
OPTIMIZERS = {
    "sgd": Case(_descent(), {"learning_rate": 0.1, "beta": 0.9}, reference.nesterov),
    "sgd, coupled": Case(_descent(), _DECAYING, reference.nesterov),
    "sgd, decoupled": Case(_descent(decoupled=True), _DECAYING, reference.nesterov),
    "sgd, parameter units": Case(
        _descent(velocity_units="parameter"), _DECAYING, reference.nesterov
    ),
    "sgd, parameter units, decoupled": Case(
        _descent(velocity_units="parameter", decoupled=True, maximize=True),
        _DECAYING,
        reference.nesterov,
    ),
}

TRANSFORMATIONS = METHODS | OPTIMIZERS

# The public names that are no transformations, and the test file that holds each.
OTHERS = {
    "momentax": {
        "AverageState": "test_contracts.py",
        "Grid": "sweeps/test_sweep.py",
        "LinearState": "test_contracts.py",
        "Rollout": "test_rollout.py",
        "__version__": "test_package.py",
        "grid": "sweeps/test_sweep.py",
        "problems": "test_problems.py",
        "replace_velocity": "test_velocity.py",
        "reset_velocity": "test_velocity.py",
        "rollout": "test_rollout.py",
        "schedules": "test_schedules.py",
        "sweep": "sweeps/test_sweep.py",
        "theory": "theory/test_quadratic.py",
        "velocity": "test_velocity.py",
        "velocity_norms": "test_velocity.py",
    },
    "momentax.plotting": {"heatmap": "plotting/test_heatmap.py"},
    "momentax.problems": {
        "Problem": "test_problems.py",
        "plateau": "test_problems.py",
        "quadratic": "test_problems.py",
        "ravine": "test_problems.py",
        "rosenbrock": "test_problems.py",
        "saddle": "test_problems.py",
    },
    "momentax.schedules": {"warmup": "test_schedules.py"},
    "momentax.theory": {
        "QuadraticPath": "theory/test_quadratic.py",
        "Tuning": "theory/test_rates.py",
        "effective_learning_rate": "theory/test_memory.py",
        "effective_window": "theory/test_memory.py",
        "gradient_descent_rate": "theory/test_rates.py",
        "half_life": "theory/test_memory.py",
        "heavy_ball_rate": "theory/test_rates.py",
        "nesterov_rate": "theory/test_rates.py",
        "optimal_gradient_descent": "theory/test_rates.py",
        "optimal_heavy_ball": "theory/test_rates.py",
        "optimal_nesterov": "theory/test_rates.py",
        "quadratic_path": "theory/test_quadratic.py",
        "spectral_radius": "theory/test_quadratic.py",
        "stability_edge": "theory/test_quadratic.py",
        "weights": "theory/test_memory.py",
    },
}
