"""Record the updates of pytorch_optimizer's cautious Lion and Grams for a few fixed gradients.

Run with torch and pytorch_optimizer installed:
    python tests/wrappers/record.py > tests/wrappers/recorded.json
"""

import importlib.metadata
import json
import sys

import numpy as np

SHAPES, STEPS = {"kernel": (3, 4), "bias": (5,)}, 12


def gradients():
    rng = np.random.default_rng(0)
    return [{key: rng.normal(size=shape) for key, shape in SHAPES.items()} for _ in range(STEPS)]


def steps(make):
    """Return the changes of parameters that start at 0."""
    import torch

    params = {k: torch.zeros(s, dtype=torch.float64, requires_grad=True) for k, s in SHAPES.items()}
    optimizer, out = make(list(params.values())), []
    for g in gradients():
        before = {key: p.detach().clone() for key, p in params.items()}
        for key, p in params.items():
            p.grad = torch.tensor(g[key])
        optimizer.step()
        out.append({key: (p.detach() - before[key]).tolist() for key, p in params.items()})
    return out


if __name__ == "__main__":
    from pytorch_optimizer import Grams, Lion

    recorded = {
        "versions": {n: importlib.metadata.version(n) for n in ("torch", "pytorch_optimizer")},
        "gradients": [{key: leaf.tolist() for key, leaf in g.items()} for g in gradients()],
        "cautious lion": steps(
            lambda p: Lion(p, lr=1.0, betas=(0.9, 0.99), weight_decay=0.0, cautious=True)
        ),
        "grams": steps(lambda p: Grams(p, lr=1.0, betas=(0.9, 0.999), eps=1e-6)),
    }
    json.dump(recorded, sys.stdout)
    sys.stdout.write("\n")
