"""A linear system on a quadratic, along one curvature: the loop through the gradient closed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from momentax._core.arguments import ANY_REAL, as_count, as_real, as_reals
from momentax._core.typing import Reals
from momentax.theory._closed_forms._memory import half_life
from momentax.theory._closed_forms._quadratic import quadratic_problem
from momentax.theory._curvature import require_eigenvalues
from momentax.theory._printing import format_record
from momentax.theory._reading._state_space import as_system
from momentax.theory._system import LinearSystem, Phase, StateSpace

MARGINAL = 1 - 1e-14  # From here on a factor per step is 1 up to rounding.


class Damping(NamedTuple):
    """How an error along one curvature decays.

    kind: "over", "critical" or "under".
    period: steps of one oscillation; infinite unless "under".
    half_life: steps in which the slowest mode halves; infinite if it does not decay.
    """

    kind: str
    period: float
    half_life: float

    def __repr__(self) -> str:
        return format_record(self)


def half_life_at(ρ: float) -> float:
    """Return the steps in which an error that shrinks by ρ per step halves, or infinity."""
    return float(half_life(ρ)) if ρ < MARGINAL else np.inf


def loop_matrix(system: LinearSystem, λ: Reals) -> Reals:
    """Return A + λ B C for each λ."""
    return system.A + λ[..., None, None] * (system.B @ system.C)


def phase_loops(phases: list[Phase], λ: ArrayLike) -> list[Reals]:
    """Return the matrix of each step of a period on a quadratic."""
    λ = np.asarray(λ, np.float64)[..., None, None]
    return [A + λ * np.outer(B, C) for A, B, C in phases]


def period_roots(phases: list[Phase], λ: ArrayLike) -> tuple[NDArray[Any], Reals]:
    """Return the eigenvalues of the product of all p steps in some unit u, and u^(1/p)."""
    product, exponent = np.eye(len(phases[0].C)), 0
    for M in phase_loops(phases, λ):
        product = M @ product
        _, size = np.frexp(np.abs(product).max(axis=(-2, -1), keepdims=True, initial=0))
        # Scaled, since the product itself may leave the range of float64.
        product, exponent = np.ldexp(product, -size), exponent + size
    return np.linalg.eigvals(product), np.exp2(exponent / len(phases))[..., 0]


def largest_root(phases: list[Phase], λ: ArrayLike) -> tuple[Reals, Reals]:
    """Return the size per step of the largest root, and the cosine of its angle over a period.

    Each of two equal roots, as at critical damping, is computed to half of the digits only;
    their mean is computed to all digits.
    """
    roots, unit = period_roots(phases, λ)
    top = np.take_along_axis(roots, np.abs(roots).argmax(axis=-1, keepdims=True), axis=-1)
    near = np.abs(roots - top) <= 2e-7 * np.abs(top)
    mean = np.abs((roots * near).sum(axis=-1) / near.sum(axis=-1))
    size = unit[..., 0] * mean ** (1 / len(phases))
    return np.asarray(size, np.float64), np.cos(np.angle(top))[..., 0]


def radius(system: LinearSystem, λ: ArrayLike) -> Reals:
    """Return the spectral radius of the closed loop, per step."""
    return largest_root(system.phases, λ)[0]


def system_damping(system: LinearSystem, λ: float) -> Damping:
    """Compute `damping` for a system."""
    normal, unit = system.normalized
    p = normal.period
    roots, scale = period_roots(normal.phases, λ / unit)
    size = scale * np.abs(roots) ** (1 / p)
    ρ = float(size.max())
    if ρ < 1e-6:
        return Damping("critical", np.inf, 0.0)
    slowest = roots[size >= ρ * (1 - 1e-6)]
    angle = float(np.abs(np.angle(slowest)).max()) / p
    if angle > 1e-6:
        return Damping("under", 2 * np.pi / angle, half_life_at(ρ))
    return Damping("critical" if len(slowest) > 1 else "over", np.inf, half_life_at(ρ))


def closed_loop(tx: optax.GradientTransformation | StateSpace, curvature: ArrayLike) -> Reals:
    """Return the matrix of one step on a quadratic: z_t = M z_{t-1}.

        M = A + λ B C

    where the gradient is λ θ, with θ counted from the minimizer.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        curvature: λ, an eigenvalue of the Hessian; any shape.

    Returns:
        M, float64, of shape (*curvature.shape, n, n).

    Raises:
        ValueError: curvature is not finite, or as `state_space`.
        TypeError: As `state_space`.

    Example:
        >>> np.round(momentax.theory.closed_loop(optax.sgd(0.1), 2.0), 6)
        array([[0.8]])
    """
    require_eigenvalues("curvature", curvature)
    λ = as_reals("curvature", curvature)
    return loop_matrix(as_system(tx), λ)


def rate_at(tx: optax.GradientTransformation | StateSpace, curvature: ArrayLike) -> Reals:
    """Return the factor per step by which an error along a curvature shrinks or grows.

        ρ = max |z|,    z the eigenvalues of M = A + λ B C

    Below 1 the transformation converges along this curvature. At a negative curvature it is the
    growth factor with which the transformation leaves a saddle. For a transformation with a
    period of p steps, ρᵖ is the factor over all of them. `rate` is the largest value on an
    interval of curvatures; `spectral_radius` is the closed form for hyperparameters.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        curvature: λ, an eigenvalue of the Hessian; any real number, any shape.

    Returns:
        ρ, float64, of the curvature's shape.

    Raises:
        ValueError: curvature is not finite, or as `state_space`.
        TypeError: As `state_space`.

    Example:
        >>> np.round(momentax.theory.rate_at(optax.sgd(0.1, 0.81), [1.0, 2.0]), 6)
        array([0.9, 0.9])

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    require_eigenvalues("curvature", curvature)
    λ = as_reals("curvature", curvature)
    return radius(as_system(tx), λ)


