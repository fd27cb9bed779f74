"""Runs that move from PyTorch and Keras themselves to JAX and back."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import keras
import nbformat
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx
from nbclient import NotebookClient

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
from tests.conventions.trajectories import HANDOVER, KERAS, MAPPING, NAMES, TORCH, as_schedule


def agree(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), left, right)


@pytest.fixture(scope="module")
def torch_paths():
    """The path of from_torch in each case."""
    late = {name: options["late"] for name, options in TORCH.items() if "late" in options}
    with jax.enable_x64(True):
        optimizers = {
            name: from_torch(
                **{key: as_schedule(value) for key, value in options.items() if key != "late"}
            )
            for name, options in TORCH.items()
        }
        return trajectories.run(optimizers, late)


@pytest.fixture(scope="module")
def keras_paths():
    """The path of from_keras in each case."""
    with jax.enable_x64(True):
        return trajectories.run(
            {
                name: from_keras(**{key: as_schedule(value) for key, value in options.items()})
                for name, options in KERAS.items()
            }
        )


@pytest.mark.parametrize("name", TORCH)
def test_from_torch_makes_the_steps_of_torch_and_of_the_recording(torch_paths, name):
    live = record_torch.run(name)
    agree(torch_paths[name], live)
    recorded = trajectories.read("torch.json")["cases"][name]
    agree({key: path[trajectories.RECORDED_STEPS] for key, path in live.items()}, recorded)


@pytest.mark.parametrize("name", KERAS)
def test_from_keras_makes_the_steps_of_keras_and_of_the_recording(keras_paths, name):
    live, _ = record_keras.run(name)
    agree(keras_paths[name], live)
    recorded = trajectories.read("keras.json")["cases"][name]
    agree({key: path[trajectories.RECORDED_STEPS] for key, path in live.items()}, recorded)


def test_a_run_moves_from_torch_to_jax_and_back_on_one_trajectory(x64):
    whole, whole_optimizer = record_torch.start()
    model, optimizer = record_torch.start()
    record_torch.train(whole, whole_optimizer, 0, 3 * HANDOVER)
    record_torch.train(model, optimizer, 0)

    params = import_params(model.state_dict(), trajectories.twin_params(), MAPPING)
    checkpoint = optimizer.state_dict()
    rates = jnp.asarray([trajectories.model_rate(t) for t in range(3 * HANDOVER)])
    tx = from_torch(**checkpoint["param_groups"][0] | {"lr": lambda count: rates[count]})
    state = import_torch_state(
        checkpoint, params, MAPPING, state=tx.init(params), names=NAMES, count=HANDOVER
    )
    params, state = trajectories.train(params, state, tx)

    # A new model and optimizer continue, which have not made the first steps.
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
        record_torch.checkpoint(model, optimizer), record_torch.checkpoint(whole, whole_optimizer)
    )


def test_a_run_moves_from_keras_to_jax_and_back_on_one_trajectory(x64):
    case = KERAS["schedule, all"]
    tx = from_keras(**{key: as_schedule(value) for key, value in case.items()})
    mapping = {"w": Counterpart("dense/w", (0, 1)), "b": "dense/b"}
    whole, _ = record_keras.run("schedule, all", steps=3 * HANDOVER)
    with record_keras.double():
        variables = record_keras.variables(trajectories.START)
        optimizer = record_keras.optimizer_of(case)

        def train(steps):
            for _ in range(steps):
                grads = trajectories.gradient(
                    **{k: np.array(v.value) for k, v in variables.items()}
                )
                optimizer.apply([grads[key] for key in variables], list(variables.values()))

        train(HANDOVER)
        arrays = {variable.path: variable for variable in variables.values()}
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
            {k: np.array(v.value) for k, v in variables.items()},
            {k: p[-1] for k, p in whole.items()},
        )
        assert int(optimizer.iterations.value) == 3 * HANDOVER


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # In Keras.
def test_a_keras_model_names_its_velocities_as_expected(x64):
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
def test_the_state_of_every_implementation_of_torch_is_converted(implementation):
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


def test_from_torch_accepts_the_entries_of_torchs_schedulers():
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


def test_every_bit_of_bfloat16_buffers_is_preserved():
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


def test_the_recorded_checkpoints_are_those_of_torch():
    model, optimizer = record_torch.start()
    for first, points in trajectories.read("torch.json")["model"].items():
        record_torch.train(model, optimizer, int(first) - HANDOVER)
        agree(record_torch.checkpoint(model, optimizer), points)


def test_the_notebook_runs_with_torch_itself(tmp_path):
    """Without torch it uses a recording."""
    path = Path(__file__).parents[2] / "notebooks" / "03_from_pytorch.ipynb"
    notebook = nbformat.read(path, as_version=4)
    shutil.copytree(path.parent / "data", tmp_path / "data")
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    printed = [
        out.text for cell in notebook.cells for out in cell.get("outputs", []) if "text" in out
    ]
    assert any("This run uses PyTorch" in text for text in printed)


# Two param groups, one without decay, with a scheduler of the learning rate and the momentum.
LENGTH = 3 * HANDOVER
IMAGES, LABELS = trajectories.IMAGES, trajectories.LABELS
WORDS = np.arange(len(IMAGES)) % 5
DOUBLE = {"dtype": jnp.float64, "param_dtype": jnp.float64}
NETWORK = {
    "conv": {"kernel": Counterpart("conv.weight", (2, 3, 1, 0)), "bias": "conv.bias"},
    "norm": {"scale": "norm.weight", "bias": "norm.bias"},
    "words": {"embedding": "words.weight"},
    "out": {
        "kernel": Counterpart("out.weight", (2, 3, 1, 0), shape=(4, (3, 3, 3))),
        "bias": "out.bias",
    },
    "mix": {"kernel": Counterpart("mix.weight", (1, 0))},
}
RUNNING = {"norm": {"mean": "norm.running_mean", "var": "norm.running_var"}}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(2, 3, 3)
        self.norm = torch.nn.BatchNorm2d(3)
        self.words = torch.nn.Embedding(5, 3)
        self.out = torch.nn.Linear(27, 4)
        self.mix = torch.nn.Linear(3, 4, bias=False)

    def forward(self, images, words):
        x = torch.tanh(self.norm(self.conv(images)))
        return self.out(x.flatten(1)) + self.mix(self.words(words))


def decays(name):
    return name.endswith("weight") and not name.startswith("norm")


def torch_run():
    model = Network().double()
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[decays(name)].append((name, parameter))
    optimizer = torch.optim.SGD(
        [
            {"params": groups[True], "weight_decay": 0.01},
            {"params": groups[False], "dampening": 0.3},
        ],
        lr=0.05,
        momentum=0.9,
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.05], total_steps=LENGTH + 1)
    return model, optimizer, scheduler


def torch_train(model, optimizer, scheduler, steps):
    """Train, and return the learning rate and the momentum of each step and group."""
    images, words, labels = map(torch.from_numpy, (IMAGES, WORDS, LABELS))
    rows = []
    for _ in range(steps):
        rows.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(images, words), labels).backward()
        optimizer.step()
        scheduler.step()
    return np.array(rows)


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, images, words):
        x = linen.Conv(3, (3, 3), padding="VALID", name="conv", **DOUBLE)(images)
        norm = linen.BatchNorm(False, momentum=0.9, epsilon=1e-5, name="norm", **DOUBLE)
        x = linen.tanh(norm(x)).reshape(len(x), -1)
        words = linen.Embed(5, 3, name="words", **DOUBLE)(words)
        mix = linen.Dense(4, use_bias=False, name="mix", **DOUBLE)(words)
        return linen.Dense(4, name="out", **DOUBLE)(x) + mix


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 3, (3, 3), padding="VALID", rngs=rngs, **DOUBLE)
        self.norm = nnx.BatchNorm(3, momentum=0.9, epsilon=1e-5, rngs=rngs, **DOUBLE)
        self.words = nnx.Embed(5, 3, rngs=rngs, **DOUBLE)
        self.out = nnx.Linear(27, 4, rngs=rngs, **DOUBLE)
        self.mix = nnx.Linear(3, 4, use_bias=False, rngs=rngs, **DOUBLE)

    def __call__(self, images, words):
        x = jnp.tanh(self.norm(self.conv(images))).reshape(len(images), -1)
        return self.out(x) + self.mix(self.words(words))


def two_groups(checkpoint, rows):
    """Return the SGD of each group, with the values that its scheduler set for each step."""

    def sgd_of(group, row):
        follow = {"lr": lambda t: row[t, 0], "momentum": lambda t: row[t, 1]}
        return from_torch(**group | follow)

    groups = zip(checkpoint["param_groups"], jnp.asarray(rows).swapaxes(0, 1), strict=True)
    decaying, other = (sgd_of(group, row) for group, row in groups)
    return {True: decaying, False: other}


IMAGES_LAST = IMAGES.transpose(0, 2, 3, 1)


def as_double(stats):
    """Convert running statistics to float64; Flax makes them in float32."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), stats)


