"""Haiku, NumPyro and Optuna with momentax inside, each compared with a run without it."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import sgd
from tests.neighbours.regression import (
    BATCH,
    NESTEROV,
    STEPS,
    assert_trained,
    mean_squared_error,
    start,
)

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.oracles, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def relaxed():
    """Other libraries promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_haiku_makes_the_steps_that_numpy_makes():
    haiku = importlib.import_module("haiku")
    model = haiku.without_apply_rng(haiku.transform(lambda x: haiku.Linear(1)(x)))
    kernel, bias = start()
    params = {"linear": {"w": kernel, "b": bias}}
    assert jax.tree.structure(params) == jax.tree.structure(model.init(jax.random.key(0), BATCH[0]))
    state = NESTEROV.init(params)

    @jax.jit
    def step(params, state, x, y):
        grads = jax.grad(lambda params: mean_squared_error(model.apply(params, x), y))(params)
        updates, state = NESTEROV.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state, *BATCH)
    found, velocity = params["linear"], momentax.velocity(state)["linear"]
    assert_trained(found["w"], found["b"], [velocity["w"], velocity["b"]])


def test_stochastic_variational_inference_of_numpyro_descends_as_with_optax():
    """The posterior of the mean of 20 observations is known: both variances are 1."""
    numpyro = importlib.import_module("numpyro")
    distributions = importlib.import_module("numpyro.distributions")
    infer = importlib.import_module("numpyro.infer")
    wrap = importlib.import_module("numpyro.optim").optax_to_numpyro
    data = jnp.asarray(np.random.default_rng(0).normal(1.0, 1.0, 20), jnp.float32)

    def model():
        mean = numpyro.sample("mean", distributions.Normal(0.0, 1.0))
        with numpyro.plate("data", 20):
            numpyro.sample("x", distributions.Normal(mean, 1.0), obs=data)

    guide = importlib.import_module("numpyro.infer.autoguide").AutoNormal(model)

    def run(tx):
        svi = infer.SVI(model, guide, wrap(tx), infer.Trace_ELBO(num_particles=8))
        return svi.run(jax.random.key(0), 400, progress_bar=False)

    own, theirs = run(sgd(0.002, momentax.heavy_ball(0.9))), run(optax.sgd(0.002, momentum=0.9))
    np.testing.assert_allclose(own.losses, theirs.losses, rtol=1e-3)
    np.testing.assert_allclose(own.params["mean_auto_loc"], data.sum() / 21, atol=0.1)
    np.testing.assert_allclose(own.params["mean_auto_scale"], 1 / np.sqrt(21), atol=0.05)
    assert momentax.velocity(own.state.optim_state[1][1]).keys() == own.params.keys()


def test_the_documented_search_of_optuna_is_one_program_and_its_losses_are_those_of_runs(
    monkeypatch,
):
    optuna, traces, rollout = importlib.import_module("optuna"), [], momentax.rollout
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    page = (ROOT / "docs/guides/neighbours.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import momentax, optuna\n.*?)```", page, re.DOTALL)

    def counted(*args):
        traces.append(None)
        return rollout(*args)

    monkeypatch.setattr(momentax, "rollout", counted)
    exec(compile(block, "neighbours.md", "exec"), names := {})
    assert len(traces) < 5  # For five batches of 16.
    study, run, ravine = names["study"], names["run"], names["ravine"]
    assert len(study.trials) == 80
    run = jax.jit(run)
    for trial in study.trials:
        alone = float(run(**trial.params)["loss"])
        if trial.value is None:
            assert np.isnan(alone)
        else:
            assert trial.value == pytest.approx(alone, rel=1e-2, abs=1e-6)
    assert study.best_value < 1e-3 * ravine.loss(ravine.start)
