"""One configuration for every test: strict JAX, reproducible Hypothesis, bounded memory."""

import contextlib
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import matplotlib as mpl
import pytest
from hypothesis import settings

from tests import compilation
from tests.optax_suite import summary
from tests.quick import QUICK

compilation.configure()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # To see that sharding follows the parameters.
mpl.use("Agg")

settings.register_profile("momentax", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("momentax")


@pytest.fixture
def x64() -> Iterator[None]:
    """Run a test in 64 bits."""
    with jax.enable_x64(True):
        yield


# Selection.

TESTS = Path(__file__).parent


ASKED_FOR = {"browser", "oracles", "wheel"}  # Markers of tests that run only alone.


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no test file without the marker that is asked for, since importing all takes long."""
    marker = config.option.markexpr
    if marker not in ASKED_FOR or collection_path.suffix != ".py":
        return None
    is_live = collection_path.name.endswith("_live.py")  # tests/oracles/conftest.py marks these.
    text = collection_path.read_text(encoding="utf-8")
    return None if is_live or f"pytest.mark.{marker}" in text else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that is not in tests/quick.py as slow."""
    for item in items:
        if not item.nodeid.removeprefix("tests/").startswith(QUICK):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Collect garbage less often, and not among what was imported, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


# Compilation.

# The tests that compile most. XLA's optimizations are off in them, except in tests with the marker
# `optimized`, whose exact comparisons hold only if XLA does not round intermediate results.
UNOPTIMIZED = {
    "methods",
    "storage",
    "wrappers",
    "muon",
    "contracts",
    "optax_suite",
    "bench",
    "test_bad_arguments.py",
    "test_schedules.py",
    "test_sgd.py",
    "test_traps.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    room = item.path.relative_to(TESTS).parts[0]
    off = room in UNOPTIMIZED and item.get_closest_marker("optimized") is None
    jax.config.update("jax_disable_most_optimizations", off)


# Memory. JAX keeps every program that a process has compiled, about 1.5 MB each.

GIGABYTE = 1 << 30
WORKER = 1.5 * GIGABYTE  # The memory that a worker may hold.
# It may hold more where there is more, and this variable says how much, in gigabytes.
MOST = float(os.environ.get("MOMENTAX_TEST_MEMORY", "1.5")) * GIGABYTE
LAST_TEST = 0.6 * GIGABYTE  # What one test may add before memory is released.


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many workers as there are cores, but no more than there is memory for."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores, int(available_memory() / WORKER)))


def available_memory() -> float:
    """The bytes that new processes may use, as far as the system says."""
    limits = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":") for line in lines)
        limits.append(int(sizes["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # The limit of a container, if it is a number.
        group = Path("/sys/fs/cgroup")
        most, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        limits.append(most - used)
    if not limits:  # Not on Linux: half of the memory that is built in.
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2)
    return min(limits)


def resident_memory() -> int:
    """The bytes of memory that this process holds, or 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Releases:
    """Releases memory when the process has grown, after a test and its fixtures.

    Clearing JAX's caches costs time, since later tests compile the same programs again. So it is
    done as late as the memory allows, and only where it does not suffice to collect what no test
    refers to any longer.
    """

    def __init__(self, workers: int) -> None:
        share = 0.5 * available_memory() / workers
        self.least = self.limit = max(WORKER - LAST_TEST, min(share, MOST - LAST_TEST))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        result = yield
        if resident_memory() > self.limit:
            collect_garbage()
            if resident_memory() > self.limit - 0.15 * GIGABYTE:
                jax.clear_caches()
                collect_garbage()
            self.limit = max(self.least, resident_memory() + 0.2 * GIGABYTE)
        return result


def collect_garbage() -> None:
    """Free what nothing refers to, and return free memory to the system."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # Only glibc has it.
            ctypes.CDLL(None).malloc_trim(0)


def pytest_configure(config: pytest.Config) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    config.pluginmanager.register(Releases(workers))
    config.pluginmanager.register(summary)


PEAKS = pytest.StashKey[list[int]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report the peak of memory to the summary; one process, the last, tidies the cache."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_memory"] = peak
        return
    session.config.stash.setdefault(PEAKS, []).append(peak)
    compilation.prune()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    if "peak_memory" in getattr(node, "workeroutput", {}):
        node.config.stash.setdefault(PEAKS, []).append(node.workeroutput["peak_memory"])


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    peaks = config.stash.get(PEAKS, [0])
    terminalreporter.write_line(f"Most memory that one process held: {max(peaks) / 1e6:.0f} MB")
