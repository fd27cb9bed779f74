"""What a point costs on a CPU core, estimated from its traced program before anything is compiled.

On a CPU, compiling takes most of the time of a small sweep, and XLA takes about half as long again
to compile the program that `jax.vmap` makes of a point's. That pays only if the points save more.
What vmap saves there is starting operations, one for many points. The estimate need not be precise:
where it decides for either, both take about as long, and a sweep that is large and runs under vmap
measures its batch size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from momentax._core.xla import EXPENSIVE, called_programs

# Seconds on a core of a processor of 2020 to 2025, as tests/benchmarks/sweep.py measures them. What
# is decided depends on their ratios, which differ less between processors.
_START = 150e-9  # To start an operation that XLA does not fuse with others.
_FUSED = 3e-9  # The same for a fused one.
_FLOP = 1e-11
_ENTRY = 2e-10  # To compute an entry of any other result.
_VECTORIZE_START, _VECTORIZE_FUSED = 10e-3, 0.4e-3  # What vmap adds to compiling an operation.
_LEAST_GAIN = 0.03  # A smaller share of the running time is less than the error of the estimate.

# Operations that run alone although they take little longer than reading their operands.
_ALONE = (
    "reduce", "arg", "cum", "gather", "scatter", "dynamic_update_slice", "concatenate", "pad",
    "random_", "threefry", "rng_",
)  # fmt: skip


class Cost(NamedTuple):
    """The estimated cost of a point's program on a CPU core, in seconds.

    run: to run it once.
    start: the part of `run` that goes into starting operations, which vmap does once for all.
    vectorize: to compile the program that vmap makes of it, beyond compiling this one.
    """

    run: float
    start: float
    vectorize: float


def estimate(jaxpr: Any) -> Cost | None:
    """Return the cost of a traced program, or None if it is not known.

    That is so if the program has a loop of unknown length, or effects, whose order may matter.
    """
    if jaxpr.effects:
        return None
    total = _count(jaxpr.jaxpr)
    if not math.isfinite(total.seconds):
        return None
    start = _START * total.alone + _FUSED * total.fused
    return Cost(
        run=start + total.seconds,
        start=start,
        vectorize=_VECTORIZE_START * total.alone_once + _VECTORIZE_FUSED * total.fused_once,
    )


def favours_loop(devices: int, costs: Sequence[tuple[Cost | None, int]]) -> bool:
    """Return whether one point per device at a time takes less time than vmap, with compilation.

    devices: the number of CPU devices.

    costs: for each program, the cost of a point and the number of points.
    """
    saved, added, total = 0.0, 0.0, 0.0
    for cost, points in costs:
        if cost is None:
            return False
        each = -(-points // devices)
        saved += cost.start * each
        total += cost.run * each
        added += cost.vectorize
    return saved < added or saved < _LEAST_GAIN * total


class _Total(NamedTuple):
    """The operations of a program: how many run, how many are compiled, and the time in them."""

    alone: float = 0
    fused: float = 0
    alone_once: int = 0
    fused_once: int = 0
    seconds: float = 0.0

    def plus(self, other: _Total, times: float = 1) -> _Total:
        """Add a program that runs so many times."""
        return _Total(
            self.alone + times * other.alone,
            self.fused + times * other.fused,
            self.alone_once + other.alone_once,
            self.fused_once + other.fused_once,
            self.seconds + times * other.seconds,
        )


def _count(jaxpr: Any) -> _Total:
    total = _Total()
    for equation in jaxpr.eqns:
        bodies = [_count(body) for body in called_programs(equation)]
        name = equation.primitive.name
        if not bodies:
            total = total.plus(_count_operation(equation))
        elif name == "cond":  # One of the branches runs, and all are compiled.
            longest = max(bodies, key=lambda body: body.seconds)
            for body in bodies:
                total = total.plus(body, times=body is longest)
        else:
            times = {"scan": equation.params.get("length"), "while": math.inf}.get(name, 1)
            for body in bodies:
                total = total.plus(body, times)
    return total


def _count_operation(equation: Any) -> _Total:
    name = equation.primitive.name
    runs_alone = name in EXPENSIVE or name.startswith(_ALONE)
    atoms = (*equation.invars, *equation.outvars)
    entries = max((math.prod(getattr(atom.aval, "shape", ())) for atom in atoms), default=0)
    seconds = _ENTRY * entries + _FLOP * _flops(equation)
    return _Total(runs_alone, not runs_alone, runs_alone, not runs_alone, seconds)


def _flops(equation: Any) -> float:
    """Return the floating-point operations of an equation, beyond one for each entry."""
    name, operands = equation.primitive.name, [atom.aval for atom in equation.invars]
    if name not in EXPENSIVE or not equation.outvars:
        return 0
    result = equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * result.size * math.prod(operands[0].shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        features = equation.params["dimension_numbers"].rhs_spec[0]
        return 2 * result.size * operands[1].size / max(operands[1].shape[features], 1)
    shape = getattr(operands[0], "shape", ()) if operands else ()
    return 10 * math.prod(shape) * shape[-1] if shape else 0  # Mostly factorizations of matrices.
