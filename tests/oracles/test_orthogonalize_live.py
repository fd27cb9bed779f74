"""Orthogonalized momentum against the libraries that have it, in float64."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pytorch_optimizer import NorMuon
from pytorch_optimizer.optimizer.muon import normuon
from pytorch_optimizer.optimizer.utils import zero_power_via_newton_schulz_5

import momentax
from momentax._wrappers import _orthogonalize
from momentax._wrappers._coefficients import COEFFICIENTS

pytestmark = pytest.mark.usefixtures("x64")
in_float64 = functools.partial(zero_power_via_newton_schulz_5, dtype=torch.float64)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_the_iteration_is_that_of_pytorch_optimizer(name):
    rows = COEFFICIENTS[name]
    steps = max(6, len(rows))
    tx = momentax.orthogonalize(
        momentax.heavy_ball(0.0), coefficients=name, steps=steps, scale=None, dtype=jnp.float64
    )
    for shape in ((5, 9), (9, 5), (6, 6), (3, 4, 7)):
        x = np.random.default_rng(0).normal(size=shape)
        expected = in_float64(torch.tensor(x), steps, weights=[*map(tuple, rows)])
        np.testing.assert_allclose(tx.update(x, tx.init(x))[0], expected.numpy(), atol=3e-14)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
@pytest.mark.parametrize("eps", [0.0, 1e-10])
def test_normuon_is_that_of_pytorch_optimizer(shape, eps, monkeypatch):
    monkeypatch.setattr(normuon, "zero_power_via_newton_schulz_5", in_float64)
    monkeypatch.setattr(_orthogonalize, "_ROW_EPS", eps)
    weight = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    groups = [{"params": [weight], "use_muon": True}]
    theirs = NorMuon(groups, lr=1.0, eps=eps, foreach=False)
    tx = momentax.orthogonalize(
        coefficients="jordan", dtype=jnp.float64, where="oi", after="normuon"
    )
    state, ours, scale = (
        tx.init(np.zeros(shape)),
        np.zeros(shape),
        max(1, shape[0] / shape[1]) ** 0.5,
    )
    for g in np.random.default_rng(1).normal(size=(8, *shape)):
        weight.grad = torch.tensor(g)
        theirs.step()
        d, state = tx.update(g, state)
        # They add ε to the norm of the divided matrix as well, so that their steps are shorter.
        undivided = d * (np.sqrt(state.row_squares) + eps)
        norm = np.linalg.norm(d) ** 2 / (scale * np.linalg.norm(undivided))
        ours = ours - d * norm / (norm + eps)
        np.testing.assert_allclose(ours, weight.detach().numpy(), rtol=0, atol=1e-12)
