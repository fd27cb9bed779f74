"""The hand-over with PyTorch and Keras themselves: state there, in JAX, and back."""

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
    export_params,
    export_torch_state,
    from_keras,
    from_torch,
    import_keras_state,
    import_params,
    import_torch_state,
)
from tests.conventions import record_keras, record_torch, trajectories
from tests.conventions.trajectories import HANDOVER, KERAS, MAPPING, NAMES, TORCH, scheduled


def agree(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), left, right)


@pytest.mark.parametrize("name", TORCH)
def test_from_torch_steps_as_torch_does_and_as_was_recorded(x64, name):
    options = {key: scheduled(value) for key, value in TORCH[name].items() if key != "late"}
    live = record_torch.run(name)
    agree(trajectories.run(from_torch(**options), TORCH[name].get("late", 0)), live)
    recorded = trajectories.read("torch.json")["cases"][name]
    agree({key: path[trajectories.SHOWN] for key, path in live.items()}, recorded)


@pytest.mark.parametrize("name", KERAS)
def test_from_keras_steps_as_keras_does_and_as_was_recorded(x64, name):
    options = {key: scheduled(value) for key, value in KERAS[name].items()}
    live, _ = record_keras.run(name)
    agree(trajectories.run(from_keras(**options)), live)
    recorded = trajectories.read("keras.json")["cases"][name]
    agree({key: path[trajectories.SHOWN] for key, path in live.items()}, recorded)


def test_a_run_moves_from_torch_to_jax_and_back_on_one_trajectory(x64):
    alone, alone_optimizer = record_torch.start()
    model, optimizer = record_torch.start()
    record_torch.train(alone, alone_optimizer, 0, 3 * HANDOVER)
    record_torch.train(model, optimizer, 0)

    params = import_params(model.state_dict(), trajectories.twin_params(), MAPPING)
    checkpoint = optimizer.state_dict()
    rates = jnp.asarray([trajectories.schedule_of(t) for t in range(3 * HANDOVER)])
    tx = from_torch(**checkpoint["param_groups"][0] | {"lr": lambda count: rates[count]})
    state = import_torch_state(
        checkpoint, params, MAPPING, state=tx.init(params), names=NAMES, count=HANDOVER
    )
    params, state = trajectories.train(params, state, tx)

    # Into a model that never saw the first steps.
    model, optimizer = record_torch.start()
    tensors = {key: torch.from_numpy(a) for key, a in export_params(params, MAPPING).items()}
    model.load_state_dict(tensors)
    optimizer.load_state_dict(
        export_torch_state(
            state, optimizer.state_dict(), MAPPING, tensor=torch.from_numpy, names=NAMES
        )
    )
    record_torch.train(model, optimizer, 2 * HANDOVER)
    agree(
        record_torch.checkpoint(model, optimizer), record_torch.checkpoint(alone, alone_optimizer)
    )


def test_a_run_moves_from_keras_to_jax_and_back_on_one_trajectory(x64):
    case = KERAS["schedule, all"]
    tx = from_keras(**{key: scheduled(value) for key, value in case.items()})
    mapping = {"w": Counterpart("dense/w", (0, 1)), "b": "dense/b"}
    alone, _ = record_keras.run("schedule, all", steps=3 * HANDOVER)
    with record_keras.double():
        there, optimizer = (
            record_keras.variables(trajectories.START),
            record_keras.optimizer_of(case),
        )

        def train(steps):
            for _ in range(steps):
                grads = trajectories.gradient(**{k: np.array(v.value) for k, v in there.items()})
                optimizer.apply([grads[key] for key in there], list(there.values()))

        train(HANDOVER)
        arrays = {variable.path: variable for variable in there.values()}
        start = jax.tree.map(jnp.asarray, trajectories.START)
        params = import_params(arrays, start, mapping)
        state = import_keras_state(optimizer.variables, params, mapping, state=tx.init(params))
        for _ in range(HANDOVER):
            grads = trajectories.gradient(**params, xp=jnp)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        for path, value in export_params(params, mapping).items():
            arrays[path].assign(value)
        values = export_keras_state(state, optimizer.variables, mapping)
        for variable, value in zip(optimizer.variables, values, strict=True):
            variable.assign(value)
        train(HANDOVER)
        agree(
            {k: np.array(v.value) for k, v in there.items()}, {k: p[-1] for k, p in alone.items()}
        )
        assert int(optimizer.iterations.value) == 3 * HANDOVER


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # In Keras.
def test_a_real_keras_model_names_its_velocities_as_expected(x64):
    with record_keras.double():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        optimizer.apply([np.ones((3, 2)), np.ones(2)])
        params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
        paths = [variable.path for variable in model.trainable_variables]
        mapping = dict(zip(params, paths, strict=True))
        tx = from_keras(**optimizer.get_config())
        state = import_keras_state(optimizer.variables, params, mapping, state=tx.init(params))
        np.testing.assert_allclose(momentax.velocity(state)["kernel"], -0.1, rtol=1e-12)
        np.testing.assert_allclose(momentax.velocity(state)["bias"], -0.1, rtol=1e-12)


