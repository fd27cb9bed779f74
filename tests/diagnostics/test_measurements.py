"""Measurements: their history, where they are found, and what loggers make of them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import measurements, monitor, sgd
from momentax.diagnostics import Measurements

PARAMS = {"w": jnp.ones(3)}


def after(tx, steps=5):
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for i in range(steps):
        _, state = update({"w": jnp.full(3, 1.0 + i)}, state, PARAMS)
    return state


@pytest.mark.parametrize("history", [0, 2, 10])
def test_the_history_keeps_the_last_readings_oldest_first(history):
    measured = measurements(after(monitor(sgd(0.1), every=2, history=history), 8))
    counts = [0, 2, 4, 6][max(4 - history, 0) :]
    assert measured.counts.tolist() == counts
    assert (measured.count, measured.every) == (6, 2)
    expected = np.sqrt(3) * (1 + np.asarray(counts))
    if history:
        np.testing.assert_allclose(measured.history["gradient_norm"], expected, rtol=1e-6)
    else:
        assert measured.history == {}
    assert measured["gradient_norm"] == pytest.approx(np.sqrt(3) * 7)
    assert all(type(value) is float for value in measured.values())


def test_the_table_has_a_row_for_each_count():
    table = measurements(after(monitor(sgd(0.1), history=3))).to_dataframe()
    assert table.index.tolist() == [2, 3, 4]
    assert {"cos", "angle", "gain"} <= set(table.columns)


def test_before_the_first_update_there_are_no_readings():
    measured = measurements(monitor(sgd(0.1), history=2).init(PARAMS))
    assert (dict(measured), measured.history, len(measured.counts)) == ({}, {}, 0)
    assert measured.count == -1


def test_a_monitor_is_found_at_any_depth_and_several_are_told_apart():
    inner = monitor(sgd(0.1))
    nested = {
        "chain": optax.chain(optax.clip(1.0), inner),
        "MultiSteps": optax.MultiSteps(inner, 1).gradient_transformation(),
        "partition": optax.partition({"x": inner}, {"w": "x"}),
        "stored": momentax.stored(inner, momentax.storage.bfloat16(), min_size=1),
        "restart": momentax.restart(inner, 100),
        "injected": optax.inject_hyperparams(lambda learning_rate: monitor(sgd(learning_rate)))(
            0.1
        ),
        "method": sgd(0.1, monitor(momentax.nesterov(0.9))),
    }
    with jax.numpy_dtype_promotion("standard"):
        for tx in nested.values():
            measured = measurements({"opt_state": after(tx, 2)})
            assert measured["cos"] == pytest.approx(1, rel=1e-4)  # One velocity is rounded.
            assert measured["age"] == pytest.approx(9, rel=1e-5)
        state = after(optax.chain(inner, monitor(optax.scale(1.0))), 1)
    with pytest.raises(ValueError, match=re.escape("holds 2 monitors, at '[0]', '[1]'; pick")):
        measurements(state)
    assert "cos" in measurements(state, path="[0]")
    assert "cos" not in measurements(state, path="[1]")
    with pytest.raises(ValueError, match=r"no monitor at path='\[9\]'"):
        measurements(state, path="[9]")


def test_a_monitor_in_an_optimizer_of_nnx_is_found():
    from flax import nnx

    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, monitor(sgd(0.1), per="leaf", history=2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(model(jnp.ones(2)) ** 2))(model))

    step(model, optimizer)
    for view in (optimizer.opt_state, nnx.state(optimizer), nnx.to_pure_dict(nnx.state(optimizer))):
        measured = measurements(view)
        assert measured["kernel/cos"] == pytest.approx(1)
        assert measured.counts.tolist() == [0]


def test_a_state_without_a_monitor_is_explained():
    with pytest.raises(ValueError, match=r"no monitor: wrap the optimizer .* momentax.monitor\(tx"):
        measurements(sgd(0.1).init(PARAMS))
    with pytest.raises(TypeError, match="state is a gradient transformation"):
        measurements(monitor(sgd(0.1)))
    with pytest.raises(TypeError, match="call measurements outside of jit"):
        jax.jit(lambda state: measurements(state)["cos"])(after(monitor(sgd(0.1))))


class Logger:
    """The call of Weights & Biases and of trackio: log(dict, step=...), with plain numbers."""

    def __init__(self):
        self.logged = []

    def log(self, metrics, step=None):
        assert all(type(key) is str and type(value) is float for key, value in metrics.items())
        self.logged.append((step, {**metrics}))


class Writer:
    """The call of TensorBoard's SummaryWriter: add_scalar(tag, scalar_value, global_step)."""

    def __init__(self):
        self.logged = {}

    def add_scalar(self, tag, scalar_value, global_step=None):
        assert re.fullmatch(r"[\w./-]+", tag)
        self.logged[tag] = (float(scalar_value), global_step)


