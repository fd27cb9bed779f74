"""The sentences of advice, chosen by the results; each names the figure or table it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from docs.bake_off.record import CONTROL, Record
from docs.bake_off.sections import held_out_failures
from docs.bake_off.words import capital, code, count, listed, median, number, setting
from momentax.bench import Result

Refer = Callable[[str], str]  # From the name of a picture or table to a link with its number.
_FEW = 8  # Trials.
_SHOWN = 3  # The most methods of a list.


def advice(record: Record, refer: Refer) -> list[str]:
    """Return the items of the section "In short"."""
    makers = (
        _first_choice, _often_better, _often_worse, _plain_momentum, _which_beta, _without_tuning,
        _few_trials, _exactness, _in_time, _constant_rate, _with_decay, _on_variants, _undecided,
        _tested,
    )  # fmt: skip
    return [sentence for make in makers if (sentence := make(record, refer))]


def _first_choice(record: Record, refer: Refer) -> str:
    o = record.overall
    group = [i for i in range(len(o.methods)) if o.in_first_group[i]]
    names, leader = code(o.methods[i] for i in group), group[0]
    if len(group) == 1:
        spans = [
            f"{number(each.low[leader])} to {number(each.high[leader])}"
            for each in (o.seed_interval, o.tuning_interval)
        ]
        text = (
            f"**{names} needs the fewest steps over all tasks.** Tuned Nesterov would need "
            f"{number(o.mean[leader])} times the steps for the same loss, in the geometric mean. "
            f"The 95 % interval is {spans[0]} over the seeds and {spans[1]} over the trials of the "
            f"tuning ({refer('overall')}).{_clipped(o, leader)}{_other_trials(o, leader)}"
        )
    else:
        means = [o.mean[i] for i in group]
        text = (
            f"**No single method is the fastest.** {names} form the first group: over all tasks "
            "they are not distinguishable from the fastest of them. Tuned Nesterov would need "
            f"{number(min(means))} to {number(max(means))} times the steps for the same loss "
            f"({refer('overall')})."
        )
    return f"{text}{_few_ranks(record, group)}"


def _other_trials(overall: Any, leader: int) -> str:
    """Say which methods might be as fast with other trials of the tuning."""
    low, high = overall.tuning_interval
    rivals = [
        name
        for i, name in enumerate(overall.methods)
        if i != leader and overall.task_counts[i] and high[i] >= low[leader]
    ]
    if not rivals:
        return ""
    return (
        f" With other trials of the tuning it need not be: the intervals of {code(rivals)} over "
        "the trials overlap with its own."
    )


def _clipped(overall: Any, i: int) -> str:
    """Say that speed-ups of a method were clipped, so that its mean is too small or too large."""
    parts = []
    for side, limit, word in ((1, "4", "larger"), (-1, "1/4", "smaller")):
        if number_of_tasks := int((overall.beyond[i] == side).sum()):
            tasks = count(number_of_tasks, "task")
            parts.append(
                f" On {tasks} its speed-up is cut at {limit}; without the cut the mean "
                f"would be {word}."
            )
    return "".join(parts)


def _few_ranks(record: Record, group: list[int]) -> str:
    """Say which methods of the first group have no rank on some task."""
    o = record.overall
    few = [i for i in group if o.task_counts[i] < len(o.tasks)]
    if not few:
        return ""
    (first, *others), means = few, "its mean rests" if len(few) == 1 else "their means rest"
    numbers = [f"`{o.methods[first]}` has a rank on {o.task_counts[first]}"]
    numbers += [f"`{o.methods[i]}` on {o.task_counts[i]}" for i in others]
    return f" {listed(numbers)} of the {count(len(o.tasks), 'task')}, so that {means} on these."


def _counts(record: Record) -> dict[str, tuple[int, int, int]]:
    """Return on how many tasks each method is better, worse and compared at all."""
    return {
        name: (
            len(record.tasks_with(name, "better")), len(record.tasks_with(name, "worse")), len(row)
        )
        for name, row in record.verdicts.items()
    }  # fmt: skip


def _often_better(record: Record, refer: Refer) -> str:
    counts = _counts(record)
    found = sorted(
        (name for name, (better, worse, _) in counts.items() if better > max(worse, 1)),
        key=lambda name: (counts[name][1] - counts[name][0], counts[name][1]),
    )
    if not found:
        return (
            "**No method is better than Nesterov's momentum on several tasks** without being "
            f"worse on as many ({refer('tasks')})."
        )
    parts = [f"`{name}` on {_balance(record.verdicts[name])}" for name in found[:_SHOWN]]
    return f"**Better than Nesterov's momentum most often:** {'; '.join(parts)} ({refer('tasks')})."


def _balance(row: Mapping[str, Any]) -> str:
    """Write on how many tasks a method is better, and what the others are."""
    verdicts = [each.verdict for each in row.values()]
    better, worse = (verdicts.count(each) for each in ("better", "worse"))
    rest = len(row) - better - worse
    where = [task for task, each in row.items() if each.verdict == "worse"]
    others = [f"worse on {code(where)}"] if worse else []
    others += [f"without a verdict on {rest}"] if rest else []
    return f"{better} of {len(row)} tasks" + (f", {listed(others)}" if others else "")


def _often_worse(record: Record, refer: Refer) -> str:
    counts = _counts(record)
    found = sorted(
        (
            name
            for name, (better, worse, _) in counts.items()
            if worse > max(better, 2) and name != "sgd"
        ),
        key=lambda name: counts[name][0] - counts[name][1],
    )
    if not found:
        return ""
    parts = [f"`{name}` on {counts[name][1]} of {counts[name][2]} tasks" for name in found]
    return (
        "**Not as a first choice:** besides gradient descent, these are worse than Nesterov's "
        f"momentum on several tasks, and on more tasks than better: {listed(parts)} "
        f"({refer('tasks')})."
    )


def _plain_momentum(record: Record, refer: Refer) -> str:
    sentences = [_without_momentum(record), _heavy_ball(record)]
    found = [sentence for sentence in sentences if sentence]
    return f"{' '.join(found)[:-1]} ({refer('tasks')})." if found else ""


def _without_momentum(record: Record) -> str:
    if "sgd" not in record.verdicts:
        return ""
    worse, same = (record.tasks_with("sgd", each) for each in ("worse", "not distinguishable"))
    total = len(record.verdicts["sgd"])
    text = f"**Momentum matters on {len(worse)} of {total} tasks.** "
    if not worse:
        return f"{text}Gradient descent is not worse than Nesterov's momentum on any of them."
    text += "Gradient descent is worse than Nesterov's momentum "
    text += "on all of them" if len(worse) == total else f"on {code(worse)}"
    text += f"; on {code(same)} no difference is found." if same else "."
    return f"{text} Three of all tasks were adjusted until tuned momentum helped."


def _heavy_ball(record: Record) -> str:
    if "heavy_ball" not in record.verdicts:
        return ""
    rows = [(word, record.tasks_with("heavy_ball", word)) for word in ("better", "worse")]
    parts = [f"{word} on {code(tasks)}" for word, tasks in rows if tasks]
    rest = len(record.verdicts["heavy_ball"]) - sum(len(tasks) for _, tasks in rows)
    if not parts:
        return f"Against heavy ball nothing is decided on any of {count(rest, 'task')}."
    parts += [f"undecided on {rest}"] if rest else []
    return f"Heavy ball is {listed(parts)}."


def _which_beta(record: Record, refer: Refer) -> str:
    cells = record.results.cells
    found = {
        task: cells[task, CONTROL].hyperparameters["beta"]
        for task in record.results.tasks
        if (task, CONTROL) in cells
    }
    if len(found) < 2:
        return ""
    low, high = (pick(found, key=lambda task: found[task]) for pick in (min, max))
    if found[low] == found[high]:
        return ""
    values = [_beta(found[task]) for task in (low, high)]
    return (
        f"**No single β is best on all tasks.** The tuned Nesterov has β from {values[0]} on "
        f"`{low}` to {values[1]} on `{high}`; the median is {_beta(median(found.values()))} "
        f"({refer('chosen')}). It was chosen among {record.results.protocol.trials} trials, so "
        "that a part of the differences is luck. The effective rate α/(1 − β) has to be found "
        f"first: {_widths(record)} ({refer('sensitivity_tasks')})."
    )


def _beta(β: float) -> str:
    return f"{1 - float(f'{1 - β:.2g}'):.5g}"


def _widths(record: Record) -> str:
    widths = [each.width.decades for each in record.regions[CONTROL] if each.width is not None]
    middle = median(widths)
    return (
        f"the rates with at least 0.7 of the best speed-up cover {middle:.1f} factors of ten, from "
        f"{min(widths):.1f} to {max(widths):.1f} by task"
    )


def _without_tuning(record: Record, refer: Refer) -> str:
    return " ".join(
        part for part in (_defaults(record, refer), _one_setting(record, refer)) if part
    )


def _defaults(record: Record, refer: Refer) -> str:
    names = record.overall.methods
    if not record.common_tasks or CONTROL not in names:
        return ""
    _, defaults = record.expected_overall
    first = int(np.argmax(defaults))
    own = number(float(defaults[names.index(CONTROL)]))
    text = f"**If you tune nothing,** the best default is that of `{names[first]}`, with a mean "
    text += f"speed-up of {number(defaults[first])} over {count(len(record.common_tasks), 'task')}"
    text += "" if names[first] == CONTROL else f"; that of Nesterov's momentum has {own}"
    row = [record.expected(task, names[first])[2] for task in record.common_tasks]
    faster = sum(value > 1 for value in row)
    return (
        f"{text} ({refer('trials')}). The default of `{names[first]}` is faster than tuned "
        f"Nesterov on {faster} of these tasks and slower on {len(row) - faster}."
    )


def _one_setting(record: Record, refer: Refer) -> str:
    single = record.single
    full = max((len(each.tasks) for each in single.values()), default=0)
    names = [name for name, each in single.items() if len(each.tasks) == full]
    if not names:
        return ""
    best = max(names, key=lambda name: single[name].mean)
    among = "" if len(names) == len(single) else "Among the methods with a rank on all tasks, "
    texts = [f"{among}the best single setting is that of `{best}`, {_setting(single[best])}"]
    if best != CONTROL and CONTROL in single:
        texts += [f"that of Nesterov's momentum is {_setting(single[CONTROL])}"]
    return (
        f"{capital('; '.join(texts))} ({refer('single')}). These tasks chose the settings, so that "
        "other tasks may lose more by them."
    )


def _setting(found: Any) -> str:
    return (
        f"{setting(dict(found.hyperparameters))}, with a mean speed-up of {number(found.mean)} "
        f"over {count(len(found.tasks), 'task')} where tuning on each gives {number(found.tuned)}"
    )


def _few_trials(record: Record, refer: Refer) -> str:
    if not record.common_tasks:
        return ""
    means, _ = record.expected_overall
    names, counts = record.overall.methods, record.counts.tolist()
    few, last = min(_FEW, counts[-1]), counts[-1]
    if np.isnan(means[:, [counts.index(few), -1]]).all(axis=0).any():
        return ""
    best = [f"`{names[int(np.nanargmax(means[:, counts.index(k)]))]}`" for k in (few, last)]
    first = f"{best[0]} is expected to be the fastest after {few} trials"
    first += f" and after {last}" if best[0] == best[1] else f", and {best[1]} after {last}"
    return (
        f"**With few trials:** {first} ({refer('expected_best')}).{_passing(record, last, refer)}"
    )


def _passing(record: Record, last: int, refer: Refer) -> str:
    """Say which methods need the fewest trials to be as good as the tuned control."""
    needed = {
        name: median(k or np.inf for k in found.values())
        for name, found in record.matches.items()
        if name != CONTROL and found
    }
    quick = sorted((name for name in needed if needed[name] <= last / 2), key=needed.__getitem__)
    if not quick:
        return ""
    parts = [f"`{name}` after {needed[name]:.0f}" for name in quick]
    return (
        f" Within {last // 2} trials these become, on at least half of the tasks, as good as "
        f"Nesterov's momentum after all of its {last}: {listed(parts)} ({refer('trials')})."
    )


def _exactness(record: Record, refer: Refer) -> str:
    needed = {
        name: median(each.regions[0.7].trials for each in found)
        for name, found in record.regions.items()
    }
    known = {name: each for name, each in needed.items() if np.isfinite(each)}
    if len(known) < 2:
        return ""
    low, high = (pick(known, key=lambda name: known[name]) for pick in (min, max))
    return (
        f"**How exact it has to be:** half of the tasks need at most {known[low]:.0f} random "
        f"trials of `{low}` for a chance of 90 % to reach 0.7 of its best speed-up, and "
        f"{known[high]:.0f} of `{high}` ({refer('regions')}). This is relative to the method's own "
        "best, so that it ranks no methods."
    )


def _in_time(record: Record, refer: Refer) -> str:
    o = record.overall
    known = np.where(o.task_counts == o.task_counts.max(), o.in_time, np.nan)
    if np.isnan(known).all():
        return ""
    best = int(np.nanargmax(known))
    return (
        f"**Counted in time** and not in steps, `{o.methods[best]}` has the largest mean speed-up, "
        f"{number(known[best])} ({refer('overall')}). On large networks a step of any method takes "
        "about the time of its gradient, so that this says nothing about them."
    )


def _constant_rate(record: Record, refer: Refer) -> str:
    if record.constant is None:
        return ""
    found = _elsewhere(record, record.constant, f"at the decaying rate ({refer('overall')})")
    return f"**At a constant learning rate,** {found} ({refer('constant')})."


def _with_decay(record: Record, refer: Refer) -> str:
    if record.decay is None:
        return ""
    found = _elsewhere(record, record.decay, f"without it ({refer('overall')})")
    return f"**With a weight decay** that is searched too, {found} ({refer('decay')})."


def _elsewhere(record: Record, other: Result, before: str) -> str:
    """Say which method is the fastest in another result, and what that of this one is there."""
    o, leader = other.overall(), record.overall.methods[0]
    first, ranked = o.methods[0], count(int(o.task_counts[0]), "task")
    low, high = (float(each[0]) for each in o.tuning_interval)
    usual = number(float(record.overall.mean[record.overall.methods.index(first)]))
    row = {task: row[leader] for task, row in other.compare(CONTROL).items() if leader in row}
    return (
        f"`{first}` has the largest mean speed-up of the methods with a rank on {ranked}: "
        f"{number(o.mean[0])}, in place of {usual} {before}. Its 95 % interval over the trials of "
        f"the tuning is {number(low)} to {number(high)}{_uncertain(o, low)}. `{leader}` is better "
        f"than Nesterov's momentum on {_balance(row)}"
    )


def _uncertain(overall: Any, low: float) -> str:
    """Say that the interval of the fastest method reaches down to the mean of the control."""
    if CONTROL not in overall.methods[1:]:
        return ""
    mean = float(overall.mean[overall.methods.index(CONTROL)])
    return f" and contains {number(mean)}, the mean of Nesterov's momentum" if mean >= low else ""


def _tested(record: Record, refer: Refer) -> str:
    """Say what the verdicts are on methods that were made worse."""
    parts = []
    for name, row in record.against_originals.items():
        if not name.startswith("copy"):
            verdicts = [each.verdict for each in row.values()]
            counts = map(verdicts.count, ("worse", "better", "not distinguishable"))
            parts.append(
                "`{}` is worse on {}, better on {} and undecided on {}".format(name, *counts)
            )
    if not parts:
        return ""
    return (
        "**The verdicts were tested** on methods that were made worse on purpose, against their "
        f"originals: {'; '.join(parts)} ({refer('made_worse')})."
    )


def _on_variants(record: Record, refer: Refer) -> str:
    if record.held_out is None:
        return ""
    tasks = count(len(record.held_out.tasks), "held-out variant")
    return (
        f"**On {tasks} of the tasks,** on which nothing was designed: "
        f"{held_out_failures(record)[:-1]} ({refer('held_out')})."
    )


def _undecided(record: Record, refer: Refer) -> str:
    verdicts = [each.verdict for row in record.verdicts.values() for each in row.values()]
    better, worse = (verdicts.count(each) for each in ("better", "worse"))
    rest = len(verdicts) - better - worse
    first, second = np.triu_indices(len(record.pairs.methods), 1)
    decided = int(record.pairs.decided[first, second].sum())
    fixed = "over the seeds, with the chosen settings fixed"
    title = "Much is undecided" if rest > len(verdicts) / 4 else "Not everything is decided"
    return (
        f"**{title}.** Of {len(verdicts)} comparisons with Nesterov's momentum, {better} "
        f"are better, {worse} worse and {rest} undecided ({refer('comparisons')}); of "
        f"{len(first)} pairs of methods {decided} differ over all tasks ({refer('pairs')}). Both "
        f"tests are {fixed}; the luck of the tuning is not in them. "
        "Undecided does not mean equal: these seeds do not show a difference."
    )
