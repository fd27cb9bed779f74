"""Which momentum to use when: real tasks, a protocol, and results that anyone can make again.

A Task is a small training problem with its data and its model, and `tasks` has eight by name.
`held_out` has four variants of them, to run once, when a method is finished. An Entry is a method
with the space in which its hyperparameters are searched, and `entries` has fifteen by name. `run`
tunes every method on every task by one protocol and evaluates the choice on other seeds, and
`Result` says which methods are better, and which are not distinguishable. `costs` measures what a
step of each takes. `target` is the score that a strong method reaches on a task.
"""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.bench import statistics as statistics
    from momentax.bench._checks import check as check
    from momentax.bench._costs import Cost as Cost
    from momentax.bench._costs import Costs as Costs
    from momentax.bench._entries import entries as entries
    from momentax.bench._entry import Entry as Entry
    from momentax.bench._held_out import held_out as held_out
    from momentax.bench._horizon import Horizon as Horizon
    from momentax.bench._measure_costs import costs as costs
    from momentax.bench._overall import MethodPairs as MethodPairs
    from momentax.bench._overall import Overall as Overall
    from momentax.bench._overall import Range as Range
    from momentax.bench._protocol import Cell as Cell
    from momentax.bench._protocol import Protocol as Protocol
    from momentax.bench._reference import Target as Target
    from momentax.bench._reference import target as target
    from momentax.bench._result import Result as Result
    from momentax.bench._run import run as run
    from momentax.bench._space import Space as Space
    from momentax.bench._table import Table as Table
    from momentax.bench._task import Task as Task
    from momentax.bench._tasks import tasks as tasks
    from momentax.bench._trials import Region as Region
    from momentax.bench._trials import Sensitivity as Sensitivity
    from momentax.bench._trials import SingleSetting as SingleSetting

__getattr__, __dir__, __all__ = lazy_exports(__name__)
