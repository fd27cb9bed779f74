"""Record the path of every peer: python -m tests.oracles.record.

recorded.json has some steps of each path, with enough digits to restore every
float64, and the versions of the libraries.
"""

import importlib.metadata
import json
import platform
import tomllib
from pathlib import Path

import numpy as np

from tests.oracles.peers import RUNS
from tests.oracles.problem import STEPS

FILE = Path(__file__).parent / "recorded.json"
RECORDED_STEPS = [0, 1, 2, 3, *range(10, STEPS + 1, 10)]


def pins():
    """Return the versions that the extra `oracles` requires."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extra = tomllib.loads(text)["project"]["optional-dependencies"]["oracles"]
    return dict(requirement.split("==") for requirement in extra)


def read():
    """Return the versions, and the path of each run at RECORDED_STEPS."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    return record["versions"], {name: np.array(path) for name, path in record["paths"].items()}


def main():
    names = ["jax", "optax", "numpy", *pins()]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names}
    paths = {
        name: json.dumps(run()[RECORDED_STEPS].astype(np.float64).tolist())
        for name, run in RUNS.items()
    }
    rows = ",\n".join(f"{json.dumps(name)}: {path}" for name, path in paths.items())
    head = json.dumps({"python": platform.python_version()} | versions)
    FILE.write_text(f'{{"versions": {head},\n"paths": {{\n{rows}\n}}}}\n', encoding="utf-8")
    print(f"{len(paths)} paths, {FILE.stat().st_size / 1000:.0f} kB, {FILE}")


if __name__ == "__main__":
    main()
