"""The examples that the help of each command shows."""

from __future__ import annotations

EXAMPLES = {
    "sweep": (
        "momentax sweep --epochs 3 --output runs/digits",
        "momentax sweep --method nesterov --learning-rates 0.1 0.3 1 --betas 0 0.9 0.99",
        "momentax sweep --model mine:network --data mine:data --seeds 3 --halving",
    ),
    "analyze": (
        "momentax analyze --learning-rate 0.1 --beta 0.9 --mu 1 --L 30",
        "momentax analyze --learning-rate 0.1 --beta 0.9 --mu -1e-3 --L 30 --json",
    ),
    "race": (
        "momentax race --problem rosenbrock --methods heavy_ball,nesterov,aggregated",
        "momentax race --problem ravine --learning-rate 0.01 --film none --output runs/race",
    ),
    "bench": (
        "momentax bench",
        "momentax bench --tasks ridge,digits_cnn --methods nesterov,muon --store runs/bench",
        "momentax bench mine:method --rerun --tasks ridge,spiral_deep --store runs/mine",
    ),
    "explore": ("momentax explore --output explore.html",),
}
