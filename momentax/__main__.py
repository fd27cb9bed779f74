"""The command line: `momentax sweep` trains on a grid, `momentax analyze` tells the theory."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import optax

import momentax
from momentax._cli import _sweep
from momentax._cli._command import METHODS, plain, printed

_PLAIN = "gradient_descent"  # The one without β.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("momentax", description="Momentum for JAX.")
    parser.add_argument("--version", action="version", version=f"momentax {momentax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _sweep.add(commands)
    _add_analyze(commands)
    return parser


def _add_analyze(commands: Any) -> None:
    analyze = commands.add_parser(
        "analyze",
        help="tell what the theory says of a learning rate and β",
        description="Tell what the theory says of momentax.sgd with a method, on a quadratic loss "
        "whose curvatures lie between mu and L: stability, rate, oscillation, noise.",
    )
    number: Any = partial(analyze.add_argument, type=float, metavar="NUMBER")
    number("--learning-rate", required=True, help="above 0")
    number("--beta", help=f"in [0, 1); all methods but {_PLAIN} need it")
    number(
        "--mu", required=True, help="the smallest curvature; it may be negative, as in --mu=-1e-3"
    )
    number("--L", required=True, help="the largest curvature, above 0")
    analyze.add_argument(
        "--method",
        choices=(*METHODS, _PLAIN),
        default="heavy_ball",
        help="what takes beta (default: %(default)s)",
    )
    number("--weight-decay", default=0.0, help="coupled, as L2 (default: 0)")
    number(
        "--gradient-variance",
        help="of the noise in one gradient; without it nothing is said of noise",
    )
    analyze.add_argument("--json", action="store_true", help="print JSON in place of the table")
    analyze.set_defaults(run=partial(_analyze, analyze))


def _analyze(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """`momentax analyze`; whether it was printed."""
    name, β = options.method, options.beta
    if (β is None) != (name == _PLAIN):
        parser.error(f"--beta is {'required for' if β is None else 'not allowed with'} {name}")
    try:
        method = optax.identity() if β is None else METHODS[name](β)
        analysis = momentax.theory.analyze(
            momentax.sgd(options.learning_rate, method, weight_decay=options.weight_decay),
            options.mu,
            options.L,
            gradient_variance=options.gradient_variance,
        )
    except ValueError as error:
        parser.error(str(error))
    if not options.json:
        return printed(repr(analysis))
    report = {
        "momentax": momentax.__version__,
        "method": name,
        "learning_rate": options.learning_rate,
        "beta": β,
        "weight_decay": options.weight_decay,
        "analysis": plain(analysis),
    }
    return printed(json.dumps(report, indent=1, allow_nan=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: What follows the program's name; None takes `sys.argv`.

    Returns:
        None. A mistake in the arguments prints a sentence and exits with 2; a
        file that cannot be written after all prints one and exits with 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # Greek letters on a terminal without any.
        sys.stdout.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    if not options.run(options):
        sys.exit(1)


if __name__ == "__main__":
    main()
