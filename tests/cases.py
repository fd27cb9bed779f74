"""The properties of every transformation that the contract tests read.

A new method needs a row here and its twin in tests/reference.py; all tests over `METHODS`,
`WRAPPERS`, `NESTED` or `TRANSFORMATIONS` then include it. tests/test_cases.py fails while a row is
missing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import momentax
from momentax import sgd
from tests import reference
from tests.storage.cases import STORAGES


class Case(NamedTuple):
    """A transformation as a function of its hyperparameters, and its properties.

    make: builds the transformation; its arguments are the hyperparameters.
    hyperparameters: names and ordinary values.
    twin: the recurrence in NumPy.
    swept: the hyperparameter that tests map over with `jax.vmap`, or None.
    values: the values of that hyperparameter.
    decay: the hyperparameter by which the velocity decays when gradients are 0, or None.
    fixed: the hyperparameters that accept no schedule.
    intervals: the intervals of hyperparameters that differ from `INTERVALS`.
    ranges: the ranges from which tests draw hyperparameters, where they differ from `RANGES`.
    displayed: what errors call a hyperparameter, where it is not its name.
    extra: returns the further arguments that `update` needs, as a function of the gradients.
    accessed: the most bytes per parameter that a compiled step reads and writes. The parameters
        are float32; they and the state are donated.
    temporary: the most bytes per parameter that such a step allocates.
    copies: the most buffers of the parameters' size that such a step copies.
    reason: why `temporary` and `copies` cannot be 0.
    axes: the number of leading axes that the velocity has before the parameter's axes.
    coupled: whether the gradient of one leaf changes the velocity of another.
    reach: the part of the directions and velocities that an extreme entry of a gradient may
        change: its own "entry", its "leaf" or the whole "tree".
    largest: the largest entry, in powers of ten, up to which all directions are finite.
    forgets: whether a NaN leaves the velocity after some steps.
    skips: whether steps that are not finite are skipped.
    """

    make: Callable[..., Any]
    hyperparameters: dict[str, float]
    twin: Callable[..., Any]
    swept: str | None = "beta"
    values: tuple[float, ...] = (0.0, 0.5, 0.9, 0.99)
    decay: str | None = "beta"
    fixed: tuple[str, ...] = ()
    intervals: Mapping[str, str] = MappingProxyType({})
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({})
    displayed: Mapping[str, str] = MappingProxyType({})
    extra: Callable[[Any], dict[str, Any]] = lambda g: {}
    accessed: int = 28
    temporary: float = 0
    copies: int = 0
    reason: str = ""
    axes: int = 0
    coupled: bool = False
    reach: str = "entry"
    largest: int = 38
    forgets: bool = False
    skips: bool = False


# The interval of each hyperparameter; all real numbers if it is not listed.
INTERVALS = {
    "L": "(0, inf)",
    "beta": "[0, 1)",
    "beta1": "(0, 1)",
    "beta_step": "[0, inf)",
    "c": "(0, 1]",
    "compensation": "[0, inf)",
    "dampening": "[0, 1)",
    "eps": "(0, inf)",
    "factor": "[0, inf)",
    "gamma": "[0, inf)",
    "gamma_max": "(0, inf)",
    "k": "(0, inf)",
    "kappa": "[1, inf)",
    "kd": "(0, inf)",
    "ki": "(0, inf)",
    "kp": "(-inf, 0)",
    "learning_rate": "[0, inf)",
    "learning_rate_step": "[0, inf)",
    "mu": "(0, inf)",
    "mu_x": "[0, 1)",
    "mu_y": "[0, 1]",
    "nu": "[0, 1]",
    "psi": "[0, inf)",
    "smoothing": "[0, 1)",
    "w": "(0, inf)",
    "weight_decay": "[0, inf)",
    "xi": "(0, inf)",
}
# The range from which tests draw each hyperparameter; 0 to 0.95 if it is not listed.
RANGES = {
    "L": (1, 10),
    "beta1": (0.1, 0.95),
    "beta2": (-1, 2),
    "beta_step": (0, 0.05),
    "c": (0.1, 1),
    "gamma": (0, 5),
    "gamma_max": (0.1, 3),
    "k": (0.1, 1),
    "kappa": (20, 1000),
    "kd": (0.1, 2),
    "ki": (0.1, 2),
    "kp": (-3, -0.1),
    "learning_rate": (0, 1),
    "learning_rate_step": (0, 0.05),
    "lower_bound": (-1, 1),
    "mu": (0.01, 0.5),
    "mu_y": (0, 1),
    "nu": (0, 1),
    "w": (0.1, 1),
    "weight_decay": (0, 0.3),
    "xi": (1, 20),
}


def _previous(g: Any) -> dict[str, Any]:
    return {"prev_grad": jax.tree.map(lambda leaf: -leaf, g)}


_heavy_ball = partial(reference.heavy_ball, dampening=lambda t: 0.0)


def _accelerated(sequence: str, horizon: int | None) -> Callable[..., Any]:
    return lambda: momentax.accelerated(sequence, horizon=horizon)


# Reasons for which a step allocates a buffer.
_NORM = (
    "XLA:CPU writes the corrected gradient to memory before it computes the norm that scales it."
)
_DECAYED = (
    "XLA writes the decayed gradient to memory, as two operations read it, also in Optax's chain."
)
_CHOSEN = "The updates of a step that is made or skipped are written to memory."
# The shares of the methods that are related to Adam.
_SHARES = dict.fromkeys(("beta1", "beta2", "beta3"), "[0, 1)")
_SHARE_RANGES = dict.fromkeys(("beta1", "beta2", "beta3"), (0, 0.95))


_TWICE = optax.chain(optax.trace(0.5), optax.trace(0.5))  # Its kernel has equal β.

METHODS = {
    "linear": Case(
        momentax.linear,
        {"gradient_weight": 0.3, "velocity_weight": 0.7, "beta": 0.8, "gain": 0.5, "shift": 0.2},
        reference.linear,
    ),
    "heavy_ball": Case(momentax.heavy_ball, {"beta": 0.9, "dampening": 0.25}, reference.heavy_ball),
    "nesterov": Case(momentax.nesterov, {"beta": 0.9}, reference.nesterov),
    "average": Case(momentax.average, {"beta": 0.9}, reference.average),
    "average, plain": Case(
        lambda beta: momentax.average(beta, debias=False), {"beta": 0.9}, reference.plain_average
    ),
    "sign_average": Case(momentax.sign_average, {"beta": 0.9}, reference.sign_average, accessed=24),
    "lion": Case(
        momentax.lion,
        {"beta1": 0.9, "beta2": 0.99},
        reference.lion,
        swept="beta2",
        decay="beta2",
        intervals=_SHARES,
        ranges=_SHARE_RANGES,
    ),
    "quasi_hyperbolic": Case(
        momentax.quasi_hyperbolic, {"beta": 0.9, "nu": 0.7}, reference.quasi_hyperbolic
    ),
    "synthesized_nesterov": Case(
        momentax.synthesized_nesterov,
        {"beta1": 0.9, "beta2": 0.5, "delta": 0.3},
        reference.synthesized_nesterov,
        swept="beta1",
        values=(0.1, 0.5, 0.99),
        decay="beta1",
    ),
    "overshoot": Case(
        momentax.overshoot,
        {"beta": 0.9, "gamma": 5.0},
        reference.overshoot,
        values=(0.1, 0.5, 0.99),
        intervals={"beta": "(0, 1)"},
        largest=37,
    ),
    "mass": Case(momentax.mass, {"beta": 0.9, "compensation": 0.05}, reference.mass),
    "primal_averaging": Case(
        momentax.primal_averaging,
        {"c": 0.1},
        reference.primal_averaging,
        swept="c",
        values=(0.01, 0.1, 1.0),
        decay=None,
    ),
    "generalized_primal_averaging": Case(
        momentax.generalized_primal_averaging,
        {"mu_x": 0.9, "mu_y": 0.7},
        reference.generalized_primal_averaging,
        swept="mu_x",
        decay="mu_x",
    ),
    "accelerated_sgd": Case(
        momentax.accelerated_sgd,
        {"kappa": 10.0, "xi": 2.0, "c": 0.7},
        reference.accelerated_sgd,
        swept="kappa",
        values=(2.0, 10.0, 1000.0),
        decay=None,
    ),
    "pid": Case(
        momentax.pid,
        {"kp": -0.5, "ki": 1.0, "kd": 2.0},
        reference.pid,
        swept="kp",
        values=(-0.1, -1.0, -10.0),
        decay=None,
    ),
    **{
        f"accelerated, {sequence}": Case(
            _accelerated(sequence, horizon),
            {},
            partial(reference.accelerated, sequence=sequence, horizon=horizon),
            swept=None,
            decay=None,
        )
        for sequence, horizon in (("nesterov", None), ("fista", None), ("ogm", 8))
    },
    "item": Case(
        momentax.item,
        {"mu": 0.1, "L": 2.0},
        reference.item,
        swept="mu",
        values=(0.01, 0.1, 1.0),
        decay=None,
        fixed=("mu", "L"),
    ),
    "aggregated": Case(
        lambda beta1, beta2, beta3: momentax.aggregated((beta1, beta2, beta3)),
        {"beta1": 0.0, "beta2": 0.9, "beta3": 0.99},
        reference.aggregated,
        swept="beta2",
        decay=None,
        intervals=_SHARES,
        ranges=_SHARE_RANGES,
        displayed={"beta1": "betas[0]", "beta2": "betas[1]", "beta3": "betas[2]"},
        axes=1,
        accessed=48,
    ),
    "aggregated, averages": Case(
        lambda beta1, beta2, weight1, weight2: momentax.aggregated(
            (beta1, beta2), (weight1, weight2), gain="average"
        ),
        {"beta1": 0.85, "beta2": 0.98, "weight1": 0.4385, "weight2": 0.5615},
        reference.mixture,
        swept="beta1",
        decay=None,
        intervals={**_SHARES, "weight1": "(-inf, inf)", "weight2": "(-inf, inf)"},
        ranges={**_SHARE_RANGES, "weight1": (-2.0, 2.0), "weight2": (-2.0, 2.0)},
        displayed={
            "beta1": "betas[0]",
            "beta2": "betas[1]",
            "weight1": "weights[0]",
            "weight2": "weights[1]",
        },
        axes=1,
        accessed=40,
    ),
    "memory.method, weights": Case(
        lambda: momentax.memory.method(momentax.memory.Kernel.from_weights([0.5, 0.3, 0.2])),
        {},
        reference.weights,
        swept=None,
        decay=None,
        axes=1,
        accessed=64,
        temporary=12,
        copies=1,
        reason="the direction needs the gradient that the new state no longer holds",
        forgets=True,
    ),
    "memory.method, filter": Case(
        lambda: momentax.memory.method(momentax.memory.of(_TWICE)),
        {},
        reference.twice,
        swept=None,
        decay=None,
        axes=1,
        accessed=80,
        temporary=12,
        copies=1,
        reason="the direction is computed from the state before the step",
    ),
    "proportional_integral_derivative": Case(
        momentax.proportional_integral_derivative,
        {"beta": 0.9, "ki": 5.0, "kd": 10.0},
        reference.proportional_integral_derivative,
        intervals={"ki": "[0, inf)", "kd": "[0, inf)"},
        accessed=60,
        largest=37,
    ),
    "positive_negative": Case(
        momentax.positive_negative,
        {"beta": 0.9, "beta0": 1.0},
        reference.positive_negative,
        decay=None,
        intervals={"beta0": "[0, inf)"},
        accessed=44,
    ),
    "quasi_hyperbolic_adam": Case(
        momentax.quasi_hyperbolic_adam,
        {"beta1": 0.995, "beta2": 0.99, "nu1": 0.7, "nu2": 0.9, "eps": 1e-8},
        reference.quasi_hyperbolic_adam,
        swept="beta1",
        decay="beta1",
        intervals=_SHARES | {"nu1": "[0, 1]", "nu2": "[0, 1]"},
        ranges=_SHARE_RANGES,
        accessed=44,
    ),
    "torque_aware": Case(
        momentax.torque_aware,
        {"beta": 0.9, "gamma": 0.9, "eps": 1e-8},
        reference.torque_aware,
        intervals={"gamma": "[0, 1)", "eps": "[0, inf)"},
        ranges={"gamma": (0, 0.95)},
        accessed=48,
        temporary=0.01,
        reason="The cosine of each leaf needs several norms, which are temporary scalars.",
        reach="leaf",
    ),
    "amplified": Case(momentax.amplified, {"beta": 0.98, "factor": 2.0}, reference.amplified),
    "adan": Case(
        momentax.adan,
        {"beta1": 0.98, "beta2": 0.92, "beta3": 0.99, "eps": 1e-8},
        reference.adan,
        swept="beta1",
        decay="beta1",
        intervals=_SHARES,
        ranges=_SHARE_RANGES,
        accessed=80,
    ),
    "nadam": Case(
        momentax.nadam,
        {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "psi": 0.004},
        reference.nadam,
        swept="beta1",
        decay="beta1",
        intervals=_SHARES,
        ranges=_SHARE_RANGES | {"psi": (0, 20)},
        accessed=44,
    ),
    **{
        f"lazy, {name}": Case(
            lambda method=method: momentax.lazy(method),
            {},
            partial(twin, beta=lambda t: 0.9),
            swept=None,
            decay=None,
            accessed=40,
            temporary=1.1,
            reason="One byte for each entry of the gradient says whether the entry is 0.",
        )
        for name, method, twin in (
            ("heavy ball", momentax.heavy_ball(0.9), _heavy_ball),
            ("nesterov", momentax.nesterov(0.9), reference.nesterov),
        )
    },
    "hypergradient": Case(
        momentax.hypergradient,
        {"learning_rate": 0.1, "beta": 0.8, "learning_rate_step": 1e-3, "beta_step": 1e-3},
        reference.hypergradient,
        swept="learning_rate_step",
        values=(0.0, 1e-3, 0.1),
        fixed=("learning_rate", "beta"),
        accessed=56,
        coupled=True,
        reach="tree",
    ),
    "hypergradient, constant beta": Case(
        partial(momentax.hypergradient, beta_step=0.0),
        {"learning_rate": 0.1, "beta": 0.8, "learning_rate_step": 1e-3},
        reference.hypergradient,
        swept="learning_rate_step",
        values=(0.0, 1e-3, 0.1),
        fixed=("learning_rate", "beta"),
        accessed=36,
        reach="tree",
    ),
    "momentum_polyak": Case(
        momentax.momentum_polyak,
        {"beta": 0.9, "c": 0.5, "gamma_max": 3.0, "lower_bound": -0.25},
        reference.momentum_polyak,
        intervals={"c": "(0, inf)"},
        extra=lambda g: {"value": 1.0},
        accessed=32,
        coupled=True,
        reach="tree",
    ),
    "recursive_momentum": Case(
        momentax.recursive_momentum,
        {"beta": 0.9},
        reference.recursive_momentum,
        extra=_previous,
    ),
    "storm": Case(
        momentax.storm,
        {"k": 0.1, "w": 0.1, "c": 10.0},
        reference.storm,
        swept="c",
        values=(0.0, 1.0, 30.0),
        decay=None,
        intervals={"c": "[0, inf)"},
        extra=_previous,
        accessed=56,
        temporary=8,
        reason="XLA:CPU writes the previous gradient to memory, which this case computes.",
        coupled=True,
        reach="tree",
    ),
    "mars": Case(
        momentax.mars,
        {"beta": 0.95, "gamma": 0.025},
        reference.mars,
        decay=None,  # The velocity also contains the change of the gradient.
        accessed=56,
        reach="leaf",
    ),
    "mars, exact": Case(
        lambda beta, gamma: momentax.mars(beta, gamma, approximate=False),
        {"beta": 0.95, "gamma": 0.025},
        reference.mars,
        extra=_previous,
        accessed=40,
        temporary=4,
        reason=_NORM,
        reach="leaf",
    ),
    "yellowfin": Case(
        lambda learning_rate, beta, smoothing: momentax.yellowfin(
            learning_rate, beta, smoothing=smoothing
        ),
        {"learning_rate": 0.5, "beta": 0.3, "smoothing": 0.9},
        reference.yellowfin,
        swept="smoothing",
        decay=None,
        fixed=("learning_rate", "beta"),
        accessed=49,  # 48 and a few scalars.
        coupled=True,
        reach="tree",
    ),
}


def _descent(**options: Any) -> Callable[..., Any]:
    def make(learning_rate, beta, weight_decay=0.0):
        method = momentax.nesterov(beta)
        return sgd(learning_rate, method, weight_decay=weight_decay, **options)

    return make


_DECAYING = {"learning_rate": 0.1, "beta": 0.9, "weight_decay": 0.01}
OPTIMIZERS = {
    "sgd": Case(_descent(), {"learning_rate": 0.1, "beta": 0.9}, reference.nesterov),
    "sgd, coupled": Case(
        _descent(), _DECAYING, reference.nesterov, accessed=40, temporary=4, reason=_DECAYED
    ),
    "sgd, decoupled": Case(_descent(decoupled=True), _DECAYING, reference.nesterov),
    "sgd, parameter units": Case(
        _descent(velocity_units="parameter"), _DECAYING, reference.nesterov, accessed=32
    ),
    "sgd, parameter units, decoupled": Case(
        _descent(velocity_units="parameter", decoupled=True, maximize=True),
        _DECAYING,
        reference.nesterov,
    ),
}


def _on_the_ball(learning_rate, beta, weight_decay):
    return momentax.hyperball(
        # Gradients of tests are multiples of the parameters, and their signs are not.
        sgd(learning_rate, momentax.sign_average(beta), weight_decay=weight_decay)
    )


def _muon(learning_rate, beta, weight_decay):
    return momentax.muon(learning_rate, beta=beta, weight_decay=weight_decay)


OPTIMIZERS["muon"] = Case(
    _muon,
    _DECAYING,
    reference.muon,
    decay=None,  # Vectors, whose β is that of Adam, are what the test has.
    accessed=2000,
    temporary=40,
    copies=3,
    reason="The iteration keeps each matrix, its Gram matrix, and what it computes of both.",
    reach="leaf",
)
OPTIMIZERS["hyperball"] = Case(
    _on_the_ball,
    _DECAYING | {"learning_rate": 2.0},
    reference.hyperball,
    accessed=88,
    temporary=12.01,
    reason="XLA:CPU writes to memory what it sums: the new point, whose norm scales it.",
    reach="leaf",
)


def _wrapped(wrap: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda beta: wrap(momentax.nesterov(beta), *args, **options)


def _plain_descent(learning_rate: float) -> optax.GradientTransformation:
    """Return plain descent without a state; that of Optax has one that cannot be serialized."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: (-learning_rate * g).astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: (), update)


