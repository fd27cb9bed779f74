"""Statistics of the gradient norm and of the loss over the last steps, and what is a spike."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from momentax._core.hyperparameters import float_dtype

_WINDOW = 128
_WARM_UP = 16  # Values that are needed before a step can be a spike.
_PATIENCE = 10  # Spikes after which a level is taken to have changed.
_LEAST_SHARE = 0.01  # The least standard deviation, as a share of the mean.

# recent: an array of shape (2, _WINDOW) of norms and losses, oldest first; known: how many of
# each are known, at its end; streak: spikes since the last step made.
History = tuple[jax.Array, jax.Array, jax.Array]


def no_history() -> History:
    """Return the history before the first step."""
    recent = jnp.zeros((2, _WINDOW), float_dtype())
    return recent, jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32)


def judge(
    history: History, norm: jax.Array, loss: Any, factor: Any, allowed: jax.Array
) -> tuple[jax.Array, History]:
    """Return whether a step is a spike and to be skipped, and the new history.

    The history stays as it is if the step is not allowed for another reason. `loss` may be None.
    """
    recent, known, streak = history
    pair = norm, jnp.nan if loss is None else loss
    values = jnp.stack([jnp.asarray(each, recent.dtype) for each in pair])
    # A gradient of 0, as of a batch without examples, says nothing about the size of others.
    given = jnp.isfinite(values) & jnp.stack([norm > 0, jnp.array(loss is not None)])
    # Divided by the largest value, no square overflows. A window of zeros is divided by 1.
    largest = jnp.max(jnp.abs(recent), axis=1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    is_known = jnp.arange(_WINDOW, dtype=known.dtype)[None, :] >= _WINDOW - known[:, None]
    scaled = jnp.where(is_known, recent / largest, 0)
    count = jnp.maximum(known, 1).astype(recent.dtype)
    mean = scaled.sum(1) / count
    variance = jnp.where(is_known, (scaled - mean[:, None]) ** 2, 0).sum(1) / count
    spread = jnp.maximum(jnp.sqrt(variance), _LEAST_SHARE * jnp.abs(mean))
    high = given & (values / largest[:, 0] > mean + factor * spread)
    high &= (known >= _WARM_UP) & (spread > 0)

    unusual = allowed & jnp.any(high)
    starts_again = unusual & (streak >= _PATIENCE)
    spikes = unusual & ~starts_again
    enters = allowed & ~spikes & given
    known = jnp.where(starts_again, 0, known)
    known = jnp.where(enters, jnp.minimum(known + 1, _WINDOW), known)
    shifted = jnp.concatenate([recent[:, 1:], values[:, None]], axis=1)
    recent = jnp.where(enters[:, None], shifted, recent)
    streak = jnp.where(spikes, streak + 1, jnp.where(allowed, 0, streak))
    return spikes, (recent, known, streak)
