"""The costs of a step: what is counted is exact, and times are only positive numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentax
from momentax.bench import Costs, Entry, _files, costs
from momentax.sweeps import log_uniform
from tests.bench import tiny

SPACE = {"learning_rate": log_uniform(0.01, 1)}


def searching(horizon, learning_rate):
    """Make gradient descent that evaluates the gradient twice and the loss six times more.

    One evaluation of each kind is in a branch that is taken in every second step only, and two
    losses are evaluated at once.
    """
    del horizon

    def update(g, count, params, *, value_fn, **extra):
        del extra
        _, other = jax.value_and_grad(value_fn)(params)
        several = jax.vmap(value_fn)(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params))

        def more():
            loss, slope = value_fn(params), jax.grad(value_fn)(params)
            return loss + optax.tree.sum(slope)

        def twice(_, total):
            return total + value_fn(params)

        total = jax.lax.cond(count % 2 == 0, more, lambda: jnp.float32(0))
        total = jax.lax.fori_loop(0, 2, twice, total) + several.sum() + optax.tree.sum(other)
        return jax.tree.map(lambda x: -learning_rate * x + 0 * total, g), count + 1

    init = lambda params: jnp.zeros((), jnp.int32)  # noqa: E731
    return optax.GradientTransformationExtraArgs(init, update)


@pytest.fixture(scope="module")
def found():
    line_search = Entry("searching", searching, SPACE, {"learning_rate": 0.1})
    with jax.numpy_dtype_promotion("standard"):  # As a user runs it; Optax's Adam promotes dtypes.
        return costs(["sgd", "adam", line_search], tiny.make(), rounds=1, progress=False)


def test_evaluations_of_the_loss_and_its_gradient_are_counted(found):
    """Of ten steps, five take the branch with one more gradient and one more loss."""
    cost = found.cells["tiny", "searching"]
    assert cost.gradients == 1 + 1 + 0.5
    assert cost.loss_evaluations == 2 + 2 + 0.5
    for method in ("sgd", "adam"):
        assert found.cells["tiny", method][4:] == (1.0, 0.0)


def test_the_memory_is_that_of_the_state(found):
    """Adam has two moments and two counts, Optax's schedule its own, all of 4 bytes."""
    state = optax.adam(lambda count: 0.1).init({"w": jnp.zeros(8)})
    bytes_ = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert found.cells["tiny", "adam"].bytes_per_parameter == bytes_ / 8


def test_times_are_positive_and_those_of_the_baseline_are_its_own(found):
    assert all(min(cost[:3]) > 0 for cost in found.cells.values())
    assert found.cells["tiny", "sgd"].ratio == 1


def test_every_entry_has_a_size_on_matrices_and_vectors():
    params = {"w": jnp.zeros((4, 8)), "b": jnp.zeros(8)}
    for entry in momentax.bench.entries.values():
        tx = entry.make(momentax.bench.Horizon(10), **entry.default)
        state = jax.eval_shape(tx.init, params)
        bytes_ = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        assert momentax.storage.bytes_per_parameter(state, params=params) == bytes_ / 40


def test_a_file_keeps_the_costs(found, tmp_path, monkeypatch):
    path = tmp_path / "costs.json"
    found.save(path)
    again = Costs.load(path)
    assert again.cells.keys() == found.cells.keys()
    for key, cost in found.cells.items():
        np.testing.assert_allclose(again.cells[key], cost, rtol=1e-5)
    assert (again.hashes, again.about["versions"]) == (found.hashes, found.about["versions"])
    assert "2.5 and 4.5 losses" in str(again)
    assert again._repr_html_().count("<tr>") == 4
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"costs\.json does not hold costs of momentax\.bench"):
        Costs.load(path)

    def no_file(name):
        raise FileNotFoundError(f"this version of momentax has no recorded {name}")

    monkeypatch.setattr(_files, "recorded", no_file)
    with pytest.raises(FileNotFoundError, match="no recorded costs"):
        Costs.recorded()
