"""The entries of the comparison, and the schedule and the trials that all of them share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax import bench
from momentax._cli import _usage
from momentax.bench import Entry, Horizon, entries, tasks
from momentax.bench._entry import names_at_edge
from momentax.sweeps import log_uniform, momentum_uniform

pytestmark = pytest.mark.usefixtures("promotion_of_optax")
START = {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.ones(4)}


@pytest.fixture
def promotion_of_optax():
    """Optax's Adam multiplies numbers of different dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def quadratic(params):
    return sum(jnp.sum(leaf**2) / 2 for leaf in jax.tree.leaves(params))


def train(entry, steps=30, **hyperparameters):
    tx = optax.with_extra_args_support(entry.make(Horizon(steps, entry.shape), **hyperparameters))
    params, state = START, tx.init(START)
    for _ in range(steps):
        value, g = jax.value_and_grad(quadratic)(params)
        u, state = tx.update(g, state, params, value=value)
        params = optax.apply_updates(params, u)
    return params


def test_the_command_line_knows_all_entries_and_tasks():
    assert tuple(entries) == _usage.ENTRIES
    assert tuple(tasks) == _usage.TASKS


@pytest.mark.parametrize("name", entries)
def test_every_entry_descends_with_traced_hyperparameters(name):
    entry = entries[name]
    assert 1 <= len(entry.space) <= 4
    middle = {key: jnp.float32(each.quantile(0.5)) for key, each in entry.space.items()}
    params = jax.jit(lambda h: train(entry, steps=5, **h))(middle)
    assert quadratic(params) < quadratic(START)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "same"),
    [
        ("sgd", {"learning_rate": 0.3}, lambda α: optax.sgd(α(0.3))),
        (
            "heavy_ball",
            {"effective_rate": 1.0, "beta": 0.8},
            lambda α: optax.sgd(α(0.2), momentum=0.8),
        ),
        (
            "nesterov",
            {"effective_rate": 1.0, "beta": 0.8},
            lambda α: optax.sgd(α(0.2), momentum=0.8, nesterov=True),
        ),
        (
            "lion",
            {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99},
            lambda α: optax.lion(α(0.01), weight_decay=0.0),
        ),
        (
            "adam",
            {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8},
            lambda α: optax.adam(α(0.01), 0.9, 0.99, 1e-8),
        ),
    ],
)
def test_entries_equal_the_optimizers_of_optax(name, hyperparameters, same):
    def make(horizon, unused):
        return same(horizon.learning_rate)

    expected = train(Entry("same", make, {"unused": log_uniform(1, 2)}, {"unused": 1}), unused=1)
    for ours, theirs in zip(
        jax.tree.leaves(train(entries[name], **hyperparameters)),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["aggregated", "kernel", "quasi_hyperbolic", "annealed"])
def test_the_effective_rate_is_the_learning_rate_times_the_sum_of_the_kernel(name):
    """On a constant gradient the parameters move in the long run by the effective rate a step."""
    entry = entries[name]
    hyperparameters = {key: float(each.quantile(0.3)) for key, each in entry.space.items()}
    hyperparameters["effective_rate"] = 0.5
    tx = entry.make(Horizon(4000, "constant"), **hyperparameters)

    def step(state, _):
        u, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        return state, u

    _, u = jax.lax.scan(step, tx.init(jnp.zeros(())), length=4000)
    assert u[-1] == pytest.approx(-0.5, rel=1e-3)


def test_the_schedule_rises_linearly_and_falls_as_a_cosine():
    rate = Horizon(200).learning_rate(2.0)
    assert rate(0) == pytest.approx(0.2)
    assert rate(9) == pytest.approx(2.0)
    assert rate(10 + 95) == pytest.approx(1.0)
    assert rate(200) == pytest.approx(0.0, abs=1e-6)
    constant = Horizon(200, "constant").learning_rate(2.0)
    assert [float(constant(t)) for t in (4, 50, 199)] == pytest.approx([1.0, 2.0, 2.0])
    assert Horizon(1).learning_rate(1.0)(0) == 1.0


