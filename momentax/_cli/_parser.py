"""The options of the commands.

Reading them imports neither JAX nor anything that a command needs, so that `momentax --help`
and a mistake in the options answer at once.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import momentax
from momentax._cli._arguments import (
    Parser,
    add_output,
    choice,
    folder,
    numeric,
    real,
    several,
    whole,
)
from momentax._cli._bench_options import add_bench
from momentax._cli._examples import EXAMPLES
from momentax._cli._plan import announce, make_plan
from momentax._cli._usage import (
    METHODS,
    PROBLEMS,
    RACERS,
    WITHOUT_BETA,
    UsageError,
)

_LEARNING_RATES = (0.003, 0.007, 0.016, 0.036, 0.08, 0.19, 0.44, 1.0)
_BETAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def make_parser() -> Parser:
    """Make the parser of the whole command line.

    The options that it returns have `run`, the function that runs the command, and `parser`,
    whose `error` reports a mistake.
    """
    parser = Parser(
        "momentax",
        description="Momentum for JAX.",
        examples=(
            EXAMPLES["sweep"][0],
            EXAMPLES["analyze"][0],
            EXAMPLES["race"][0],
            EXAMPLES["bench"][0],
            EXAMPLES["explore"][0],
            "momentax sweep --help",
        ),
    )
    parser.add_argument("--version", action="version", version=f"momentax {momentax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_sweep(commands)
    _add_analyze(commands)
    _add_race(commands)
    add_bench(commands)
    _add_explore(commands)
    return parser


class _StoreGiven(argparse.Action):
    """Store a value, and add the option's name to the set `given`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        del parser, option_string
        setattr(namespace, self.dest, values)
        namespace.given = namespace.given | {self.dest}


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="train a network at every learning rate and β of a grid",
        description="Train a small convolutional Flax network on scikit-learn's 1,797 handwritten "
        "digits at every point of a grid of learning rates and β, on all cores or devices. Print "
        "the best points and write sweep.json and sweep.png. --model and --data train your own "
        "network on your own data. An interrupt (Ctrl-C) keeps the finished points, and the same "
        "command goes on with the others.",
        examples=EXAMPLES["sweep"],
    )
    sweep.set_defaults(run=_run_sweep, parser=sweep, given=frozenset())
    _add_grid_options(sweep)
    _add_training_options(sweep)
    _add_ranking_options(sweep)
    _add_running_options(sweep)


def _add_grid_options(sweep: argparse.ArgumentParser) -> None:
    for option, interval, name, noun, values in (
        ("--learning-rates", "[0, inf)", "RATE", "learning rates", _LEARNING_RATES),
        ("--betas", "[0, 1)", "BETA", "values of β", _BETAS),
    ):
        sweep.add_argument(
            option,
            type=real(interval),
            nargs="+",
            default=values,
            metavar=name,
            help=f"{noun} of the grid (default: {' '.join(map(str, values))})",
        )


def _add_training_options(sweep: argparse.ArgumentParser) -> None:
    option: Any = partial(sweep.add_argument, action=_StoreGiven)
    option(
        "--method",
        **choice(METHODS),
        default="heavy_ball",
        help="momentum method that takes β (default: %(default)s)",
    )
    option(
        "--epochs",
        type=whole(1),
        default=12,
        metavar="N",
        help="passes over the training data (default: %(default)s)",
    )
    option(
        "--seed",
        type=whole(0, 2**32),
        default=0,
        metavar="N",
        help="random seed of the network and of the batches (default: %(default)s)",
    )
    sweep.add_argument(
        "--seeds",
        type=whole(1),
        default=1,
        metavar="N",
        help="number of seeds for every point, counted up from --seed (default: %(default)s)",
    )
    sweep.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="a function that is called with flax.nnx.Rngs and returns a flax.nnx module from "
        "inputs of shape (n, ...), those of the digits being (n, 8, 8, 1) and float32, to logits "
        "of shape (n, classes), or for real labels to outputs of their shape; or a training "
        "function of your own, which JAX traces: it takes learning_rate and beta, also seed, data, "
        "epochs and method if it has arguments of these names, and returns a dictionary of numbers",
    )
    option(
        "--data",
        metavar="MODULE:FUNCTION",
        help="a function that is called without arguments and returns (train, test), each a pair "
        "of inputs and labels, either whole numbers from 0 on (classes) or real numbers "
        "(regression) (default: the digits)",
    )


def _add_ranking_options(sweep: argparse.ArgumentParser) -> None:
    option: Any = sweep.add_argument
    option(
        "--metric",
        metavar="NAME",
        help="metric that ranks the points (default: test_accuracy; test_loss with --halving, "
        "where it has fewer ties, and for regression; for a training function the first number "
        "that it returns)",
    )
    option(
        "--mode",
        **choice(("min", "max")),
        help="whether the smallest or the largest metric is best (default: read from "
        "its name, if that says so)",
    )
    option(
        "--halving",
        type=whole(1),
        nargs="*",
        metavar="EPOCH",
        help="after each of these epochs, continue only with the best third of the points; the "
        "last number is that of --epochs; without numbers the points are ranked after a ninth "
        "and a third of the epochs",
    )
    option(
        "--curvature",
        type=real("(0, inf)"),
        metavar="CURVATURE",
        help="the largest curvature of the loss, as momentax.curvature measures it: sweep.png then "
        "shows the stability edge of the method at this curvature",
    )


