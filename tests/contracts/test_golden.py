"""Checkpoints of every version are read by today's code, which continues to the same numbers."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax._state import _migrate
from momentax._state._migrate import Migration, names_of
from momentax.states import migrate
from tests.cases import TRANSFORMATIONS
from tests.contracts import golden
from tests.contracts.harness import build

ADVICE = (
    "The layout of a state is a promise: add a migration to MIGRATIONS of "
    "momentax/_state/_migrate.py, and see tests/contracts/golden.py."
)
FILES = golden.files()


def load(path):
    """Return the content of a file, and its states in their classes."""
    version = path.stem.removeprefix("golden-")
    content, states, faults = json.loads(path.read_text(encoding="utf-8")), {}, []
    for name, written in content.items():
        like = jax.eval_shape(build(name).init, golden.PARAMS)
        try:
            states[name] = migrate(golden.read(written["state"]), like, version=version)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return content, states, faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_golden_state_continues_to_the_recorded_updates(path):
    content, states, faults = load(path)
    assert not faults, "\n".join([*faults, ADVICE])
    updates = golden.next_updates(states)
    for name, found in updates.items():
        expected = golden.read(content[name]["updates"])
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5, custom_message=name)


def test_every_state_has_a_golden_checkpoint():
    newest = json.loads(FILES[-1].read_text(encoding="utf-8"))
    assert newest.keys() == TRANSFORMATIONS.keys(), "run python -m tests.contracts.golden"
    assert FILES[-1].stat().st_size < 300_000


# Migrations, by two changes that no version has made.


def rename_velocity(leaves, like):
    """From version 0.0.2: the field `trace` of LinearState is called `velocity`."""
    changed = dict(leaves)
    for node in names_of(like, momentax.states.LinearState):
        for name in leaves:
            if name[: len(node) + 1] == (*node, "trace"):
                changed[(*node, "velocity", *name[len(node) + 1 :])] = changed.pop(name)
    return changed


def count_steps(leaves, like):
    """From version 0.0.3: LinearState has a count."""
    nodes = names_of(like, momentax.states.LinearState)
    return {(*node, "count"): jnp.int32(0) for node in nodes} | dict(leaves)


@pytest.fixture
def migrations(monkeypatch):
    table = (Migration("0.0.2", rename_velocity), Migration("0.0.3", count_steps))
    monkeypatch.setattr(_migrate, "MIGRATIONS", table)


TX = momentax.sgd(0.1)
LIKE = jax.eval_shape(TX.init, golden.PARAMS)
VELOCITY = jax.tree.map(np.asarray, golden.PARAMS)


@pytest.mark.usefixtures("migrations")
@pytest.mark.parametrize(
    ("version", "method"),
    [
        ("0.0.1", {"trace": VELOCITY}),
        ("0.0.2", {"velocity": VELOCITY}),
        ("0.0.3", {"velocity": VELOCITY, "count": np.int32(5)}),
    ],
)
def test_the_changes_since_a_version_are_made_one_after_the_other(version, method):
    schedules = {name: {"schedule_count": np.int32(5)} for name in "02"}
    state = {"1": method, **schedules}
    state = migrate(state, LIKE, version=version)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, LIKE)
    chex.assert_trees_all_equal(momentax.velocity(state), golden.PARAMS)
    TX.update(golden.PARAMS, state, golden.PARAMS)


def test_the_containers_of_a_restored_state_do_not_matter():
    state = golden.state_after_steps("sgd")
    like = jax.eval_shape(build("sgd").init, golden.PARAMS)
    fields = [each._asdict() if hasattr(each, "_asdict") else list(each) for each in state]
    for raw in (state, fields, dict(enumerate(fields)), golden.read(golden.write(state))):
        found = migrate(raw, like, version=momentax.__version__)
        chex.assert_trees_all_equal(found, state)


@pytest.mark.parametrize("suffix", ["rc1", ".dev3", "+local"])
def test_candidates_and_local_builds_have_the_layout_of_their_release(monkeypatch, suffix):
    state = TX.init(golden.PARAMS)
    raw, version = golden.read(golden.write(state)), momentax.__version__ + suffix
    chex.assert_trees_all_equal(migrate(raw, LIKE, version=version), state)
    monkeypatch.setattr(momentax, "__version__", version)  # That of the installed momentax.
    chex.assert_trees_all_equal(migrate(raw, LIKE, version=version), state)
    with pytest.raises(ValueError, match=r"version must be .* got 'latest'"):
        migrate(raw, LIKE, version="latest")


def test_a_state_of_another_layout_is_refused_by_name():
    state = TX.init(golden.PARAMS)
    raw = golden.read(golden.write(state))
    now = momentax.__version__
    with pytest.raises(ValueError, match=r"old has no array at '1/count'"):
        migrate(raw | {"1": {"velocity": raw["1"]["velocity"]}}, LIKE, version=now)
    with pytest.raises(ValueError, match=r"old has an extra array at '1/more'"):
        migrate(raw | {"1": raw["1"] | {"more": np.ones(2)}}, LIKE, version=now)
    other = raw | {"1": raw["1"] | {"count": np.float32(0)}}
    with pytest.raises(ValueError, match=r"got float32\[\] at '1/count', where like has int32\[\]"):
        migrate(other, LIKE, version=now)
    with pytest.raises(ValueError, match="version must be at most that of the installed momentax"):
        migrate(raw, LIKE, version="99.0.0")