def test_trials_are_one_sobol_sequence_that_starts_with_the_default():
    entry = entries["adam"]
    few, many = entry.trials(16), entry.trials(64)
    assert {key: column[0] for key, column in few.items()} == entry.default
    for key, column in few.items():
        np.testing.assert_array_equal(column, many[key][:16])
    # 64 points of a Sobol sequence put as many in each quarter of the range; one is the default.
    each = entry.space["learning_rate"]
    edges = each.quantile(np.linspace(0, 1, 5))
    counts = np.histogram(many["learning_rate"], edges)[0]
    assert np.all(np.abs(counts - 16) <= 1)
    other = entries["nesterov"].trials(16)["effective_rate"]
    shares = np.log(other[1:] / 1e-3) / np.log(300 / 1e-3)
    np.testing.assert_allclose(
        shares, np.log(few["learning_rate"][1:] / 1e-4) / np.log(3e3), rtol=1e-9
    )


def test_a_hyperparameter_near_an_end_of_its_range_is_at_the_edge():
    entry = entries["nesterov"]
    assert names_at_edge(entry, {"effective_rate": 1.1e-3, "beta": 0.9}) == ["effective_rate"]
    assert names_at_edge(entry, {"effective_rate": 0.5, "beta": 0.9969}) == ["beta"]
    assert names_at_edge(entry, {"effective_rate": 0.5, "beta": 0.9}) == []
    # ν = 0 is gradient descent, and no other range would have a smaller one.
    quasi = {"effective_rate": 0.5, "beta": 0.9, "nu": 0.0}
    assert names_at_edge(entries["quasi_hyperbolic"], quasi) == []


def test_an_entry_of_a_function_reads_its_arguments():
    def mine(learning_rate, beta=0.8, power=2.0):
        return momentax.sgd(learning_rate, momentax.heavy_ball(beta))

    entry = Entry.of(mine)
    assert entry.name == "mine"
    assert list(entry.space) == ["effective_rate", "beta"]
    assert entry.default == {"effective_rate": 0.5, "beta": 0.8}
    rates = Entry.of(mine, space={"learning_rate": log_uniform(0.01, 1)})
    assert rates.default == pytest.approx({"learning_rate": 0.1, "beta": 0.8})
    wider = Entry.of(mine, name="other", space={"power": log_uniform(1, 4)}, default={"power": 3})
    assert wider.default["power"] == 3
    np.testing.assert_allclose(
        train(entry, effective_rate=0.5, beta=0.8)["bias"],
        train(entries["heavy_ball"], effective_rate=0.5, beta=0.8)["bias"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        train(rates, learning_rate=0.1, beta=0.8)["bias"],
        train(entries["heavy_ball"], effective_rate=0.5, beta=0.8)["bias"],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("function", "is_normalized"),
    [
        (lambda learning_rate, beta1=0.9: optax.adam(learning_rate, beta1), True),
        (lambda learning_rate: optax.lion(learning_rate), True),
        (lambda learning_rate: momentax.muon(learning_rate), True),
        (lambda learning_rate: optax.sgd(learning_rate, 0.9), False),
        (lambda learning_rate: momentax.sgd(learning_rate, momentax.average(0.9)), False),
    ],
)
def test_the_range_of_a_function_is_that_of_its_kind(function, is_normalized):
    space = Entry.of(function).space["effective_rate"]
    assert (space.low, space.high) == ((1e-5, 0.3) if is_normalized else (1e-3, 300))


def decides(learning_rate, beta=0.9):
    if beta > 0.95:
        return momentax.sgd(learning_rate, momentax.nesterov(beta))
    return momentax.sgd(learning_rate, momentax.heavy_ball(beta))


def rounds(learning_rate, beta=0.9):
    return momentax.sgd(learning_rate, momentax.heavy_ball(math.sqrt(beta)))


def looks_at_the_gradient(learning_rate):
    def update(updates, state, params=None):
        if max(jnp.max(leaf) for leaf in jax.tree.leaves(updates)) > 1:
            updates = jax.tree.map(lambda g: g / 2, updates)
        return jax.tree.map(lambda g: -0.1 * g, updates), state

    return optax.GradientTransformation(lambda params: (), update)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (decides, "`if beta > 0.95:`"),
        (rounds, "math.sqrt(beta)"),
        (looks_at_the_gradient, "if max(jnp.max(leaf)"),
    ],
)
def test_a_method_that_needs_the_value_of_a_tracer_is_told_what_to_write(function, line):
    name = function.__name__
    for space in (None, {"learning_rate": log_uniform(0.01, 1)}):
        with pytest.raises(TypeError) as raised:
            Entry.of(function, space=space)
        text = str(raised.value)
        assert text.startswith(
            f"{name} uses a traced array as a Python value (test_entries.py, line "
        )
        assert line in text
        assert "Use jnp.where and jax.numpy instead of if, float, math and numpy." in text
        assert isinstance(raised.value.__cause__, jax.errors.JAXTypeError)
    with pytest.raises(TypeError, match=f"functions of a learning rate: {name} uses a traced"):
        bench.run(function, "ridge")


