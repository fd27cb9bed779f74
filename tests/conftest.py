"""One configuration for every test: JAX at its strictest, Hypothesis reproducible."""

from collections.abc import Iterator

import jax
import matplotlib as mpl
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # To see that sharding follows the parameters.
mpl.use("Agg")

settings.register_profile("momentax", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("momentax")


@pytest.fixture
def x64() -> Iterator[None]:
    """Run a test in 64 bits."""
    with jax.enable_x64(True):
        yield
