"""The worst case over all smooth convex functions of the steps that momentax makes.

PEPit finds it exactly, by semidefinite programming. The expected numbers are
those of its examples and of the papers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentax import (
    accelerated,
    eval_params,
    heavy_ball,
    item,
    nesterov,
    sgd,
    synthesized_nesterov,
    theory,
)
from tests.oracles.peers import load

pytestmark = [pytest.mark.oracles, pytest.mark.filterwarnings("ignore")]

MU = 0.1  # L is 1.
ROOT = np.sqrt(MU)
RATE = 1 - ROOT


def distance(f, x, least):
    return (x - least) ** 2


def value(f, x, least):
    return f(x) - f(least)


def value_and_distance(f, x, least):
    return value(f, x, least) + MU / 2 * distance(f, x, least)


def triple_momentum(steps):
    shift = RATE**2 / (2 - RATE)
    return synthesized_nesterov(shift, shift / (1 + RATE), delta=RATE**2 / (1 - RATE**2))


# The method for a number of steps, α, μ, the quantity that is 1 at the start, the quantity at the
# end, and its worst case for each number of steps.
WORST = {
    "heavy ball": (
        lambda steps: heavy_ball(0.689202),
        *(0.5, MU, value, value, {2: 0.753385, 5: 0.306797}),
    ),
    "Nesterov": (
        lambda steps: nesterov((1 - ROOT) / (1 + ROOT)),
        *(1.0, MU, value_and_distance, value, {2: 0.347602, 5: 0.077120}),
    ),
    "triple momentum": (
        triple_momentum,
        *(1 + RATE, MU, distance, value, {1: 2.337721, 4: 0.238925}),
    ),
    "ITEM": (
        lambda steps: item(MU, 1.0),
        *(1.0, MU, distance, distance, {2: 0.376939, 5: 0.045085}),
    ),
    "accelerated, nesterov": (
        lambda steps: accelerated("nesterov"),
        *(1.0, 0.0, distance, value, {4: 0.0476190, 8: 0.0181818}),
    ),
    "accelerated, fista": (
        lambda steps: accelerated("fista"),
        *(1.0, 0.0, distance, value, {4: 0.0468332, 8: 0.0175576}),
    ),
    "accelerated, ogm": (
        lambda steps: accelerated("ogm", horizon=steps),
        *(1.0, 0.0, distance, value, {4: 0.0255839, 8: 0.0090361}),
    ),
}


def moves(method, learning_rate, steps):
    """Return how far each gradient has moved each point where one is taken, and the output.

    Every gradient points along its own axis, so their effects are separate.
    """
    transformation = sgd(learning_rate, method)

    def step(carry, g):
        x, state = carry
        u, state = transformation.update(g, state, x)
        return (optax.apply_updates(x, u), state), x

    x = jnp.zeros(steps)
    (x, state), taken = jax.lax.scan(step, (x, transformation.init(x)), jnp.eye(steps))
    return np.array([*taken, eval_params(x, state, learning_rate=learning_rate)])


@pytest.mark.parametrize("name", WORST)
def test_the_worst_case_is_the_known_one(name, x64):
    make, learning_rate, mu, first, last, expected = WORST[name]
    for steps, worst in expected.items():
        problem = load("PEPit:PEP")()
        functions = load("PEPit.functions:SmoothStronglyConvexFunction")
        f = problem.declare_function(functions, mu=mu, L=1.0)
        least, start = f.stationary_point(), problem.set_initial_point()
        problem.set_initial_condition(first(f, start, least) <= 1)
        gradients = []
        for row in moves(make(steps), learning_rate, steps):
            x = start
            for moved, g in zip(
                row, gradients, strict=False
            ):  # The later gradients are not known yet.
                x = x + float(moved) * g
            gradients.append(f.gradient(x))
        problem.set_performance_metric(last(f, x, least))
        assert problem.solve(verbose=0) == pytest.approx(worst, rel=5e-4)


# Method and α; L is 1.
CERTIFIED = {
    "descent": (heavy_ball(0.0), 0.5),
    "heavy ball": (heavy_ball(0.269874), 2.308862),
    "Nesterov": (nesterov((1 - ROOT) / (1 + ROOT)), 1.0),
}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", CERTIFIED)
def test_the_bound_of_a_certificate_is_attained_and_not_exceeded(name, steps):
    """Compare the largest value of its quadratic form after some steps from where it is 1."""
    method, learning_rate = CERTIFIED[name]
    system = A, B, C = theory.state_space(sgd(learning_rate, method))
    rate, _, P = theory.certify(system, MU, 1.0)
    problem = load("PEPit:PEP")()
    functions = load("PEPit.functions:SmoothStronglyConvexFunction")
    f = problem.declare_function(functions, mu=MU, L=1.0)
    least, z = f.stationary_point(), [problem.set_initial_point() for _ in A]

    def combined(weights, parts):
        return sum((float(w) * part for w, part in zip(weights, parts, strict=False)), 0 * least)

    def size(parts):
        return sum(part * combined(row, parts) for row, part in zip(P, parts, strict=False))

    problem.set_initial_condition(size(z) <= 1)
    for _ in range(steps):
        θ = combined(C, z)
        g = f.gradient(least + θ)
        z = [combined(row, z) + float(b) * g for row, b in zip(A, B, strict=True)]
    problem.set_performance_metric(size([*z, g - θ]))
    worst = problem.solve(verbose=0) / rate ** (2 * steps)
    assert 0.9 < worst < 1.002
