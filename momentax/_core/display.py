"""What shows the progress of a sweep. It imports no JAX, so that the command line uses it early."""

from __future__ import annotations


class Display:
    """What shows the progress of a sweep. This one shows nothing."""

    def open(self, total: int, done: int) -> None:
        """Show the number of points, and of those that are done."""

    def compiling(self, is_compiling: bool, seconds: float) -> None:
        """Show that XLA starts to compile, or that it has compiled for some seconds."""

    def update(self, done: int, seconds_left: float, best: str) -> None:
        """Show the number of finished points, the remaining time and the best value, if any."""

    def close(self) -> None:
        """Show no more; it may be called more than once, and from another thread."""
