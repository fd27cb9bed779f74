"""What a sweep is about to do and how far it is, on a terminal or in a log.

Like `_parser` it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from momentax._core.display import Display


def open_display(noun: str, count: int, place: str) -> Display:
    """Say at once what is about to run, such as 64 networks on 2 cores."""
    is_terminal = sys.stderr.isatty() and _encodes("⠋━…")
    return _Terminal(noun, count, place) if is_terminal else _Log(noun, count, place)


def _encodes(text: str) -> bool:
    """Return whether stderr can show some characters."""
    try:
        text.encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Log(Display):
    """One line at the start."""

    def __init__(self, noun: str, count: int, place: str):
        dots = "…" if _encodes("…") else "..."
        print(f"{count} {noun}{place}, compiling {dots}", file=sys.stderr, flush=True)


class _Terminal(Display):
    """A line with a spinner while XLA compiles, and then a bar with the remaining time."""

    def __init__(self, noun: str, count: int, place: str):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
        from rich.text import Text

        class Clock(ProgressColumn):
            """The time since the start while XLA compiles, and then the time that is left."""

            def render(self, task: Any) -> Text:
                end = task.fields["end"]
                if task.fields["is_compiling"] or end is None:
                    return Text(_clock(task.elapsed or 0))
                return Text(f"{_clock(max(end - time.monotonic(), 0))} left")

        self._noun, self._what = noun, f"{count} {noun}{place}"
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            Clock(),
            TextColumn("{task.fields[best]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(
            f"{self._what}, compiling …", total=count, best="", end=None, is_compiling=True
        )
        self._progress.start()

    def open(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._change(total=total, completed=done)

    def compiling(self, is_compiling: bool, seconds: float) -> None:
        del seconds
        text = f"{self._what}, compiling …" if is_compiling else self._count()
        self._change(description=text, is_compiling=is_compiling)

    def update(self, done: int, seconds_left: float, best: str) -> None:
        self._done = done
        end = time.monotonic() + seconds_left
        self._change(completed=done, description=self._count(), end=end, best=best)

    def close(self) -> None:
        self._progress.stop()

    def _change(self, **fields: Any) -> None:
        self._progress.update(self._task, refresh=True, **fields)

    def _count(self) -> str:
        return f"{self._done} of {self._total} {self._noun}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
