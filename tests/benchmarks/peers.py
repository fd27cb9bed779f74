"""Peers other than Optax, imported when they are built, so that missing ones are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.benchmarks.limit import cores
from tests.benchmarks.measure import Contestant, Maker, stepping
from tests.benchmarks.workloads import Arena

RATE, BETA = 1e-4, 0.9


def in_torch(make: Callable[[Any, list[Any]], Any]) -> Maker:
    """Build an optimizer with the interface of PyTorch; `make` takes torch and the parameters."""

    def ready(arena: Arena) -> Contestant:
        import torch

        torch.set_num_threads(cores())
        optimizer = make(torch, arena.torch)
        wait = torch.cuda.synchronize if arena.torch[0].is_cuda else lambda: None

        def call():
            optimizer.step()
            wait()

        call()  # The first step makes the state.
        kept = {
            id(each): each.numel() * each.element_size()
            for state in optimizer.state.values()
            for each in state.values()
            if torch.is_tensor(each)
        }
        return Contestant(call, {"state bytes": sum(kept.values()) / arena.size})

    return ready


def torch_sgd(**options: bool) -> Maker:
    return in_torch(
        lambda torch, params: torch.optim.SGD(params, lr=RATE, momentum=BETA, **options)
    )


def bitsandbytes(name: str, **options: Any) -> Maker:
    def make(torch: Any, params: list[Any]) -> Any:
        import bitsandbytes.optim

        return getattr(bitsandbytes.optim, name)(params, lr=RATE, **options)

    return in_torch(make)


def lion_pytorch(torch: Any, params: list[Any]) -> Any:
    import lion_pytorch

    return lion_pytorch.Lion(params, lr=RATE)


def keras(donate: bool) -> Maker:
    """Build Keras on JAX as its own trainer runs it: stateless_apply, compiled."""

    def ready(arena: Arena) -> Contestant:
        import os

        os.environ["KERAS_BACKEND"] = "jax"
        import keras

        if keras.backend.backend() != "jax":
            raise ImportError("Keras was imported before with another backend than JAX")
        optimizer = keras.optimizers.SGD(RATE, momentum=BETA)
        variables = [keras.Variable(θ) for θ in arena.params]
        optimizer.build(variables)
        state = [variable.value for variable in optimizer.variables]
        for variable in (*variables, *optimizer.variables):
            variable._value = None  # Keras no longer reads the arrays, so they may be donated.

        def step(params, state, grads):
            return optimizer.stateless_apply(state, grads, params)

        return stepping(arena, step, state, donate)

    return ready


CONTESTANTS: dict[str, Maker] = {
    "torch.SGD": torch_sgd(foreach=False),
    "torch.SGD, foreach": torch_sgd(foreach=True),
    "torch.SGD, fused": torch_sgd(fused=True),
    "lion_pytorch.Lion": in_torch(lion_pytorch),
    "bitsandbytes.SGD8bit": bitsandbytes("SGD8bit", momentum=BETA),
    "bitsandbytes.Lion8bit": bitsandbytes("Lion8bit"),
    "keras.SGD": keras(donate=False),
    "keras.SGD, donated": keras(donate=True),
}
