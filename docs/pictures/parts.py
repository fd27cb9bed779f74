"""What several pictures need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import momentax

ROOT = Path(__file__).parents[2]
SMALL: Any = {"width": 4.5, "height": 3.7}


def bowl(θ: Any) -> Any:
    """Return ½ θ² of every replica, summed: the curvature is 1."""
    return jnp.sum(θ**2) / 2


def heavy_ball(learning_rate: Any, beta: Any) -> Any:
    """Return heavy ball with a learning rate."""
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta))


def read_table(name: str, pattern: str) -> np.ndarray:
    """Return the numbers of the lines that a committed notebook printed and that fit a pattern."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    return np.array([row.split() for row in re.findall(pattern, text, re.MULTILINE)], float)


def batches() -> np.ndarray:
    """Return the rows of notebook 8: batch, α, steps, then α, β, steps, speed-up of heavy ball."""
    return read_table(
        "08_when_momentum_hurts", r"^ +\d+ +\d\.\d{3} +\d+ +\d\.\d{4} +\d\.\d{2} +\d+ +\d\.\d{2}$"
    )
