"""The entries of the comparison: fifteen methods with their search spaces.

The rate of a velocity is searched as the effective rate: the learning rate times the sum of the
weights that the method gives to one gradient over all later steps, α/(1 - β) for heavy ball. The
effective rate and β are nearly independent, and the best effective rate of methods with and without
momentum is about the same.

The mean age of a velocity is how many steps back it looks on average, β/(1 - β). Some entries have
hyperparameters of their own:

    nu           ν, the weight of the average in the step of quasi_hyperbolic; 1 - ν is that of the
                 newest gradient
    poles        K, the number of velocities, each with a β of its own, rounded down
    longest_age  the mean age of the longest velocity; in annealed, that at the end of the run
    share        the weight of the long average of annealed, the annealed mixture of a short and a
                 long average; 1 - share is that of the short one
    adam_ratio   the rate of Adam, for all parameters that are no matrices, over that of Muon

Each function has an argument weight_decay for `Entry.with_weight_decay`; None runs no code for it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from momentax import schedules
from momentax._methods._adan import adan
from momentax._methods._aggregated import aggregated
from momentax._methods._heavy_ball import heavy_ball
from momentax._methods._lion import lion
from momentax._methods._nadam import nadam
from momentax._methods._nesterov import nesterov
from momentax._methods._quasi_hyperbolic import quasi_hyperbolic
from momentax._methods._sign_average import sign_average
from momentax._muon._muon import muon
from momentax._sgd import sgd
from momentax._wrappers._restart import restart
from momentax.bench._entry import Entry
from momentax.bench._horizon import Horizon
from momentax.bench._named import Named
from momentax.sweeps import log_uniform, momentum_uniform, uniform

_MOST_POLES = 4
_Decay = jax.Array | None

# The first range, up to 30, cut off the best rates of the ridge task.
_EFFECTIVE = {"effective_rate": log_uniform(1e-3, 300)}
_BETA = {"beta": momentum_uniform(0.5, 0.997)}
_SIGN = {"learning_rate": log_uniform(1e-5, 0.05)}
_AGES = {**_EFFECTIVE, "longest_age": log_uniform(1, 300), "poles": uniform(2, 5)}
_ADAM = {
    "learning_rate": log_uniform(1e-4, 0.3),
    "beta1": momentum_uniform(0.5, 0.995),
    "beta2": momentum_uniform(0.8, 0.9999),
}
_EPS = {"eps": log_uniform(1e-10, 1e-3)}


def _descend(horizon: Horizon, learning_rate: jax.Array, method: Any, decay: _Decay) -> Any:
    """Return the optimizer of a method, with decoupled weight decay unless it is None."""
    options: dict[str, Any] = {} if decay is None else {"weight_decay": decay, "decoupled": True}
    return sgd(horizon.learning_rate(learning_rate), method, **options)


def _plain(horizon: Horizon, learning_rate: jax.Array, weight_decay: _Decay = None) -> Any:
    return _descend(horizon, learning_rate, optax.identity(), weight_decay)


def _heavy_ball(
    horizon: Horizon, effective_rate: jax.Array, beta: jax.Array, weight_decay: _Decay = None
) -> Any:
    return _descend(horizon, effective_rate * (1 - beta), heavy_ball(beta), weight_decay)


def _nesterov(
    horizon: Horizon, effective_rate: jax.Array, beta: jax.Array, weight_decay: _Decay = None
) -> Any:
    return _descend(horizon, effective_rate * (1 - beta), nesterov(beta), weight_decay)


def _quasi_hyperbolic(
    horizon: Horizon,
    effective_rate: jax.Array,
    beta: jax.Array,
    nu: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    return _descend(horizon, effective_rate, quasi_hyperbolic(beta, nu), weight_decay)


def _betas(longest_age: jax.Array, poles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return four β, and the weight of each in a plain average over the first K of them.

    Their mean ages β/(1 - β) are 0 and K - 1 others, evenly spaced on a log scale up to the
    longest, such that age + 1 grows from 1 by equal factors.
    """
    K = jnp.floor(poles)
    place = jnp.arange(_MOST_POLES, dtype=jnp.float32)
    age = (1 + longest_age) ** (place / (K - 1)) - 1
    is_used = place < K
    return jnp.where(is_used, age / (1 + age), 0.0), jnp.where(is_used, 1 / K, 0.0)


