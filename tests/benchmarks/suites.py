"""The suites: which contestants run on which workloads."""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.contestants import CONTESTANTS
from tests.cases import METHODS
from tests.storage.cases import STORAGES

# Methods with one velocity and the four coefficients of the kernel, as in the README.
LINEAR = [
    "linear",
    "heavy_ball",
    "nesterov",
    "average",
    "quasi_hyperbolic",
    "synthesized_nesterov",
    "overshoot",
    "mass",
    "accelerated_sgd",
    "primal_averaging",
    "generalized_primal_averaging",
    "pid",
    "accelerated, nesterov",
    "accelerated, fista",
    "accelerated, ogm",
    "item",
]
STORED = [f"heavy_ball + {storage}" for storage in STORAGES]
LION = [name for name in ("lion", "sign_average") if name in METHODS]
OPTAX = [name for name in CONTESTANTS if name.startswith("optax.")]
TORCH = [name for name in CONTESTANTS if name.startswith(("torch.", "lion_pytorch."))]
OTHERS = [name for name in CONTESTANTS if name.startswith(("keras.", "bitsandbytes."))]
PEERS = [*OPTAX, "heavy_ball", "nesterov", *STORED, *LION, *TORCH, *OTHERS]
LEAVES = [
    "optax.sgd, not donated",
    "optax.flatten(optax.sgd)",
    "heavy_ball",
    "train_step",
    "train_step, 10 steps a call",
    "two programs, not donated",
    "torch.SGD",
    "torch.SGD, foreach",
    "torch.SGD, fused",
]
TRAINING = [name for name in CONTESTANTS if name.startswith(("train", "one ", "two ", "three "))]


class Suite(NamedTuple):
    """Contestants on each of some workloads, and the contestant that ratios refer to."""

    about: str
    workloads: list[str]
    contestants: list[str]
    baseline: str = "optax.sgd"
    limit: bool = True  # Whether C runs beside them.


SUITES = {
    "flat": Suite("One flat vector", ["1e7", "1e8"], PEERS),
    "trees": Suite("The shapes of networks", ["resnet18", "gpt2"], PEERS),
    "leaves": Suite("Small leaves", ["1,000 leaves"], LEAVES, limit=False),
    # XLA needs minutes and 5 GB to compile one step here, hence few contestants.
    "many_leaves": Suite("Small leaves", ["10,000 leaves"], ["heavy_ball", *TORCH], limit=False),
    "methods": Suite("Every method", ["1e7"], ["optax.sgd", *METHODS], "heavy_ball"),
    "storages": Suite(
        "Every method in every storage",
        ["1e7"],
        [f"{name} + {storage}" for name in METHODS for storage in STORAGES],
    ),
    "train_step": Suite(
        "Gradient, update and apply",
        ["resnet18", "gpt2"],
        [name for name in TRAINING if "10 steps" not in name],
        "train_step",
        limit=False,
    ),
    "muon": Suite(
        "Orthogonalized momentum of the layers, five steps in float32",
        ["gpt2"],
        ["orthogonalize"],
        "optax.contrib.muon",
        limit=False,
    ),
    "dispatch": Suite(
        "The cost of a call, on six numbers",
        ["tiny"],
        [
            "nothing",
            "heavy_ball",
            "average",
            *STORED,
            *LION,
            "train_step",
            "train_step, 10 steps a call",
            "torch.SGD",
            "torch.SGD, foreach",
        ],
        limit=False,
    ),
    "diagnostics": Suite(
        "Diagnostics and guards",
        ["resnet18"],
        [
            "monitor(heavy_ball)",
            "monitor(heavy_ball), every 10 steps",
            "monitor(heavy_ball), curvature",
            "heavy_ball, norms each step",
            "heavy_ball, norms every 10 steps",
            "apply_if_finite(heavy_ball)",
            "clip_by_global_norm, heavy_ball",
        ],
        "heavy_ball",
        limit=False,
    ),
    "network": Suite(
        "Training steps of ResNet-18 on 16 images of 96 by 96 pixels",
        ["resnet18"],
        ["step of a network, monitor", "step of a network, monitor every 10 steps"],
        "step of a network",
        limit=False,
    ),
}
# Measured as whole processes.
PROCESSES = {
    "memory": "Peak memory of a process in a step (g, θ, state and the rest)",
    "imports": "Import, whole processes",
}
MEMORY = ["C", *PEERS]
IMPORTS = {
    **{name: f"import {name}" for name in ("sys", "numpy", "jax", "optax", "flax", "torch")},
    "momentax": "import momentax",
    # momentax loads a name when it is first used.
    "momentax.sgd": "import momentax; momentax.sgd(0.1, momentax.nesterov(0.9))",
}
