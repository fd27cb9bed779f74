"""Torque-aware momentum: aligned, orthogonal and opposed gradients, one cosine per leaf."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import torque_aware
from momentax.states import TorqueAwareState
from tests.methods.runs import draw, follow


@pytest.mark.usefixtures("x64")
def test_orthogonal_gradients_are_heavy_ball_at_half_the_learning_rate():
    g = np.eye(20)
    d, state = follow(torque_aware(0.9, 0.5, eps=0.0), g)
    assert isinstance(state, TorqueAwareState)
    assert state.alignment == 0
    half, _ = follow(momentax.linear(0.0, 0.5, 0.9), g)
    np.testing.assert_allclose(d, half, rtol=1e-15)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.usefixtures("x64")
def test_the_alignment_of_parallel_gradients_is_a_geometric_sum(sign):
    β, γ, first = 0.9, 0.7, np.array([3.0, 4.0])
    tx = torque_aware(β, γ, 1e-3)
    state, v = tx.init(first), np.zeros(2)
    for t in range(12):
        g = first if t == 0 else sign * np.sign(v[0]) * 0.1 * first  # Along or against v.
        s = sign * (1 - γ**t)
        v = β * v + (1e-3 + (1 + s) / 2) * g
        d, state = tx.update(g, state)
        np.testing.assert_allclose(state.alignment, s, atol=1e-14)
        np.testing.assert_allclose(d, v, rtol=1e-13)


@pytest.mark.optimized
@pytest.mark.usefixtures("x64")
def test_each_leaf_has_its_own_cosine():
    g = {"a": draw(20, 2, 3), "b": draw(20, 4, seed=1)}
    d, state = follow(torque_aware(), g)
    for key, each in g.items():
        alone, own = follow(torque_aware(), each)
        np.testing.assert_allclose(d[key], alone, rtol=1e-14)
        np.testing.assert_allclose(state.alignment[key], own.alignment, rtol=1e-14)
    assert state.alignment["a"] != state.alignment["b"]


@pytest.mark.usefixtures("x64")
def test_complex_gradients_equal_their_real_and_imaginary_parts():
    z = draw(20, 3, dtype=complex)
    d, state = follow(torque_aware(), z)
    pairs, both = follow(torque_aware(), np.stack([z.real, z.imag], axis=-1))
    np.testing.assert_allclose(np.stack([d.real, d.imag], axis=-1), pairs, rtol=1e-12)
    np.testing.assert_allclose(state.alignment, both.alignment, rtol=1e-12)
    assert state.alignment.dtype == float


def test_zeros_and_empty_leaves_have_a_cosine_of_zero():
    g = {"zero": jnp.zeros((3, 2)), "empty": jnp.zeros((3, 0)), "small": jnp.full((3, 2), 1e-15)}
    d, state = follow(torque_aware(eps=0.0), g)
    chex.assert_tree_all_finite((d, state))
    assert state.alignment["zero"] == state.alignment["empty"] == 0
    np.testing.assert_allclose(state.alignment["small"], 1 - 0.9**2, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e15, 1e30])
def test_the_scale_of_the_gradient_does_not_change_the_alignment(scale):
    g = draw(10, 5).astype(np.float32)
    _, state = follow(torque_aware(), g)
    _, scaled = follow(torque_aware(), np.float32(scale) * g)
    np.testing.assert_allclose(scaled.alignment, state.alignment, rtol=1e-5)
