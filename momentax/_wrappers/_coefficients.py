"""Coefficients of the Newton-Schulz iteration, and where it takes singular values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from momentax._core import arguments
from momentax._core.typing import Reals

_JORDAN = ((3.4445, -4.7750, 2.0315),)
_YOU = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_POLAR_EXPRESS_RAW = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
_CANS = (
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074),
    (2.2737, -1.6447, 0.4162),
)
_CUBIC = (
    (3.3656576, -3.3420992, 0.0),
    (2.5744352, -1.4957376, 0.0),
    (2.5368962, -1.4312570, 0.0),
    (2.4418906, -1.2764040, 0.0),
    (2.2230472, -0.9630650, 0.0),
)


def _divide(rows: Any, factor: float) -> Any:
    """Return rows (a, b, c) for a matrix that is divided by a factor first."""
    return tuple((a / factor, b / factor**3, c / factor**5) for a, b, c in rows)


# Each row (a, b, c) is one step s ← a s + b s³ + c s⁵ of the singular values. The docstring of
# `orthogonalize` names the sources.
COEFFICIENTS = {
    "polar_express": _POLAR_EXPRESS,
    "polar_express_8": (
        *_divide(_POLAR_EXPRESS_RAW, 1.01),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        (1.875, -1.25, 0.375),
    ),
    "jordan": _JORDAN,
    "you": _YOU,
    "quintic": _YOU,  # Its name in other libraries.
    "cans": _CANS,
    "cubic": _CUBIC,
    "deepseek_v4": (*(_JORDAN * 8), *(((2.0, -1.5, 0.5),) * 2)),
    "newton_schulz": ((1.875, -1.25, 0.375),),
    "newton_schulz_cubic": ((1.5, -0.5, 0.0),),
    "halley": ((2.0, -1.5, 0.5),),
}

# No singular value may become larger: such rows do not orthogonalize.
_LARGEST_IMAGE = 4.0

_NOT_POSITIVE = {
    "aol": (
        "the set 'aol' takes singular values above 0.8837 of the norm to negative numbers, so that "
        "a gradient of rank one would be followed uphill"
    )
}


def as_coefficients(value: Any, steps: int, dtype: Any) -> Reals:
    """Return one row (a, b, c) for each step, checked to keep all singular values positive.

    `value` is the name of a set or a sequence of rows; past its end the last row repeats. `dtype`
    is that of the iteration, whose rounding may take the largest singular value above 1.
    """
    named = isinstance(value, str)
    rows = np.asarray(_named_rows(value)) if named else _own_rows(value, steps)
    taken = rows[np.minimum(np.arange(steps), len(rows) - 1)]
    if fault := _fault(taken, 1.0):
        raise ValueError(f"coefficients must keep singular values positive and bounded: {fault}")
    if fault := _fault(taken, 1 + _rounding_of_norm(dtype)):
        raise ValueError(
            f"coefficients={arguments.describe(value)} are not safe in {jnp.dtype(dtype).name}, "
            f"whose rounding may take the largest singular value above 1: {fault}; give "
            "dtype=jnp.float32, or "
            'coefficients="polar_express"'
        )
    return taken


def _named_rows(name: str) -> Sequence[Any]:
    if name in _NOT_POSITIVE:
        raise ValueError(
            f"coefficients must keep singular values positive: {_NOT_POSITIVE[name]}; give another "
            "set, such as 'polar_express'"
        )
    return COEFFICIENTS[arguments.as_option("coefficients", name, COEFFICIENTS)]


def _own_rows(value: Any, steps: int) -> Reals:
    wrong = (
        "coefficients must be the name of a set or rows of three numbers (a, b, c), such as "
        "[(1.875, -1.25, 0.375)]"
    )
    rows = arguments.as_reals("coefficients", value, expected="a name or rows of real numbers")
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows):
        raise ValueError(f"{wrong}, got {arguments.describe(value)}")
    if len(rows) > steps:
        raise ValueError(
            f"coefficients has {len(rows)} rows and steps is {steps}, so that the last rows would "
            f"not be used: give steps={len(rows)}, or only {steps} rows"
        )
    return rows


def _rounding_of_norm(dtype: Any) -> float:
    """Return by how much rounding may increase a singular value of 1 before the first step."""
    info = jnp.finfo(dtype)
    return float(info.eps) * (1 if info.bits == 16 else 8)


def _fault(rows: Reals, high: float) -> str:
    """Return what is wrong with rows for singular values in (0, high], or an empty string.

    The image of an interval is an interval, so that its ends need only the turning points.
    """
    for step, row in enumerate(rows, start=1):
        low_factor, at = _least_factor(row, high)
        if low_factor <= 0:
            return (
                f"in step {step} the row {_text(row)} takes {at:.4g} to {at * low_factor:.4g}, "
                f"and before it singular values are in (0, {high:.4g}]"
            )
        high = max(_apply(row, s) for s in (high, *_turning_points(row, high)))
        if not high <= _LARGEST_IMAGE:
            return f"after step {step} singular values are in (0, {high:.4g}]"
    return ""


def _text(row: Any) -> str:
    return "(" + ", ".join(f"{float(each):.5g}" for each in row) + ")"


def _least_factor(row: Any, high: float) -> tuple[float, float]:
    """Return the least value of a + b s² + c s⁴ for s in [0, high], and that s."""
    a, b, c = map(float, row)
    ends = [0.0, high]
    if c and 0 < -b / (2 * c) < high**2:
        ends.append(float(np.sqrt(-b / (2 * c))))
    return min((a + b * s**2 + c * s**4, s) for s in ends)


def _turning_points(row: Any, high: float) -> list[float]:
    """Return where a s + b s³ + c s⁵ has slope 0, for s in (0, high)."""
    a, b, c = map(float, row)
    squares = np.roots([5 * c, 3 * b, a])
    real = [float(t.real) for t in np.atleast_1d(squares) if abs(t.imag) < 1e-12 and t.real > 0]
    return [s for s in map(np.sqrt, real) if s < high]


def _apply(row: Any, s: Any) -> Any:
    a, b, c = row
    return s * (a + s**2 * (b + c * s**2))
