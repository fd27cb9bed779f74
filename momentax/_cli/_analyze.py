"""`momentax analyze`: print what the theory says about a learning rate and β."""

from __future__ import annotations

import json
from argparse import Namespace

import optax

import momentax
from momentax._cli._output import as_json, print_lines
from momentax._cli._usage import WITHOUT_BETA, UsageError


def run(options: Namespace) -> bool:
    """Run the command; return whether its result was printed."""
    name, β = options.method, options.beta
    if (β is None) != (name == WITHOUT_BETA):
        rule = "required for" if β is None else "not allowed with"
        raise UsageError(f"--beta is {rule} {name}")
    try:
        method = optax.identity() if β is None else getattr(momentax, name)(β)
        analysis = momentax.theory.analyze(
            momentax.sgd(options.learning_rate, method, weight_decay=options.weight_decay),
            options.mu,
            options.L,
            gradient_variance=options.gradient_variance,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not options.json:
        return print_lines(repr(analysis))
    report = {
        "momentax": momentax.__version__,
        "method": name,
        "learning_rate": options.learning_rate,
        "beta": β,
        "weight_decay": options.weight_decay,
        "analysis": as_json(analysis),
    }
    return print_lines(json.dumps(report, indent=1, allow_nan=False))
