"""The tests of Optax's optimizers, over those of momentax."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.contracts.harness import build
from tests.optax_suite.loading import load
from tests.optax_suite.optimizers import (
    as_part_of_a_name,
    chosen_names,
    chosen_optimizers,
    plain_descent,
)
from tests.sweeps.processes import ENVIRONMENT, ROOT

pytestmark = pytest.mark.oracles
CHOSEN = chosen_optimizers()


def renamed(name):
    """Return the optimizers by their names; Optax's tests pass the loss by name of an optimizer."""
    return {name if each == "momentum_polyak" else each: tx for each, tx in CHOSEN.items()}


def cases(optimizers):
    return [{"opt_name": name, "opt_kwargs": tx.numbers} for name, tx in optimizers.items()]


def makers(optimizers):
    return {name: tx.make for name, tx in optimizers.items()}


_ALIAS = renamed("polyak_sgd")
AliasTest = load(
    "optax._src.alias_test",
    {"_OPTIMIZERS_UNDER_TEST": cases(_ALIAS)},
    helpers={"alias": SimpleNamespace(**makers(_ALIAS))},
).AliasTest

_CONTRIB = renamed("momo")
_MAIN = [{**case, "wrapper_name": None, "wrapper_kwargs": None} for case in cases(_CONTRIB)]
ContribTest = load(
    "optax.contrib._common_test",
    {"_MAIN_OPTIMIZERS_UNDER_TEST": _MAIN, "_ALL_OPTIMIZERS_UNDER_TEST": _MAIN},
    helpers={"_get_opt_factory": makers(_CONTRIB).__getitem__},
    without=(  # AliasTest has them too.
        "test_optimizers_accept_extra_args",
        "test_optimizers_can_be_wrapped_in_inject_hyperparams",
        "test_preserve_dtype",
        "test_gradient_accumulation",
        "test_state_shape_dtype_shard_stability",
    ),
).ContribTest

Float64Test = load(
    "optax._src.float64_test",
    {"ALL_MODULES": [(name, tx.make, tx.numbers) for name, tx in CHOSEN.items()]},
).Float64Test


def constructors():
    """Return each transformation as a function without arguments, which has its name."""

    def constructor(name):
        def make():
            return build(name)

        make.__name__ = name
        return make

    return [(as_part_of_a_name(name), constructor(name)) for name in chosen_names()]


TransformTest = load(
    "optax._src.transform_test", {}, inline={"test_scalers": constructors()}
).TransformTest

ComplexValuedTest = load(
    "optax.contrib._complex_valued_test",
    {},
    inline={"test_split_real_and_imaginary": constructors()},
).ComplexValuedTest

_PLAIN = plain_descent()
MaskedTest = load(
    "optax.transforms._masking_test",
    {},
    inline={
        "test_masked": [
            (f"{name}_{use}", build, use) for name, build in _PLAIN.items() for use in (False, True)
        ],
        "test_prefix_mask": list(_PLAIN.items()),
        "test_nested_mask": list(_PLAIN.items()),
    },
).MaskedTest

ConditionalityTest = load(
    "optax.transforms._conditionality_test",
    {},
    inline={"test_apply_if_finite": list(_PLAIN.items())},
).ConditionalityTest

AccumulationTest = load(
    "optax.transforms._accumulation_test",
    {"OPTIMIZERS_TO_TEST": cases(CHOSEN)},
    helpers={"alias": SimpleNamespace(**makers(CHOSEN))},
).AccumulationTest


def test_sharding_on_eight_devices(record_property):
    """All of Optax's ShardingTest, in a process that has the devices."""
    command = [sys.executable, "-m", "tests.optax_suite.eight_devices"]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    outcomes = json.loads(done.stdout.splitlines()[-1])
    failed = {name: error for name, error in outcomes.items() if error}
    assert len(outcomes) == 3 * len(CHOSEN)
    record_property("optax", {"passed": len(outcomes) - len(failed), "failed": len(failed)})
    assert not failed, "\n".join([*failed, *failed.values()])
