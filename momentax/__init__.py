"""Momentum for JAX: methods to chain into Optax, and their theory.

tx = momentax.sgd(0.1, momentax.nesterov(0.9))
state = tx.init(params)
updates, state = tx.update(grads, state, params)
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

__version__ = "0.1.0"

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax import bench as bench
    from momentax import conventions as conventions
    from momentax import diagnostics as diagnostics
    from momentax import explorer as explorer
    from momentax import memory as memory
    from momentax import plotting as plotting
    from momentax import problems as problems
    from momentax import schedules as schedules
    from momentax import states as states
    from momentax import storage as storage
    from momentax import sweeps as sweeps
    from momentax import theory as theory
    from momentax._methods._accelerated import accelerated as accelerated
    from momentax._methods._accelerated_sgd import accelerated_sgd as accelerated_sgd
    from momentax._methods._adan import adan as adan
    from momentax._methods._aggregated import aggregated as aggregated
    from momentax._methods._amplified import amplified as amplified
    from momentax._methods._average import average as average
    from momentax._methods._heavy_ball import heavy_ball as heavy_ball
    from momentax._methods._hypergradient import hypergradient as hypergradient
    from momentax._methods._item import item as item
    from momentax._methods._lazy import lazy as lazy
    from momentax._methods._linear import linear as linear
    from momentax._methods._lion import lion as lion
    from momentax._methods._mars import mars as mars
    from momentax._methods._mass import mass as mass
    from momentax._methods._momentum_polyak import momentum_polyak as momentum_polyak
    from momentax._methods._nadam import nadam as nadam
    from momentax._methods._nesterov import nesterov as nesterov
    from momentax._methods._overshoot import overshoot as overshoot
    from momentax._methods._pid import pid as pid
    from momentax._methods._positive_negative import positive_negative as positive_negative
    from momentax._methods._primal_averaging import (
        generalized_primal_averaging as generalized_primal_averaging,
    )
    from momentax._methods._primal_averaging import primal_averaging as primal_averaging
    from momentax._methods._proportional_integral_derivative import (
        proportional_integral_derivative as proportional_integral_derivative,
    )
    from momentax._methods._quasi_hyperbolic import quasi_hyperbolic as quasi_hyperbolic
    from momentax._methods._quasi_hyperbolic_adam import (
        quasi_hyperbolic_adam as quasi_hyperbolic_adam,
    )
    from momentax._methods._sign_average import sign_average as sign_average
    from momentax._methods._storm import recursive_momentum as recursive_momentum
    from momentax._methods._storm import storm as storm
    from momentax._methods._synthesized_nesterov import synthesized_nesterov as synthesized_nesterov
    from momentax._methods._torque_aware import torque_aware as torque_aware
    from momentax._methods._yellowfin import yellowfin as yellowfin
    from momentax._muon._muon import muon as muon
    from momentax._sgd import sgd as sgd
    from momentax._state._catch_up import catch_up as catch_up
    from momentax._state._eval_params import eval_params as eval_params
    from momentax._state._hyperparameters import hyperparameters as hyperparameters
    from momentax._state._replace import replace_velocity as replace_velocity
    from momentax._state._rescale import rescale_velocity as rescale_velocity
    from momentax._state._reset import reset_velocity as reset_velocity
    from momentax._state._roles import roles as roles
    from momentax._state._velocity import velocity as velocity
    from momentax._state._velocity import velocity_norms as velocity_norms
    from momentax._training._rollout import Rollout as Rollout
    from momentax._training._rollout import rollout as rollout
    from momentax._training._train_step import train_step as train_step
    from momentax._wrappers._cautious import cautious as cautious
    from momentax._wrappers._ema_nesterov import ema_nesterov as ema_nesterov
    from momentax._wrappers._grams import grams as grams
    from momentax._wrappers._guard import guard as guard
    from momentax._wrappers._hyperball import hyperball as hyperball
    from momentax._wrappers._monitor import monitor as monitor
    from momentax._wrappers._optimistic import optimistic as optimistic
    from momentax._wrappers._orthogonalize import orthogonalize as orthogonalize
    from momentax._wrappers._outer import outer as outer
    from momentax._wrappers._restart import restart as restart
    from momentax._wrappers._shard_velocity import shard_velocity as shard_velocity
    from momentax.diagnostics import curvature as curvature
    from momentax.diagnostics import explain as explain
    from momentax.diagnostics import measurements as measurements
    from momentax.storage import stored as stored
    from momentax.sweeps import grid as grid
    from momentax.sweeps import halve as halve
    from momentax.sweeps import search as search
    from momentax.sweeps import sweep as sweep
    from momentax.sweeps import use_all_cores as use_all_cores

__getattr__, __dir__, __all__ = lazy_exports(__name__)
