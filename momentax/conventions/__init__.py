"""Hyperparameters and state from and to PyTorch, Keras, Optax and the papers."""

from momentax.conventions._canonical import Canonical, convert
from momentax.conventions._keras import from_keras
from momentax.conventions._mapping import Counterpart, export_params, import_params
from momentax.conventions._records import (
    PID,
    AcceleratedSGD,
    Aggregated2,
    Average,
    Keras,
    Optax,
    QuasiHyperbolic,
    Sutskever,
    SynthesizedNesterov,
    Torch,
)
from momentax.conventions._state import (
    export_keras_state,
    export_torch_state,
    import_keras_state,
    import_torch_state,
    rescale_velocity,
)
from momentax.conventions._torch import DampedState, from_torch

__all__ = [
    "PID",
    "AcceleratedSGD",
    "Aggregated2",
    "Average",
    "Canonical",
    "Counterpart",
    "DampedState",
    "Keras",
    "Optax",
    "QuasiHyperbolic",
    "Sutskever",
    "SynthesizedNesterov",
    "Torch",
    "convert",
    "export_keras_state",
    "export_params",
    "export_torch_state",
    "from_keras",
    "from_torch",
    "import_keras_state",
    "import_params",
    "import_torch_state",
    "rescale_velocity",
]
