"""The faults that are found before any training."""

import jax
import jax.numpy as jnp
import optax
import pytest

from momentax.bench import Entry, check, entries


@pytest.fixture(autouse=True)
def promotion_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        yield


def ascends(learning_rate, beta=0.9):
    return optax.chain(optax.trace(beta), optax.scale_by_schedule(learning_rate))


def ignores_beta(learning_rate, beta=0.9):
    return optax.sgd(learning_rate, momentum=0.9)


def grows(learning_rate):
    def init(params):
        return (jnp.zeros(1),)

    def update(updates, state, params=None):
        scaled = jax.tree.map(lambda g: -learning_rate(0) * g, updates)
        return scaled, (*state, jnp.zeros(1))

    return optax.GradientTransformation(init, update)


def overflows(learning_rate):
    def update(updates, state, params=None):
        del params
        return jax.tree.map(
            lambda g: -0.01 * g if g.dtype == jnp.float32 else jnp.full_like(g, jnp.nan), updates
        ), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def changes_dtype(learning_rate):
    return optax.chain(
        optax.stateless(lambda g, _: jax.tree.map(lambda x: x.astype(jnp.float32), g)),
        optax.trace(0.9),
        optax.scale_by_learning_rate(learning_rate),
    )


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (ascends, "its first five steps go uphill"),
        (ignores_beta, "its hyperparameter beta changes nothing"),
        (grows, "of its state change from one update to the next"),
        (overflows, "bfloat16 parameters become NaN"),
        (changes_dtype, "it cannot train bfloat16 parameters in a compiled loop"),
    ],
)
def test_each_fault_is_named(function, sentence):
    assert any(sentence in fault for fault in check(Entry.of(function)))


@pytest.mark.parametrize("name", ["heavy_ball", "lion", "muon"])
def test_sound_methods_have_no_fault(name):
    assert check(entries[name]) == []