def in_linen(arrays, checkpoint, rows):
    model = LinenNetwork()
    variables = model.init(jax.random.key(0), IMAGES_LAST, WORDS)
    params = import_params(arrays, variables["params"], NETWORK)
    stats = import_params(arrays, as_double(variables["batch_stats"]), RUNNING)
    labels = jax.tree.map(
        lambda entry: decays(entry.name if isinstance(entry, Counterpart) else entry), NETWORK
    )
    tx = optax.partition(two_groups(checkpoint, rows), labels)
    state = import_torch_state(checkpoint, params, NETWORK, state=tx.init(params), count=HANDOVER)

    def loss(params, stats):
        out, changed = model.apply(
            {"params": params, "batch_stats": stats}, IMAGES_LAST, WORDS, mutable=["batch_stats"]
        )
        return jnp.mean((out - LABELS) ** 2), changed["batch_stats"]

    @jax.jit
    def step(params, stats, state):
        grads, stats = jax.grad(loss, has_aux=True)(params, stats)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), stats, state

    for _ in range(HANDOVER):
        params, stats, state = step(params, stats, state)
    return params, stats, state


def in_nnx(arrays, checkpoint, rows):
    model = NnxNetwork(nnx.Rngs(0))
    params, stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    nnx.update(model, import_params(arrays, params, NETWORK))
    nnx.update(model, import_params(arrays, as_double(stats), RUNNING))

    def labels(params):
        def of(path, _):
            keys = jax.tree_util.keystr(path)
            return "kernel" in keys or "embedding" in keys

        return jax.tree_util.tree_map_with_path(of, params)

    tx = optax.partition(two_groups(checkpoint, rows), labels)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.opt_state = import_torch_state(
        checkpoint, nnx.state(model, nnx.Param), NETWORK, state=optimizer.opt_state, count=HANDOVER
    )

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(IMAGES_LAST, WORDS) - LABELS) ** 2))(model)
        optimizer.update(model, grads)

    for _ in range(HANDOVER):
        step(model, optimizer)
    return nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat), optimizer.opt_state


