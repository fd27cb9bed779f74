"""Exact worst cases over all smooth convex functions, of the steps that momentax really takes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import heavy_ball, nesterov, sgd
from tests.oracles.peers import load
from tests.oracles.test_oracles import fista

pytestmark = [pytest.mark.oracles, pytest.mark.filterwarnings("ignore")]


def steps_taken(transformation, steps):
    """Row t holds how far each gradient has moved the parameters before gradient t is taken.

    Each gradient is a direction of its own, so that none hides another.
    """

    def step(carry, g):
        x, state = carry
        u, state = transformation.update(g, state, x)
        return (optax.apply_updates(x, u), state), x

    x = jnp.zeros(steps)
    (x, _), rows = jax.lax.scan(step, (x, transformation.init(x)), jnp.eye(steps))
    return np.array([*rows, x], np.float64)


def function_and_distance(start, f, least):
    return f(start) - f(least) + 0.05 * (start - least) ** 2


@pytest.mark.parametrize(
    ("make", "mu", "from_base", "measure", "expected"),
    [
        (
            lambda: sgd(0.5, heavy_ball(0.689202)),
            0.1,
            False,
            lambda x, f, s: f(x) - f(s),
            {2: 0.753385, 5: 0.306797},
        ),
        (
            lambda: sgd(1.0, nesterov((1 - 0.1**0.5) / (1 + 0.1**0.5))),
            0.1,
            True,
            function_and_distance,
            {2: 0.347602, 5: 0.077120},
        ),
        (lambda: fista(1.0), 0.0, True, lambda x, f, s: (x - s) ** 2, {4: 0.0468332, 8: 0.0175576}),
    ],
    ids=["heavy ball", "nesterov", "fista"],
)
def test_worst_cases_are_those_known(make, mu, from_base, measure, expected, x64):
    functions = load(
        "PEPit.functions:SmoothStronglyConvexFunction"
        if mu
        else "PEPit.functions:SmoothConvexFunction"
    )
    for steps, value in expected.items():
        problem = load("PEPit:PEP")()
        f = problem.declare_function(functions, **({"mu": mu} if mu else {}), L=1.0)
        least, start = f.stationary_point(), problem.set_initial_point()
        problem.set_initial_condition(measure(start, f, least) <= 1)
        moves, gradients = steps_taken(make(), steps), []
        if from_base:  # One step of 1/L from where the last gradient is taken.
            moves[-1] = moves[-2] - np.eye(steps)[-1]
        for row in moves:
            x = start + functools.reduce(
                lambda sum, pair: sum + float(pair[0]) * pair[1], zip(row, gradients), 0 * start
            )
            gradients.append(f.gradient(x))
        problem.set_performance_metric(f(x) - f(least))
        assert problem.solve(verbose=0) == pytest.approx(value, rel=1e-3)