def _add_running_options(sweep: argparse.ArgumentParser) -> None:
    option: Any = sweep.add_argument
    option(
        "--store",
        type=folder,
        metavar="FOLDER",
        help="folder that keeps the finished points for good; without it the output keeps them "
        "until all are finished, so that after an interrupt the same command goes on",
    )
    option(
        "--batch-size",
        type=_batch_size,
        default="auto",
        metavar="N|auto",
        help="number of points that run at once (default: auto, which measures the fastest)",
    )
    option(
        "--devices", type=whole(1), metavar="N", help="number of cores or devices (default: all)"
    )
    add_output(sweep, "sweep.json and sweep.png")


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be auto or a whole number, at least 1, got {text.strip()!r}"
        ) from None


def _add_analyze(commands: Any) -> None:
    analyze = commands.add_parser(
        "analyze",
        help="print what the theory says about a learning rate and β",
        description="Print what the theory says about momentax.sgd with a momentum method on a "
        "quadratic loss whose curvatures lie between mu and L: its stability, its rate, how it "
        "oscillates and how much gradient noise it lets through.",
        examples=EXAMPLES["analyze"],
    )
    analyze.set_defaults(run=_run_analyze, parser=analyze)
    number: Any = partial(analyze.add_argument, type=numeric, metavar="NUMBER")
    number("--learning-rate", required=True, help="above 0")
    number("--beta", help=f"in [0, 1); required for all methods but {WITHOUT_BETA}")
    number("--mu", required=True, help="smallest curvature; it may be negative")
    number("--L", required=True, help="largest curvature, above 0")
    analyze.add_argument(
        "--method",
        **choice((*METHODS, WITHOUT_BETA)),
        default="heavy_ball",
        help="momentum method that takes β (default: %(default)s)",
    )
    number(
        "--weight-decay",
        default=0.0,
        help="coefficient of an L2 penalty, added to the gradient (default: 0)",
    )
    number(
        "--gradient-variance",
        help="variance of the noise in one gradient; without it nothing is printed about noise",
    )
    analyze.add_argument("--json", action="store_true", help="print JSON instead of the table")


def _add_race(commands: Any) -> None:
    race = commands.add_parser(
        "race",
        help="run several methods on one problem, and draw and animate their paths",
        description="Run momentax.sgd with several methods on a problem of momentax.problems. "
        "Print a table of the methods in the order of the steps that they need to a target, and "
        "write it as race.csv, the losses and the paths as race.png, and the paths on the rotating "
        "surface of the loss as race.gif. The learning rate and β of each method are those of a "
        "grid whose loss stays below the target after the fewest steps, unless they are given.",
        examples=EXAMPLES["race"],
    )
    race.set_defaults(run=_run_race, parser=race)
    _add_racers(race)
    _add_race_numbers(race)
    add_output(race, "race.csv, race.png and the film")


def _add_racers(race: argparse.ArgumentParser) -> None:
    option: Any = race.add_argument
    option(
        "--problem",
        **choice(PROBLEMS),
        default="rosenbrock",
        help="problem with a minimum; the plateau has one parameter and therefore neither paths "
        "nor a film (default: %(default)s)",
    )
    option(
        "--methods",
        type=several(RACERS, "method"),
        default=("heavy_ball", "nesterov", "aggregated"),
        metavar="NAME,NAME",
        help=f"any of {', '.join(RACERS)} (default: heavy_ball,nesterov,aggregated)",
    )
    option(
        "--film",
        **choice(("gif", "mp4", "none")),
        default="gif",
        help="format of the film; mp4 needs ffmpeg (default: %(default)s)",
    )


def _add_race_numbers(race: argparse.ArgumentParser) -> None:
    option: Any = race.add_argument
    option(
        "--steps",
        type=whole(2),
        default=500,
        metavar="N",
        help="number of steps of each run (default: %(default)s)",
    )
    option(
        "--learning-rate",
        type=real("(0, inf)"),
        metavar="NUMBER",
        help="learning rate of all methods, above 0 (default: the best of a grid for each)",
    )
    option(
        "--beta",
        type=real("[0, 1)"),
        metavar="NUMBER",
        help="β, or β1, in [0, 1) of all methods that take one (default: the best of a grid for "
        "each); others keep their own defaults",
    )
    option(
        "--fraction",
        type=real("(0, 1)"),
        default=1e-4,
        metavar="NUMBER",
        help="the target, as a share in (0, 1) of the loss above its minimum at the start "
        "(default: %(default)s)",
    )


def _add_explore(commands: Any) -> None:
    explore = commands.add_parser(
        "explore",
        help="write a page to play with momentum in a browser",
        description="Write one HTML file that needs no network. In a browser, drag the learning "
        "rate, β, the condition number, the noise and the start, and see the path of a momentum "
        "method, its loss, its kernel and its stability beside the numbers of the theory.",
        examples=EXAMPLES["explore"],
    )
    explore.set_defaults(run=_run_explore, parser=explore)
    explore.add_argument(
        "--output",
        type=Path,
        default=Path("explore.html"),
        metavar="FILE",
        help="the file to write (default: %(default)s)",
    )


def _run_sweep(options: argparse.Namespace) -> bool:
    plan = make_plan(options)
    options.interruption.sentence = lambda: plan.sentence(options)
    try:
        display = announce(options, plan)
        options.interruption.on_end = display.close
        from momentax._cli._sweep import run
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'momentax[flax]'") from error
    try:
        return run(options, plan, display)
    finally:
        display.close()


def _run_race(options: argparse.Namespace) -> bool:
    try:
        from momentax._cli._race import run
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'momentax[plot]'") from error
    return run(options)


def _run_analyze(options: argparse.Namespace) -> bool:
    from momentax._cli._analyze import run

    return run(options)


def _run_explore(options: argparse.Namespace) -> bool:
    from momentax._cli._explore import run

    return run(options)
