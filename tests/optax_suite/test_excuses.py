"""The tests of Optax run over other cases, can fail, and are excused only where Optax fails."""

import functools
from types import SimpleNamespace

import jax.numpy as jnp
import optax
import pytest

import momentax
from tests.cases import TRANSFORMATIONS
from tests.optax_suite.excuses import EXCUSES
from tests.optax_suite.loading import load, outcomes
from tests.optax_suite.optimizers import as_part_of_a_name

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
def outcomes_of_control(name, control):
    """Return the outcome of each test of one of Optax's classes for an optimizer of Optax."""
    cases, makers = [case("control", learning_rate=1e-3)], {"control": control}
    if name == "AliasTest":
        tests = alias_test(cases, makers, without=()).AliasTest
    else:
        unwrapped = [{**each, "wrapper_name": None, "wrapper_kwargs": None} for each in cases]
        tests = load(
            "optax.contrib._common_test",
            {"_ALL_OPTIMIZERS_UNDER_TEST": unwrapped},
            helpers={"_get_opt_factory": makers.__getitem__},
            without=("test_optimizers_accept_extra_args",),
        ).ContribTest
    return {f"{name}::{test}": error for test, error in outcomes(tests).items()}


@pytest.mark.parametrize("excuse", EXCUSES, ids=lambda excuse: excuse.test)
def test_what_is_excused_fails_for_optax_too(excuse):
    assert excuse.covers(excuse.test.format(excuse.optimizers[0]))
    found = outcomes_of_control(excuse.test.partition("::")[0], excuse.control)
    assert found[excuse.test.format("control")]


def test_every_excuse_belongs_to_an_optimizer():
    names = set(map(as_part_of_a_name, TRANSFORMATIONS))
    assert {name for excuse in EXCUSES for name in excuse.optimizers} <= names
