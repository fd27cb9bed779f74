"""Hyperparameters and state from and to PyTorch, Keras, Optax and the papers."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.conventions._canonical import Canonical as Canonical
    from momentax.conventions._canonical import convert as convert
    from momentax.conventions._keras._optimizer import from_keras as from_keras
    from momentax.conventions._keras._record import Keras as Keras
    from momentax.conventions._keras._state import export_keras_state as export_keras_state
    from momentax.conventions._keras._state import import_keras_state as import_keras_state
    from momentax.conventions._mapping import Counterpart as Counterpart
    from momentax.conventions._mapping import export_params as export_params
    from momentax.conventions._mapping import import_params as import_params
    from momentax.conventions._optax._record import Optax as Optax
    from momentax.conventions._optax._state import export_optax_state as export_optax_state
    from momentax.conventions._optax._state import import_optax_state as import_optax_state
    from momentax.conventions._papers import PID as PID
    from momentax.conventions._papers import AcceleratedSGD as AcceleratedSGD
    from momentax.conventions._papers import Aggregated2 as Aggregated2
    from momentax.conventions._papers import Average as Average
    from momentax.conventions._papers import QuasiHyperbolic as QuasiHyperbolic
    from momentax.conventions._papers import Sutskever as Sutskever
    from momentax.conventions._papers import SynthesizedNesterov as SynthesizedNesterov
    from momentax.conventions._torch._muon import from_torch_muon as from_torch_muon
    from momentax.conventions._torch._optimizer import from_torch as from_torch
    from momentax.conventions._torch._record import Torch as Torch
    from momentax.conventions._torch._state import export_torch_state as export_torch_state
    from momentax.conventions._torch._state import import_torch_state as import_torch_state

__getattr__, __dir__, __all__ = lazy_exports(__name__)
