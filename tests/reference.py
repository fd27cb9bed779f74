"""Each recurrence once more, in float64 NumPy and the letters of its docstring.

A twin is step(v, g, t, **hyperparameters) -> (d, v), with v starting at 0. Every
hyperparameter is a function of the count t. Nothing here imports momentax.
"""

import numpy as np


def linear(v, g, t, *, gradient_weight, velocity_weight, beta, gain):
    a, b, β, γ = gradient_weight, velocity_weight, beta, gain
    v = β(t) * v + γ(t) * g
    return a(t) * g + b(t) * v, v


def heavy_ball(v, g, t, *, beta, dampening):
    v = beta(t) * v + (1 - dampening(t)) * g
    return v, v


def nesterov(v, g, t, *, beta):
    v = beta(t) * v + g
    return g + beta(t + 1) * v, v


def quasi_hyperbolic(v, g, t, *, beta, nu):
    v = beta(t) * v + (1 - beta(t)) * g
    return (1 - nu(t)) * g + nu(t) * v, v


def average(v, g, t, *, beta):
    v = beta(t) * v + (1 - beta(t)) * g
    kept = np.prod([beta(s) for s in range(t + 1)])
    return v / (1 - kept), v


def plain_average(v, g, t, *, beta):
    v = beta(t) * v + (1 - beta(t)) * g
    return v, v


def directions(step, gradients, **hyperparameters):
    """The directions of a sequence of gradients, stacked on the first axis, and the velocity."""
    v, out = 0.0, []
    for t, g in enumerate(gradients):
        d, v = step(v, g, t, **hyperparameters)
        out.append(d)
    return np.stack(out), v


def sgd(
    step,
    gradient,
    θ,
    steps,
    *,
    learning_rate,
    weight_decay=lambda t: 0.0,
    velocity_units="gradient",
    decoupled=False,
    mask=1.0,
    maximize=False,
    **hyperparameters,
):
    """θ_0 .. θ_T under a gradient function of (θ, t); mask holds a 1 where decay applies."""
    v, path = 0.0, [θ]
    for t in range(steps):
        α, λ = learning_rate(t), weight_decay(t) * mask
        g = -gradient(θ, t) if maximize else gradient(θ, t)
        decay = λ * θ
        if not decoupled:
            g = g + decay
        if velocity_units == "gradient":
            d, v = step(v, g, t, **hyperparameters)
            u = -α * d
        else:
            u, v = step(v, -α * g, t, **hyperparameters)
        θ = θ + u - α * decay if decoupled else θ + u
        path.append(θ)
    return np.stack(path)


def sutskever(gradient, θ, steps, *, learning_rate, beta):
    """Nesterov's momentum as first written: the gradient at the look-ahead point θ + β_t v.

    Returns the look-ahead points, at which libraries keep their parameters.
    """
    v, path = 0.0, [θ]
    for t in range(steps):
        ahead = θ + beta(t) * v
        v = beta(t) * v - learning_rate(t) * gradient(ahead, t)
        θ = θ + v
        path.append(θ + beta(t + 1) * v)
    return np.stack(path)
