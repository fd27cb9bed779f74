"""Run every peer and write down where it went: python -m tests.oracles.record.

recorded.json holds some steps of each path, in digits that give back the same
float64, and the versions of the libraries that took them.
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
STEPS_KEPT = [0, 1, 2, 3, *range(10, STEPS + 1, 10)]


def pins():
    """The versions that the extra `oracles` asks for."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extra = tomllib.loads(text)["project"]["optional-dependencies"]["oracles"]
    return dict(requirement.split("==") for requirement in extra)


def read():
    """The versions, and the path of each run at STEPS_KEPT."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    return record["versions"], {name: np.array(path) for name, path in record["paths"].items()}


def main():
    names = ["jax", "optax", "numpy", *pins()]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names}
    paths = {
        name: json.dumps(run()[STEPS_KEPT].astype(np.float64).tolist())
        for name, run in RUNS.items()
    }
    rows = ",\n".join(f"{json.dumps(name)}: {path}" for name, path in paths.items())
    head = json.dumps({"python": platform.python_version()} | versions)
    FILE.write_text(f'{{"versions": {head},\n"paths": {{\n{rows}\n}}}}\n', encoding="utf-8")
    print(f"{len(paths)} paths, {FILE.stat().st_size / 1000:.0f} kB, {FILE}")


if __name__ == "__main__":
    main()
