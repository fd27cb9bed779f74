"""The systems of a family of transformations, against the systems read one by one."""

import numpy as np
import optax
import pytest

import momentax
from momentax import sgd, theory
from momentax.theory._reading._family import Family
from tests.theory.systems import quasi_hyperbolic


@pytest.mark.parametrize(
    "factory",
    [
        quasi_hyperbolic,
        lambda learning_rate, beta, nu: sgd(float(learning_rate), momentax.heavy_ball(beta)),
        lambda learning_rate, beta, nu: optax.inject_hyperparams(sgd)(
            learning_rate, momentax.average(beta)
        ),
        lambda learning_rate, beta, nu: optax.lookahead(optax.sgd(learning_rate, beta), 3, nu),
        lambda learning_rate, beta, nu: optax.MultiSteps(optax.sgd(learning_rate, beta), 2),
    ],
    ids=["traced", "not traceable", "with its own state", "with a period", "accumulated"],
)
def test_a_family_reads_what_state_space_reads(factory):
    family = Family(factory)
    for k in range(5):
        values = {"learning_rate": 0.1 * (k + 1), "beta": 0.9 - 0.2 * k, "nu": 0.2 + 0.1 * k}
        seen = family(values)
        if k in (0, 4):
            for one, other in zip(
                seen.state_space, theory.state_space(factory(**values)), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
            for one, other in zip(
                seen.state_space, family(values, full=True).state_space, strict=True
            ):
                np.testing.assert_array_equal(one, other)
