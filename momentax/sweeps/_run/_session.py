"""One call of `sweep`, `halve` or `search`: its devices, batch folder, batch size and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momentax._core.sharding import Devices
from momentax._core.typing import PyTree
from momentax.sweeps._points import Points
from momentax.sweeps._result._records import Report
from momentax.sweeps._run._batches import (
    BatchChoice,
    Work,
    choose_batch,
    fit_memory,
    run_batches,
)
from momentax.sweeps._run._folder import SharedFolder
from momentax.sweeps._run._identity import identify
from momentax.sweeps._run._loop import run_in_turn
from momentax.sweeps._run._outputs import Outputs
from momentax.sweeps._run._program import Program, Traced


class Session:
    """The devices, batch folder and batch size of one call of `sweep`, `halve` or `search`.

    devices: the devices over which the points are split.
    folder: the batch folder; None without the argument `store`.
    resumed: the number of points that were read from the folder so far.

    Args:
        devices: As above.
        points: All points.
        traces: The traced programs, which identify the run in the folder.
        batch_size: As the user gave it.
        most: The largest number of points that run in one program.
        store: The path of the folder, or None. A session with a folder must be closed.
        in_turn: Whether one point runs on each device at a time, if the batch size is "auto".
        **settings: Further values that identify the run in the folder.
    """

    def __init__(
        self,
        devices: Devices,
        points: Points,
        traces: Sequence[Traced],
        batch_size: Any,
        most: int,
        store: Path | None,
        in_turn: bool = False,
        **settings: Any,
    ):
        self.devices, self.resumed = devices, 0
        self._count, self._is_automatic = len(points), batch_size == "auto"
        self._programs: set[tuple[Program, int]] = set()  # Each with a batch size that ran.
        size = 0 if self._is_automatic else min(int(batch_size), most)
        self.folder = None
        if store is not None:
            self.folder = SharedFolder(devices, store, identify(points, traces, **settings), size)
            size = self.folder.batch_size
        self._in_turn = in_turn
        if in_turn and not size:
            size = devices.count
            if self.folder is not None:
                self.folder.record_batch_size(size)
        self._choice = BatchChoice(devices.round_up(size, most))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.folder.close()

    def open_outputs(self, out: PyTree, part: str = "", count: int | None = None) -> Outputs:
        """Return outputs of these shapes at all points; read those in a part of the folder.

        count: the number of points, if they are not all known when the session starts.
        """
        count = self._count if count is None else count
        outputs = Outputs(self.devices, out, count, self.folder, part)
        outputs.read()
        return outputs

    def run(
        self, work: Work, pending: np.ndarray, most: int
    ) -> Iterator[tuple[np.ndarray, PyTree]]:
        """Run the pending points in batches of at most `most` points.

        Yields:
            For each batch its points' indices, and its padded outputs on the devices.
        """
        first = None
        if self._choice.size:
            size = self.devices.round_up(self._choice.size, most)
            # The size may have been chosen for another program.
            if self._is_automatic and not self._runs_in_turn(size):
                shards = self.devices.count
                size = shards * fit_memory(work, pending, size // shards)
        else:
            choice = choose_batch(work, pending)
            size, first = choice.size, choice.first
            self._choice = choice._replace(first=None)
            if self.folder is not None:
                self.folder.record_batch_size(size)
        if self._runs_in_turn(size):
            yield from self._counted(work, run_in_turn(work, pending))
            return
        yield from self._run_batches(work, pending, BatchChoice(size, first=first))
        last = work.compiled.batch_sizes[-1]
        if last < size:  # The batch was reduced to what fits in memory.
            self._choice = self._choice._replace(size=last)

    def run_largest(self, work: Work, pending: np.ndarray) -> Iterator[tuple[np.ndarray, PyTree]]:
        """Run the pending points as `run` does, but all at once if the batch size is "auto"."""
        size = len(pending) if self._is_automatic else self._choice.size
        choice = BatchChoice(self.devices.round_up(size, len(pending)))
        yield from self._run_batches(work, pending, choice)

    def report(self) -> Report:
        """Return the report of the run."""
        return Report(
            batch_size=self._choice.size,
            devices=self.devices.count,
            device_kind=self.devices.kind,
            programs=len(self._programs),
            tried=self._choice.tried,
            resumed=self.resumed,
            damaged=self.folder.damaged if self.folder else (),
        )

    def _run_batches(
        self, work: Work, pending: np.ndarray, choice: BatchChoice
    ) -> Iterator[tuple[np.ndarray, PyTree]]:
        batches = run_batches(work, pending, choice, may_shrink=self._is_automatic)
        yield from self._counted(work, batches)

    def _runs_in_turn(self, size: int) -> bool:
        return self._in_turn and size == self.devices.count

    def _counted(
        self, work: Work, batches: Iterator[tuple[np.ndarray, PyTree]]
    ) -> Iterator[tuple[np.ndarray, PyTree]]:
        """Yield the batches, and then count the programs that ran."""
        yield from batches
        program = work.compiled.traced.program
        self._programs |= {(program, size) for size in work.compiled.batch_sizes}
