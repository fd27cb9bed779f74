"""Golden checkpoints: the state of every transformation as a released version has written it.

`golden-VERSION.json` has, for each case of tests/cases.py, the state after three steps and the
updates of the fourth. Today's code must load every file and make the same updates.

`python -m tests.contracts.golden` adds the cases that the file of the installed version lacks. What
has been written stays as it is. Where the layout of a state changes, raise the version of momentax,
add a migration to `MIGRATIONS` of momentax/_state/_migrate.py, and run this command, which then
writes the file of the new version. `python -m tests.contracts.golden NAME ...` writes some cases
anew, which is right only before the release of the version.
"""

import base64
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import momentax
from momentax._state._names import leaf_names
from tests.cases import TRANSFORMATIONS
from tests.contracts.harness import build

FOLDER = Path(__file__).parent
STEPS = 3


def numbers(offset):
    """Return a tree of the parameters' shapes, with numbers that every platform computes alike."""

    def array(*shape):
        entries = np.arange(1, np.prod(shape) + 1) * 37 + offset * 11
        return jnp.asarray((entries % 29 - 14.5) / 16, jnp.float32).reshape(shape)

    return {"dense": {"kernel": array(4, 3), "bias": array(3)}}


PARAMS = numbers(0)


def state_after_steps(name):
    """Return the state of a case after its first steps, at fixed parameters."""
    tx = build(name)
    state = tx.init(PARAMS)
    for step in range(STEPS):
        _, state = tx.update(numbers(step + 1), state, PARAMS)
    return state


def next_updates(states):
    """Return the updates of the next step from each of some states, by the names of cases."""

    def update(states):
        return {
            name: build(name).update(numbers(STEPS + 1), state, PARAMS)[0]
            for name, state in states.items()
        }

    return jax.jit(update)(states)


def files():
    """Return the files of golden checkpoints, from the oldest version to the newest."""

    def version(path):
        return tuple(map(int, path.stem.removeprefix("golden-").split(".")))

    return sorted(FOLDER.glob("golden-*.json"), key=version)


def write(tree):
    """Return a tree as a dict from names such as "dense/kernel" to dtype, shape and bytes."""
    arrays = map(np.asarray, jax.tree.leaves(tree))
    return {
        "/".join(name): [str(x.dtype), list(x.shape), base64.b64encode(x.tobytes()).decode()]
        for name, x in zip(leaf_names(tree), arrays, strict=True)
    }


def read(written):
    """Return the arrays of a tree in dictionaries, as a file without classes has them."""
    tree = {}
    for name, (dtype, shape, content) in written.items():
        *parents, last = name.split("/")
        node = tree
        for each in parents:
            node = node.setdefault(each, {})
        node[last] = np.frombuffer(base64.b64decode(content), jnp.dtype(dtype)).reshape(shape)
    return tree


def main(anew):
    path = FOLDER / f"golden-{momentax.__version__}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in TRANSFORMATIONS if name not in content or name in anew]
    states = {name: state_after_steps(name) for name in missing}
    updates = next_updates(states)
    for name in missing:
        content[name] = {"state": write(states[name]), "updates": write(updates[name])}
    lines = (f"{json.dumps(name)}: {json.dumps(content[name])}" for name in sorted(content))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"wrote {len(missing)} of {len(content)} states to {path.name}: {', '.join(missing)}")


if __name__ == "__main__":
    main(sys.argv[1:])
