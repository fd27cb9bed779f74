"""Names from other libraries raise an error that says what to write instead."""

import functools
import inspect
import re

import jax.numpy as jnp
import optax
import pytest

import momentax
from momentax import heavy_ball, nesterov, sgd
from momentax._core.keywords import explain_keywords

REMEDIES = {
    "sgd(0.1, momentum=0.9)": "momentax.sgd(0.1, momentax.heavy_ball(0.9))",
    "sgd(0.1, momentum=0.9, nesterov=False)": "momentax.sgd(0.1, momentax.heavy_ball(0.9))",
    "sgd(0.1, momentum=0.5, nesterov=True)": "momentax.sgd(0.1, momentax.nesterov(0.5))",
    "sgd(0.1, nesterov=True)": "momentax.sgd(0.1, momentax.nesterov(0.9))",
    "sgd(0.1, dampening=0.1)": "momentax.sgd(0.1, momentax.heavy_ball(0.9, dampening=...))",
    "sgd(lr=0.1)": "momentax.sgd(learning_rate=0.1)",
    "sgd(0.1, 0.9)": "momentax.sgd(0.1, momentax.heavy_ball(0.9))",
    "sgd(0.01, momentum=0.9, weight_decay=1e-4)": "momentax.sgd(0.01, momentax.heavy_ball(0.9))",
    "sgd(learning_rate=0.01, nesterov=True)": "momentax.sgd(0.01, momentax.nesterov(0.9))",
    "sgd(0.1, 1.5)": "momentax.sgd(0.1, momentax.heavy_ball(0.9))",
    "sgd(0.1, 'adam')": "one such as momentax.nesterov(0.9)",
    "sgd(0.1, heavy_ball)": "momentax.heavy_ball(...)",
    "sgd(0.1, optax.trace)": "optax.trace(...)",
    "momentax.cautious(momentax.lion)": "momentax.lion(...)",
    "momentax.train_step(jnp.sum, sgd)": "momentax.sgd(...)",
    "momentax.lion(learning_rate=1e-4)": "momentax.sgd(0.0001, momentax.lion(...))",
    "momentax.storm(lr=0.1)": "momentax.sgd(1.0, momentax.storm(...))",
    "momentax.momentum_polyak(lr=0.1)": "momentax.sgd(1.0, momentax.momentum_polyak(...))",
    "sgd(0.1, method='nesterov')": "momentax.sgd(0.1, momentax.nesterov(0.9))",
    "sgd(0.1, method='momentum')": "momentax.sgd(0.1, momentax.heavy_ball(0.9))",
    "heavy_ball(momentum=0.9)": "momentax.heavy_ball(beta=0.9)",
    "heavy_ball(momentum=jnp.ones(()))": "momentax.heavy_ball(beta=...)",
    "nesterov(momentum=0.9)": "momentax.nesterov(beta=0.9)",
    "momentax.lion(b2=0.9)": "momentax.lion(beta2=0.9)",
    "heavy_ball(0.9, nesterov=True)": "momentax.nesterov(0.9)",
    "heavy_ball(0.9, lr=0.1)": "momentax.sgd(0.1, momentax.heavy_ball(...))",
    "nesterov(weight_decay=0.1)": "momentax.sgd(0.1, momentax.nesterov(...), weight_decay=...)",
    "momentax.hypergradient(lr=0.1)": "momentax.hypergradient(learning_rate=0.1)",
}


@pytest.mark.parametrize("call", REMEDIES)
def test_the_error_says_what_to_write_instead(call):
    names = {"momentax": momentax, "optax": optax, "jnp": jnp}
    with pytest.raises(TypeError, match=rf"write {re.escape(REMEDIES[call])}$"):
        eval(call, names | {"sgd": sgd, "heavy_ball": heavy_ball, "nesterov": nesterov})


METHODS = [
    value
    for name in momentax.__all__
    if inspect.isfunction(value := getattr(momentax, name))
    and value.__module__.startswith("momentax._methods.")
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_method_explains_an_unknown_keyword(method):
    with pytest.raises(TypeError, match=rf"^{method.__name__}\(\) got an .*'unknown'; it takes "):
        method(unknown=0.9)
    parameters = inspect.signature(method).parameters
    if name := next((name for name in ("beta", "beta1") if name in parameters), None):
        with pytest.raises(TypeError, match=rf"write momentax.{method.__name__}\({name}=0.9\)$"):
            method(momentum=0.9)


def test_the_signature_stays_that_of_the_function():
    def function(beta: float = 0.9, *, dampening: float = 0.0) -> float:
        """Return beta."""
        return beta

    decorated = explain_keywords(lambda *_: None)(function)
    assert inspect.signature(decorated) == inspect.signature(function)
    assert (decorated.__doc__, decorated.__name__) == ("Return beta.", "function")
    assert decorated(0.5, dampening=0.1) == 0.5
    with pytest.raises(TypeError, match=r"takes from 0 to 1 positional arguments but 2 were"):
        decorated(0.5, 0.1)
    injected = optax.inject_hyperparams(heavy_ball)(beta=0.5)
    assert injected.init(jnp.ones(2)).hyperparams["beta"] == 0.5
    assert functools.partial(heavy_ball, dampening=0.1)(beta=0.5)


def test_the_signature_of_sgd_prints_as_it_is_written():
    text = str(inspect.signature(sgd))
    assert "= heavy_ball()," in text
    assert " at 0x" not in text
    x = jnp.ones(2)
    default, explicit = (tx.update(x, tx.init(x), x) for tx in (sgd(0.1), sgd(0.1, heavy_ball())))
    assert jnp.array_equal(default[0], explicit[0])
