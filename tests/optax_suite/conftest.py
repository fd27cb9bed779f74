"""Optax's tests run as Optax runs them: without the strict settings of tests/conftest.py."""

import jax
import pytest


@pytest.fixture(autouse=True)
def optaxs_settings():
    before = jax.config.jax_enable_x64
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", before)  # A test that fails leaves it on.
