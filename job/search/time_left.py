"""What of a search still fits into MAX_HOURS, beside the final training that follows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from job.console.forecast import Work, expected_epochs
from job.results import CUT, STOPPED, WAITS, Trial, winner
from job.runs import budget
from job.runs.budget import Budget
from job.search.trial import Order


@dataclass(frozen=True)
class TimeLeft:
    """Answers a search's questions from the run's `budget` and `work`; None where there is no limit."""

    budget: Budget
    work: Work | None = None

    @property
    def worked(self) -> float:
        return self.budget.worked if self.budget.limited else 0.0

    def starts(self, order: Order, known: int, trials: Sequence[Trial]) -> bool:
        """Whether there is time for a trial of which `known` epochs are done, and for the final training of the best of
        `trials`. Always, while none of them has an epoch that counts.
        """
        speeds, best = self.budget.speeds, winner(with_epochs(trials))
        if not self.budget.limited or speeds is None or best is None or self.work is None:
            return True
        usual = order.rung.epochs if order.rung else self.usual(trials)
        return budget.starts(self.budget.left, speeds, max(1.0, usual - known), self.final_epochs(best))

    def goes_on(self, trials: Sequence[Trial]) -> bool:
        """Whether there is time for another epoch of a trial."""
        speeds, best = self.budget.speeds, winner(with_epochs(trials))
        if not self.budget.limited or speeds is None or best is None:
            return True
        return budget.goes_on(self.budget.left, speeds, self.final_epochs(best))

    def final_epochs(self, best: Trial) -> int:
        fixed = self.work.final_epochs if self.work else None
        return fixed or best.best_epoch

    def usual(self, trials: Sequence[Trial]) -> float:
        """Epochs of a trial that ends by itself: their mean, or what is expected where none has."""
        assert self.work is not None
        own = [len(trial.epochs) for trial in trials if trial.ending not in (WAITS, STOPPED, CUT) and trial.epochs]
        return sum(own) / len(own) if own else expected_epochs(self.work.trial_epochs, self.work.patience)

    def measured(self, seconds: float) -> None:
        """An epoch of a trial took so long."""
        if self.budget.limited and self.work is not None:
            self.budget.measured(trial=seconds, ratio=self.work.final.cost / self.work.trial.cost)

    def measured_trial(self, trial: Trial) -> None:
        """Of a trial whose epochs nobody heard of: on a cluster it is known when it has ended."""
        if trial.epochs and self.budget.speeds is None:
            self.measured(trial.seconds / len(trial.epochs))


def with_epochs(trials: Sequence[Trial]) -> list[Trial]:
    """Those that have a loss by which one could win."""
    return [trial for trial in trials if trial.epochs and math.isfinite(trial.epochs[-1].heldout.loss)]
