"""The search space of an entry: what it must be, its edges, wider ranges, and weight decay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from momentax._core import arguments
from momentax.sweeps import Distribution, log_uniform

Space = Mapping[str, Distribution]

MOST_AXES = 4
DECAY = "weight_decay"
DECAYS, USUAL_DECAY = log_uniform(1e-5, 1), 1e-4  # The range of λ, and the default of optax.adamw.
_EDGE = 0.05
_WIDER = 10.0  # The factor by which an end of a range moves.
_SHARES = re.compile("beta|momentum|^b[0-9]$|^nu$")  # Numbers below 1, such as β and ν.
_RATES = re.compile("rate|age$")


def names_at_edge(space: Space, hyperparameters: Mapping[str, float]) -> list[str]:
    """Return which rates, β and ages lie within 5% of an end of their range, on its scale.

    A lower end of 0 does not count: no β or ν lies below it. Neither do the ends of other
    hyperparameters, such as ε or a number of poles: one that hardly matters is near an end by
    chance.
    """
    return [
        name
        for name, each in space.items()
        if (_SHARES.search(name) or _RATES.search(name))
        and (
            hyperparameters[name] > each.quantile(1 - _EDGE)
            or (hyperparameters[name] < each.quantile(_EDGE) and each.low != 0)
        )
    ]


def widened(name: str, each: Distribution) -> Distribution | None:
    """Return the range of a hyperparameter with both ends moved by a factor of ten.

    The ends of β, ν and other numbers on the scale of momentum move by that factor of 1 - β, and
    stay in [0, 1). None is returned for other hyperparameters on a linear scale, of which nothing
    says where they may lie.
    """
    is_share = _SHARES.search(name) is not None and each.high < 1
    if each.scale == "momentum" or is_share:
        low = max(0.0 if each.scale != "log" else each.low / _WIDER, 1 - _WIDER * (1 - each.low))
        high = 1 - (1 - each.high) / _WIDER
    elif each.scale == "log" or (_RATES.search(name) and each.low >= 0):
        low, high = each.low / _WIDER, _WIDER * each.high
    else:
        return None
    low, high = (float(f"{end:.15g}") for end in (low, high))  # Without the error of 1 - (1 - β).
    return Distribution(low, high, each.scale)


def with_decay(space: Space, default: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the space and the default with weight decay, and without a fifth hyperparameter."""
    kept = list(space)
    if len(kept) == MOST_AXES:
        kept.remove(next((name for name in reversed(kept) if not _RATES.search(name)), kept[-1]))
    return (
        {**{name: space[name] for name in kept}, DECAY: DECAYS},
        {**{name: default[name] for name in kept}, DECAY: USUAL_DECAY},
    )


def require_space(space: Any) -> None:
    """Refuse a space that is no dictionary of one to four distributions."""
    example = 'such as {"learning_rate": momentax.sweeps.log_uniform(1e-3, 1)}'
    if not isinstance(space, Mapping) or not all(
        isinstance(name, str) and isinstance(each, Distribution) for name, each in space.items()
    ):
        raise TypeError(
            f"space must be a dictionary from names to distributions, {example}, got "
            f"{arguments.describe(space)}"
        )
    if not 1 <= len(space) <= MOST_AXES:
        raise ValueError(
            f"space must have 1 to {MOST_AXES} hyperparameters, {example}, got {len(space)}"
        )


def require_default(default: Any, space: Space) -> None:
    """Refuse a default that does not lie in the space."""
    if not isinstance(default, Mapping) or set(default) != set(space):
        raise ValueError(
            f"default must have a number for each of {', '.join(space)}, got "
            f"{arguments.describe(default)}"
        )
    for name, each in space.items():
        value = arguments.as_real(f"default[{name!r}]", default[name], arguments.ANY_REAL)
        if not each.low <= value <= each.high:
            raise ValueError(
                f"default[{name!r}] must lie in its range, [{each.low:g}, {each.high:g}], got "
                f"{value:g}"
            )