def escape_rate(
    tx: optax.GradientTransformation | StateSpace, negative_curvature: ArrayLike
) -> Reals:
    """Return the factor per step by which the distance to a saddle grows.

    It is the spectral radius at a negative curvature. It is above 1 unless weight decay holds
    the parameters back, and a velocity makes it far larger than plain descent's 1 + α |λ|.
    Parameters that start exactly at the saddle stay there.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        negative_curvature: λ in (-inf, 0), an eigenvalue of the Hessian; any shape.

    Returns:
        ρ, float64, of the curvature's shape.

    Raises:
        ValueError: A curvature is not negative, or as `state_space`.
        TypeError: As `state_space`.

    Example:
        >>> round(float(momentax.theory.escape_rate(optax.sgd(0.1), -2.0)), 6)
        1.2

    Source:
        O'Neill and Wright, Behavior of accelerated gradient methods near
        critical points of nonconvex functions, 2019, arXiv:1706.07993.
    """
    require_eigenvalues("negative_curvature", negative_curvature)
    λ = as_reals("negative_curvature", negative_curvature, "(-inf, 0)")
    return radius(as_system(tx), λ)


def damping(tx: optax.GradientTransformation | StateSpace, curvature: float) -> Damping:
    """Say whether an error along a curvature oscillates as it decays, and how fast.

    The slowest mode decides, which is the largest root z of the closed loop. A positive root
    is "over", two roots that meet are "critical", a complex or negative root is "under" and
    turns by arg z per step. The half-life solves |z|ⁿ = 1/2. For a transformation with a period
    of p steps, zᵖ decides, the factor over all of them.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        curvature: λ, one eigenvalue of the Hessian; any real number.

    Returns:
        Damping(kind, period, half_life), in steps. Roots that agree to 1e-6 count as meeting,
        since float64 cannot tell closer ones apart. An error that is 0 after finitely many
        steps is critical, with a half-life of 0.

    Raises:
        ValueError: curvature is not finite or not one number, or as `state_space`.

    Example:
        >>> momentax.theory.damping(optax.sgd(0.1, momentum=0.9), 1.0)
        Damping(kind='under', period=19.5281, half_life=13.1576)

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    require_eigenvalues("curvature", curvature)
    λ = as_real("curvature", curvature, ANY_REAL)
    return system_damping(as_system(tx), λ)


def _iterates(system: LinearSystem, λ: Reals, start: Reals, minimizer: Reals, steps: int) -> Reals:
    """Return the parameters at steps 0 .. T along each curvature, shape (T + 1, n)."""
    n, period = len(system.A), system.period
    # θ* enters through the gradient λ (θ - θ*). A cyclic register of p entries after z holds a 1
    # at the current phase, which carries it.
    M = np.zeros((len(λ), n + period, n + period))
    M[:, :n, :n] = loop_matrix(system, λ)
    M[:, :n, n:] = -(λ * minimizer)[:, None, None] * system.B
    M[:, n:, n:] = np.roll(np.eye(period), 1, axis=0)
    z = np.zeros((len(λ), n + period, 1))
    z[:, 0, 0], z[:, n, 0] = start, 1
    with np.errstate(over="ignore", invalid="ignore"):  # Divergence may leave float64's range.
        while z.shape[-1] <= steps:  # From z_0 .. z_{k-1}, M = (one step)ᵏ gives the next k.
            z = np.concatenate([z, M @ z], axis=-1)
            M = M @ M
        outputs = system.C @ z[:, :n, : steps + 1]
    phase = np.arange(steps + 1) % period
    return outputs[:, phase, np.arange(steps + 1)].T


def trajectory(
    tx: optax.GradientTransformation | StateSpace,
    hessian: ArrayLike,
    start: ArrayLike,
    steps: int,
    *,
    minimizer: ArrayLike | None = None,
) -> Reals:
    """Solve a linear transformation on ½ (θ - θ*)ᵀ H (θ - θ*) without stepping.

        θ_t = C Mᵗ z_0,    M = A + λ B C

    for each eigenvalue λ of H, from rest, with θ counted from θ*; the powers of `closed_loop`
    come by squaring. `quadratic_path` is the closed form for hyperparameters, which returns the
    velocity too.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        hessian: H, a symmetric matrix of shape (n, n); it may be indefinite.
        start: θ_0, shape (n,).
        steps: T, at least 0.
        minimizer: θ*, the stationary point, shape (n,); None is the origin.

    Returns:
        θ_0 .. θ_T, float64 of shape (T + 1, n). A path that diverges past the range of float64
        turns infinite or NaN.

    Raises:
        ValueError: H is not square or not symmetric, a shape does not fit it, or as
            `state_space`.
        TypeError: steps is not a whole number, or as `state_space`.

    Example:
        >>> np.round(momentax.theory.trajectory(optax.sgd(0.5), [[1.0]], [1.0], 2), 6).ravel()
        array([1.  , 0.5 , 0.25])

    Source:
        Goh, Why momentum really works, Distill, 2017, for heavy ball.
    """
    H, θ, origin = quadratic_problem(hessian, start, minimizer)
    count = as_count("steps", steps, least=0)
    λ, basis = np.linalg.eigh(H)
    along = _iterates(as_system(tx), λ, θ @ basis, origin @ basis, count)
    with np.errstate(over="ignore", invalid="ignore"):
        return along @ basis.T
