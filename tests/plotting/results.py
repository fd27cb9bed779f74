"""Invented results of sweeps."""

import numpy as np

from momentax.sweeps import SweepResult, grid, repeat

α, β = np.array([0.01, 0.1, 1.0]), np.array([0.0, 0.9])


def accuracy(seeds=0):
    """Accuracies 10 i + j + seed / 10 at α_i and β_j.

    At α_2 all seeds diverged with β_1, and all but the first with β_0.
    """
    points = grid(learning_rate=α, beta=β)
    values = np.add.outer(10.0 * np.arange(3), np.arange(2.0))
    diverged = np.zeros((3, 2), bool)
    diverged[2, 1] = True
    if seeds:
        points = repeat(points, seeds)
        values = values[..., None] + np.arange(seeds) / 10
        diverged = np.repeat(diverged[..., None], seeds, -1)
        diverged[2, 0, 1:] = True
    values = np.where(diverged, 1e9, values)
    values[2, 1] = np.nan
    return SweepResult(points, {"test_accuracy": values, "loss": -values}, diverged)


def histories(points, steps=5):
    """A loss that falls by a factor of ten at each step; the last setting diverges.

    The i-th setting starts at i.
    """
    shape = points.shape
    numbers = 1.0 + np.arange(len(points)).reshape(shape)
    values = numbers[..., None] * 10.0 ** -np.arange(steps)
    diverged = np.zeros(shape, bool)
    diverged.flat[-1] = True
    values[diverged] = np.array([1.0, 1e6, 1e12, np.inf, np.nan])[:steps]
    return SweepResult(points, {"loss": values, "final": values[..., 0]}, diverged)
