"""The learning rate and β of a pipeline, for the remedies of `explain`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from momentax._core.without_jax import is_within
from momentax._state._hyperparameters import hyperparameters


class Settings(NamedTuple):
    """What is known of the hyperparameters; None where it is not."""

    learning_rate: float | None
    beta: float | None


def settings_of(tx: optax.GradientTransformation | None, count: int) -> dict[str, Settings]:
    """Return the hyperparameters that update `count` used, by label, "" for all parameters.

    What cannot be read without the parameters, as behind a mask of them, is left out.
    """
    if tx is None:
        return {}
    try:
        found = hyperparameters(_after(tx.init({"w": jnp.zeros(1)}), count + 1), tx)
    except Exception:  # tx may need the actual parameters, and raise what it likes.
        return {}
    labels = {key.rpartition("/")[0] for key in found}

    def number(label: str, name: str, interval: str) -> float | None:
        value = found.get(f"{label}/{name}" if label else name, found.get(name))
        if value is None or np.ndim(value) or not is_within(interval, value):
            return None
        return float(value)

    return {
        label: Settings(number(label, "learning_rate", "(0, inf)"), number(label, "beta", "[0, 1)"))
        for label in labels
    }


def _after(state: Any, updates: int) -> Any:
    """Return a state with its counts as they are after some updates, for its schedules."""

    def replace(path: Any, leaf: Any) -> Any:
        name = getattr(path[-1], "name", "") if path else ""
        is_count = str(name).endswith("count") and jnp.issubdtype(leaf.dtype, jnp.integer)
        return jnp.full_like(leaf, updates) if is_count else leaf

    return jax.tree_util.tree_map_with_path(replace, state)
