"""The Muon of PyTorch, Keras and Optax: its steps, and its velocities in and out."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
import torch

import momentax
from momentax.conventions import (
    Counterpart,
    export_keras_state,
    export_torch_state,
    from_torch_muon,
    import_keras_state,
    import_torch_state,
)

STEPS = 40
SHAPES = {"wide": (3, 8), "tall": (6, 4)}
RNG = np.random.default_rng(0)
START = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
GRADS = {name: RNG.normal(size=(STEPS, *shape)) for name, shape in SHAPES.items()}
MAPPING = {name: Counterpart(name, axes=(1, 0)) for name in SHAPES}
JORDAN = (3.4445, -4.7750, 2.0315)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def _exact_torch(monkeypatch):
    """Let PyTorch iterate in the dtype of the gradient."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def run_torch(params, first, last, state=None, **options):
    """Return the kernels of Flax after some steps of PyTorch, and the optimizer's state."""
    tensors = {name: torch.nn.Parameter(torch.tensor(x.T.copy())) for name, x in params.items()}
    optimizer = torch.optim.Muon(tensors.items(), **options)
    if state is not None:
        optimizer.load_state_dict(state)
    for t in range(first, last):
        for name, x in tensors.items():
            x.grad = torch.tensor(GRADS[name][t].T.copy())
        optimizer.step()
    return {name: x.detach().numpy().T for name, x in tensors.items()}, optimizer.state_dict()


def run_jax(tx, params, first, last, state=None):
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params) if state is None else state
    update = jax.jit(tx.update)
    for t in range(first, last):
        g = {name: jnp.asarray(g[t]) for name, g in GRADS.items()}
        u, state = update(g, state, params)
        params = optax.apply_updates(params, u)
    return params, state


def assert_close(found, expected, atol=1e-12):
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw", "nesterov": False},
        {"lr": 0.05, "ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 3, "weight_decay": 0.0},
        {"lr": 0.05, "eps": 3.0, "adjust_lr_fn": "original"},
    ],
    ids=["defaults", "rms", "cubic", "large eps"],
)
@pytest.mark.usefixtures("_exact_torch")
def test_the_steps_are_those_of_pytorch(options):
    theirs, _ = run_torch(START, 0, STEPS, **options)
    tx = from_torch_muon(**options, dtype=jnp.float64)
    assert_close(run_jax(tx, START, 0, STEPS)[0], theirs)


@pytest.mark.usefixtures("_exact_torch")
def test_a_run_of_pytorch_continues_in_jax_and_back():
    options = {"lr": 0.05, "weight_decay": 0.2}
    theirs, _ = run_torch(START, 0, STEPS, **options)
    middle, checkpoint = run_torch(START, 0, 20, **options)
    tx = from_torch_muon(**checkpoint["param_groups"][0], dtype=jnp.float64)
    state = import_torch_state(checkpoint, middle, MAPPING, state=tx.init(middle))
    assert_close(run_jax(tx, middle, 20, STEPS, state)[0], theirs)
    made = import_torch_state(checkpoint, middle, MAPPING)
    assert_close(momentax.velocity(made), momentax.velocity(state))

    ours, state = run_jax(tx, START, 0, 20)
    exported = export_torch_state(state, checkpoint, MAPPING)
    ours = {name: np.asarray(ours[name]) for name in SHAPES}  # In PyTorch's order.
    assert_close(run_torch(ours, 20, STEPS, exported, **options)[0], theirs)


@pytest.mark.usefixtures("_exact_torch")
def test_muon_continues_with_the_velocity_of_pytorch():
    options = {"lr": 0.05, "weight_decay": 0.2}
    theirs, _ = run_torch(START, 0, STEPS, **options)
    middle, checkpoint = run_torch(START, 0, 20, **options)
    tx = momentax.muon(
        0.05, weight_decay=0.2, coefficients=[JORDAN], dtype=jnp.float64, roles={"*": "hidden"}
    )
    params = middle | {"bias": np.zeros(3)}
    state = import_torch_state(
        checkpoint, params, MAPPING | {"bias": "bias"},
        state=tx.init(params), path=".hidden[0].inner_state.velocity",
    )  # fmt: skip
    hidden = tx.init(params)._replace(hidden=state.hidden)
    path = params
    update = jax.jit(tx.update)
    for t in range(20, STEPS):
        g = {name: jnp.asarray(g[t]) for name, g in GRADS.items()} | {"bias": jnp.zeros(3)}
        u, hidden = update(g, hidden, path)
        path = optax.apply_updates(path, u)
    assert_close(path, theirs)


def run_keras(variables, optimizer, first, last):
    for t in range(first, last):
        g = [jnp.asarray(GRADS[name][t]) for name in SHAPES]
        with jax.numpy_dtype_promotion("standard"):
            optimizer.apply(g, list(variables.values()))
    return {name: np.asarray(x.value) for name, x in variables.items()}


def norm_in_float64(x, axis, keepdims):
    return jnp.linalg.norm(x, axis=axis, keepdims=keepdims)


