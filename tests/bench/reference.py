"""A reference curve in closed form, in place of the recorded one."""

import numpy as np

from momentax.bench import _files

STEPS = 40


def line(**changes):
    """Return the record of a task whose speed-up is 2^(-2 (y + 2)), limited to [1/4, 4]."""
    fields = {
        "hash": "hash",
        "horizons": [10, 20, STEPS, 80, 160],
        "scores": [-1.0, -1.5, -2.0, -2.5, -3.0],
        "target": -2.0,
        "sigma": 0.1,
        "target method": "adam",
    }
    return {**fields, **changes}


def speed_up(y):
    return np.clip(2.0 ** (-2 * (np.asarray(y) + 2)), 0.25, 4)


def install(monkeypatch, *tasks, **others):
    """Let momentax.bench read these records, and find no others."""
    files = {"reference": {"tasks": {task: line() for task in tasks}}, **others}

    def recorded(name):
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    monkeypatch.setattr(_files, "recorded", recorded)
