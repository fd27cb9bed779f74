"""The learning rate and β of a pipeline, for the remedies of `explain`."""

from __future__ import annotations

from typing import NamedTuple

import optax


class Settings(NamedTuple):
    """What is known of the hyperparameters; None where it is not."""

    learning_rate: float | None
    beta: float | None


def settings_of(tx: optax.GradientTransformation | None, count: int) -> dict[str, Settings]:
    """Return the hyperparameters of a transformation by label, "" for all parameters."""
    if tx is None:
        return {}
    return {}
