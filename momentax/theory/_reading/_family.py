"""Read the systems of a family of transformations, compiled once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np
import optax

from momentax._core import arguments
from momentax.theory._reading._reader import Reader, double_precision
from momentax.theory._reading._state_space import (
    EXAMPLE_PARAMS,
    OperatingPoint,
    join,
    read,
    step_matrices,
)
from momentax.theory._system import LinearSystem

# So many systems are compared before the operating point of the first is used for the rest.
_FULL_READINGS = 3


class Family:
    """The systems of the transformations that a factory makes of hyperparameters.

    The first few are read like any other system. If they differ in their coefficients only,
    only the coefficients of the rest are read, unless a full reading is asked for.
    """

    def __init__(self, factory: Callable[..., Any]):
        self.factory = factory
        self.reader: Reader | None = None  # The compiled one, if the factory takes tracers.
        self.traced = True
        self.operating_points: list[OperatingPoint] = []
        self.similar = True  # Whether all operating points have equal discrete parts.
        self.equal = True  # Whether they are equal, except in the linear state.

    def _transformation(self, **hyperparameters: Any) -> Any:
        tx = self.factory(**hyperparameters)
        return tx.gradient_transformation() if isinstance(tx, optax.MultiSteps) else tx

    def __call__(self, hyperparameters: dict[str, float], full: bool = False) -> LinearSystem:
        # First with numbers, since the value of a tracer cannot be checked.
        tx = self._transformation(**hyperparameters)
        arguments.require_transformation("what factory returns", tx)
        with double_precision():
            if not self.operating_points:
                return self._read_first(tx, hyperparameters)
            reader = self.reader or Reader(lambda: tx, EXAMPLE_PARAMS)
            if self.traced:
                reader.hyperparameters = hyperparameters
            if full or len(self.operating_points) < _FULL_READINGS or not self.similar:
                system, operating_point = read(reader)
                self._keep(operating_point)
                return system
            first = self.operating_points[0]
            # A reader that is not shared runs once: interpreting it is faster than compiling.
            with nullcontext() if self.traced else jax.disable_jit():
                if not self.equal:
                    return read(reader, known=first)[0]
                matrices = step_matrices(reader, first, np.random.default_rng(0), test=False)
            return join(matrices, first.start, 0)

    def _read_first(self, tx: Any, hyperparameters: dict[str, float]) -> LinearSystem:
        try:
            reader = Reader(self._transformation, EXAMPLE_PARAMS, **hyperparameters)
            system, operating_point = read(reader)
        except Exception:  # Whether a factory takes tracers can only be tried.
            system, operating_point = read(Reader(lambda: tx, EXAMPLE_PARAMS))
            self.traced = False
        else:
            self.reader = reader
        self._keep(operating_point)
        return system

    def _keep(self, operating_point: OperatingPoint) -> None:
        """Keep the first operating points and the last one, and compare them."""
        self.operating_points = [*self.operating_points[: _FULL_READINGS - 1], operating_point]
        first = self.operating_points[0]
        self.similar = all(map(first.has_same_discrete_parts, self.operating_points))
        self.equal = all(map(first.equals, self.operating_points))
