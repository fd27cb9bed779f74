"""Two and four processes that train together take the steps of one process."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from momentax._cli import _digits
from tests.training import several_processes
from tests.training.several_processes import BATCH, STEPS, alone, logits, read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images, labels and first parameters, and the network that has these."""
    folder = tmp_path_factory.mktemp("processes")
    digits, _ = _digits.load()
    network = _digits.Network(nnx.Rngs(0))
    chosen = np.random.default_rng(0).permutation(len(digits.labels))[: STEPS * BATCH]
    given = {
        f"{layer} {name}": np.asarray(param[...])
        for layer, params in nnx.state(network, nnx.Param).items()
        for name, param in params.items()
    }
    given["images"] = np.asarray(digits.images)[chosen].reshape(STEPS, BATCH, 8, 8, 1)
    given["labels"] = np.asarray(digits.labels)[chosen].reshape(STEPS, BATCH)
    np.savez(folder / "given.npz", **given)
    params, images, _ = read(folder)
    np.testing.assert_allclose(logits(params, images[0]), network(images[0]), rtol=1e-5, atol=1e-5)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    found = {name: np.asarray(path) for name, path in alone(*read(folder)).items()}
    jax.config.update("jax_disable_most_optimizations", before)
    return found


@contextlib.contextmanager
def started(count, folder):
    """Start processes that train together, and end them in any case."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    try:
        for rank in range(count):
            with open(folder / f"errors {count} {rank}", "w") as errors:
                arguments = map(str, (rank, count, port, folder))
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", several_processes.__name__, *arguments],
                        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                        stdout=errors, stderr=errors,
                    )
                )  # fmt: skip
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_take_the_steps_of_one(count, folder, expected):
    with started(count, folder) as processes:
        for rank, process in enumerate(processes):
            code = process.wait(timeout=several_processes.TIMEOUT)
            assert code == 0, (folder / f"errors {count} {rank}").read_text()
    for rank in range(count):
        with np.load(folder / f"{count} {rank}.npz") as found:
            for name, path in expected.items():
                assert found[name].shape == path.shape
                np.testing.assert_allclose(found[name], path, rtol=0, atol=2e-6, err_msg=name)


def test_the_network_learns_in_these_steps(expected, folder):
    """Otherwise equal trajectories would say little."""
    params, *_ = read(folder)
    first = np.concatenate(
        [params[a][b].ravel() for a in sorted(params) for b in sorted(params[a])]
    )
    for path in expected.values():
        assert np.linalg.norm(path[-1] - first) > 0.3