def _descend_by(learning_rate: float, method: Any) -> optax.GradientTransformation:
    """Return a complete optimizer whose only velocity is that of a method."""
    return optax.chain(method, _plain_descent(learning_rate))


def _orthogonalized(**options: Any) -> Callable[..., Any]:
    def make(beta):
        method = momentax.nesterov(beta)
        return momentax.orthogonalize(method, dtype=jnp.result_type(float), **options)

    return make


_BETA = {"beta": 0.9}
WRAPPERS = {
    "restart": Case(
        _wrapped(momentax.restart),
        _BETA,
        reference.restart,
        accessed=84,
        temporary=12,
        reason="XLA:CPU writes to memory what it sums: trial velocities and products with g.",
        reach="tree",
    ),
    "restart, every 4": Case(
        _wrapped(momentax.restart, 4), _BETA, reference.restart_every_4, forgets=True
    ),
    "restart, speed": Case(
        _wrapped(momentax.restart, "speed", min_steps=2),
        _BETA,
        reference.restart_speed,
        accessed=36,
        reach="tree",
    ),
    "monitor": Case(
        _wrapped(momentax.monitor, every=2, history=2),
        _BETA,
        reference.nesterov,
        accessed=110,
        temporary=5.1,
        reason="The branch for sums that overflow keeps the update, which two of its loops read.",
    ),
    "cautious": Case(
        _wrapped(momentax.cautious),
        _BETA,
        reference.cautious,
        accessed=68,
        temporary=8,
        reason="XLA:CPU writes to memory what it sums: the update and where its sign is that of g.",
        reach="leaf",
    ),
    "grams": Case(_wrapped(momentax.grams), _BETA, reference.grams, accessed=40),
    "ema_nesterov": Case(
        lambda beta, gamma: momentax.ema_nesterov(_plain_descent(0.1), beta, gamma),
        {"beta": 0.9, "gamma": 0.9},
        reference.ema_nesterov,
        decay=None,  # The velocity keeps the share γ + (1 - γ) β.
        intervals={"gamma": "[0, 1)"},
        ranges={"gamma": (0, 0.95)},
    ),
    "optimistic": Case(
        _wrapped(momentax.optimistic),
        _BETA,
        reference.optimistic,
        accessed=56,
        temporary=4,
        copies=1,
        reason="The step reads the previous update, which the new state does not hold.",
        largest=37,
    ),
    "guard": Case(
        _wrapped(momentax.guard),
        _BETA,
        reference.nesterov,
        accessed=44,
        temporary=4,
        reason=_CHOSEN,
        reach="tree",
        skips=True,
    ),
    "guard, bounded velocity": Case(
        _wrapped(momentax.guard, max_velocity_norm=5.0),
        _BETA,
        reference.guard_with_bounded_velocity,
        decay=None,  # The velocity is scaled.
        accessed=60,
        temporary=8.01,
        reason=_CHOSEN,
        reach="tree",
        skips=True,
    ),
    "guard, spikes": Case(
        _wrapped(momentax.guard, spike=50.0, max_gradient_norm=1e3, on_nonfinite="zero"),
        _BETA,
        reference.guard_with_spikes,
        extra=lambda g: {"value": 1.0},
        accessed=76.3,
        temporary=8.03,
        reason=_CHOSEN,
        reach="tree",
        skips=True,
    ),
    **{
        name: Case(
            _orthogonalized(**options),
            _BETA,
            twin,
            accessed=2000,
            temporary=40,
            copies=5,
            reason="The iteration keeps each matrix, transposed if it is tall, and its products.",
            reach="leaf",
        )
        for name, options, twin in (
            ("orthogonalize", {}, reference.orthogonalize),
            (
                "orthogonalize, normuon",
                {"after": "normuon", "coefficients": "newton_schulz"},
                reference.orthogonalize_normuon,
            ),
        )
    },
    "shard_velocity": Case(  # On one device; tests/sharding has more.
        lambda beta: momentax.shard_velocity(
            momentax.nesterov(beta),
            jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Explicit,)),
            "data",
        ),
        _BETA,
        reference.nesterov,
    ),
    **{
        f"stored, {name}": Case(
            _wrapped(momentax.stored, case.make(), min_size=1),
            _BETA,
            reference.nesterov,
            decay=None,  # The velocity is rounded.
            **case.nesterov,
        )
        for name, case in STORAGES.items()
    },
}

_SLOW = "XLA:CPU writes to memory what the two results of an outer step read."
# Wrappers of complete optimizers that read the parameters, so that the parameters belong to them.
NESTED = {
    "outer": Case(
        lambda learning_rate, beta: momentax.outer(
            _plain_descent(0.1), 1, sgd(learning_rate, momentax.nesterov(beta))
        ),
        {"learning_rate": 0.7, "beta": 0.9},
        reference.outer,
        decay=None,  # Without a gradient, what the parameters have moved enters the velocity.
        accessed=56,
        temporary=4,
        reason=_SLOW,
    ),
    "outer, every 3": Case(
        lambda beta: momentax.outer(
            _descend_by(0.1, momentax.nesterov(beta)), 3, _plain_descent(0.5)
        ),
        _BETA,
        reference.outer,
        accessed=76,
        temporary=4,
        reason=_SLOW,
    ),
}

TRANSFORMATIONS = METHODS | OPTIMIZERS | WRAPPERS | NESTED