@pytest.fixture
def _exact_keras(monkeypatch):
    """Let Keras divide by the norm of a matrix, which it rounds to float32 and adds 1e-7 to."""
    monkeypatch.setattr(keras.src.ops, "norm", lambda *a, **k: norm_in_float64(*a, **k) - 1e-7)


def test_keras_rounds_the_norm_to_float32_and_adds_a_number(monkeypatch):
    keras.config.set_floatx("float64")
    optimizer, x = keras.optimizers.Muon(0.05), jnp.asarray(GRADS["wide"][0])
    assert keras.ops.norm(x, axis=(0, 1), keepdims=True).dtype == jnp.float32
    with jax.numpy_dtype_promotion("standard"):
        rounded = optimizer.zeropower_via_newtonschulz5(x, 5)
    monkeypatch.setattr(keras.src.ops, "norm", norm_in_float64)
    for scale in (1.0, 1e-6):
        found = optimizer.zeropower_via_newtonschulz5(scale * x, 5)
        expected = scale * x / (np.linalg.norm(scale * x) + 1e-7)
        for a, b, c in [JORDAN] * 5:
            squares = expected @ expected.T
            expected = (a * np.eye(3) + b * squares + c * squares @ squares) @ expected
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
        if scale == 1:
            assert 1e-9 < np.abs(rounded - found).max() < 1e-6


@pytest.mark.usefixtures("_exact_keras")
def test_the_velocity_of_keras_is_larger_by_a_factor_and_continues():
    keras.config.set_floatx("float64")
    variables = {name: keras.Variable(x, name=name) for name, x in START.items()}
    optimizer = keras.optimizers.Muon(0.05, weight_decay=None, momentum=0.9)
    optimizer.build(list(variables.values()))
    middle = run_keras(variables, optimizer, 0, 20)
    tx = momentax.muon(
        0.05, beta=0.9, scale="rms", coefficients=[JORDAN], dtype=jnp.float64,
        roles={"*": "hidden"},
    )  # fmt: skip
    names, place = {name: name for name in SHAPES}, ".hidden[0].inner_state.velocity"
    mapping = {name: Counterpart(name, axes=(0, 1)) for name in names}
    state = import_keras_state(
        optimizer.variables, middle, mapping, state=tx.init(middle), scale=0.1, path=place
    )
    own, own_state = run_jax(tx, START, 0, 20)
    assert_close(momentax.velocity(state), momentax.velocity(own_state))
    theirs = run_keras(variables, optimizer, 20, STEPS)
    assert_close(run_jax(tx, middle, 20, STEPS, state)[0], theirs)
    values = export_keras_state(own_state, optimizer.variables, mapping, scale=0.1, path=place)
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(value)
    for name, variable in variables.items():
        variable.assign(own[name])
    assert_close(run_keras(variables, optimizer, 20, STEPS), theirs)


def test_the_velocity_of_optax_is_ours_and_its_early_directions_are_not():
    theirs = optax.contrib.muon(0.05, beta=0.95, consistent_rms=None)
    ours = momentax.muon(0.05, coefficients=[JORDAN], dtype=jnp.float64, roles={"*": "hidden"})
    with jax.numpy_dtype_promotion("standard"):
        path, state = run_jax(theirs, START, 0, 20)
    own_path, own = run_jax(ours, START, 0, 20)
    v = momentax.velocity(state)
    assert_close(v, momentax.velocity(own))
    moved = momentax.replace_velocity(ours.init(path), v)
    assert_close(momentax.velocity(moved), v)
    # Optax debiases gradient and velocity by different factors.
    assert np.abs(np.asarray(path["wide"]) - own_path["wide"]).max() > 1e-3


def test_optax_orthogonalizes_an_embedding_and_keras_does_not():
    params = {"embedding": jnp.asarray(START["wide"])}
    g = {"embedding": jnp.asarray(GRADS["wide"][0])}
    tx = optax.contrib.muon(1.0)
    with jax.numpy_dtype_promotion("standard"):
        u, _ = tx.update(g, tx.init(params), params)
    sizes = np.linalg.svd(np.asarray(u["embedding"]), compute_uv=False)
    assert sizes.max() / sizes.min() < 2
    assert momentax.roles(params)["embedding"] == "embedding"


def test_pytorch_iterates_in_bfloat16_also_where_the_gradient_is_float64():
    theirs, _ = run_torch(START, 0, STEPS, lr=0.05)
    ours, _ = run_jax(from_torch_muon(lr=0.05, dtype=jnp.float64), START, 0, STEPS)
    gap = max(np.abs(np.asarray(ours[name]) - theirs[name]).max() for name in SHAPES)
    assert 1e-4 < gap < 0.1
    half, _ = run_jax(from_torch_muon(lr=0.05, dtype=jnp.bfloat16), START, 0, STEPS)
    assert max(np.abs(np.asarray(half[name]) - theirs[name]).max() for name in SHAPES) < 0.1
