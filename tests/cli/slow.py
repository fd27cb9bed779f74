"""A training function that waits for ever where the environment variable BLOCK says."""

import ctypes
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

WAITING = "The function waits."


def wait():
    """Wait in C for ever, whatever signals arrive, as the main thread does while XLA compiles."""
    print(WAITING, file=sys.stderr, flush=True)
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def step(learning_rate):
    if os.environ.get("BLOCK") == "run" and learning_rate > 0.25:
        wait()
    return np.float32(learning_rate)


def train(learning_rate, beta):
    if os.environ.get("BLOCK") == "compile":
        wait()
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    loss = jax.pure_callback(step, shape, learning_rate, vmap_method="sequential")
    return {"loss": loss + beta}
