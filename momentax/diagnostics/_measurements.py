"""What a monitor has measured, as a mapping of numbers with their history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from momentax._core import arguments, lazy
from momentax._core.typing import PyTree
from momentax._state import _flax
from momentax._state._names import as_separator, join_names
from momentax._wrappers._monitor_state import MonitorState, decode_names
from momentax._wrappers._readings import COLUMNS, READINGS


class Measurements(Mapping[str, float]):
    """The latest readings of a monitor: a mapping from keys to floats, with their history.

    `momentax.measurements(state)` makes it, and `momentax.monitor` says what each key is. A key
    whose reading is not known is absent.

    Attributes:
        count: the count, from 0, of the update of the latest reading; -1 before the first one.
        counts: the counts of the rows of the history, a 1-d array of int64, oldest first.
        history: for each key a 1-d array of float64 with one number for each of `counts`. It is
            NaN where a reading was not known.
        every: the number of updates from one reading to the next.

    Args:
        latest: The latest readings, numbers under their keys.
        history: For each key its earlier readings and the latest, 1-d, oldest first.
        counts: The counts of these readings, whole numbers in increasing order.
        every: The number of updates from one reading to the next, at least 1.

    Raises:
        ValueError: An array of the history has another length than counts, or counts do not
            increase.
        TypeError: An argument has another type.

    Example:
        >>> measured = momentax.diagnostics.Measurements({"cos": 0.5}, {"cos": [0.9, 0.5]}, [0, 1])
        >>> measured["cos"], measured.count, measured.history["cos"]
        (0.5, 1, array([0.9, 0.5]))
    """

    def __init__(
        self, latest: Mapping[str, float], history: Mapping[str, Any], counts: Any, every: int = 1
    ):
        self.counts = _as_counts(counts)
        self.every = arguments.as_count("every", every)
        self.history = {
            key: _as_history(key, values, len(self.counts))
            for key, values in _as_mapping("history", history).items()
        }
        self._latest = {
            key: _as_number(key, value) for key, value in _as_mapping("latest", latest).items()
        }
        self.count = int(self.counts[-1]) if len(self.counts) else -1

    def __getitem__(self, key: str) -> float:
        return self._latest[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._latest)

    def __len__(self) -> int:
        return len(self._latest)

    def __repr__(self) -> str:
        rows = f"{len(self.counts)} rows of history" if len(self.counts) else "no history"
        lines = [f"Measurements(count={self.count}, every={self.every}, {rows})"]
        width = max(map(len, self._latest), default=0)
        lines += [f"  {key:<{width}}  {value:.6g}" for key, value in self._latest.items()]
        return "\n".join(lines)

    def to_dataframe(self) -> Any:
        """Return the history as a `pandas.DataFrame` with a column for each key, by count."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_dataframe needs pandas: run `pip install 'momentax[results]'`"
            ) from error
        index = pandas.Index(self.counts, name="count")
        return pandas.DataFrame(self.history, index=index)

    def plot(self, **options: Any) -> Any:
        """Draw the history with `momentax.plotting.dashboard`, which takes the options."""
        return lazy.plot("dashboard", self, **options)


def _as_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(
            f"{name} must be a mapping from keys such as 'cos', got {arguments.describe(value)}"
        )
    return value


def _as_counts(counts: Any) -> np.ndarray:
    array = arguments.as_reals("counts", counts, "[0, inf)", "whole numbers")
    if array.ndim != 1 or np.any(array % 1) or np.any(np.diff(array) <= 0):
        raise ValueError(
            "counts must be whole numbers in increasing order, 1-d, got "
            f"{arguments.describe(counts)}"
        )
    return array.astype(np.int64)


def _as_floats(name: str, value: Any) -> np.ndarray:
    """Return numbers, of which some may be infinite or NaN."""
    array = None if arguments.is_traced(value) else np.asarray(value)
    if array is None or not arguments.is_real(array):
        raise TypeError(f"{name} must hold real numbers, got {arguments.describe(value)}")
    return array.astype(np.float64)


def _as_history(key: str, values: Any, length: int) -> np.ndarray:
    name = f"history[{key!r}]"
    array = _as_floats(name, values)
    if array.shape != (length,):
        raise ValueError(
            f"{name} must have the shape ({length},), one number for each of counts, got "
            f"{array.shape}"
        )
    return array


def _as_number(key: str, value: Any) -> float:
    array = _as_floats(f"latest[{key!r}]", value)
    if array.ndim:
        raise ValueError(f"latest[{key!r}] must be one number, got shape {array.shape}")
    return float(array)


# Reading a state.


