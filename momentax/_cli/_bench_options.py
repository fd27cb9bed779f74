"""The options of `momentax bench`. Like `_parser` it imports neither JAX nor NumPy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from momentax._cli._arguments import add_output, choice, folder, real, several, whole
from momentax._cli._examples import EXAMPLES
from momentax._cli._usage import ENTRIES, TASKS, UsageError

_RECORDED = Path(__file__).parents[1] / "bench" / "recorded" / "results.json"


def add_bench(commands: Any) -> None:
    """Add the command to those of the parser."""
    bench = commands.add_parser(
        "bench",
        help="compare methods on real tasks, or a method of your own with recorded results",
        description="Tune methods on small real tasks by one protocol, evaluate each on fresh "
        "seeds, and print which are better. Without a METHOD a few methods of momentax run on "
        "three tasks, in a few minutes on two cores. With a METHOD of your own it is "
        "compared with another method: with its recorded results, or with --rerun by running it "
        "too. " + _say_what_is_recorded() + "Both write bench.json and bench.png.",
        examples=EXAMPLES["bench"],
    )
    bench.set_defaults(run=_run_bench, parser=bench)
    bench.add_argument(
        "function",
        nargs="?",
        metavar="METHOD",
        help="module:function, a function of learning_rate and other hyperparameters such as beta "
        "that returns an Optax transformation, or a momentax.bench.Entry, which has a search space",
    )
    _add_contestants(bench)
    _add_bench_numbers(bench)
    add_output(bench, "bench.json and bench.png")


def _say_what_is_recorded() -> str:
    return "" if _RECORDED.is_file() else "As long as no results are recorded, pass --rerun. "


def _add_contestants(bench: argparse.ArgumentParser) -> None:
    option: Any = bench.add_argument
    option(
        "--tasks",
        type=several(TASKS, "task"),
        metavar="NAME,NAME",
        help=f"any of {', '.join(TASKS)} (default: three quick ones; all with a METHOD)",
    )
    option(
        "--methods",
        type=several(ENTRIES, "method"),
        metavar="NAME,NAME",
        help=f"any of {', '.join(ENTRIES)} (default: sgd,nesterov,adam,muon)",
    )
    option(
        "--against",
        **choice(ENTRIES),
        default="nesterov",
        help="method with which the others are compared (default: %(default)s)",
    )
    option(
        "--rerun",
        action="store_true",
        help="run the method --against here too, in place of its recorded results",
    )
    option(
        "--anyway",
        action="store_true",
        help="compare with recorded results even if they were made by other versions of momentax, "
        "JAX, Optax or of a task, or on another kind of device",
    )


def _add_bench_numbers(bench: argparse.ArgumentParser) -> None:
    option: Any = bench.add_argument
    option(
        "--trials",
        type=whole(2),
        metavar="N",
        help="number of settings that each method tries on each task (default: 12; with a METHOD "
        "24, or as many as recorded results have)",
    )
    option(
        "--seeds",
        type=whole(2),
        metavar="N",
        help="number of seeds on which the best setting is evaluated; recorded results have 16 "
        "(default: 16; 12 without any of METHOD, --tasks and --methods)",
    )
    option(
        "--weight-decay",
        action="store_true",
        help="search a decoupled weight decay from 1e-5 to 1 too",
    )
    option(
        "--widen",
        action="store_true",
        help="run methods again whose best rate or β lies at an end of its range, once, with a "
        "range that is wider by a factor of ten at both ends; they are then tuned twice, with up "
        "to twice the search of the others",
    )
    option(
        "--learning-rates",
        type=real("(0, inf)"),
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range of the peak learning rate of a METHOD that is a function, searched on a log "
        "scale, 0 < LOW < HIGH (default: the effective rate, α/(1 - β) for heavy ball, from 1e-3 "
        "to 300, or 1e-5 to 0.3 if steps do not grow with the gradient)",
    )
    option(
        "--store",
        type=folder,
        metavar="FOLDER",
        help="folder that keeps finished runs, so that the same command goes on after an interrupt",
    )


def _run_bench(options: argparse.Namespace) -> bool:
    for name in ("rerun", "anyway", "learning_rates"):
        if options.function is None and getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} needs a METHOD, as in mine:method")
    if options.rerun and options.anyway:
        raise UsageError("--rerun uses no recorded results, so that --anyway has no effect")
    low, high = options.learning_rates or (0, 1)
    if low >= high:
        raise UsageError(f"--learning-rates must be a range, LOW below HIGH, got {low:g} {high:g}")
    try:
        from momentax._cli._bench import run
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'momentax[flax]'") from error
    return run(options)
