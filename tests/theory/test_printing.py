"""The records of the theory print plain numbers: no type names of NumPy, no addresses."""

import re

import numpy as np
import optax
import pytest

from momentax import theory
from tests.theory.systems import linear

SYSTEM = linear(0.1, 0.0, 1.0, 0.9)
RECORDS = {
    "StateSpace(A=[[1, -0.09], [0, 0.9]], B=[-0.1, 1], C=[1, 0])": lambda: SYSTEM,
    "Damping(kind='under', period=19.5281, half_life=13.1576)": lambda: theory.damping(SYSTEM, 1.0),
    "Tuning(learning_rate=0.0330579, beta=0.669421, rate=0.818182)": lambda: (
        theory.optimal_heavy_ball(1.0, 100.0)
    ),
    "Tuning(learning_rate=[0.666667, 0.4], beta=[0, 0], rate=[0.333333, 0.6])": lambda: (
        theory.optimal_gradient_descent(1.0, [2.0, 4.0])
    ),
    "NesterovTuning(learning_rate=0.01, beta=0.818182, rate=0.9)": lambda: theory.optimal_nesterov(
        1.0, 100.0
    ),
    "WorstCaseTuning(learning_rate=0.375, beta1=0.166667, beta2=0.111111, delta=0.333333, "
    "rate=0.5)": lambda: theory.triple_momentum(1.0, 4.0),
    "Oscillator(mass=0.95, friction=1, time_step=0.1, damping_ratio=0.512989)": lambda: (
        theory.oscillator(0.01, 1.0, 0.9)
    ),
    "Tuned(learning_rate=0.2, objective=0.8, rate=0.8, found='closed form of plain descent')": (
        lambda: theory.tune(optax.sgd, 1.0, 9.0)
    ),
}


@pytest.mark.parametrize("text", RECORDS)
def test_small_records_print_on_one_line(text):
    assert repr(RECORDS[text]()) == text


def test_large_records_print_plain_numbers():
    advice = theory.advise(SYSTEM, -1.0, 20.0, certified=False)
    for record in (
        advice,
        theory.analyze(SYSTEM, 1.0, 20.0, gradient_variance=1.0).highest,
        theory.certify(linear(0.1, 1.0, 0.0, 0.0), 1.0, 10.0),
        theory.quadratic_path(np.eye(3), np.ones(3), 50, 0.1, 0.9),
        theory.trade_off(optax.sgd, 1.0, 9.0, count=2),
    ):
        text = repr(record)
        assert text.startswith(f"{type(record).__name__}(")
        assert not re.search(r"np\.|array|float64|0x|\n", text)
        assert len(text) < 800
    assert repr(advice).startswith("Advice(stable=True, edge=38, margin=1.9, ")
    assert "tuned=None" in repr(advice)
    assert str(advice) == "\n".join(advice.sentences)
