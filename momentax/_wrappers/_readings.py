"""The readings of a monitor: keys, units, ranges and formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core.hyperparameters import float_dtype
from momentax._state._measures import Measure


def _same(x: Any) -> Any:
    return x


class Reading(NamedTuple):
    """One reading, as a function of measures.

    key: its name in `momentax.measurements`.
    unit: its unit in words, "1" for a pure number.
    range: the interval of its values.
    measures: the names of the measures that the formula takes, in order.
    formula: the function of their values.
    nonzero: the measures that must not be 0, since the formula divides by them.
    of_all: whether there is one number for the whole model, whatever is measured together.
    """

    key: str
    unit: str
    range: str
    measures: tuple[str, ...]
    formula: Callable[..., Any] = _same
    nonzero: tuple[str, ...] = ()
    of_all: bool = False

    def measure(self, measures: Mapping[str, Measure]) -> Measure | None:
        """Return the reading of each group, or None if one of its measures is missing."""
        if any(name not in measures for name in self.measures):
            return None
        known: Any = np.bool_(True)
        values = []
        for name in self.measures:
            value = measures[name].value
            known = known & measures[name].known
            if name in self.nonzero:
                known = known & (value != 0)
                value = jnp.where(value != 0, value, 1)
            values.append(value)
        value = self.formula(*values)
        is_certain = isinstance(known, np.ndarray | np.bool_) and np.all(known)
        return Measure(value if is_certain else jnp.where(known, value, 0), known)


def _ratio(x: Any, y: Any) -> Any:
    return x / y


def _curvature(slope: Any, slope_before: Any, length: Any) -> Any:
    return (slope - slope_before) / length / length  # The square may under- or overflow.


def _alpha(slope: Any, slope_before: Any) -> Any:
    return -slope / slope_before


# The order is that of the columns in a MonitorState.
READINGS = (
    Reading("loss", "loss", "(-inf, inf)", ("loss",), of_all=True),
    Reading("gradient_norm", "gradient", "[0, inf)", ("gradient",)),
    Reading("clipped_gradient_norm", "gradient", "[0, inf)", ("clipped",)),
    Reading("velocity_norm", "velocity", "[0, inf)", ("velocity",)),
    Reading("update_norm", "parameters", "[0, inf)", ("update",)),
    Reading("parameter_norm", "parameters", "[0, inf)", ("parameter",)),
    Reading("cos", "1", "[-1, 1]", ("cosine",)),
    Reading("angle", "degrees", "[0, 180]", ("angle",)),
    Reading("gain", "1", "[0, inf)", ("summed", "gradient"), _ratio, ("gradient",)),
    Reading(
        "effective_learning_rate",
        "parameters per gradient",
        "[0, inf)",
        ("update", "gradient"),
        _ratio,
        ("gradient",),
    ),
    Reading("update_ratio", "1", "[0, inf)", ("update", "parameter"), _ratio, ("parameter",)),
    Reading("opposing_share", "1", "[0, 1]", ("opposing",)),
    Reading("gradient_snr", "1", "[-1/2, inf]", ("signal_to_noise",)),
    Reading("nonfinite", "entries", "[0, inf)", ("nonfinite",)),
    Reading("headroom", "powers of ten", "(-inf, inf]", ("headroom",)),
    Reading("age", "steps", "[0, inf)", ("age",)),
    Reading(
        "curvature",
        "gradient per parameters",
        "(-inf, inf)",
        ("slope", "slope_before", "length"),
        _curvature,
        ("length",),
    ),
    Reading("edge", "gradient per parameters", "[0, inf]", ("edge",)),
    Reading("alpha", "1", "(-inf, inf)", ("slope", "slope_before"), _alpha, ("slope_before",)),
)
COLUMNS = len(READINGS) + 1  # The last one says which readings are known.


def as_row(measures: Mapping[str, Measure], groups: int) -> jax.Array:
    """Return all readings of each group, and a number whose bits say which of them are known."""
    dtype = float_dtype()
    columns, bits, certain = [], [], np.zeros(groups, dtype)
    for i, reading in enumerate(READINGS):
        found = reading.measure(measures)
        if found is None:
            columns.append(jnp.zeros(groups, dtype))
            continue
        columns.append(jnp.broadcast_to(found.value, (groups,)).astype(dtype))
        if isinstance(found.known, jax.Array):
            bits.append(jnp.where(found.known, jnp.asarray(2.0**i, dtype), 0))
        else:
            certain += np.where(found.known, 2.0**i, 0).astype(dtype)
    return jnp.stack([*columns, sum(bits, start=jnp.asarray(certain))], axis=1)
