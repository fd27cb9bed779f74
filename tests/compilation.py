"""How the tests compile: with few of XLA's optimizations, and with a cache on disk.

Without these settings XLA would take most of the tests' time.

- XLA's emitters of fused loops are turned off in all tests, and most of its optimizations in those
  that tests/conftest.py lists. A test of the compiled program itself uses `fully_optimized`.
- Compiled programs are kept in a folder, so that a later run loads them. JAX computes the key of an
  entry from the program, the compiler's version and options, and the processor.

The environment variable MOMENTAX_TEST_CACHE names another folder, or turns the cache off with "0".
"""

import contextlib
import os
import platform
import tempfile
from pathlib import Path

import jax
import jaxlib
from jax._src import compilation_cache, lru_cache  # There is no public way to replace the storage.

LARGEST = 1 << 30  # The bytes that the folder may hold when a run of the tests has ended.

# XLA's emitters of fused loops take two thirds of the time of a small compilation on CPUs. XLA ends
# the process at a flag that it does not know, so other versions get no flag.
_FLAGS = {"xla_cpu_use_fusion_emitters": "false"}
_KNOWS_FLAGS = (0, 8) <= tuple(map(int, jaxlib.__version__.split(".")[:2])) <= (0, 10)


def configure() -> None:
    """Set JAX up for this process and for those that it starts."""
    if _KNOWS_FLAGS and "xla_cpu_use_fusion_emitters" not in os.environ.get("XLA_FLAGS", ""):
        flags = [os.environ.get("XLA_FLAGS", "")]
        flags += [f"--{name}={value}" for name, value in _FLAGS.items()]
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    # The workers of pytest use all cores, and threads that wait for a core take up most of the time
    # of a small matrix. OpenBLAS reads this when a process loads NumPy, so that it is for workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if folder := cache_folder():
        compilation_cache.LRUCache = _AtomicCache
        _set("jax_compilation_cache_dir", str(folder))
        _set("jax_persistent_cache_min_compile_time_secs", 0)
        _set("jax_persistent_cache_min_entry_size_bytes", -1)


def _set(option: str, value: bool | int | str) -> None:
    """Set an option of JAX here and, by its environment variable, in processes started later."""
    jax.config.update(option, value)
    os.environ[option.upper()] = str(value)


def cache_folder() -> Path | None:
    """The folder of the compilation cache, or None if the cache is off."""
    chosen = os.environ.get("MOMENTAX_TEST_CACHE")
    if chosen == "0":
        return None
    if chosen:
        return Path(chosen)
    if platform.system() == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "momentax-tests" / f"jaxlib-{jaxlib.__version__}"


class _AtomicCache(lru_cache.LRUCache):
    """JAX's cache, but an entry appears as a whole, as other processes may read it at any time."""

    def get(self, key: str) -> bytes | None:
        value = super().get(key)
        if value is not None:
            with contextlib.suppress(OSError):
                os.utime(
                    self.path / f"{key}-cache"
                )  # `prune` removes what was not used for longest.
        return value

    def put(self, key: str, value: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self.path, prefix=".", delete=False) as file:
            file.write(value)
        os.replace(file.name, self.path / f"{key}-cache")


def prune() -> None:
    """Remove the entries that were not used for longest, until the folder holds LARGEST bytes."""
    folder = cache_folder()
    if folder is None or not folder.exists():
        return
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # Another run may have removed it.
            stat = path.stat()
            entries.append((stat.st_mtime, stat.st_size, path))
    excess = sum(size for _, size, _ in entries) - LARGEST
    for _, size, path in sorted(entries):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


def fully_optimized(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile a program as XLA does by default, to read from it what users get."""
    # LLVM's optimizations change neither the buffers nor the bytes that a program reads and writes.
    options: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
    options |= dict.fromkeys(_FLAGS, True) if _KNOWS_FLAGS else {}
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        return lowered.compile(compiler_options=options)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
