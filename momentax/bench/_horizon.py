"""The length of a run, and the schedule of the learning rate that all entries share."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from momentax._core import arguments
from momentax._core.hyperparameters import as_constant
from momentax._core.typing import Scalar, Schedule

_WARMUP = 0.05  # The share of the steps in which the learning rate rises.


class Horizon(NamedTuple):
    """The length of a run, and the shape of the learning rate's schedule over it.

    steps: N, the number of updates of the run.
    shape: "cosine" or "constant", what follows after the warm-up.
    """

    steps: int
    shape: str = "cosine"

    def learning_rate(self, peak: Scalar) -> Schedule:
        """Return the schedule with a given peak.

            α_t = peak · min(1, (t + 1) / w) · c_t,    w = max(1, N/20)

        with c_t = ½ (1 + cos(π max(0, t - w) / (N - w))) or c_t = 1.

        Args:
            peak: The largest learning rate, a number in [0, inf) or a 0-d array, traced or not.

        Raises:
            ValueError: peak is negative or not finite.
            TypeError: peak is not a number.

        Example:
            >>> rate = momentax.bench.Horizon(200).learning_rate(2.0)
            >>> [round(float(rate(t)), 3) for t in (0, 9, 105, 200)]
            [0.2, 2.0, 1.0, 0.0]
        """
        shape = arguments.as_option("shape", self.shape, ("cosine", "constant"))
        w = max(1.0, _WARMUP * self.steps)
        peak = jnp.asarray(as_constant("peak", peak, "[0, inf)")(0), jnp.float32)

        def schedule(count: Any) -> Any:
            t = jnp.asarray(count, jnp.float32)
            rise = jnp.minimum(1.0, (t + 1) / w)
            if shape == "constant":
                return peak * rise
            share = jnp.clip((t - w) / max(self.steps - w, 1.0), 0.0, 1.0)
            return peak * rise * 0.5 * (1 + jnp.cos(jnp.pi * share))

        return schedule
