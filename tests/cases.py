"""Every public name, and for every transformation what the contract tests need of it.

That nothing is missing here is a test (tests/test_package.py).
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

import momentax
from momentax import sgd
from tests import reference


class Case(NamedTuple):
    """A transformation as a function of its hyperparameters, and what tests must know of it."""

    make: Callable[..., Any]
    hyperparameters: dict[str, float]  # Names and ordinary values.
    twin: Callable[..., Any]
    swept: str | None = "beta"  # The one to vmap over and to give bad schedules, if any.
    values: tuple[float, ...] = (0.0, 0.5, 0.9, 0.99)  # Of the swept one.
    decay: str | None = "beta"  # The factor by which the velocity decays, if one is given.
    fixed: tuple[str, ...] = ()  # Those that take no schedule.
    intervals: Mapping[str, str] = MappingProxyType({})  # Where one lies, if not as below,
    drawn: Mapping[str, tuple[float, float]] = MappingProxyType({})  # and whence it is drawn.
    shown: Mapping[str, str] = MappingProxyType({})  # What errors call one, if not by its name.
    extra: Callable[[Any], dict[str, Any]] = lambda g: {}  # What update needs besides gradients g.
    # Of a compiled float32 step whose parameters and state are donated, at most:
    accessed: int = 28  # Bytes that it reads and writes per parameter,
    temporary: float = 0  # bytes per parameter that it keeps meanwhile,
    copies: int = 0  # and buffers of the parameters' size that it copies;
    why: str = ""  # why it can do with no less than these two.
    axes: int = 0  # Leading axes that the velocity has before the parameter's.
    coupled: bool = False  # Whether one leaf's gradient has to do with another's velocity.


# Where each hyperparameter lies, whichever method takes it.
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
    "learning_rate": "(0, inf)",
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
# From where tests draw them, unless from 0 to 0.95.
DRAWN = {
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


# Why some keep a buffer for the time of a step.
_NORM = "XLA:CPU sums from memory: the corrected gradient, whose norm scales it afterwards."
_DECAYED = "XLA keeps the decayed gradient for both of its readers, as it does in Optax's chain."
# What the kin of Adam call their shares.
_SHARES = dict.fromkeys(("beta1", "beta2", "beta3"), "[0, 1)")
_DRAWN_SHARES = dict.fromkeys(("beta1", "beta2", "beta3"), (0, 0.95))


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
        drawn=_DRAWN_SHARES,
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
        drawn=_DRAWN_SHARES,
        shown={"beta1": "betas[0]", "beta2": "betas[1]", "beta3": "betas[2]"},
        axes=1,
        accessed=48,
    ),
    "proportional_integral_derivative": Case(
        momentax.proportional_integral_derivative,
        {"beta": 0.9, "ki": 5.0, "kd": 10.0},
        reference.proportional_integral_derivative,
        intervals={"ki": "[0, inf)", "kd": "[0, inf)"},
        accessed=60,
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
        drawn=_DRAWN_SHARES,
        accessed=44,
    ),
    "torque_aware": Case(
        momentax.torque_aware,
        {"beta": 0.9, "gamma": 0.9, "eps": 1e-8},
        reference.torque_aware,
        intervals={"gamma": "[0, 1)", "eps": "[0, inf)"},
        drawn={"gamma": (0, 0.95)},
        accessed=48,
    ),
    "amplified": Case(momentax.amplified, {"beta": 0.98, "factor": 2.0}, reference.amplified),
    "adan": Case(
        momentax.adan,
        {"beta1": 0.98, "beta2": 0.92, "beta3": 0.99, "eps": 1e-8},
        reference.adan,
        swept="beta1",
        decay="beta1",
        intervals=_SHARES,
        drawn=_DRAWN_SHARES,
        accessed=80,
    ),
    "nadam": Case(
        momentax.nadam,
        {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "psi": 0.004},
        reference.nadam,
        swept="beta1",
        decay="beta1",
        intervals=_SHARES,
        drawn=_DRAWN_SHARES | {"psi": (0, 20)},
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
            why="Where a gradient is not 0, a byte each, until the rows that have one are known.",
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
        accessed=52,
        coupled=True,
    ),
    "hypergradient, constant beta": Case(
        partial(momentax.hypergradient, beta_step=0.0),
        {"learning_rate": 0.1, "beta": 0.8, "learning_rate_step": 1e-3},
        reference.hypergradient,
        swept="learning_rate_step",
        values=(0.0, 1e-3, 0.1),
        fixed=("learning_rate", "beta"),
        accessed=32,
    ),
    "momentum_polyak": Case(
        momentax.momentum_polyak,
        {"beta": 0.9, "c": 0.5, "gamma_max": 3.0, "lower_bound": -0.25},
        reference.momentum_polyak,
        intervals={"c": "(0, inf)"},
        extra=lambda g: {"value": 1.0},
        coupled=True,
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
        coupled=True,
    ),
    "mars": Case(
        momentax.mars,
        {"beta": 0.95, "gamma": 0.025},
        reference.mars,
        decay=None,  # The change of the gradient enters as well.
        accessed=56,
        temporary=4,
        why=_NORM,
    ),
    "mars, exact": Case(
        lambda beta, gamma: momentax.mars(beta, gamma, approximate=False),
        {"beta": 0.95, "gamma": 0.025},
        reference.mars,
        extra=_previous,
        accessed=40,
        temporary=4,
        why=_NORM,
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
        accessed=45,  # 44 and some scalars.
        coupled=True,
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
        _descent(), _DECAYING, reference.nesterov, accessed=40, temporary=4, why=_DECAYED
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


def _wrapped(wrap: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
    return lambda beta: wrap(momentax.nesterov(beta), *args, **options)


_BETA = {"beta": 0.9}
WRAPPERS = {
    "restart": Case(
        _wrapped(momentax.restart),
        _BETA,
        reference.restart,
        accessed=68,
        temporary=8,
        why="XLA:CPU sums from memory: the velocity tried, and by how much a gradient adds to it.",
    ),
    "restart, every 4": Case(_wrapped(momentax.restart, 4), _BETA, reference.restart_every_4),
    "restart, speed": Case(
        _wrapped(momentax.restart, "speed", min_steps=2),
        _BETA,
        reference.restart_speed,
        accessed=36,
    ),
    "cautious": Case(
        _wrapped(momentax.cautious),
        _BETA,
        reference.cautious,
        accessed=64,
        temporary=8,
        why="XLA:CPU sums from memory: the update, and where it agrees with the gradient.",
    ),
    "grams": Case(_wrapped(momentax.grams), _BETA, reference.grams, accessed=36),
    "optimistic": Case(
        _wrapped(momentax.optimistic),
        _BETA,
        reference.optimistic,
        accessed=56,
        temporary=4,
        copies=1,
        why="The last update, of which the new state holds nothing, is read until parameters move.",
    ),
    **{
        f"stored, {name}": Case(
            _wrapped(momentax.stored, storage, min_size=1),
            _BETA,
            reference.nesterov,
            decay=None,  # But for the rounding.
            **costs,
        )
        for name, storage, costs in (
            ("bfloat16", momentax.storage.bfloat16(), {"accessed": 22}),
            ("stochastic bfloat16", momentax.storage.bfloat16(True), {"accessed": 22}),
            (
                "int8",
                momentax.storage.int8(),
                {"accessed": 25, "temporary": 0.06, "why": "Three numbers a block: its scales."},
            ),
        )
    },
}

TRANSFORMATIONS = METHODS | OPTIMIZERS | WRAPPERS

# The public names that are no transformations, and the test file that holds each.
OTHERS = {
    "momentax": {
        "AcceleratedState": "methods/test_accelerated.py",
        "AdanState": "methods/test_adan.py",
        "AggregatedState": "methods/test_aggregated.py",
        "AverageState": "test_contracts.py",
        "Best": "sweeps/test_result.py",
        "Curvature": "test_curvature.py",
        "Distribution": "sweeps/test_points.py",
        "HalvingResult": "sweeps/test_halve.py",
        "HypergradientState": "methods/test_hypergradient.py",
        "LazyState": "methods/test_lazy.py",
        "LinearState": "test_contracts.py",
        "Mean": "sweeps/test_result.py",
        "Mutation": "sweeps/test_halve.py",
        "NadamState": "methods/test_nadam.py",
        "Points": "sweeps/test_points.py",
        "PositiveNegativeState": "methods/test_positive_negative.py",
        "ProportionalIntegralDerivativeState": "methods/test_proportional_integral_derivative.py",
        "QuasiHyperbolicAdamState": "methods/test_quasi_hyperbolic_adam.py",
        "ShiftedState": "test_eval_params.py",
        "TorqueAwareState": "methods/test_torque_aware.py",
        "MarsState": "methods/test_mars.py",
        "RecursiveState": "methods/test_storm.py",
        "Spectrum": "test_curvature.py",
        "StormState": "methods/test_storm.py",
        "StoredState": "storage/test_stored.py",
        "bytes_per_parameter": "storage/test_stored.py",
        "catch_up": "methods/test_lazy.py",
        "eval_params": "test_eval_params.py",
        "OptimisticState": "wrappers/test_optimistic.py",
        "OrientedState": "wrappers/test_orientation.py",
        "RestartState": "wrappers/test_restart.py",
        "Report": "sweeps/test_result.py",
        "Rollout": "test_rollout.py",
        "SweepResult": "sweeps/test_result.py",
        "YellowFinState": "methods/test_yellowfin.py",
        "__version__": "test_package.py",
        "conventions": "conventions/test_records.py",
        "curvature": "test_curvature.py",
        "grid": "sweeps/test_points.py",
        "halve": "sweeps/test_halve.py",
        "log_uniform": "sweeps/test_points.py",
        "momentum_axis": "sweeps/test_points.py",
        "momentum_uniform": "sweeps/test_points.py",
        "mutate": "sweeps/test_halve.py",
        "problems": "test_problems.py",
        "random_points": "sweeps/test_points.py",
        "repeat": "sweeps/test_points.py",
        "replace_velocity": "test_velocity.py",
        "reset_velocity": "test_velocity.py",
        "rollout": "test_rollout.py",
        "schedules": "test_schedules.py",
        "storage": "storage/test_stored.py",
        "sweep": "sweeps/test_sweep.py",
        "theory": "theory/test_quadratic.py",
        "train_step": "test_train_step.py",
        "uniform": "sweeps/test_points.py",
        "velocity": "test_velocity.py",
        "velocity_norms": "test_velocity.py",
        "use_all_cores": "sweeps/test_devices.py",
        "zipped": "sweeps/test_points.py",
    },
    "momentax.conventions": {
        "AcceleratedSGD": "conventions/test_records.py",
        "Aggregated2": "conventions/test_records.py",
        "Average": "conventions/test_records.py",
        "Canonical": "conventions/test_records.py",
        "Keras": "conventions/test_records.py",
        "Optax": "conventions/test_records.py",
        "PID": "conventions/test_records.py",
        "QuasiHyperbolic": "conventions/test_records.py",
        "Sutskever": "conventions/test_records.py",
        "SynthesizedNesterov": "conventions/test_records.py",
        "Torch": "conventions/test_records.py",
        "convert": "conventions/test_records.py",
        "Counterpart": "conventions/test_handover.py",
        "DampedState": "conventions/test_torch.py",
        "export_keras_state": "conventions/test_handover.py",
        "export_params": "conventions/test_handover.py",
        "export_torch_state": "conventions/test_handover.py",
        "from_keras": "conventions/test_keras.py",
        "from_torch": "conventions/test_torch.py",
        "import_keras_state": "conventions/test_handover.py",
        "import_params": "conventions/test_handover.py",
        "import_torch_state": "conventions/test_handover.py",
        "rescale_velocity": "conventions/test_handover.py",
    },
    "momentax.plotting": {
        "curves": "plotting/test_curves.py",
        "heatmap": "plotting/test_heatmap.py",
        "parallel": "plotting/test_parallel.py",
        "theory_overlay": "plotting/test_theory_overlay.py",
    },
    "momentax.problems": {
        "Problem": "test_problems.py",
        "plateau": "test_problems.py",
        "quadratic": "test_problems.py",
        "ravine": "test_problems.py",
        "rosenbrock": "test_problems.py",
        "saddle": "test_problems.py",
    },
    "momentax.schedules": {
        "demon": "test_schedules.py",
        "matched": "test_schedules.py",
        "momentum_corrected": "test_schedules.py",
        "nesterov_sequence": "test_schedules.py",
        "one_cycle": "test_schedules.py",
        "scheduled_restart": "test_schedules.py",
        "sutskever": "test_schedules.py",
        "warmup": "test_schedules.py",
    },
    "momentax.storage": dict.fromkeys(
        ("Storage", "StoredState", "bfloat16", "bytes_per_parameter", "int8", "stored"),
        "storage/test_stored.py",
    ),
    "momentax.theory": {
        "Advice": "theory/test_advise.py",
        "Analysis": "theory/test_analyze.py",
        "Certificate": "theory/test_certify.py",
        "Damping": "theory/test_closed_loop.py",
        "Direction": "theory/test_analyze.py",
        "Oscillator": "theory/test_oscillator.py",
        "QuadraticPath": "theory/test_quadratic.py",
        "StateSpace": "theory/test_state_space.py",
        "TradeOff": "theory/test_tune.py",
        "Tuned": "theory/test_tune.py",
        "Tuning": "theory/test_rates.py",
        "WorstCaseTuning": "theory/test_worst_case.py",
        "advise": "theory/test_advise.py",
        "analyze": "theory/test_analyze.py",
        "certify": "theory/test_certify.py",
        "closed_loop": "theory/test_closed_loop.py",
        "damping": "theory/test_closed_loop.py",
        "effective_learning_rate": "theory/test_memory.py",
        "effective_window": "theory/test_memory.py",
        "escape_rate": "theory/test_closed_loop.py",
        "frequency_response": "theory/test_filter.py",
        "from_oscillator": "theory/test_oscillator.py",
        "gradient_descent_rate": "theory/test_rates.py",
        "half_life": "theory/test_memory.py",
        "heavy_ball_rate": "theory/test_rates.py",
        "impulse_response": "theory/test_filter.py",
        "largest_learning_rate": "theory/test_largest_learning_rate.py",
        "nesterov_rate": "theory/test_rates.py",
        "noise_floor": "theory/test_noise.py",
        "optimal_gradient_descent": "theory/test_rates.py",
        "optimal_heavy_ball": "theory/test_rates.py",
        "optimal_nesterov": "theory/test_rates.py",
        "oscillator": "theory/test_oscillator.py",
        "oscillator_path": "theory/test_oscillator.py",
        "quadratic_path": "theory/test_quadratic.py",
        "rate": "theory/test_closed_loop.py",
        "robust_momentum": "theory/test_worst_case.py",
        "sharpness_limit": "theory/test_advise.py",
        "signal_to_noise_gain": "theory/test_filter.py",
        "spectral_radius": "theory/test_quadratic.py",
        "stability_edge": "theory/test_quadratic.py",
        "state_space": "theory/test_state_space.py",
        "stationary_variance": "theory/test_noise.py",
        "trade_off": "theory/test_tune.py",
        "triple_momentum": "theory/test_worst_case.py",
        "tune": "theory/test_tune.py",
        "weights": "theory/test_memory.py",
    },
}
