"""Files named *_live.py import peers at their top, so only `-m oracles` collects them."""

import os
from pathlib import Path

import pytest

os.environ["KERAS_BACKEND"] = "jax"  # Before Keras is imported.


def is_live(path: Path) -> bool:
    return path.parent == Path(__file__).parent and path.name.endswith("_live.py")


def pytest_ignore_collect(collection_path, config):
    return True if is_live(collection_path) and config.option.markexpr != "oracles" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if is_live(item.path):
            item.add_marker(pytest.mark.oracles)
            item.add_marker(pytest.mark.filterwarnings("ignore"))