@pytest.mark.parametrize("implementation", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_every_implementation_of_torch_hands_over(implementation):
    w = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.SGD([("w", w)], lr=torch.tensor(0.1), momentum=0.9, **implementation)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, total_steps=10)
    w.grad = torch.full((3, 2), 2.0)
    optimizer.step()
    scheduler.step()
    params, mapping = {"kernel": jnp.ones((2, 3))}, {"kernel": Counterpart("w", (1, 0))}
    checkpoint = optimizer.state_dict()
    state = import_torch_state(checkpoint, params, mapping)
    np.testing.assert_array_equal(momentax.velocity(state)["kernel"], 2.0)
    exported = export_torch_state(state, checkpoint, mapping, tensor=torch.from_numpy)
    optimizer.load_state_dict(exported)
    torch.testing.assert_close(optimizer.state[w]["momentum_buffer"], torch.full((3, 2), 2.0))


def test_torchs_schedulers_add_nothing_that_from_torch_does_not_know():
    schedulers = torch.optim.lr_scheduler
    for make in (
        lambda tx: schedulers.StepLR(tx, 3),
        lambda tx: schedulers.CosineAnnealingLR(tx, 10),
        lambda tx: schedulers.CyclicLR(tx, 0.01, 0.1),
        lambda tx: schedulers.OneCycleLR(tx, 0.1, total_steps=10),
        lambda tx: torch.optim.swa_utils.SWALR(tx, 0.1),
    ):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
        make(optimizer)
        from_torch(**optimizer.state_dict()["param_groups"][0])


def test_bfloat16_buffers_keep_every_bit():
    w = torch.nn.Parameter(torch.ones(5, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    w.grad = torch.tensor([0.1, 0.2, 0.3, 1e-20, 1e20], dtype=torch.bfloat16)
    optimizer.step()
    state = import_torch_state(optimizer.state_dict(), jnp.ones(5, jnp.bfloat16), 0)
    velocity = momentax.velocity(state)
    assert velocity.dtype == jnp.float32
    np.testing.assert_array_equal(velocity, w.grad.float().numpy())


def test_the_sparse_buffer_of_an_embedding_becomes_dense():
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(embedding.named_parameters(), lr=0.1, momentum=0.9)
    for rows in ([1, 2], [2, 4]):
        optimizer.zero_grad()
        embedding(torch.tensor(rows)).sum().backward()
        optimizer.step()
    assert optimizer.state[embedding.weight]["momentum_buffer"].is_sparse
    state = import_torch_state(optimizer.state_dict(), jnp.zeros((5, 3)), "weight")
    expected = np.tile([[0.0], [0.9], [1.9], [0.0], [1.0]], (1, 3))
    np.testing.assert_allclose(momentax.velocity(state), expected, rtol=1e-6)


def test_complex_gradients_of_torch_are_the_conjugates_of_jaxs(x64):
    z = torch.nn.Parameter(torch.tensor(1 + 2j, dtype=torch.complex128))
    z.abs().square().backward()
    grad = jax.grad(lambda z: jnp.abs(z) ** 2)(1 + 2j)
    np.testing.assert_allclose(complex(z.grad), 2 + 4j)
    np.testing.assert_allclose(grad, 2 - 4j)
    points = record_torch.complex_run()
    recorded = trajectories.read("torch.json")["complex"]
    agree(points, [recorded["20"], recorded["40"]])


def test_the_recorded_checkpoints_are_torchs():
    model, optimizer = record_torch.start()
    for first, points in trajectories.read("torch.json")["model"].items():
        record_torch.train(model, optimizer, int(first) - HANDOVER)
        agree(record_torch.checkpoint(model, optimizer), points)
