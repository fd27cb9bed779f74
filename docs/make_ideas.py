"""Draw the pictures of the pages under docs/ideas: `python docs/make_ideas.py [name ...]`.

In the pictures dots are measured in runs, and lines are closed forms or what the theory reads from
the code of a pipeline. Each function draws one picture, and its name is the name of the file.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
from pictures import edge, folklore, memory, noise, velocity, when
from PIL import Image

FOLDER = Path(__file__).parent / "images" / "ideas"
WIDTH = 1600  # Pixels, for a column of half this width.
LARGEST = 80_000  # Bytes.
PICTURES = (
    velocity.velocity_weights,
    velocity.velocity_units,
    memory.memory_filters,
    memory.memory_age,
    edge.edge_one_curvature,
    edge.edge_map,
    edge.edge_nesterov,
    edge.edge_training,
    noise.noise_floors,
    noise.noise_batches,
    when.when_ravine_plateau,
    when.when_saddle_noise,
    when.when_batches_sparse,
    when.when_shift_end,
    folklore.folklore,
)


def save(figure: Any, path: Path) -> None:
    """Write a figure without transparency, and with fewer colours where the file is large."""
    whole, small = BytesIO(), BytesIO()
    figure.savefig(whole, dpi=WIDTH / figure.get_figwidth())
    picture = Image.open(whole).convert("RGB")
    picture.save(small, "png", optimize=True)
    if small.tell() > LARGEST:
        picture = picture.quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
        )
    picture.save(path, optimize=True)


if __name__ == "__main__":
    mpl.use("agg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = sys.argv[1:] or [draw.__name__ for draw in PICTURES]
    for draw in PICTURES:
        if draw.__name__ in chosen:
            with jax.enable_x64(draw is not edge.edge_training):
                save(draw(), FOLDER / f"{draw.__name__}.png")
