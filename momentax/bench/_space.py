"""The search space and the trials of a method, as a result keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from momentax._core.typing import Reals
from momentax.sweeps import Distribution


class Space(NamedTuple):
    """The space in which the hyperparameters of a method were searched, and its trials there.

    ranges: a distribution for each hyperparameter.
    default: the hyperparameters of trial 0.
    trials: an array of the values of all trials for each hyperparameter, the same on all tasks.
        None means those that `Entry.trials` makes; a file has the values, since another version may
        make others.
    """

    ranges: Mapping[str, Distribution]
    default: Mapping[str, float]
    trials: Mapping[str, Reals] | None = None


def spaces_as_content(spaces: Mapping[str, Space]) -> dict[str, Any]:
    """Return spaces that have their trials as JSON has them."""
    return {
        method: {
            "ranges": {name: asdict(each) for name, each in space.ranges.items()},
            "default": dict(space.default),
            "trials": {name: [*column] for name, column in (space.trials or {}).items()},
        }
        for method, space in spaces.items()
    }


def spaces_of(content: Mapping[str, Any]) -> dict[str, Space]:
    """Return spaces from what JSON has."""
    return {
        method: Space(
            {name: Distribution(**each) for name, each in fields["ranges"].items()},
            fields["default"],
            {name: np.asarray(each, np.float64) for name, each in fields["trials"].items()},
        )
        for method, fields in content.items()
    }


def joined_spaces(one: Mapping[str, Space], two: Mapping[str, Space]) -> dict[str, Space]:
    """Return the spaces of both, without those of methods that were searched in two spaces.

    Of two equal spaces the one with more trials is kept.
    """
    both = {**two, **one}
    found = {name: each for name, each in both.items() if is_same(each, two.get(name, each))}
    return {name: max(each, two.get(name, each), key=_count) for name, each in found.items()}


def is_same(one: Space, two: Space) -> bool:
    """Return whether two spaces are equal up to the rounding of files and the number of trials."""
    if one.ranges.keys() != two.ranges.keys():
        return False
    if any(one.ranges[name].scale != two.ranges[name].scale for name in one.ranges):
        return False
    count = min(_count(one), _count(two))
    return all(
        np.allclose(_numbers(one, name, count), _numbers(two, name, count), rtol=1e-5, atol=0)
        for name in one.ranges
    )


def _numbers(space: Space, name: str, count: int) -> Reals:
    ends = space.ranges[name].low, space.ranges[name].high, space.default[name]
    trials = () if space.trials is None else space.trials[name][:count]
    return np.concatenate([ends, trials])


def _count(space: Space) -> int:
    """Return the number of trials whose values are known."""
    return 0 if space.trials is None else len(next(iter(space.trials.values())))