def _aggregated(
    horizon: Horizon,
    effective_rate: jax.Array,
    longest_age: jax.Array,
    poles: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    β, share = _betas(longest_age, poles)
    total = jnp.sum(share / (1 - β))
    return _descend(horizon, effective_rate / total, aggregated(β, share), weight_decay)


def _kernel(
    horizon: Horizon,
    effective_rate: jax.Array,
    longest_age: jax.Array,
    poles: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    β, share = _betas(longest_age, poles)
    return _descend(horizon, effective_rate, aggregated(β, share, gain="average"), weight_decay)


def _annealed(
    horizon: Horizon,
    effective_rate: jax.Array,
    beta: jax.Array,
    longest_age: jax.Array,
    share: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    slow = schedules.anneal_age(beta / (1 - beta), longest_age, horizon.steps)
    mixture = aggregated((beta, slow), (1 - share, share), gain="average")
    return _descend(horizon, effective_rate, mixture, weight_decay)


def _restarted(
    horizon: Horizon, effective_rate: jax.Array, beta: jax.Array, weight_decay: _Decay = None
) -> Any:
    return restart(_nesterov(horizon, effective_rate, beta, weight_decay), "gradient")


def _signum(
    horizon: Horizon, learning_rate: jax.Array, beta: jax.Array, weight_decay: _Decay = None
) -> Any:
    return _descend(horizon, learning_rate, sign_average(beta), weight_decay)


def _lion(
    horizon: Horizon,
    learning_rate: jax.Array,
    beta1: jax.Array,
    beta2: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    return _descend(horizon, learning_rate, lion(beta1, beta2), weight_decay)


def _adam(
    horizon: Horizon,
    learning_rate: jax.Array,
    beta1: jax.Array,
    beta2: jax.Array,
    eps: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    α = horizon.learning_rate(learning_rate)
    if weight_decay is None:
        return optax.adam(α, beta1, beta2, eps)
    return optax.adamw(α, beta1, beta2, eps, weight_decay=weight_decay)


def _nadam(
    horizon: Horizon,
    learning_rate: jax.Array,
    beta1: jax.Array,
    beta2: jax.Array,
    eps: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    return _descend(horizon, learning_rate, nadam(beta1, beta2, eps), weight_decay)


def _adan(
    horizon: Horizon,
    learning_rate: jax.Array,
    beta1: jax.Array,
    beta2: jax.Array,
    beta3: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    return _descend(horizon, learning_rate, adan(beta1, beta2, beta3), weight_decay)


def _muon(
    horizon: Horizon,
    learning_rate: jax.Array,
    beta: jax.Array,
    adam_ratio: jax.Array,
    weight_decay: _Decay = None,
) -> Any:
    of_others = horizon.learning_rate(learning_rate * adam_ratio)
    α = horizon.learning_rate(learning_rate)
    if weight_decay is None:
        return muon(α, beta=beta, others=optax.adam(of_others))
    others = optax.adamw(of_others, weight_decay=weight_decay)
    return muon(α, beta=beta, others=others, weight_decay=weight_decay)


def _schedule_free(
    horizon: Horizon, learning_rate: jax.Array, beta: jax.Array, weight_decay: _Decay = None
) -> Any:
    α = horizon.learning_rate(learning_rate)
    base = optax.sgd(α)
    if weight_decay is not None:  # As in optax.contrib.schedule_free_sgd, at the iterate y.
        base = optax.chain(optax.add_decayed_weights(weight_decay), base)
    return optax.contrib.schedule_free(base, α, b1=beta)


_AGES_AT_FIRST = {"effective_rate": 0.5, "longest_age": 99.0, "poles": 3.5}
_ADAM_AT_FIRST = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999}

_ALL = (
    Entry(
        "sgd", _plain, {"learning_rate": log_uniform(1e-3, 30)}, {"learning_rate": 0.1},
        description="gradient descent without momentum",
    ),
    Entry("heavy_ball", _heavy_ball, {**_EFFECTIVE, **_BETA}, {"effective_rate": 0.5, "beta": 0.9}),
    Entry("nesterov", _nesterov, {**_EFFECTIVE, **_BETA}, {"effective_rate": 0.5, "beta": 0.9}),
    Entry(
        "quasi_hyperbolic", _quasi_hyperbolic,
        {**_EFFECTIVE, "beta": momentum_uniform(0.5, 0.9997), "nu": momentum_uniform(0, 0.99)},
        {"effective_rate": 0.5, "beta": 0.999, "nu": 0.7},
    ),
    Entry(
        "aggregated", _aggregated, _AGES, _AGES_AT_FIRST,
        description="2 to 4 velocities that sum gradients, weighted equally",
    ),
    Entry(
        "kernel", _kernel, _AGES, _AGES_AT_FIRST,
        description="2 to 4 averages of geometric ages, weighted equally: about 1 / (1 + lag)",
    ),
    Entry(
        "annealed", _annealed,
        {
            **_EFFECTIVE, **_BETA, "longest_age": log_uniform(1, 300),
            "share": uniform(0.05, 0.95),
        },
        {"effective_rate": 0.5, "beta": 0.9, "longest_age": 100.0, "share": 0.5},
        description="a short average, and one whose age grows during training",
    ),
    Entry(
        "restart", _restarted, {**_EFFECTIVE, **_BETA}, {"effective_rate": 0.5, "beta": 0.9},
        shape="constant", description="Nesterov, restarted when the step would go uphill",
    ),
    Entry(
        "lion", _lion,
        {**_SIGN, "beta1": momentum_uniform(0.5, 0.97), "beta2": momentum_uniform(0.8, 0.998)},
        {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99},
    ),
    Entry(
        "signum", _signum, {**_SIGN, **_BETA}, {"learning_rate": 1e-4, "beta": 0.9},
        description="the sign of an average",
    ),
    Entry("adam", _adam, {**_ADAM, **_EPS}, {**_ADAM_AT_FIRST, "eps": 1e-8}),
    Entry("nadam", _nadam, {**_ADAM, **_EPS}, {**_ADAM_AT_FIRST, "eps": 1e-8}),
    Entry(
        "adan", _adan, {**_ADAM, "beta3": momentum_uniform(0.8, 0.999)},
        {"learning_rate": 1e-3, "beta1": 0.98, "beta2": 0.92, "beta3": 0.99},
    ),
    Entry(
        "muon", _muon,
        {
            "learning_rate": log_uniform(1e-3, 1), "beta": momentum_uniform(0.7, 0.98),
            "adam_ratio": log_uniform(0.03, 3),
        },
        {"learning_rate": 0.02, "beta": 0.95, "adam_ratio": 0.15},
        description="orthogonalized momentum for matrices, Adam for the others",
    ),
    Entry(
        "schedule_free", _schedule_free,
        {"learning_rate": log_uniform(1e-2, 30), "beta": momentum_uniform(0.5, 0.98)},
        {"learning_rate": 1.0, "beta": 0.9}, shape="constant",
        description="gradient descent whose iterates are averaged, from Optax",
    ),
)  # fmt: skip

entries: Named[Entry] = Named("entry", *_ALL)