def measurements(state: PyTree, *, path: str | None = None, separator: str = "/") -> Measurements:
    """Read what a `momentax.monitor` in the state of an optimizer has measured.

    The monitor may lie at any depth of the state: in `optax.chain`, `MultiSteps` or
    `partition`, in the `opt_state` of an `nnx.Optimizer`, or in a TrainState. The latest
    readings are floats under flat keys, as loggers take them:

        wandb.log(momentax.measurements(state), step=step)
        trackio.log(dict(momentax.measurements(state)), step=step)
        [writer.add_scalar(key, x, step) for key, x in momentax.measurements(state).items()]

    Args:
        state: An optimizer state, or a pytree that contains one, after a jitted function has
            returned it.
        path: The path of the monitor where there are several, such as "[0]". The error for
            several monitors lists their paths.
        separator: What stands between the parts of a key, such as "layer/kernel/cos".

    Returns:
        Measurements, a mapping from keys to the latest readings, with `count`, `history`,
        `counts`, `to_dataframe()` and `plot()`. It is empty before the first update.

    Raises:
        ValueError: The state holds no monitor, none at path, or several and path is None; or it
            has leading axes, as `jax.vmap` adds.
        TypeError: state is traced or a gradient transformation, or an argument is not a string.

    Example:
        >>> tx = momentax.monitor(momentax.sgd(0.1), history=100)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> momentax.measurements(state)["effective_learning_rate"]
        0.10000000149011612
    """
    separator = as_separator(separator)
    found = _find(state, path)
    if any(map(arguments.is_traced, jax.tree.leaves(found.latest))):
        raise TypeError(
            "state must hold concrete arrays: call measurements outside of jit, with the state "
            "that the jitted function returns; give monitor a history to see the steps of a loop"
        )
    if np.ndim(found.latest) != 2:
        axes = np.shape(found.latest)[:-2]
        raise ValueError(
            f"state has leading axes of {axes}, as jax.vmap or jax.lax.scan stacks states; read "
            "one of them: momentax.measurements(jax.tree.map(lambda leaf: leaf[0], state))"
        )
    groups = join_names(decode_names(np.asarray(found.names)), separator)
    last, counts = np.asarray(found.latest)[None], np.zeros(0, np.int32)
    rows = last[:0]
    if found.history is not None:
        rows, counts = np.asarray(found.history), np.asarray(found.history_counts)
    order = np.argsort(counts)
    order = order[counts[order] >= 0]
    known = int(found.latest_count) >= 0
    latest = _by_key(last, groups, separator) if known else {}
    measured = Measurements(
        {key: values[0] for key, values in latest.items()},
        _by_key(rows[order], groups, separator),
        counts[order],
        int(found.every),
    )
    measured.count = int(found.latest_count)
    return measured


def _find(state: PyTree, path: str | None) -> MonitorState:
    """Return the state of the monitor at a path, or of the only one."""
    if isinstance(state, optax.GradientTransformation):
        raise TypeError("state is a gradient transformation; pass its state, tx.init(params)")
    found = {
        jax.tree_util.keystr(at): _as_monitor_state(node)
        for at, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_monitor)
        if _is_monitor(node)
    }
    if path is not None:
        if arguments.as_text("path", path, '"[0]"') not in found:
            raise ValueError(f"there is no monitor at path={path!r}; {_describe(found)}")
        return found[path]
    if len(found) != 1:
        raise ValueError(_describe(found))
    return next(iter(found.values()))


def _describe(found: dict[str, Any]) -> str:
    if not found:
        return (
            "the state holds no monitor: wrap the optimizer before init, "
            "tx = momentax.monitor(tx), or give momentax.train_step monitor=True"
        )
    places = ", ".join(map(repr, found))
    first = next(iter(found))
    return f"the state holds {len(found)} monitors, at {places}; pick one with path={first!r}"


def holds_monitor(value: Any) -> bool:
    """Return whether a value is the state of a monitor, or a pytree that contains one."""
    return any(map(_is_monitor, jax.tree.leaves(value, is_leaf=_is_monitor)))


def _is_monitor(node: Any) -> bool:
    """Return whether a node is the state of a monitor; Flax NNX makes a mapping of it."""
    if isinstance(node, MonitorState):
        return True
    fields = {"monitor_count", "latest", "latest_count"}
    return isinstance(node, Mapping) and fields <= set(node)


def _as_monitor_state(node: Any) -> MonitorState:
    if isinstance(node, MonitorState):
        return _flax.unwrap(node)
    return MonitorState(*(_flax.unwrap(node.get(field)) for field in MonitorState._fields))


def _by_key(rows: np.ndarray, groups: list[str], separator: str) -> dict[str, np.ndarray]:
    """Return each reading that is known in some row, NaN where it is not, by its key."""
    bits = rows[..., COLUMNS - 1].astype(np.int64)
    found = {}
    for number, group in enumerate(groups):
        for column, reading in enumerate(READINGS):
            known = bits[:, number] >> column & 1 > 0
            if known.any():
                prefix = "" if reading.of_all or not group else group + separator
                values = np.where(known, rows[:, number, column], np.nan)
                found[prefix + reading.key] = values.astype(np.float64)
    return found
