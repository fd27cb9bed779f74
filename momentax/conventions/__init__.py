"""Hyperparameters and state from and to PyTorch, Keras, Optax and the papers."""

from momentax.conventions._canonical import Canonical, convert
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

__all__ = [
    "PID",
    "AcceleratedSGD",
    "Aggregated2",
    "Average",
    "Canonical",
    "Keras",
    "Optax",
    "QuasiHyperbolic",
    "Sutskever",
    "SynthesizedNesterov",
    "Torch",
    "convert",
]
