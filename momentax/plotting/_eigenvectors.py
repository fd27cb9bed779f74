"""Runs in the coordinates of the eigenvectors of a Hessian."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from momentax._core.arguments import (
    as_count,
    as_items,
    as_reals,
    as_symmetric,
    describe,
    is_curvature,
)
from momentax._core.typing import Reals
from momentax.plotting._landscape import as_point
from momentax.plotting._runs import Points


class Basis(NamedTuple):
    """Directions in the space of the parameters.

    vectors: one direction for each row, orthonormal, shape (k, n).
    eigenvalues: the eigenvalue of each, shape (k,), or None where they are single parameters.
    labels: what a legend says of each.
    """

    vectors: Reals
    eigenvalues: Reals | None
    labels: list[str]


def make_basis(hessian: Any, indices: Any, points: Points) -> Basis:
    """Return the eigenvectors of a Hessian, or the parameters themselves where it is None."""
    n = len(points.labels)
    if hessian is None:
        basis = Basis(np.eye(n), None, list(points.labels))
    else:
        λ, vectors = np.linalg.eigh(_as_matrix(hessian, points))
        basis = Basis(vectors.T, λ, [f"λ = {each:.4g}" for each in λ])
    if indices is None:
        return basis
    chosen = [as_count("indices", i, 0, n - 1) for i in as_items("indices", indices, "numbers")]
    if not chosen:
        raise ValueError("indices must name at least one direction, got none")
    eigenvalues = None if basis.eigenvalues is None else basis.eigenvalues[chosen]
    return Basis(basis.vectors[chosen], eigenvalues, [basis.labels[i] for i in chosen])


def origin_of(minimizer: Any, points: Points) -> Reals:
    """Return the minimizer as a vector; None is the origin."""
    if minimizer is None:
        return np.zeros(len(points.labels))
    return as_point("minimizer", minimizer, points)


def _as_matrix(hessian: Any, points: Points) -> Reals:
    """Return a Hessian, such as a tree of trees that `jax.hessian` returns, as a matrix."""
    if is_curvature(hessian):
        raise TypeError(
            "hessian must be a matrix, since a Curvature holds no eigenvectors; give "
            f"jax.hessian(loss)(params), got {describe(hessian)}"
        )
    n, shapes = len(points.labels), points.shapes
    sizes = [int(np.prod(shape)) for shape in shapes]
    blocks = jax.tree.leaves(hessian)
    pairs = list(itertools.product(range(len(shapes)), repeat=2))
    if len(blocks) == len(pairs):
        parts = [as_reals("hessian", block) for block in blocks]
        fits = (
            part.shape in (shapes[i] + shapes[j], (sizes[i], sizes[j]))
            for part, (i, j) in zip(parts, pairs, strict=True)
        )
        if all(fits):
            each = iter(
                part.reshape(sizes[i], sizes[j]) for part, (i, j) in zip(parts, pairs, strict=True)
            )
            return as_symmetric("hessian", np.block([[next(each) for _ in sizes] for _ in sizes]))
    matrix = as_symmetric("hessian", hessian)
    if len(matrix) != n:
        raise ValueError(
            f"hessian must have shape ({n}, {n}), as the params have {n} entries, got shape "
            f"{matrix.shape}"
        )
    return matrix
