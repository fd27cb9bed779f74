"""Runs on quadratics whose every number is known in closed form."""

import numpy as np

import momentax
from momentax import theory

HESSIAN = np.array([[3.0, 1.0], [1.0, 2.0]])


def loss(params):
    """Return ½ θᵀ H θ for an array, a dictionary or a tuple of the two parameters."""
    x, y = params.values() if isinstance(params, dict) else params
    return (3 * x * x + 2 * x * y + 2 * y * y) / 2


def known_run(
    learning_rate=0.1, beta=0.8, steps=30, *, start=(1.0, -0.5), hessian=HESSIAN, shaped=np.asarray
):
    """Return the run of heavy ball and its path; `shaped` makes params of vectors."""
    path = theory.quadratic_path(hessian, start, steps, learning_rate, beta)
    losses = np.einsum("ti,ij,tj->t", path.params, hessian, path.params) / 2
    history = {
        "loss": losses[:-1],
        "params": shaped(path.params[:-1]),
        "velocity": shaped(path.velocity[1:]),
    }
    return momentax.Rollout(shaped(path.params[-1]), (), history), path
