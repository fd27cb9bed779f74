"""An optimizer as a filter: gradients in, updates out.

The input is a sequence of gradients that does not depend on the parameters, and the output are
the updates u_t = θ_t - θ_{t-1}. With weight decay, the parameters that the updates have built
up are part of the filter.
"""

from __future__ import annotations

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import as_count, as_reals
from momentax._core.typing import Reals
from momentax.theory._properties._noise import gramian
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, StateSpace, reachable_basis

# An output below this share of what a step adds to the parameters is due to rounding.
_ROUNDING = 1e-13


def _filter(system: LinearSystem) -> tuple[Reals, Reals, Reals, Reals]:
    """Return F, G, H, D of x⁺ = F x + G g, u = H x + D g, where g and u have an entry per phase.

    The part of z that u = θ⁺ - θ does not depend on is left out. Without decay this includes
    the parameters, which sum all updates, so that the filter is stable without them.
    """
    A, B, C = system.balanced.A, system.balanced.B, system.balanced.C
    after = np.roll(C, -1, axis=0)  # Step i begins with C_i z and ends with C_{i+1} z⁺.
    change = after @ A - C
    size = np.abs(after) @ np.abs(A) + np.abs(C)
    change[np.abs(change) <= _ROUNDING * size.max(axis=1, keepdims=True)] = 0
    observed = reachable_basis(A.T, change.T)
    return observed.T @ A @ observed, observed.T @ B, change @ observed, after @ B


def _mean_filter(system: LinearSystem) -> tuple[Reals, Reals, Reals, float]:
    """Return the mean of the filter over the phases in which a gradient may arrive."""
    F, G, H, D = _filter(system)
    return F, G.mean(axis=1), H.sum(axis=0), float(D.sum() / len(D))


def system_impulse_response(system: LinearSystem, steps: int) -> Reals:
    """Compute `impulse_response` for a system."""
    F, x, H, D = _mean_filter(system)
    response = [D]
    for _ in range(steps - 1):
        response.append(float(H @ x))
        x = F @ x
    return np.array(response)


def system_frequency_response(system: LinearSystem, f: Reals) -> NDArray[np.complex128]:
    """Compute `frequency_response` for a system."""
    F, G, H, D = _mean_filter(system)
    turn = 4 * (f - np.round(f))  # In right angles, at which z is exact.
    z = 1j ** np.round(turn) * np.exp(0.5j * np.pi * (turn - np.round(turn)))
    resolvent = z[..., None, None] * np.eye(len(F)) - F
    pole = np.linalg.det(resolvent) == 0
    resolvent[pole] = np.eye(len(F))
    x = np.linalg.solve(resolvent, np.broadcast_to(G[:, None], (*resolvent.shape[:-1], 1)))
    return np.where(pole, np.inf, x[..., 0] @ H + D)


def _require_stable(F: Reals) -> None:
    radius = np.abs(np.linalg.eigvals(F)).max(initial=0)
    if radius >= 1:
        raise ValueError(
            "tx must be a stable filter, got one that multiplies its state by "
            f"{radius:.6g} per step; give a β below 1, so that the velocity decays"
        )


def system_signal_to_noise_gain(system: LinearSystem) -> float:
    """Compute `signal_to_noise_gain` for a system."""
    F, G, H, D = _filter(system)
    _require_stable(F)
    constant = np.ones(len(D))
    signal = D @ constant + H @ np.linalg.solve(np.eye(len(F)) - F, G @ constant)
    noise = np.sum(D**2) + np.trace(H @ gramian(F - np.eye(len(F)), G @ G.T) @ H.T)
    return float(signal @ signal / noise) if noise > 0 else np.nan


def system_mean_age(system: LinearSystem) -> float:
    """Compute `mean_age` for a system."""
    F, G, H, D = _mean_filter(system)
    _require_stable(F)
    resolvent = np.linalg.inv(np.eye(len(F)) - F)
    once, twice = resolvent @ G, resolvent @ (resolvent @ G)
    total, size = D + H @ once, abs(D) + np.abs(H) @ np.abs(once)
    return 0.0 + float(H @ twice / total) if abs(total) > 1e-9 * size else np.nan


