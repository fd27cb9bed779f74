"""Interleaved timings and their ratios."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax


def ratios(
    runs: Mapping[str, Callable[[], object]], baseline: str, rounds: int = 15, warm_up: int = 2
) -> dict[str, float]:
    """Each run's time against the baseline's in the same round; the median over the rounds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(warm_up + rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - begin)
    return {
        name: statistics.median(
            one / base for one, base in zip(taken[warm_up:], times[baseline][warm_up:], strict=True)
        )
        for name, taken in times.items()
    }


def show(title: str, table: Mapping[str, float]) -> None:
    """Print one table of ratios with the device's name."""
    print(f"\n{title}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for name, ratio in table.items():
        print(f"  {name:<28} {ratio:6.2f}")