@pytest.mark.parametrize("in_flax", [in_linen, in_nnx])
def test_a_run_of_two_groups_moves_with_its_scheduler_and_back(x64, in_flax):
    whole = torch_run()
    rows = torch_train(*whole, LENGTH)
    moved = torch_run()
    torch_train(*moved, HANDOVER)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # Of Flax.
        params, stats, state = in_flax(moved[0].state_dict(), moved[1].state_dict(), rows)
    exported = export_params(params, NETWORK) | export_params(stats, RUNNING)

    # A new model and optimizer continue; their scheduler has made the steps in between.
    model, optimizer, scheduler = torch_run()
    for _ in range(2 * HANDOVER):
        scheduler.step()
    tensors = {name: torch.from_numpy(array) for name, array in exported.items()}
    assert not model.load_state_dict(tensors, strict=False).unexpected_keys
    optimizer.load_state_dict(export_torch_state(state, optimizer.state_dict(), NETWORK))
    torch_train(model, optimizer, scheduler, HANDOVER)

    expected, result = whole[0].state_dict(), model.state_dict()
    # PyTorch averages the unbiased variance and Flax the biased one; training reads neither.
    for name in set(expected) - {"norm.num_batches_tracked", "norm.running_var"}:
        agree(result[name], expected[name])
    result, expected = (tx.state_dict()["state"] for tx in (optimizer, whole[1]))
    agree(result, expected)
