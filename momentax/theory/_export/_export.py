"""The linear system of a transformation, for python-control, AutoLyap or PEPit."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import optax

from momentax._core.arguments import as_count, as_curvature_range, as_option, describe
from momentax.theory._export._autolyap import to_autolyap
from momentax.theory._export._control import to_control
from momentax.theory._export._pepit import MEASURES, to_pepit
from momentax.theory._reading._state_space import as_system
from momentax.theory._reading._steps import coefficients
from momentax.theory._system import StateSpace


class _Package(NamedTuple):
    """A package to export to: the name of its module, its own name, and what pip installs."""

    module: str
    title: str
    pip: str


_PACKAGES = {
    "control": _Package("control", "python-control", "control"),
    "autolyap": _Package("autolyap", "AutoLyap", "autolyap"),
    "pepit": _Package("PEPit", "PEPit", "PEPit"),
}


def _load(to: str) -> Any:
    """Import the package that the user chose, or say how to install it."""
    module, title, pip = _PACKAGES[to]
    if find_spec(module) is None:
        raise ImportError(f"to={to!r} needs {title}, which is not installed; pip install {pip}")
    return import_module(module)


def _require_unused(to: str, remedy: str, **given: Any) -> None:
    """Refuse arguments that describe a PEPit problem where there is none."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f'{name} describes a problem of PEPit and must be left out with to="{to}", got '
                f"{describe(value)}; {remedy}"
            )


def export(
    tx: optax.GradientTransformation | StateSpace,
    to: Literal["control", "autolyap", "pepit"],
    *,
    mu: Any = None,
    L: float | None = None,
    steps: int | None = None,
    measure: Literal["distance", "value", "gradient"] | None = None,
) -> Any:
    """Turn a linear transformation into an object of another package.

        z_t = A z_{t-1} + B g_t,    θ_t = C z_t

    - "control": a `control.StateSpace` in discrete time, dt = 1. Its input is the gradient and
      its output the parameter, both with their own sign: x[k+1] = A x[k] + B u[k],
      y[k] = C x[k], with y[k] = θ_k and u[k] the gradient there. D is 0. On a curvature λ the
      gradient is λ θ, so the closed loop is `control.feedback(system, λ, sign=1)`. A transformation
      with a period of p steps has p inputs and p outputs, as StateSpace describes; its closed loop
      is `control.feedback(system, λ * np.eye(p), sign=1)`.
    - "autolyap": an `autolyap.algorithms.Algorithm` with one function, whose gradient it takes.
      One iteration is one step or, with a period, all p steps of the period, with p gradients.
      AutoLyap returns rates of squared distances: ρ² or, with a period, ρ²ᵖ.
    - "pepit": a `PEPit.PEP` whose `solve()` returns the worst case after n steps from rest,
      over all μ-strongly convex, L-smooth functions with ‖θ_0 - θ*‖² ≤ 1. The steps are the first
      n steps of tx, and follow its schedules. The steps of a StateSpace all have the same
      coefficients.

    Args:
        tx: A linear transformation that includes its learning rate, or its StateSpace.
        to: "control", "autolyap" or "pepit".
        mu: μ in [0, L), the smallest curvature; or a Curvature, which gives L too. "pepit" needs
            it, and the others do not take it.
        L: L in (0, inf), the largest curvature, as mu.
        steps: n, at least 1, for "pepit" only. None is 1.
        measure: What `solve()` returns, for "pepit" only: "distance" ‖θ_n - θ*‖², "value"
            f(θ_n) - f(θ*) or "gradient" ‖∇f(θ_n)‖². None is "distance".

    Returns:
        The object of the chosen package.

    Raises:
        ValueError: tx is not linear, or as `state_space`; for "autolyap" and "pepit" also if it
            has weight decay, since it then does not stay at a minimizer. Or to is another word,
            or an argument lies outside its interval or describes another problem.
        TypeError: tx is not a transformation, steps is not a whole number, or mu or L is missing
            for "pepit".
        ImportError: The package is not installed; the message says how to install it.

    Example:
        >>> system = momentax.theory.export(optax.sgd(0.1, momentum=0.81), to="control")
        >>> import control
        >>> loop = control.feedback(system, 10.0, sign=1)
        >>> round(float(max(abs(loop.poles()))), 6)
        0.9
        >>> round(momentax.theory.rate(optax.sgd(0.1, momentum=0.81), 10.0, 10.0), 6)
        0.9

    Source:
        Upadhyaya, Das Gupta, Taylor, Banert and Giselsson, The AutoLyap
        software suite for computer-assisted Lyapunov analyses of first-order
        methods, 2025, arXiv:2506.24076; Goujaud et al., PEPit: computer-assisted
        worst-case analyses of first-order optimization methods in Python, 2024.
    """
    as_option("to", to, _PACKAGES)
    if to != "pepit":
        remedy = (
            "the curvature closes the loop: control.feedback(system, curvature, sign=1)"
            if to == "control"
            else "give mu and L to the function class of autolyap.problemclass"
        )
        _require_unused(to, remedy, mu=mu, L=L, steps=steps, measure=measure)
        package = _load(to)
        return {"control": to_control, "autolyap": to_autolyap}[to](package, as_system(tx))
    if mu is None and L is None:
        raise TypeError('mu and L are missing: to="pepit" needs the curvatures of the functions')
    μ, largest = as_curvature_range(mu, L, interval="[0, inf)")
    if μ == largest:
        raise ValueError(
            f"mu must be below L for PEPit, got mu={μ} and L={largest}; theory.rate is exact there"
        )
    n = 1 if steps is None else as_count("steps", steps)
    chosen = as_option("measure", "distance" if measure is None else measure, MEASURES)
    return to_pepit(_load(to), coefficients(tx, n), μ, largest, chosen)
