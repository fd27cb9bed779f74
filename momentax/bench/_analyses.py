"""The analyses of a result: methods that give what the statistics say in one call each."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from momentax._core import arguments
from momentax.bench import _failures, _overall, _runs, _trials
from momentax.bench._overall import MethodPairs, Overall
from momentax.bench._trials import Sensitivity, SingleSetting
from momentax.bench.statistics import ExpectedBest, Stuck
from momentax.bench.statistics._arrays import as_seed


class Analyses:
    """What `Result` inherits: its analyses over all tasks, of the trials, and of the runs."""

    def overall(self, *, resamples: int = 10_000, seed: int = 0) -> Overall:
        """Average the speed-ups of each method over the tasks, with what the means rest on.

        A method without a rank on some task has a mean over the other tasks alone, which cannot be
        compared with a mean over all. Such methods come last, the number of tasks stands beside
        each mean, and methods are compared on the tasks that both have.

        Args:
            resamples: The number of resamples for the intervals, at least 100.
            seed: The seed of the resamples, a whole number, at least 0.

        Returns:
            An `Overall`, which `print` and a notebook show as a table.

        Raises:
            ValueError: No task has a reference curve, or no method has a rank on such a task.
            TypeError: resamples or seed is not a whole number.
        """
        return _overall.overall(self, *_as_resamples(resamples, seed))

    def pairs(self, *, resamples: int = 10_000, seed: int = 0) -> MethodPairs:
        """Compare the overall speed-ups of all pairs of methods, on the tasks that both have.

        Args:
            resamples: The number of resamples for the intervals and p-values, at least 100; 15
                methods need 4,200.
            seed: The seed of the resamples, a whole number, at least 0.

        Returns:
            A `MethodPairs`: the ratio of each pair, its interval, and its p-value adjusted by
            Holm's method for all pairs.

        Raises:
            ValueError: No task has a reference curve, no method has a rank on such a task, there is
                one method only, or resamples are so few that no pair can be decided.
            TypeError: resamples or seed is not a whole number.
        """
        return _overall.pairs(self, *_as_resamples(resamples, seed))

    def expected_best(
        self,
        task: str,
        method: str,
        *,
        counts: ArrayLike | None = None,
        replacement: bool = False,
    ) -> ExpectedBest:
        """Estimate the score that a tuning of fewer trials would have reached.

        A score is y of `Task.measure`, and lower is better. The best score of a tuning is too low,
        since the seed that chose the trial also measures it. The best eight trials therefore ran
        again on another seed, whose scores are averaged here with the weights of
        `statistics.expected_best`. The mean is NaN for each k at which trials without such a score
        would have more than a tenth of the weight, which are 2 to 7 of 32 trials: the best of so
        few is often none of the best eight. Nothing is chosen among k = 1, so that its mean is that
        of all trials on the first seed.

        Args:
            task: The name of a task of the result.
            method: The name of a method of the result.
            counts: The numbers k of trials, whole numbers in [1, n] for n trials, of any shape.
                None means 1 to n.
            replacement: Whether a trial can be drawn twice. That is biased, varies less, and is
                the better curve to draw up to k = n / 2.

        Returns:
            A `statistics.ExpectedBest`: scores y with a band, one for each of counts.

        Raises:
            ValueError: task or method is none of the result's, or counts lie outside of [1, n].
            TypeError: counts are not whole numbers, or replacement is not a bool.
        """
        return _trials.expected_best(self, task, method, counts, replacement)

    def trials_to_match(self, task: str, method: str, control: str | None = None) -> int | None:
        """Count the trials after which a method is as good as the tuned control.

        It is the smallest k for which the expected score of the best of k trials of the method is
        at most that of the control with all of its trials. Numbers for which `expected_best` is
        unknown are passed over: with 32 trials the answers are 1, 8 to 32 and None.

        Args:
            task: The name of a task of the result.
            method: The name of a method of the result.
            control: The method to match. None is "nesterov", or the first method where that is
                missing.

        Returns:
            k, or None if all of the method's trials do not suffice.

        Raises:
            ValueError: A name is none of the result's, or the control has no rank on the task.
        """
        return _trials.trials_to_match(self, task, method, control)

    def sensitivity(self, task: str, method: str) -> Sensitivity:
        """Return how the speed-up of a method depends on its hyperparameters.

        Args:
            task: The name of a task of the result, with a reference curve.
            method: The name of a method of the result.

        Returns:
            A `Sensitivity`: the hyperparameters and speed-ups of all trials, the share of the
            search space that is good, and the width of the good rates in decades.

        Raises:
            ValueError: task or method is none of the result's, the task has no reference curve, or
                the hyperparameters of the trials are unknown, since the result does not have the
                search space of the method or has another one.
        """
        return _trials.sensitivity(self, task, method)

    def best_single_setting(self, method: str) -> SingleSetting:
        """Find the one setting of a method that is best over all tasks at once.

        Args:
            method: The name of a method of the result.

        Returns:
            A `SingleSetting`: the hyperparameters, and their mean speed-up beside that of a method
            that is tuned on each task and that of the default.

        Raises:
            ValueError: method is none of the result's, has no rank on a task with a reference
                curve, or the hyperparameters of its trials are unknown.
        """
        return _trials.best_single_setting(self, method)

    def passes(self, task: str, method: str) -> bool:
        """Return whether the mean score of a method passes the target of a task beyond chance.

        Args:
            task: The name of a task of the result, of which `momentax.bench.target` has a target.
            method: The name of a method of the result.

        Returns:
            Whether (T - mean y) √n ≥ 3.09 σ over the n evaluation seeds, that is p ≤ 0.001.

        Raises:
            ValueError: task or method is none of the result's, or momentax has no target of the
                task or one of another version.
        """
        return _runs.passes(self, task, method)

    def steps_to_target(self, task: str, method: str) -> int | None:
        """Return the first checkpoint at which the mean of all runs passes the target of a task.

        There are 40 checkpoints. Under a decaying learning rate most runs pass near their end, so
        that the number ranks no methods.

        Args:
            task: The name of a task of the result, of which `momentax.bench.target` has a target.
            method: The name of a method of the result.

        Returns:
            The step of the checkpoint, or None if the mean passes at none.

        Raises:
            ValueError: task or method is none of the result's, or momentax has no target of the
                task or one of another version.
        """
        return _runs.steps_to_target(self, task, method)

    def stuck(self, task: str, method: str, plateau: float | None = None) -> Stuck:
        """Count the evaluation runs that stayed on a plateau which other runs leave.

        Args:
            task: The name of a task of the result.
            method: The name of a method of the result.
            plateau: The score y above which a run is stuck, a real number below the score of the
                start. It is no loss: `Task.measure` makes a score of a loss. None takes that of
                "curves_ae", the only task with a known plateau, where the output is the same for
                all images.

        Returns:
            A `statistics.Stuck`: the share of stuck runs with its interval, and the median scores
            of all runs and of the others.

        Raises:
            ValueError: task or method is none of the result's, plateau is not below the score of
                the start, or it is None and momentax knows none of the task.
            TypeError: plateau is not a number.
        """
        return _runs.stuck(self, task, method, plateau)

    def fail_where_variants_fail(
        self, variants: Any, control: str | None = None, *, factor: float = 4.0
    ) -> Any:
        """Count a method as failed on each task whose held-out variant it fails.

        A method fails a variant if at least half of its evaluation runs there diverge, or if its
        loss relative to that of the control is there more than `factor` times what it is on the
        task:

            median(y - y_control) on the variant > median(y - y_control) on the task + log₁₀ factor

        The second rule is not used where a wider range might change it: if the method is at an edge
        of its search range on the variant, or the control on the task. A failed cell gets the score
        of the initial point on every seed, as if all runs had diverged, and the names of the
        variants in its field `failed`. AlgoPerf's benchmark (arXiv:2306.07179) has a held-out rule
        of the same purpose.

        Args:
            variants: A Result of the same methods on variants of the tasks, such as
                `momentax.bench.run(methods, momentax.bench.held_out)` makes.
            control: The method to which losses are relative. None is "nesterov", or the first
                method where that is missing.
            factor: How many times larger the relative loss may be, in (1, inf).

        Returns:
            A Result.

        Raises:
            ValueError: variants has no variant of a task of the result, lacks a method there, or
                has other seeds or another schedule; control is not one of the methods, or factor
                lies outside of its interval.
            TypeError: variants is not a Result.
        """
        return _failures.fail_where_variants_fail(self, variants, control, factor)


def _as_resamples(resamples: Any, seed: Any) -> tuple[int, int]:
    return arguments.as_count("resamples", resamples, least=100), as_seed(seed)
