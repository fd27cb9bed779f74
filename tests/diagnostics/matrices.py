"""Quadratics with known curvatures."""

import numpy as np


def symmetric(curvatures, seed=0):
    """A matrix with these eigenvalues and with random eigenvectors."""
    shape = (len(curvatures), len(curvatures))
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=shape))
    return (Q * curvatures) @ Q.T


def quadratic(θ, H):
    """A loss whose Hessian is its argument, so that one program serves every matrix of a size."""
    return θ @ (H @ θ) / 2


INDEFINITE = symmetric(np.random.default_rng(1).normal(size=30))