def test_an_entry_of_ones_own_that_needs_a_value_is_refused_before_anything_runs():
    def make(horizon, learning_rate, beta):
        return decides(horizon.learning_rate(learning_rate), beta)

    space = {"learning_rate": log_uniform(0.01, 1), "beta": momentum_uniform(0.5, 0.99)}
    entry = Entry("mine", make, space, {"learning_rate": 0.1, "beta": 0.9})
    with pytest.raises(TypeError, match="mine uses a traced array as a Python value"):
        bench.run([entry], "ridge")
    with pytest.raises(TypeError, match="mine uses a traced array as a Python value"):
        bench.check(entry)


def test_a_function_that_writes_where_is_accepted():
    def mine(learning_rate, beta=0.9):
        return momentax.sgd(learning_rate, momentax.heavy_ball(jnp.where(beta > 0.95, 0.9, beta)))

    assert list(Entry.of(mine).space) == ["effective_rate", "beta"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Entry.of(3), TypeError, "function must be a function"),
        (lambda: Entry.of(lambda beta: None), TypeError, "an argument named learning_rate"),
        (lambda: Entry.of(lambda learning_rate, gamma: None), ValueError, "the argument gamma"),
        (
            lambda: Entry("x", lambda horizon: None, {}, {}),
            ValueError,
            "space must have 1 to 4 hyperparameters",
        ),
        (
            lambda: Entry("x", lambda horizon, beta: None, {"beta": 0.9}, {"beta": 0.9}),
            TypeError,
            "space must be a dictionary from names to distributions",
        ),
        (
            lambda: Entry(
                "x",
                lambda horizon, beta: None,
                {"beta": momentum_uniform(0.5, 0.9)},
                {"beta": 0.95},
            ),
            ValueError,
            r"default\['beta'\] must lie in its range",
        ),
        (
            lambda: Entry(3, lambda horizon, a: None, {"a": log_uniform(1, 2)}, {"a": 1}),
            TypeError,
            "name must be",
        ),
    ],
)
def test_mistakes_are_sentences(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_slow_average_of_the_annealed_entry_ends_at_the_longest_age():
    entry = momentax.bench.entries["annealed"]
    tx = entry.make(Horizon(50), **entry.default)
    params = jnp.ones(3)
    state = tx.init(params)
    update = jax.jit(tx.update)
    kept = []
    for g in (1.0, *[0.0] * 60):  # Without a gradient, an average keeps β of itself.
        before = momentax.velocity(state)
        _, state = update(jnp.full(3, g), state, params)
        kept.append(momentax.velocity(state) / before)
    short, slow = np.asarray(kept).mean(-1)[1:].T
    np.testing.assert_allclose(short, 0.9, rtol=1e-5)
    assert (np.diff(slow[:45]) > 0).all()
    np.testing.assert_allclose(slow[-5:], 100 / 101, rtol=1e-5)
