"""An optimizer as a filter: gradients in, updates out.

What enters is a sequence of gradients that does not depend on the parameters;
what comes out are the updates u_t = θ_t - θ_{t-1}. With weight decay the
parameters that the updates have built are part of the filter.
"""

from __future__ import annotations

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_count, as_reals
from momentax.theory._noise import gramian
from momentax.theory._state_space import read
from momentax.theory._system import StateSpace, balance, by_phase, span

_Reals = NDArray[np.float64]

_ROUNDING = 1e-13  # Of what a step adds to the parameters, the share that is none of its doing.


def _filter(
    tx: optax.GradientTransformation | StateSpace,
) -> tuple[_Reals, _Reals, _Reals, _Reals]:
    """F, G, H and D of x⁺ = F x + G g, u = H x + D g, with an entry of g and u for each phase.

    u = θ⁺ - θ does not show all of z: without decay not the parameters' own
    place. What it does not show is left out, so that the filter is stable though
    the parameters add updates up for ever.
    """
    A, B, C = by_phase(read(tx))
    scale, _ = balance(A, B, C)
    A, B, C = A / scale[:, None] * scale, B / scale[:, None], C * scale
    after = np.roll(C, -1, axis=0)  # Step i begins with C_i z and ends with C_{i+1} z⁺.
    change = after @ A - C
    size = np.abs(after) @ np.abs(A) + np.abs(C)
    change[np.abs(change) <= _ROUNDING * size.max(axis=1, keepdims=True)] = 0
    shown = span(A.T, change.T)
    return shown.T @ A @ shown, shown.T @ B, change @ shown, after @ B


def _averaged(
    tx: optax.GradientTransformation | StateSpace,
) -> tuple[_Reals, _Reals, _Reals, float]:
    """The same of the mean over the phases in which a gradient may arrive."""
    F, G, H, D = _filter(tx)
    return F, G.mean(axis=1), H.sum(axis=0), float(D.sum() / len(D))


def impulse_response(tx: optax.GradientTransformation | StateSpace, steps: int) -> _Reals:
    """List how much of one gradient is in the updates that follow it.

        u_t = Σ_k h_k g_{t-k}

    For `heavy_ball` h_k = βᵏ, which are its `weights`; for `sgd` around it
    h_k = -α βᵏ. The sum of all h_k is the response to a constant gradient:
    1 for a moving average, -α / (1 - β) for `sgd` with heavy ball, the
    `effective_learning_rate` downhill.

    Of a transformation with a period h is the mean over the steps of it at
    which the gradient may arrive: what is seen of one whose place is not known.

    Args:
        tx: A linear Optax transformation, or its StateSpace.
        steps: How many updates to list, at least 1.

    Returns:
        h_0 .. h_{steps - 1}, float64 of shape (steps,).

    Raises:
        ValueError: steps is below 1, or tx is not linear.
        TypeError: steps is no whole number, or tx no transformation.
    """
    F, x, H, D = _averaged(tx)
    response = [D]
    for _ in range(as_count("steps", steps) - 1):
        response.append(float(H @ x))
        x = F @ x
    return np.array(response)


def frequency_response(
    tx: optax.GradientTransformation | StateSpace, frequencies: ArrayLike
) -> NDArray[np.complex128]:
    """Give the factor by which an oscillating gradient appears in the updates.

        g_t = e^{2πi f t}    →    u_t = H(f) g_t,    H(f) = Σ_k h_k e^{-2πi f k}

    once the start is forgotten, with h the `impulse_response`. The modulus is
    the gain, the angle how far the updates run ahead of the gradients. H(0) is
    the response to a constant gradient, H(1/2) that to one which flips its sign
    each step: 1 / (1 - β) and 1 / (1 + β) for `heavy_ball`.

    A transformation with a period of p steps answers at the frequencies
    f + k / p as well; H(f) is what it answers at f itself.

    Args:
        tx: A linear Optax transformation, or its StateSpace.
        frequencies: f in cycles per step; H has the period 1, and at -f it is
            the conjugate. Any shape.

    Returns:
        H, complex128, frequencies' shape; infinite at a pole.

    Raises:
        ValueError: A frequency is infinite or NaN, or tx is not linear.
        TypeError: tx is no transformation.
    """
    F, G, H, D = _averaged(tx)
    f = as_reals("frequencies", frequencies)
    turn = 4 * (f - np.round(f))  # In right angles, at which z is exact.
    z = 1j ** np.round(turn) * np.exp(0.5j * np.pi * (turn - np.round(turn)))
    resolvent = z[..., None, None] * np.eye(len(F)) - F
    pole = np.linalg.det(resolvent) == 0
    resolvent[pole] = np.eye(len(F))
    x = np.linalg.solve(resolvent, np.broadcast_to(G[:, None], (*resolvent.shape[:-1], 1)))
    return np.where(pole, np.inf, x[..., 0] @ H + D)


def signal_to_noise_gain(tx: optax.GradientTransformation | StateSpace) -> float:
    """Give the factor by which a filter raises the signal-to-noise ratio of gradients.

        (Σ_k h_k)² / Σ_k h_k²

    of the `impulse_response` h: the gradients hold a constant signal and noise
    that is drawn anew each step, and the ratio is that of the signal's square to
    the noise's variance. It is the number of gradients whose plain mean would be
    as clean: 1 for plain descent, (1 + β) / (1 - β) for heavy ball. Under weight
    decay it is 0, since the parameters settle and the updates end.

    Of a transformation with a period the updates differ from step to step: signal
    and noise are then sums over its steps, of the square of the update that a
    constant gradient of 1 makes and of the variance that noise of variance 1
    gives it. `optax.MultiSteps` over k steps multiplies the gain by k.

    Args:
        tx: A linear Optax transformation, or its StateSpace.

    Returns:
        The gain, in [0, inf); NaN for a filter that lets nothing through.

    Raises:
        ValueError: The filter is not stable and so has no such sums, or tx is
            not linear.
        TypeError: tx is no transformation.
    """
    F, G, H, D = _filter(tx)
    radius = np.abs(np.linalg.eigvals(F)).max(initial=0)
    if radius >= 1:
        raise ValueError(
            "tx must be a stable filter, got one that multiplies what it remembers by "
            f"{radius:.6g} a step; a β below 1 forgets"
        )
    constant = np.ones(len(D))
    signal = D @ constant + H @ np.linalg.solve(np.eye(len(F)) - F, G @ constant)
    noise = np.sum(D**2) + np.trace(H @ gramian(F - np.eye(len(F)), G @ G.T) @ H.T)
    return float(signal @ signal / noise) if noise > 0 else np.nan
