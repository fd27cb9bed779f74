"""The command line: `momentax sweep` trains on a grid, `momentax analyze` tells the theory."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import momentax
from momentax import _check

_METHODS = {
    method.__name__: method
    for method in (
        momentax.heavy_ball,
        momentax.nesterov,
        momentax.average,
        momentax.quasi_hyperbolic,
    )
}
# Their gain is 1 - β, so that a gradient moves the parameters by α over its life, not α / (1 - β).
_AVERAGES = ("average", "quasi_hyperbolic")
_PLAIN = "gradient_descent"  # The one without β.
_LEARNING_RATES = (0.003, 0.007, 0.016, 0.036, 0.08, 0.19, 0.44, 1.0)
_BETAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SHOWN = 10  # Rows in the table of the best points.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("momentax", description="Momentum for JAX.")
    parser.add_argument("--version", action="version", version=f"momentax {momentax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_sweep(commands)
    _add_analyze(commands)
    return parser


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="train a small Flax network on handwritten digits at every learning rate and β",
        description="Train a small convolutional Flax network on scikit-learn's 1,797 handwritten "
        "digits at every point of a learning rate × β grid, all in one compiled program; print the "
        "best points and write sweep.json and sweep.png.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sweep.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=_LEARNING_RATES,
        metavar="α",
        help="of the grid",
    )
    sweep.add_argument(
        "--betas", type=float, nargs="+", default=_BETAS, metavar="β", help="of the grid"
    )
    sweep.add_argument("--method", choices=_METHODS, default="heavy_ball", help="what takes β")
    sweep.add_argument("--epochs", type=int, default=12, help="passes over the training images")
    sweep.add_argument("--seed", type=int, default=0, help="of the network and the batches")
    sweep.add_argument("--output", type=Path, default=Path(), help="folder for the two files")
    sweep.set_defaults(run=partial(_sweep, sweep))


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
        choices=(*_METHODS, _PLAIN),
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


def _best_first(results: dict[str, np.ndarray]) -> np.ndarray:
    """The flat indices of the points that trained: by accuracy, then by loss."""
    order = np.lexsort((results["test_loss"].ravel(), -results["test_accuracy"].ravel()))
    return order[~results["diverged"].ravel()[order]]


def _table(method: str, points: momentax.Grid, results: dict[str, np.ndarray]) -> str:
    """The best points, best first, and which diverged."""
    α, β = (np.asarray(values) for values in points.points().values())
    accuracy, loss = results["test_accuracy"].ravel(), results["test_loss"].ravel()
    effective = momentax.theory.effective_learning_rate(α, 0 * β if method in _AVERAGES else β)
    lines = [f"{'learning rate':>13} {'β':>7} {'effective':>9} {'accuracy':>9} {'loss':>9}  (test)"]
    lines += [
        f"{α[i]:13.4g} {β[i]:7.4g} {effective[i]:9.4g} {accuracy[i]:9.2%} {loss[i]:9.4f}"
        for i in _best_first(results)[:_SHOWN]
    ]
    lost = results["diverged"].ravel()
    lines.append(f"{lost.sum()} of {lost.size} points diverged")
    lines += [
        f"{'✕':>13} {b:7.4g}  at α = " + ", ".join(f"{a:.4g}" for a in α[lost & (b == β)])
        for b in np.unique(β[lost])
    ]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """A result as JSON takes it, each number as short as it is, 0.9 and not 0.8999999761581421.

    Arrays become lists, records dictionaries, and what is not finite None.
    """
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if np.ndim(value):
        return [_plain(part) for part in value]
    number = np.asarray(value)[()]
    if not np.isfinite(number):
        return None
    return float(str(number)) if isinstance(number, np.floating) else number.item()


def _report(
    options: argparse.Namespace, points: momentax.Grid, results: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What sweep.json holds."""
    α, β = (np.asarray(values) for values in points.points().values())
    best = [
        {
            "learning_rate": _plain(α[i]),
            "beta": _plain(β[i]),
            "test_accuracy": _plain(results["test_accuracy"].ravel()[i]),
        }
        for i in _best_first(results)[:1]
    ]
    return {
        "momentax": momentax.__version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "method": options.method,
        "epochs": options.epochs,
        "seed": options.seed,
        "axes": {name: _plain(values) for name, values in points.axes.items()},
        "results": {name: _plain(values) for name, values in results.items()},
        "best": best[0] if best else None,
    }


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "sweep.json", folder / "sweep.png"


