"""What the checks say, whatever they are given."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

from momentax import _check


class Pair(NamedTuple):
    left: Any
    right: Any


LIKE = {"a": jnp.ones(2), "b": [jnp.ones(1), Pair(jnp.ones(3), jnp.ones(()))], "d": jnp.ones(4)}
FIRST_DIFFERENCES = {
    "a shape before a missing key": (
        {"a": jnp.ones(3), "b": LIKE["b"]},
        ValueError,
        r"\['a'\] .*: shape \(3,\) where shape \(2,\)",
    ),
    "a dtype before a shape": (
        {"a": jnp.ones(2, int), "b": LIKE["b"], "d": jnp.ones(3)},
        TypeError,
        r"\['a'\] .*: dtype int32 where float32",
    ),
    "a shape before a dtype": (
        {"a": jnp.ones(3), "b": LIKE["b"], "d": jnp.ones(4, int)},
        ValueError,
        r"\['a'\] .*: shape \(3,\) where shape \(2,\)",
    ),
    "a shape before a dtype at one leaf": (
        LIKE | {"d": jnp.ones(3, int)},
        ValueError,
        r"\['d'\] .*: shape \(3,\) where shape \(4,\)",
    ),
    "a deeper shape before an extra key": (
        LIKE | {"b": [jnp.ones(1), Pair(jnp.ones(2), jnp.ones(()))], "e": jnp.ones(1)},
        ValueError,
        r"\['b'\]\[1\].left .*: shape \(2,\) where shape \(3,\)",
    ),
    "an extra key before a shape": (
        {"a": LIKE["a"], "aa": jnp.ones(1), "b": LIKE["b"], "d": jnp.ones(3)},
        ValueError,
        r"\['aa'\] .*: an array where nothing",
    ),
    "a missing key before a shape": (
        {"a": LIKE["a"], "d": jnp.ones(3)},
        ValueError,
        r"\['b'\] .*: nothing where a list",
    ),
    "a longer list before a shape": (
        LIKE | {"b": [*LIKE["b"], jnp.ones(1)], "d": jnp.ones(3)},
        ValueError,
        r"\['b'\]\[2\] .*: an array where nothing",
    ),
    "another container": (
        LIKE | {"b": tuple(LIKE["b"]), "d": jnp.ones(3)},
        ValueError,
        r"\['b'\] .*: a tuple where a list",
    ),
    "a container before the shapes in it": (
        OrderedDict(LIKE | {"a": jnp.ones(3)}),
        ValueError,
        "the root .*: an OrderedDict where a dict",
    ),
}


@pytest.mark.parametrize("case", FIRST_DIFFERENCES)
def test_the_first_path_that_differs_is_the_one_named(case):
    given, error, text = FIRST_DIFFERENCES[case]
    with pytest.raises(error, match=f"^the gradient at {text}"):
        _check.require_gradients(given, LIKE)
    _check.require_gradients(LIKE, LIKE)
    _check.require_gradients(LIKE | {"b": [None, Pair(None, jnp.ones(()))]}, LIKE)


def test_the_same_keys_in_another_order_are_named_at_their_dict():
    a, b = ("a", jnp.ones(1)), ("b", jnp.ones(1))
    for given, like in (
        (OrderedDict([b, a]), OrderedDict([a, b])),
        (OrderedDict([b, a]), OrderedDict([a, b, ("c", jnp.ones(1))])),
    ):
        with pytest.raises(ValueError, match=r"at the root .*an OrderedDict .* where an Ordered"):
            _check.require_gradients(given, like)
