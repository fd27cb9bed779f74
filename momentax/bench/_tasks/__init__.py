"""The eight tasks, by their names."""

from __future__ import annotations

from momentax.bench._named import Named
from momentax.bench._task import Task
from momentax.bench._tasks import (
    curves_ae,
    digits_cnn,
    names_char,
    names_embed,
    poisson_pinn,
    ridge,
    spiral_deep,
    unicode_bn,
)

tasks: Named[Task] = Named(
    "task",
    digits_cnn.TASK,
    unicode_bn.TASK,
    ridge.TASK,
    names_char.TASK,
    names_embed.TASK,
    curves_ae.TASK,
    spiral_deep.TASK,
    poisson_pinn.TASK,
)
