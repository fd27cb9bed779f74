"""Whole training steps of a network, to see what share of a step an instrument takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tests.benchmarks.measure import Contestant, Maker, compiled
from tests.benchmarks.workloads import Arena

IMAGES = (16, 96, 96, 3)


def resnet18_loss(params: list[jax.Array], images: jax.Array) -> jax.Array:
    """Return the cross-entropy of ResNet-18 with parameters as in `workloads.resnet18`.

    Each convolution is followed by a scale and a shift of the normalized channels.
    """
    leaves = iter(params)

    def convolve(x: jax.Array, stride: int) -> jax.Array:
        kernel, scale, shift = next(leaves), next(leaves), next(leaves)
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x - x.mean((0, 1, 2), keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x**2, (0, 1, 2), keepdims=True) + 1e-5)
        return x * scale[None, None, None] + shift[None, None, None]

    x = jax.nn.relu(convolve(images, 2))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for width in (64, 128, 256, 512):
        for block in range(2):
            grows = block == 0 and width != x.shape[-1]
            stride = 2 if grows else 1
            inner = convolve(jax.nn.relu(convolve(x, stride)), 1)
            x = jax.nn.relu(inner + (convolve(x, stride) if grows else x))
    kernel, bias = next(leaves), next(leaves)
    logits = x.mean((1, 2)) @ kernel + bias[None]
    labels = jnp.arange(len(images)) % logits.shape[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def small_loss(params: list[jax.Array], images: jax.Array) -> jax.Array:
    """Return a loss of the two small leaves of the quick workload."""
    kernel, bias = params
    return jnp.mean((images.mean((1, 2, 3))[:, None] * kernel[:1] + bias[None]) ** 2)


def network_step(make: Callable[[], Any], every: int = 1) -> Maker:
    """Build the gradient of ResNet-18, the update and its application as one program."""

    def ready(arena: Arena) -> Contestant:
        tx = make()
        loss = resnet18_loss if len(arena.params) == 62 else small_loss
        images = jax.random.normal(jax.random.key(0), IMAGES)
        state = tx.init(arena.params)

        def step(params, state, images):
            grads = jax.grad(loss)(params, images)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        program, facts = compiled(step, arena.params, state, images, donate=(0, 1))
        kept = [state]
        del state

        def call():
            for _ in range(every):
                arena.params, kept[0] = program(arena.params, kept[0], images)
            return arena.params, kept[0]

        return Contestant(call, facts, every)

    return ready
