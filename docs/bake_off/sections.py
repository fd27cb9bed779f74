"""The sections of the page: their headings, texts, pictures and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from docs.bake_off.record import Record
from docs.bake_off.words import capital, code, count, listed, markdown
from momentax.bench import held_out
from momentax.bench import tasks as all_tasks
from tests.benchmarks.made_worse import DESCRIPTIONS, ORIGINALS


class Section(NamedTuple):
    """A section of the page.

    title: its heading.
    text: its first paragraph, or a function of the record that returns it.
    parts: the names of its pictures and tables, in their order.
    """

    title: str
    text: str | Callable[[Record], str]
    parts: tuple[str, ...]


def introduction(record: Record) -> str:
    """Return the first paragraph of the page."""
    results = record.results
    return (
        f"{capital(count(len(results.methods), 'method'))} were tuned by one protocol on "
        f"{count(len(results.tasks), 'small task')}, with {results.protocol.trials} trials each, "
        f"and judged on {results.protocol.seeds} other seeds. This page says what was found. Each "
        "sentence of advice names the figure or the table that it rests on, and what is undecided "
        "is called undecided. `momentax.bench.Result.recorded()` returns the numbers. "
        "[Compare](compare.md) explains the protocol, and compares a method of your own with these "
        "results."
    )


_COMPARISON = (
    "A speed-up S means that Nesterov's momentum, tuned anew for another number of steps, would "
    "need S times the steps for the same loss. Steps are counted, and not time. Nesterov's "
    "momentum itself is not exactly at 1, since the runs of the curve are others; differences as "
    "small as these mean nothing. Better and worse are verdicts of a paired test over the seeds, "
    "with the chosen settings fixed; a cell without such a word is undecided. `muon` "
    "orthogonalizes hidden matrices only, and all other parameters get Adam; on `ridge`, which has "
    "one vector, it is Adam."
)
_PROFILE = (
    "A curve says on which share of the tasks a method is within a factor τ of the fastest one "
    "there. Its height at τ = 1 is how often it is the fastest or as fast as the fastest: all "
    "speed-ups above 4 are equal here. The mean height from τ = 1 to 4, on a linear scale, is the "
    "score of the AlgoPerf benchmark. A task without a rank counts as infinitely slow."
)


def _trials(record: Record) -> str:
    return (
        "Each curve is the speed-up that the best of k random trials is expected to reach on "
        "another seed. It is chosen on one seed, and not in two stages as in the tables above, and "
        "it counts the tasks on which a method has no rank. The first figure has the mean over "
        f"{count(len(record.common_tasks), 'task')}. The default is the setting that a user would "
        "start with, measured on one tuning seed. The last column of the table says on how many "
        "tasks a method becomes as good as Nesterov's momentum after all of its trials. The bands "
        "of the second figure are 95 % intervals over the draw of the trials. Values for 2 to 7 "
        "trials are unknown, since only the best eight trials ran on another seed; the thin lines "
        "there only join what is known."
    )


_EXACTNESS = (
    "Each mark is a trial on the tuning seed, at its effective rate α Σ w, the total step that one "
    "gradient causes, and at its β. Σ w is the sum of the weights that a gradient has in all "
    "steps, 1/(1 − β) for both methods. The chosen trial is the best on three seeds. The line is "
    "the largest effective rate at which the theory finds the method stable, from the largest "
    "curvature L of the task: 2(1 + β)/((1 − β) L) for heavy ball, and 2(1 + β)/((1 + 2β)(1 − β) "
    "L) for Nesterov's momentum. The trials are evenly spread over the search space, so that the "
    "share of good trials estimates the share of the space that is good. The table has medians "
    "over the tasks: the share of the space with at least 0.9 and at least 0.7 of the method's own "
    "best speed-up, the number of random trials needed for a chance of 90 % that one of them "
    "reaches 0.7, and the width of the good learning rates in factors of ten, to about half a "
    "factor of ten. These say how hard a method is to tune, and not how fast it is: where its best "
    "speed-up is near 1/4, at which all are cut, every trial looks good."
)
_ONE_SETTING = (
    "One setting for all tasks is what a default has to be. The numbers are mean speed-ups over "
    "the tasks on which the method has a rank. That of the one setting is estimated from its run "
    "on the tuning seed, and it is optimistic, since it is the best of all trials."
)
_CHOSEN = "Edge: the choice lies at an end of its search range."


def _constant(record: Record) -> str:
    assert record.constant is not None
    missing = [task for task in record.results.tasks if task not in record.constant.tasks]
    return (
        "Here the learning rate stays constant after the warm-up. The reference curves are those "
        "of the cosine schedule, so that speed-ups contain what the schedule gains. The verdicts "
        "compare with Nesterov's momentum at a constant rate, so that a method can be worse with a "
        "speed-up above 1. The search ranges are those of the results above, and were not widened "
        "again. `restart` and `schedule_free` have a constant rate in all tables."
        + (
            f" {capital(code(missing))} {'are' if len(missing) > 1 else 'is'} not recorded."
            if missing
            else ""
        )
    )


_DECAY = (
    "Here every method searches a decoupled weight decay too, with as many trials. The score is "
    "the loss without the decay, and the reference curves are those without it. Better and worse "
    "compare with Nesterov's momentum that has a decay as well. The ranges of the other "
    "hyperparameters are those of the results above, and were not widened again."
)
_TARGETS = (
    "The target of a task is the score that the best of Adam, NAdam, Nesterov's momentum and heavy "
    "ball reaches with 64 trials, on 20 seeds of its own. The table has the first of 40 "
    "checkpoints at which the mean over all seeds is below the target by more than chance "
    "explains, with "
    'p ≤ 0.001. A method that only equals the target therefore has "never". With a decaying '
    "learning rate most runs pass near their end, so that these numbers rank nothing."
)


def _costs(record: Record) -> str:
    assert record.costs is not None
    return (
        "The time of a step, with its gradient, is that relative to plain gradient descent in the "
        "same round: the median over the tasks, the least and the most. These networks are small; "
        "in a large one the gradient takes a larger share of a step. The bytes are those of the "
        "optimizer's state for each entry of the parameters. They were measured on "
        f"{record.costs.about.get('processor', 'an unknown processor')}."
    )


def _repeat(record: Record) -> str:
    assert record.repeat is not None
    claims = record.claims
    kept = sum(first == second for first, second in claims)
    contradicted = sum({*pair} == {"better", "worse"} for pair in claims)
    protocol = record.repeat.protocol
    return (
        f"{code(record.repeat.methods)} ran a second time, with tuning seeds from "
        f"{protocol.tuning_seed} and evaluation seeds from {protocol.first_seed}. The settings "
        "that were tried are the same, so that this tests the luck of the seeds, and not that of "
        "the settings. Each cell has the verdict against Nesterov's momentum and the ratio of the "
        "losses, first of the results above and then of the second run. The first run decided "
        f"{len(claims)} of these comparisons: the second agrees on {kept}, leaves "
        f"{len(claims) - kept - contradicted} undecided, and contradicts {contradicted}."
    )


def _made_worse(record: Record) -> str:
    found = record.against_originals
    copies = {name for name in found if name.startswith("copy")}
    made = [
        f"`{name}` is {DESCRIPTIONS[name]}, and its original is `{ORIGINALS[name]}`"
        for name in found
    ]
    worse = {name: row for name, row in found.items() if name not in copies}
    verdicts = [each.verdict for row in worse.values() for each in row.values()]
    counts = [verdicts.count(each) for each in ("worse", "not distinguishable", "better")]
    copied = [each.verdict for name in copies for each in found[name].values()]
    same = copied.count("not distinguishable")
    return (
        "Do the verdicts find a fault where there is one? "
        f"{capital(count(len(found), 'method'))} were made for this question, tuned and evaluated "
        f"as all others, and compared with their originals. {'. '.join(map(capital, made))}. The "
        f"copy repeats the runs of its original. That {same} of its {len(copied)} comparisons are "
        "undecided shows that the protocol can be repeated, and not how often a verdict is wrong. "
        f"Of {len(verdicts)} comparisons of the others {counts[0]} are worse, {counts[1]} "
        f"undecided and {counts[2]} better. A fault need not harm on every task, and the tuning "
        "makes up for a part of it. Without debiasing, the first step of Adam is changed by the "
        "factor (1 − β₁)/√(1 − β₂), and the warm-up of the learning rate, which all methods have "
        "here, hides that. The table has the verdict and the ratio of the losses. Edge: the choice "
        "of the method or of its original lies at an end of a search range."
    )


def _held_out(record: Record) -> str:
    assert record.held_out is not None
    variants = [
        f"`{name}` ({held_out[name].description[0].lower()}{held_out[name].description[1:-1]})"
        for name in record.held_out.tasks
    ]
    return (
        f"{capital(count(len(variants), 'task'))} have a held-out variant each: "
        f"{'; '.join(variants)}. The methods were tuned on the variants as on the tasks, once, "
        "after the results above were recorded. A method fails a variant if half of its "
        "evaluation runs diverge there, or if its loss, relative to that of Nesterov's momentum, "
        f"is more than four times what it is on the task. {held_out_failures(record)} The table "
        "has the relative loss on each variant, and in parentheses that on its task. Edge: the "
        "choice lies at an end of its search range on the variant, or that of Nesterov's momentum "
        "does on the task, so that a wider range might change the relation."
    )


def held_out_failures(record: Record) -> str:
    """Say which methods fail a held-out variant."""
    if not record.failures:
        return "No method fails a variant."
    names = dict.fromkeys(method for method, _ in record.failures)
    failed = {name: [v for method, v in record.failures if method == name] for name in names}
    parts = [f"`{name}` fails on {code(variants)}" for name, variants in failed.items()]
    return f"{capital(listed(parts))}."


_EACH = (
    "The first table has the loss of each method above the infimum of the task, divided by that of "
    "Nesterov's momentum, with its 95 % interval over the paired seeds. A ratio below 1 is better."
)

SECTIONS = (
    Section("The comparison", _COMPARISON, ("speed_ups", "tasks", "overall")),
    Section("How often a method is nearly the fastest", _PROFILE, ("profile",)),
    Section(
        "How many trials it needs", _trials, ("expected_best", "trials", "expected_best_tasks")
    ),
    Section(
        "How exact the learning rate and β have to be", _EXACTNESS,
        ("sensitivity_ridge", "sensitivity_tasks", "regions"),
    ),
    Section("One setting for all tasks", _ONE_SETTING, ("single",)),
    Section("The β that was chosen", _CHOSEN, ("chosen",)),
    Section("At a constant learning rate", _constant, ("constant",)),
    Section("With weight decay", _DECAY, ("decay",)),
    Section("Steps to a target", _TARGETS, ("targets",)),
    Section("Time and memory", _costs, ("costs",)),
    Section("A second run with other seeds", _repeat, ("repeat",)),
    Section("On held-out variants", _held_out, ("held_out",)),
    Section("Methods made worse on purpose", _made_worse, ("made_worse",)),
    Section("Each comparison and each pair", _EACH, ("comparisons", "pairs")),
)  # fmt: skip

CAPTIONS = {
    "speed_ups": "The speed-up of each method on each task, and over all tasks with its interval "
    "over the seeds; 4 stands for 4 or more, and methods without a rank on a task come last",
    "tasks": "Speed-ups and verdicts on each task",
    "overall": "Speed-ups over all tasks",
    "profile": "The share of the tasks on which each method is within a factor of the fastest",
    "expected_best": "The expected speed-up of the best of k trials, over all tasks",
    "trials": "The expected speed-up of the best of k trials, over all tasks",
    "expected_best_tasks": "The expected speed-up of the best of k trials, on each task",
    "sensitivity_ridge": "The trials of heavy ball and Nesterov's momentum on a quadratic, with "
    "their stability edges",
    "sensitivity_tasks": "The trials of Nesterov's momentum on each task",
    "regions": "How much of the search space is good",
    "single": "The best single setting",
    "chosen": "The β that was chosen on each task",
    "constant": "Speed-ups at constant learning rates",
    "decay": "Speed-ups with weight decay",
    "targets": "Steps to the target of each task",
    "costs": "What a step costs",
    "repeat": "Verdicts and ratios of losses of both runs",
    "held_out": "The loss relative to that of Nesterov's momentum, on each variant and on its task",
    "made_worse": "Methods made worse on purpose, and a copy, against their originals",
    "comparisons": "The loss of each method over that of Nesterov's momentum",
    "pairs": "The speed-up of each method over that of each other one",
}


def measurement(record: Record) -> str:
    """Return how the results were measured."""
    protocol, about, cells = record.results.protocol, record.results.about, record.results.cells
    versions = about["versions"]
    packages = [f"{name} {each}" for name, each in versions.items() if name != "python"]
    methods, tasks = len(record.results.methods), len(record.results.tasks)
    diverged = [sum(cell.diverged[i] for cell in cells.values()) for i in (0, 1)]
    return (
        f"The runs ended on {about.get('date', 'an unknown day')} and took "
        f"{about.get('hours', 0):.1f} hours of one core{_all_hours(record)}, on the processor "
        f"{about.get('processor', 'of an unknown name')}, with Python "
        f"{versions.get('python', '')}, "
        f"{listed(packages)}. {capital(count(methods, 'method'))} had {protocol.trials} trials on "
        f"each of {count(tasks, 'task')}; the best four trials ran on two more seeds, and the "
        f"choice on {protocol.seeds} other seeds, from {protocol.first_seed} on."
        f"{_missing(methods * tasks - len(cells))}{_widened(record)} {_edges(record)} Of "
        f"{len(cells) * protocol.trials:,} trials {diverged[0]:,} diverged, and of "
        f"{len(cells) * protocol.seeds:,} evaluation runs {diverged[1]:,}; they count with the "
        "loss of their start."
    )


def _all_hours(record: Record) -> str:
    """Write the hours of all tables together, if there are others than that of the results."""
    others = (record.constant, record.decay, record.repeat, record.held_out, record.made_worse)
    known = [each.about.get("hours", 0) for each in (record.results, *others) if each is not None]
    return f" (those of all tables: {sum(known):.1f})" if len(known) > 1 else ""


def _missing(number: int) -> str:
    if not number:
        return ""
    return (
        f" {capital(count(number, 'pair'))} of a method and a task "
        f"{'is' if number == 1 else 'are'} not recorded."
    )


def _widened(record: Record) -> str:
    cells = record.results.cells
    names = [
        name
        for name in record.results.methods
        if any(cell.widened for (_, own), cell in cells.items() if own == name)
    ]
    if not names:
        return ""
    return (
        f" {capital(count(len(names), 'method'))} had a choice at an end of a range, and ran again "
        "on all tasks with wider ranges. The second search replaces the first, so that the same "
        "number of trials covers more; these methods were not given the better of both."
    )


def _edges(record: Record) -> str:
    number = sum(bool(cell.edge) for cell in record.results.cells.values())
    if not number:
        return "No choice lies at an end of a search range."
    verbs = ("lies", "has") if number == 1 else ("lie", "have")
    return (
        f"{capital(count(number, 'choice'))} {verbs[0]} at an end of a search range and {verbs[1]} "
        "no rank."
    )


def about_tasks(record: Record) -> str:
    """Return a table of the tasks."""
    rows = [["task", "what it is", "steps"]]
    for name in record.results.tasks:
        if name in all_tasks:
            rows.append([name, all_tasks[name].description, f"{all_tasks[name].steps:,}"])
    return markdown(rows, texts=2)


DEPARTURES = (
    "*No tuning run is reported as a result.* The best of many trials looks better than it is. All "
    "verdicts, and all speed-ups of tuned methods, come from seeds that no tuning has used. "
    "Only what is said of trials, of defaults and of single settings rests on tuning runs.",
    "*The control has as many trials as every other method,* and is tuned anew at each of five "
    "numbers of steps for its reference curve. Methods whose choice lay at an end of a range "
    "were searched again in wider ranges; the control had no such choice.",
    "*Losses are compared at the end,* and not the steps at which a target is first crossed, which "
    "a decaying learning rate can reverse.",
    "*Neither clipping nor weight decay is used,* unless a table says so. A method that gains by "
    "better regularization shows nothing of it, and Adam and AdamW are the same.",
    "*Steps are ranked, and not seconds.* On networks this small the seconds of a step say little "
    "about large ones.",
    "*Diverged runs count* with the loss of their start, and a choice at an end of its search "
    "range has no rank.",
    "*There is no test over tasks and no diagram of mean ranks.* With eight tasks such a test can "
    "decide nothing among so many methods. Verdicts are about one task, and the intervals of the "
    "means hold for these tasks.",
    "*The tasks favour momentum over its absence.* Three of them were adjusted until tuned "
    "momentum beat plain gradient descent.",
    "*The tasks are small.* A method that gains only after 10⁵ steps or with 10⁹ parameters shows "
    "nothing of it here.",
)
