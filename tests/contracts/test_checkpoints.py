"""Checkpoints of Orbax: every state survives one, and a run continues from it bit for bit."""

import functools
import json
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import momentax
from momentax import storage
from tests.contracts import golden
from tests.contracts.harness import build, types
from tests.contracts.test_golden import FILES, load
from tests.sweeps.processes import ENVIRONMENT, ROOT

# Every state.


@pytest.fixture(scope="module")
def states():
    """A state of every case after some steps."""
    _, states, faults = load(FILES[-1])
    assert not faults
    return states


def save_and_wait(path, tree, like):
    checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
    checkpointer.save(path, args=ocp.args.StandardSave(tree))
    return checkpointer.restore(path, args=ocp.args.StandardRestore(like))


def save_in_the_background(path, tree, like):
    with ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=ocp.args.StandardSave(tree))
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, args=ocp.args.StandardRestore(like))


def manage(path, tree, like):
    with ocp.CheckpointManager(path) as manager:
        manager.save(3, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(like))


@pytest.mark.parametrize("save_and_restore", [save_and_wait, save_in_the_background, manage])
def test_every_state_survives_a_checkpoint(save_and_restore, states, tmp_path):
    like = {name: jax.eval_shape(build(name).init, golden.PARAMS) for name in states}
    # One checkpoint for all, in a list: Orbax makes the keys of a dictionary names of files.
    found = save_and_restore(tmp_path / "all", list(states.values()), list(like.values()))
    assert types(found) == types(list(states.values()))
    chex.assert_trees_all_equal(found, list(states.values()))


def test_a_checkpoint_without_classes_is_put_back_into_them(states, tmp_path):
    like = {name: jax.eval_shape(build(name).init, golden.PARAMS) for name in states}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "all", list(states.values()))
        checkpointer.wait_until_finished()
        raw = checkpointer.restore(tmp_path / "all")
    for each, spec, state in zip(raw, like.values(), states.values(), strict=True):
        found = momentax.states.migrate(each, spec, version=momentax.__version__)
        chex.assert_trees_all_equal(found, state)


# Any step of any pipeline.

METHODS = {
    "nesterov": lambda: momentax.nesterov(0.9),
    "average": lambda: momentax.average(lambda t: 1 - 0.5 / (2.0 + t)),
    "aggregated": lambda: momentax.aggregated((0.0, 0.9)),
    "nadam": momentax.nadam,
    "lion": momentax.lion,
}
WRAPPERS = {
    "none": lambda tx: tx,
    "restart": momentax.restart,
    "guard": momentax.guard,
    "monitor": lambda tx: momentax.monitor(tx, every=2),
    "optimistic": momentax.optimistic,
}
STORAGES = {
    "none": lambda tx: tx,
    "bfloat16": lambda tx: momentax.stored(tx, storage.bfloat16(seed=1), min_size=1),
    "int8": lambda tx: momentax.stored(tx, storage.int8(seed=1), min_size=1),
}


@functools.cache
def pipeline(method, wrapper, stored):
    """Return an optimizer and its compiled step, with gradients that depend on the parameters."""
    tx = momentax.sgd(0.1, STORAGES[stored](WRAPPERS[wrapper](METHODS[method]())))

    @jax.jit
    def step(params, state, t):
        grads = jax.tree.map(lambda x: x - jnp.sin(t), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return tx, step


def run(step, params, state, start, stop):
    for t in range(start, stop):
        params, state = step(params, state, jnp.float32(t))
    return params, state


@settings(max_examples=5)
@given(
    method=st.sampled_from(sorted(METHODS)),
    wrapper=st.sampled_from(sorted(WRAPPERS)),
    stored=st.sampled_from(sorted(STORAGES)),
    before=st.integers(0, 6),
    after=st.integers(1, 6),
)
def test_a_run_continues_bit_for_bit(tmp_path_factory, method, wrapper, stored, before, after):
    tx, step = pipeline(method, wrapper, stored)
    start = jax.device_put((golden.PARAMS, tx.init(golden.PARAMS)), jax.devices()[0])
    middle = run(step, *start, 0, before)
    path = tmp_path_factory.mktemp("run") / "checkpoint"
    like = jax.eval_shape(lambda: (golden.PARAMS, tx.init(golden.PARAMS)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, middle)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, like)
    assert types(restored) == types(middle)
    continued = run(step, *restored, before, before + after)
    chex.assert_trees_all_equal(continued, run(step, *middle, before, before + after))


def test_a_step_that_donates_its_arguments_does_not_change_what_is_being_saved(tmp_path):
    """`save` returns before the files are written."""
    params = jnp.arange(2.0**20)
    tx = momentax.sgd(0.1)
    step = momentax.train_step(lambda params, _: jnp.sum(params**2), tx)
    state = tx.init(params)
    like = jax.eval_shape(lambda: (params, state))
    expected = np.array(params), np.array(momentax.velocity(state))
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.StandardSave((params, state)))
        for _ in range(10):
            params, state, _ = step(params, state, 0.0)
        manager.wait_until_finished()
        found, old = manager.restore(0, args=ocp.args.StandardRestore(like))
    chex.assert_trees_all_equal((found, momentax.velocity(old)), expected)


# Another mesh, and a process that is killed while it saves.


def start(command, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contracts.resuming", command, str(folder)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of a run on 8 devices that was killed in its second save, resumed on 4."""
    folder = tmp_path_factory.mktemp("interrupted")
    saving = start("save", folder)
    with saving:
        assert saving.stdout.readline().strip() == "saving step 5"
        saving.send_signal(signal.SIGKILL)
    assert saving.returncode == -signal.SIGKILL
    resuming = start("resume", folder)
    output, _ = resuming.communicate()
    assert resuming.returncode == 0
    return folder, json.loads(output)


def arrays(path):
    with np.load(path) as content:
        return dict(content)


def test_a_killed_save_leaves_the_last_checkpoint(interrupted):
    folder, report = interrupted
    assert list(folder.glob("run/5*"))
    assert report["step"] == 3
    expected = arrays(folder / "step3.npz")
    found = arrays(folder / "restored.npz")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name


def test_a_run_continues_on_another_mesh(interrupted):
    folder, report = interrupted
    assert report["kernels"] == [["rows", "columns"]]
    expected, found = arrays(folder / "step5.npz"), arrays(folder / "resumed.npz")
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