def impulse_response(tx: optax.GradientTransformation | StateSpace, steps: int) -> Reals:
    """List how much of one gradient is in each of the updates that follow it.

        u_t = Σ_k h_k g_{t-k}

    For `heavy_ball`, h_k = βᵏ, which are its `weights`; for `sgd` around it, h_k = -α βᵏ. The
    sum of all h_k is the response to a constant gradient: 1 for a moving average and
    -α / (1 - β) for `sgd` with heavy ball, which is minus its `effective_learning_rate`.

    For a transformation with a period, h is the mean over the steps of the period at which the
    gradient may arrive.

    Args:
        tx: A linear Optax transformation, or its StateSpace.
        steps: Number of updates to list, at least 1.

    Returns:
        h_0 .. h_{steps - 1}, float64 of shape (steps,).

    Raises:
        ValueError: steps is below 1, or tx is not linear.
        TypeError: steps is not a whole number, or tx is not a transformation.

    Example:
        >>> np.round(momentax.theory.impulse_response(momentax.heavy_ball(0.5), 3), 6)
        array([1.  , 0.5 , 0.25])
    """
    steps = as_count("steps", steps)
    return system_impulse_response(as_system(tx), steps)


def frequency_response(
    tx: optax.GradientTransformation | StateSpace, frequencies: ArrayLike
) -> NDArray[np.complex128]:
    """Return the factor by which an oscillating gradient appears in the updates.

        g_t = e^{2πi f t}    →    u_t = H(f) g_t,    H(f) = Σ_k h_k e^{-2πi f k}

    in the long run, with h the `impulse_response`. The modulus is the gain, and the angle is
    how far the updates run ahead of the gradients. H(0) is the response to a constant gradient
    and H(1/2) the response to one that changes its sign at each step: 1 / (1 - β) and
    1 / (1 + β) for `heavy_ball`.

    A transformation with a period of p steps also responds at the frequencies f + k / p; H(f)
    is the response at f itself.

    Args:
        tx: A linear Optax transformation, or its StateSpace.
        frequencies: f in cycles per step; H has the period 1, and at -f it is the conjugate.
            Any shape.

    Returns:
        H, complex128, of the shape of frequencies; infinite at a pole.

    Raises:
        ValueError: A frequency is infinite or NaN, or tx is not linear.
        TypeError: tx is not a transformation.

    Example:
        >>> np.round(momentax.theory.frequency_response(momentax.heavy_ball(0.5), 0.0).real, 6)
        np.float64(2.0)
    """
    f = as_reals("frequencies", frequencies)
    return system_frequency_response(as_system(tx), f)


def signal_to_noise_gain(tx: optax.GradientTransformation | StateSpace) -> float:
    """Return the factor by which a filter raises the signal-to-noise ratio of gradients.

        (Σ_k h_k)² / Σ_k h_k²

    with h the `impulse_response`. The gradients are a constant signal plus noise that is
    independent at each step, and the ratio is that of the signal's square to the noise's
    variance. The gain is the number of gradients whose plain mean has the same ratio: 1 for plain
    descent and (1 + β) / (1 - β) for heavy ball. With weight decay it is 0, since the parameters
    converge and the updates end.

    For a transformation with a period, the updates differ from step to step. Signal and noise
    are then sums over its steps: of the square of the update that a constant gradient of 1
    makes, and of the variance that noise of variance 1 gives it. `optax.MultiSteps` over k
    steps multiplies the gain by k.

    Args:
        tx: A linear Optax transformation, or its StateSpace.

    Returns:
        The gain, in [0, inf); NaN for a filter whose updates are always 0.

    Raises:
        ValueError: The filter is not stable, so that there are no such sums, or tx is not
            linear.
        TypeError: tx is not a transformation.

    Example:
        >>> round(momentax.theory.signal_to_noise_gain(momentax.heavy_ball(0.9)), 6)
        19.0
    """
    return system_signal_to_noise_gain(as_system(tx))


def mean_age(tx: optax.GradientTransformation | StateSpace) -> float:
    """Return the mean age of the gradients in the updates, each weighted as it enters them.

        Σ_k k h_k / Σ_k h_k

    with h the `impulse_response`. It is the number of steps by which the updates lag behind a
    slow change of the gradients: β / (1 - β) for heavy ball, β² / (1 - β) for Nesterov's
    momentum and 0 for plain descent.

    Args:
        tx: A linear Optax transformation, or its StateSpace.

    Returns:
        The age in steps; negative where the updates run ahead of the gradients, and NaN if the
        weights sum to 0, as they do with weight decay.

    Raises:
        ValueError: The filter is not stable, so that there are no such sums, or tx is not
            linear.
        TypeError: tx is not a transformation.

    Example:
        >>> round(momentax.theory.mean_age(momentax.heavy_ball(0.9)), 6)
        9.0
    """
    return system_mean_age(as_system(tx))
