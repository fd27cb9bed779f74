"""Training on a task: what a run measures, and that it is the run of a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.bench import tasks

KEY = jax.random.key(0)


def arrays_of(task):
    return {name: jnp.asarray(array) for name, array in task.load().items()}


def sgd(learning_rate, beta=0.9):
    return momentax.sgd(learning_rate, momentax.nesterov(beta))


RATES = {
    "digits_cnn": 0.03,
    "unicode_bn": 0.05,
    "ridge": 0.3,
    "names_char": 0.05,
    "names_embed": 2.0,
    "curves_ae": 0.003,
    "spiral_deep": 0.02,
    "poisson_pinn": 0.3,
}


@pytest.mark.parametrize("name", list(tasks))
def test_a_run_learns_depends_on_its_key_and_says_that_it_diverged(name):
    task = tasks[name]
    rates, seeds = np.float32([RATES[name], 1e6]), np.array([0, 1])
    train = jax.jit(
        lambda rates, seeds: jax.lax.map(
            lambda point: task.train(sgd(point[0]), jax.random.key(point[1]), steps=20),
            (rates, seeds),
        )
    )
    result = train(rates, seeds)
    scores = result["checkpoints"]
    assert scores.shape == (2, 41)
    np.testing.assert_array_equal(result["diverged"], [False, True])
    np.testing.assert_array_equal(result["loss"], scores[:, -1])
    assert scores[0, -1] < 0.97 * scores[0, 0]
    assert scores[0, 0] != scores[1, 0]
    counted = jnp.stack([scores[0, -1], scores[1, 0]])  # A run that diverged counts as its start.
    np.testing.assert_allclose(result["y"], np.log10(counted + task.floor), rtol=1e-4)
    assert np.isnan(result["validation"][0]) == (task.validate is None)


def iterates(task, tx, key, steps):
    """Train in a plain loop; yield the parameters and the state of each step, and the score."""
    init_key, batch_key = jax.random.split(key)
    data = arrays_of(task)
    params = task.init(data, init_key)
    state = tx.init(params)
    update = optax.with_extra_args_support(tx).update
    value_and_grad = jax.jit(jax.value_and_grad(task.loss))
    score = jax.jit(lambda params: task.score(params, data))
    yield params, state, score
    for batch in task.draw(data, batch_key, steps):
        value, grads = value_and_grad(params, batch, data)
        updates, state = update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
        yield params, state, score


RATE = optax.linear_schedule(0.3, 0.1, 5)
EVALUATED = {
    "the parameters of Optax's Nesterov": (
        optax.sgd(0.3, 0.9, nesterov=True),
        lambda params, state: params,
    ),
    "an average in gradient units": (
        momentax.sgd(RATE, momentax.generalized_primal_averaging(0.9, mu_y=0.7)),
        lambda params, state: momentax.eval_params(params, state, learning_rate=RATE(4)),
    ),
    "an average in parameter units": (
        momentax.sgd(
            RATE,
            momentax.generalized_primal_averaging(0.9, mu_y=0.7),
            velocity_units="parameter",
        ),
        momentax.eval_params,
    ),
    "the average of schedule-free": (
        optax.contrib.schedule_free_sgd(0.3),
        lambda params, state: optax.contrib.schedule_free_eval_params(state, params),
    ),
    "an average in a partition": (
        optax.partition(
            {
                "mine": momentax.sgd(RATE, momentax.generalized_primal_averaging(0.9)),
                "others": optax.sgd(0.1, 0.9),
            },
            {"weights": "mine"},
        ),
        lambda params, state: momentax.eval_params(
            params, state.inner_states["mine"], learning_rate=RATE(4)
        ),
    ),
    "the slow parameters": (momentax.outer(optax.sgd(0.3), every=3), momentax.eval_params),
    "a step that needs the loss": (optax.polyak_sgd(0.3), lambda params, state: params),
}


@pytest.mark.parametrize("label", EVALUATED)
def test_a_run_is_a_plain_loop_and_is_scored_where_the_method_says(label):
    tx, evaluate = EVALUATED[label]
    *_, (params, state, score) = iterates(tasks["ridge"], tx, KEY, 5)
    evaluated = evaluate(params, state)
    found = jax.jit(lambda key: tasks["ridge"].train(tx, key, steps=5)["loss"])(KEY)
    np.testing.assert_allclose(found, score(evaluated), rtol=1e-4)


def test_an_average_whose_learning_rate_is_unknown_is_refused():
    descend = optax.stateless(lambda updates, _: jax.tree.map(jnp.negative, updates))
    tx = optax.chain(momentax.generalized_primal_averaging(0.9), descend)
    with pytest.raises(ValueError, match=r"momentax\.hyperparameters does not find the learning"):
        tasks["ridge"].train(tx, KEY, steps=2)


def test_checkpoints_are_equally_spaced_for_any_number_of_steps():
    task, tx = tasks["ridge"], momentax.sgd(0.3)
    loop = [score(params) for params, _, score in iterates(task, tx, KEY, 45)]
    for steps in (7, 45):
        train = jax.jit(lambda key, steps=steps: task.train(tx, key, steps=steps))
        expected = [loop[round(steps * i / 40)] for i in range(41)]
        np.testing.assert_allclose(train(KEY)["checkpoints"], expected, rtol=1e-4)


def test_numbers_that_are_not_finite_are_a_divergence():
    nan = optax.stateless(lambda updates, _: jax.tree.map(lambda u: jnp.nan * u, updates))
    result = tasks["ridge"].train(nan, KEY, steps=3)
    assert result["diverged"]
    assert np.isnan(result["loss"])
    assert result["y"] == tasks["ridge"].measure(result["checkpoints"][0])


def test_a_sweep_gives_what_single_runs_give_and_knows_what_diverged():
    task = tasks["ridge"]
    points = momentax.grid(learning_rate=[0.1, 0.3, 1e6], seed=[0, 1])

    def run(learning_rate, seed):
        return task.train(sgd(learning_rate), jax.random.key(seed), steps=50)

    result = momentax.sweep(run, points, batch_size=jax.device_count(), progress=False)
    np.testing.assert_array_equal(result.diverged, [[False] * 2] * 2 + [[True] * 2])
    single = jax.jit(run)
    at_once = jax.jit(jax.vmap(run))(np.float32([0.1, 0.3]), np.array([1, 1]))
    np.testing.assert_allclose(at_once["y"], result.values["y"][:2, 1], rtol=1e-3)
    for index, point in zip(np.ndindex(3, 2), points, strict=True):
        expected = single(**point)
        for name, value in result.values.items():
            np.testing.assert_allclose(value[index], expected[name], rtol=1e-3)


def test_measure_keeps_the_shape_and_refuses_what_is_not_a_loss():
    measure = tasks["digits_cnn"].measure
    np.testing.assert_allclose(measure([[1.0, 0.0], [0.1, -3.0]]), [[0, -5], [-1, -5]], atol=1e-3)
    assert np.isnan(measure(np.nan))
    assert measure(2).dtype == jnp.float32
