"""Record the steps of keras.optimizers.SGD: `python -m tests.conventions.record_keras`, Keras 3.15.

The script writes keras.json to its own folder. The live tests import its functions.
"""

import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

from tests.conventions import trajectories as shared


@contextlib.contextmanager
def double():
    """Set Keras to float64, and JAX to the promotions that Keras needs."""
    keras.config.set_floatx("float64")
    try:
        with (
            jax.enable_x64(True),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            yield
    finally:
        keras.config.set_floatx("float32")


def optimizer_of(options):
    """Return a Keras SGD, in which functions of the count become schedules."""
    schedules = keras.optimizers.schedules

    class Table(schedules.LearningRateSchedule):
        def __init__(self, function):
            self.table = keras.ops.convert_to_tensor([function(t) for t in range(shared.STEPS)])

        def __call__(self, step):
            return keras.ops.take(self.table, step)

    options = {key: Table(value) if callable(value) else value for key, value in options.items()}
    return keras.optimizers.SGD(**options)


def variables(values):
    """Return Keras variables with names as in a layer."""
    with keras.name_scope("dense"):
        return {key: keras.Variable(value, name=key) for key, value in values.items()}


def run(name, steps=shared.STEPS):
    """Return θ_0 .. θ_T of a case, and the optimizer's variables at its end."""
    with double():
        params, optimizer = variables(shared.START), optimizer_of(shared.KERAS[name])
        path = [{key: np.array(value.value) for key, value in params.items()}]
        for _ in range(steps):
            grads = shared.gradient(**path[-1])
            optimizer.apply([grads[key] for key in params], list(params.values()))
            path.append({key: np.array(value.value) for key, value in params.items()})
        values = {v.path: np.array(v.value) for v in optimizer.variables}
    return {key: np.stack([point[key] for point in path]) for key in shared.START}, values


def main():
    """Write the recording."""
    cases = {name: run(name) for name in shared.KERAS}
    halfway = run("schedule, all", steps=shared.STEPS // 2)
    shared.write(
        "keras.json",
        {
            "versions": {"keras": keras.__version__, "jax": jax.__version__},
            "cases": {
                name: {key: part[shared.RECORDED_STEPS] for key, part in path.items()}
                for name, (path, _) in cases.items()
            },
            "halfway": halfway[1],
            "end": cases["schedule, all"][1],
        },
    )


if __name__ == "__main__":
    main()
