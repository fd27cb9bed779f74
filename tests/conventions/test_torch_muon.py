"""from_torch_muon equals PyTorch's rules in NumPy; tests/oracles compares it with PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.conventions import Counterpart, export_torch_state, from_torch_muon
from momentax.conventions import import_torch_state as import_state

RNG = np.random.default_rng(0)
START, GRADS = RNG.normal(size=(6, 4)), RNG.normal(size=(20, 6, 4))


def in_numpy(
    θ, gradients, *, lr, weight_decay=0.1, momentum=0.95, nesterov=True,
    ns_coefficients=(3.4445, -4.7750, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None,
):  # fmt: skip
    """PyTorch's loop in float64, on kernels (outputs, inputs)."""
    (a, b, c), buffer, (A, B) = ns_coefficients, 0.0, θ.shape
    for t, g in enumerate(gradients):
        buffer = momentum * buffer + (1 - momentum) * g
        x = (1 - momentum) * g + momentum * buffer if nesterov else buffer
        x = x / max(np.linalg.norm(x), eps)
        for _ in range(ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        rms = adjust_lr_fn == "match_rms_adamw"
        scale = 0.2 * np.sqrt(max(A, B)) if rms else np.sqrt(max(1, A / B))
        θ = θ * (1 - lr(t) * weight_decay) - lr(t) * scale * x
    return θ, buffer


def run(tx, params):
    def step(carry, g):
        params, state = carry
        u, state = tx.update(g, state, params)
        return (optax.apply_updates(params, u), state), None

    start = params, tx.init(params)
    return jax.jit(lambda: jax.lax.scan(step, start, jnp.asarray(GRADS))[0])()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "momentum": 0.8},
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 12, "eps": 2.0, "weight_decay": 0.0},
    ],
    ids=["defaults", "rms", "large eps"],
)
@pytest.mark.usefixtures("x64")
def test_equals_the_rules_of_pytorch_on_the_transposed_kernel(options):
    rates = np.linspace(0.05, 0.01, 30)
    table = jnp.asarray(rates)
    tx = from_torch_muon(lr=lambda t: table[t], dtype=jnp.float64, **options)
    params, state = run(tx, jnp.asarray(START))
    expected, buffer = in_numpy(START.T, GRADS.transpose(0, 2, 1), lr=rates.item, **options)
    np.testing.assert_allclose(params, expected.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(momentax.velocity(state), buffer.T, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_buffers_come_in_and_go_out_with_their_axes():
    buffer = RNG.normal(size=(4, 6))
    group = {"params": [0], "lr": 0.02, "ns_coefficients": (3.4445, -4.7750, 2.0315)}
    checkpoint = {"state": {0: {"momentum_buffer": buffer}}, "param_groups": [group]}
    params, mapping = {"w": jnp.asarray(START)}, {"w": Counterpart(0, axes=(1, 0))}
    state = import_state(checkpoint, params, mapping)
    np.testing.assert_array_equal(momentax.velocity(state)["w"], buffer.T)
    back = export_torch_state(state, checkpoint, mapping, tensor=np.asarray)
    np.testing.assert_array_equal(back["state"][0]["momentum_buffer"], buffer)
    tx = momentax.muon(0.02, roles={"w": "hidden"})
    path = ".hidden[0].inner_state.velocity"
    state = import_state(checkpoint, params, mapping, state=tx.init(params), path=path)
    np.testing.assert_array_equal(momentax.velocity(state)["w"], buffer.T)
    back = export_torch_state(state, checkpoint, mapping, tensor=np.asarray, path=path)
    np.testing.assert_array_equal(back["state"][0]["momentum_buffer"], buffer)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ns_steps": 100}, ValueError, "ns_steps must be at most 99"),
        ({"ns_coefficients": (1.0, 2.0)}, ValueError, "ns_coefficients must be three numbers"),
        ({"adjust_lr_fn": "spectral"}, ValueError, "adjust_lr_fn must be one of 'original', 'm"),
        ({"dtype": int}, TypeError, "dtype must be one of"),
        ({"fuse": True}, TypeError, "has no argument 'fuse', and neither has torch.optim.Muon"),
        ({"eps": -1.0}, ValueError, r"eps must be in \[0, inf\)"),
    ],
)
def test_a_mistake_is_a_sentence(options, error, text):
    with pytest.raises(error, match=text):
        from_torch_muon(**options)


def test_what_is_no_matrix_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\['bias'\] has the shape \(3,\), and torch.optim.Muon"):
        from_torch_muon().init({"bias": jnp.ones(3)})