def _attempted(act: Callable[[], Any], failure: str) -> bool:
    """Whether what a full disk or the like can stop was done; if not, a sentence says so."""
    try:
        act()
    except OSError as error:
        print(f"momentax: {failure}: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def _printed(*lines: str) -> bool:
    printed = _attempted(lambda: print(*lines, sep="\n", flush=True), "the table was not printed")
    if not printed:  # Or Python would fail to flush it once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return printed


def _trained(options: argparse.Namespace, points: momentax.Grid) -> bool:
    """Train, write and print; whether all of it came out."""
    # These need the extra "flax", which `import momentax` and the rest of the command do not.
    from tqdm import tqdm

    from momentax import _digits, plotting

    with tqdm(total=options.epochs, unit="epoch", desc=f"{np.prod(points.shape)} points") as bar:
        run = _digits.training(
            _METHODS[options.method], options.epochs, options.seed, on_epoch=bar.update
        )
        results = jax.tree.map(np.asarray, momentax.sweep(run, points))
        jax.effects_barrier()

    def draw(path: Path) -> None:
        ax = plotting.heatmap(
            points,
            100 * results["test_accuracy"],
            diverged=results["diverged"],
            label="test accuracy, %",
            effective=options.method not in _AVERAGES,
        )
        ax.set_title(f"{options.method} on handwritten digits, {options.epochs} epochs")
        ax.figure.get_figure(root=True).savefig(path, dpi=150)

    numbers, picture = _files(options.output)
    report = json.dumps(_report(options, points, results), indent=1)
    written = _attempted(
        lambda: numbers.write_text(report + "\n", encoding="utf-8"), f"{numbers} was not written"
    )
    drawn = _attempted(lambda: draw(picture), f"{picture} was not written")
    # What has no file stands in the output, so that the training was not for nothing.
    lines = [_table(options.method, points, results), *([] if written else [report])]
    if done := [str(path) for path, is_there in ((numbers, written), (picture, drawn)) if is_there]:
        lines.append(f"wrote {' and '.join(done)}")
    printed = _printed(*lines)
    return written and drawn and printed


def _require_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in _files(folder):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
    for path in (folder, *filter(Path.exists, _files(folder))):
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} is not writable")


def _sweep(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """`momentax sweep`; whether all of it came out."""
    try:
        points = momentax.grid(learning_rate=options.learning_rates, beta=options.betas)
        for name, least in (("epochs", 1), ("seed", 0)):
            _check.whole(name, getattr(options, name), least)
        if options.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, got {_check.shown(options.seed)}")
        _require_writable(options.output)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        return _trained(options, points)
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is not installed; pip install 'momentax[flax]'")


def _analyze(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """`momentax analyze`; whether it was printed."""
    name, β = options.method, options.beta
    if (β is None) != (name == _PLAIN):
        parser.error(f"--beta is {'required for' if β is None else 'not allowed with'} {name}")
    try:
        method = optax.identity() if β is None else _METHODS[name](β)
        analysis = momentax.theory.analyze(
            momentax.sgd(options.learning_rate, method, weight_decay=options.weight_decay),
            options.mu,
            options.L,
            gradient_variance=options.gradient_variance,
        )
    except ValueError as error:
        parser.error(str(error))
    if not options.json:
        return _printed(repr(analysis))
    report = {
        "momentax": momentax.__version__,
        "method": name,
        "learning_rate": options.learning_rate,
        "beta": β,
        "weight_decay": options.weight_decay,
        "analysis": _plain(analysis),
    }
    return _printed(json.dumps(report, indent=1, allow_nan=False))


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