def test_each_logger_takes_the_measurements_in_one_line():
    state = after(monitor(sgd(0.1), per="leaf"))
    wandb, trackio, writer = Logger(), Logger(), Writer()
    wandb.log(measurements(state), step=4)
    trackio.log(dict(measurements(state)), step=4)
    [writer.add_scalar(key, value, 4) for key, value in measurements(state).items()]
    assert wandb.logged == trackio.logged == [(4, dict(measurements(state)))]
    assert writer.logged["w/angle"] == (pytest.approx(0, abs=1e-4), 4)


def test_measurements_are_made_by_hand_and_checked():
    made = Measurements({"cos": 0.5}, {"cos": [0.9, np.nan, 0.5]}, [0, 10, 20], every=10)
    assert (made["cos"], made.count, made.every, len(made)) == (0.5, 20, 10, 1)
    assert "cos  0.5" in repr(made)
    with pytest.raises(ValueError, match=r"history\['cos'\] must have the shape \(2,\)"):
        Measurements({}, {"cos": [1.0]}, [0, 1])
    with pytest.raises(ValueError, match="counts must be whole numbers in increasing order"):
        Measurements({}, {}, [1, 0])
    with pytest.raises(TypeError, match="latest must be a mapping from keys"):
        Measurements([1.0], {}, [])
    with pytest.raises(TypeError, match=r"latest\['cos'\] must hold real numbers"):
        Measurements({"cos": "x"}, {}, [])


def loss(w, x):
    return jnp.sum((w["w"] - x) ** 2)


@pytest.mark.parametrize("donate", [True, False])
@pytest.mark.parametrize("k", [1, 4])
def test_a_training_step_measures_its_optimizer(donate, k):
    plain, batch = sgd(0.1), jnp.full((k, 3) if k > 1 else 3, 2.0)
    starts = {"plain": plain.init, "monitored": monitor(plain, history=4 if k > 1 else 0).init}
    for start in starts.values():
        step = momentax.train_step(loss, plain, monitor=True, steps_per_call=k, donate=donate)
        params = {"w": jnp.ones(3)}
        state = start(params)
        for _ in range(2):
            params, state, value = step(params, state, batch)
        measured = measurements(state)
        assert measured["loss"] == float(np.ravel(value)[-1])
        if k > 1:
            np.testing.assert_array_equal(measured.history["loss"], value)
            assert measured.counts.tolist() == [4, 5, 6, 7]
    reference = momentax.train_step(loss, plain, steps_per_call=k, donate=donate)
    other = {"w": jnp.ones(3)}
    state = plain.init(other)
    for _ in range(2):
        other, state, _ = reference(other, state, batch)
    np.testing.assert_allclose(other["w"], params["w"], rtol=1e-6)


def test_options_of_the_monitor_in_a_training_step():
    step = momentax.train_step(
        loss, sgd(0.1), monitor={"every": 2, "curvature": True, "history": 3}
    )
    params = {"w": jnp.ones(3)}
    state = sgd(0.1).init(params)
    for _ in range(4):
        params, state, _ = step(params, state, jnp.zeros(3))
    measured = measurements(state)
    assert measured.counts.tolist() == [0, 2]
    assert measured["curvature"] == pytest.approx(2, rel=1e-4)
    for bad, error, message in (
        (3, TypeError, "monitor must be True, None or a mapping of options"),
        ({"ever": 2}, TypeError, "monitor has no option 'ever'; its options are every, per"),
        ({"every": 0}, ValueError, "every must be a whole number"),
    ):
        with pytest.raises(error, match=message):
            momentax.train_step(loss, sgd(0.1), monitor=bad)
    with pytest.raises(ValueError, match=r"tx is a momentax\.monitor already"):
        momentax.train_step(loss, monitor(sgd(0.1)), monitor=True)
