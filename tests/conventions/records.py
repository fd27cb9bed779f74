"""The recurrence of each convention in float64 NumPy, and examples of records.

Each twin follows the letters of its convention. It returns the points where
gradients are taken, θ_0 .. θ_T, and the last velocity.
"""

import functools

import numpy as np
from hypothesis import strategies as st

from momentax.conventions import (
    PID,
    AcceleratedSGD,
    Aggregated2,
    Average,
    Keras,
    Optax,
    QuasiHyperbolic,
    Sutskever,
    SynthesizedNesterov,
    Torch,
)


def torch(r, gradient, θ, steps, v=None):
    path = [θ]
    for _ in range(steps):
        g = -gradient(θ) if r.maximize else gradient(θ)
        g = g + r.weight_decay * θ
        if r.momentum != 0:
            v = g if v is None else r.momentum * v + (1 - r.dampening) * g
            g = g + r.momentum * v if r.nesterov else v
        θ = θ - r.lr * g
        path.append(θ)
    return np.stack(path), v


def keras(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = r.momentum * v - r.learning_rate * g
        θ = θ + r.momentum * v - r.learning_rate * g if r.nesterov else θ + v
        path.append(θ)
    return np.stack(path), v


def optax(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = g + r.momentum * v
        θ = θ - r.learning_rate * (g + r.momentum * v if r.nesterov else v)
        path.append(θ)
    return np.stack(path), v


def sutskever(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        ahead = θ + r.momentum * v if r.nesterov else θ
        v = r.momentum * v - r.learning_rate * gradient(ahead)
        θ = θ + v
        path.append(θ + r.momentum * v if r.nesterov else θ)
    return np.stack(path), v


def average(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        v = r.beta * v + (1 - r.beta) * gradient(θ)
        θ = θ - r.learning_rate * v
        path.append(θ)
    return np.stack(path), v


def quasi_hyperbolic(r, gradient, θ, steps, v=0.0):
    path = [θ]
    for _ in range(steps):
        g = gradient(θ)
        v = r.beta * v + (1 - r.beta) * g
        θ = θ - r.learning_rate * ((1 - r.nu) * g + r.nu * v)
        path.append(θ)
    return np.stack(path), v


def accelerated_sgd(r, gradient, w, steps):
    δ, κ, ξ, c = r.learning_rate, r.kappa, r.xi, r.c
    A = 1 - c**2 * ξ / κ
    ζ = c / (c + 1 - A)
    mean, path = w, [w]
    for _ in range(steps):
        g = gradient(w)
        mean = A * mean + (1 - A) * (w - δ * κ / c * g)
        w = ζ * (w - δ * g) + (1 - ζ) * mean
        path.append(w)
    return np.stack(path), w - mean


def synthesized_nesterov(r, gradient, ξ, steps):
    before, path = ξ, [ξ]
    for _ in range(steps):
        step = r.beta1 * (ξ - before) - r.learning_rate * gradient(path[-1])
        before, ξ = ξ, ξ + step
        path.append(ξ + r.beta2 * (ξ - before))
    return np.stack(path), ξ - before


def pid(r, gradient, start, steps):
    β = r.kd / (r.kd - r.kp) if r.kd else 0.0
    total, d, before, path = 0.0, 0.0, 0.0, [start]
    for _ in range(steps):
        g = gradient(path[-1])
        total = total + g
        d = β * d + (1 - β) * (g - before)
        before = g
        path.append(start - (r.kp * g + r.ki * total + r.kd * d))
    return np.stack(path), (before - β * d / (1 - β)) / (1 - β)


def aggregated(r, gradient, θ, steps):
    β = np.array([[0.0], [r.beta]])
    v, path = np.zeros((2, θ.size)), [θ]
    for _ in range(steps):
        v = β * v + gradient(θ)
        θ = θ - r.learning_rate / 2 * v.sum(0)
        path.append(θ)
    return np.stack(path), v[1]


TWINS = {
    Torch: torch,
    Keras: keras,
    Optax: optax,
    Sutskever: sutskever,
    Average: average,
    QuasiHyperbolic: quasi_hyperbolic,
    AcceleratedSGD: accelerated_sgd,
    SynthesizedNesterov: synthesized_nesterov,
    PID: pid,
    Aggregated2: aggregated,
}


# A nonlinear, strongly convex loss: f(θ) = Σ log cosh(θ - centre) + curvature θ² / 2.
CENTRE = np.array([1.5, -0.7, 0.2, -2.0, 3.0])
CURVATURE = np.array([0.05, 0.3, 1.0, 2.0, 0.6])
START = np.array([2.0, 1.0, -3.0, 0.5, -1.0])
STEPS = 250


def gradient(θ, np=np):
    return np.tanh(θ - CENTRE) + CURVATURE * θ


def run(record, start, steps, **velocity):
    """Return the path and the velocity of a record's twin; a maximizing one ascends -f."""
    sign = -1 if getattr(record, "maximize", False) else 1
    return TWINS[type(record)](record, lambda θ: sign * gradient(θ), start, steps, **velocity)


@functools.cache
def trajectory(record, steps=STEPS):
    """Return the path and the velocity of a record's twin from START."""
    return run(record, START, steps)


# Which conventions have which steps. A record's steps are of one kind.
CLASSICAL = {Torch, Keras, Optax, Sutskever}
MIXING = {QuasiHyperbolic, SynthesizedNesterov, PID}
CONVENTIONS = {
    "plain": set(TWINS),
    "heavy ball": CLASSICAL | MIXING | {Average},
    "nesterov": CLASSICAL | MIXING | {AcceleratedSGD},
    "aggregated": MIXING | {AcceleratedSGD, Aggregated2},
    "mixed": MIXING | {AcceleratedSGD},
}
EXAMPLES = {
    "plain": [
        Torch(0.1),
        Torch(0.1, dampening=1.0),  # PyTorch ignores it without momentum.
        Keras(0.1, nesterov=True),
        Optax(0.1),
        Sutskever(0.1, 0.0),
        Average(0.1, 0.0),
        QuasiHyperbolic(0.1, 0.9, 0.0),
        QuasiHyperbolic(0.1, 0.0, 0.6),
        AcceleratedSGD(0.1, 10.0, 2.0, 0.5),
        SynthesizedNesterov(0.1, 0.0, 0.0),
        SynthesizedNesterov(0.05, 0.5, 1.0),
        PID(0.0, 0.1, 0.0),
        Aggregated2(0.1, 0.0),
    ],
    "heavy ball": [
        Torch(0.05, 0.9),
        Keras(0.05, 0.9),
        Optax(0.05, 0.9),
        Sutskever(0.05, 0.9),
        Average(0.5, 0.9),
        QuasiHyperbolic(0.5, 0.9, 1.0),
        SynthesizedNesterov(0.05, 0.9, 0.0),
    ],
    "nesterov": [
        Torch(0.05, 0.9, nesterov=True),
        Keras(0.05, 0.9, True),
        Optax(0.05, 0.9, True),
        Sutskever(0.05, 0.9, True),
        QuasiHyperbolic(0.5, 0.9, 0.9),
        SynthesizedNesterov(0.05, 0.9, 0.9),
    ],
    "aggregated": [Aggregated2(0.1, 0.9), QuasiHyperbolic(0.5, 0.75, 0.8)],
    "mixed": [
        QuasiHyperbolic(0.4, 0.9, 0.7),
        QuasiHyperbolic(0.1, 0.5, -0.3),
        AcceleratedSGD(0.05),
        AcceleratedSGD(0.05, 40.0, 1.5, 0.5),  # c ξ < 1, so ν < 0.
        SynthesizedNesterov(0.05, 0.8, 0.3),
        PID(-0.9, 0.4, 2.5),
        PID(0.1, 0.2, -0.3),  # ν < 0.
    ],
}
ALL = [(kind, record) for kind, records in EXAMPLES.items() for record in records]
DAMPENED = [
    Torch(0.05, 0.9, 0.5),
    Torch(0.05, 0.9, 0.9, weight_decay=0.1, maximize=True),
    Torch(0.05, 0.8, -0.4),
]
TORCH_ONLY = [
    *DAMPENED,
    Torch(0.05, 0.9, weight_decay=0.1, nesterov=True, maximize=True),
    Torch(0.05, weight_decay=0.1, maximize=True),
]

rates = st.floats(0.01, 0.1)
betas = st.floats(0.05, 0.95)
shares = st.floats(0.1, 0.9)
DRAWN = {
    "plain": st.builds(Torch, rates),
    "heavy ball": st.one_of(
        st.builds(Torch, rates, betas),
        st.builds(Average, rates, betas),
    ),
    "nesterov": st.one_of(
        st.builds(Torch, rates, betas, nesterov=st.just(True)),
        st.builds(lambda α, β: QuasiHyperbolic(α, β, β), rates, betas),
    ),
    "aggregated": st.builds(Aggregated2, rates, betas),
    "mixed": st.one_of(
        st.builds(QuasiHyperbolic, st.floats(0.05, 0.5), betas, shares),
        st.builds(AcceleratedSGD, rates, st.floats(20, 2000), st.floats(1.5, 20)),
        st.builds(lambda α, β, r: SynthesizedNesterov(α, β, r * β), rates, betas, shares),
        st.builds(lambda p, i, ν: PID(-p, i, p**2 / (i * ν)), st.floats(0.1, 1), shares, shares),
    ),
}
