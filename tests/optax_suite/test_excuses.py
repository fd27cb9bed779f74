"""The tests of Optax run over other cases, can fail, and are excused only where Optax fails."""

import functools
import re
from types import SimpleNamespace

import jax.numpy as jnp
import optax
import pytest

import momentax
from tests.optax_suite.excuses import EXCUSES
from tests.optax_suite.loading import load, outcomes

ALIAS = "optax._src.alias_test"
OTHERS = (
    "test_optimization",
    "test_optimizers_can_be_wrapped_in_inject_hyperparams",
    "test_state_shape_dtype_shard_stability",
    "test_gradient_accumulation",
)


def case(name, **numbers):
    return {"opt_name": name, "opt_kwargs": numbers}


def alias_test(cases, makers, without=OTHERS):
    lists = {"_OPTIMIZERS_UNDER_TEST": cases}
    return load(ALIAS, lists, helpers={"alias": SimpleNamespace(**makers)}, without=without)


def promoting(learning_rate):
    """Return an optimizer whose updates are float32, whatever the gradients are."""
    return optax.chain(
        optax.sgd(learning_rate),
        optax.stateless_with_tree_map(lambda u, _: u.astype(jnp.float32)),
    )


def test_the_tests_run_over_the_given_cases_and_can_fail():
    makers = {"heavy_ball": momentax.sgd, "promoting": promoting}
    cases = [case(name, learning_rate=0.1) for name in makers]
    found = outcomes(alias_test(cases, makers).AliasTest)
    failed = {name for name, error in found.items() if error}
    assert failed == {"test_preserve_dtype_promoting_bfloat16"}
    assert set(found) - failed == {
        "test_preserve_dtype_promoting_float32",
        "test_preserve_dtype_heavy_ball_bfloat16",
        "test_preserve_dtype_heavy_ball_float32",
        "test_optimizers_accept_extra_args_heavy_ball",
        "test_optimizers_accept_extra_args_promoting",
    }


def test_a_list_that_optax_no_longer_has_is_named():
    with pytest.raises(ValueError, match="alias_test of the installed Optax has no list _GONE"):
        load(ALIAS, {"_GONE": []})
    with pytest.raises(
        ModuleNotFoundError, match=r"has no module optax\._src\.gone_test: its tests"
    ):
        load("optax._src.gone_test", {})


@functools.cache
def outcomes_of_optax():
    """Return the outcome of each of Optax's tests for `optax.sgd`, by its name without a case."""
    sgd = case("sgd", learning_rate=1e-3, momentum=0.9, nesterov=True)
    suite = alias_test([sgd], {"sgd": optax.sgd}, without=()).AliasTest
    return {f"AliasTest::{name}": error for name, error in outcomes(suite).items()}


def test_what_is_excused_fails_for_optax_too():
    for pattern in EXCUSES:
        theirs = [
            error for name, error in outcomes_of_optax().items() if re.fullmatch(pattern, name)
        ]
        assert theirs, pattern
        assert all(theirs), pattern
