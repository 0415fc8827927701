"""A run under MAX_HOURS: its first estimate, how long its final training is, and what is told of what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from job.console.forecast import EVALUATION_COST, clock
from job.console.logs import event
from job.engine.fit import Fitted
from job.engine.learner import Learner, restore, snapshot
from job.modes.beginning import Run
from job.preflight import timing
from job.preflight.data import Counts
from job.report.reading import time_limit
from job.report.records import TimeLimit
from job.results import Choice, Epoch, Paused, Searched
from job.runs import budget as planner
from job.runs.budget import OutOfTime
from job.runs.standing import FINAL, Standing


def begins(run: Run) -> None:
    """Says how much time there is. A training without a search is planned from a few steps that are timed."""
    budget, work = run.budget, run.work
    if not budget.limited or budget.over:
        return
    budget.evaluation = work.final.heldout * EVALUATION_COST / work.final.cost
    event("limit", f"MAX_HOURS={run.settings.max_hours:g}: {clock(budget.left)} left", seconds=round(budget.left))
    if not work.trials and run.standing.final_epochs is None:
        counts = Counts(len(run.data.train), len(run.data.test), len(run.data.classes))
        budget.speeds = timing.speeds(work, timing.measure(run.settings, run.compute, counts, run.progress.check))


class Final:
    """The final training's length: what fits when it begins, less where the machine slows down; each is kept."""

    def __init__(self, run: Run, wanted: Choice, searched: Searched) -> None:
        """Decides, unless an earlier attempt did. One epoch is tried in any case: a speed may be wrong."""
        self._run, self._searched = run, searched
        self.wanted = wanted.epochs
        self.epochs = run.standing.final_epochs or wanted.epochs
        self._last = run.standing.paused(FINAL)
        if run.budget.limited and run.standing.final_epochs is None:
            assert run.budget.speeds is not None
            self.epochs = max(1, planner.fitting(run.budget.left, run.budget.speeds, wanted.epochs))
            run.keeper.hand_over(self._standing(None, ()))
        self._trained = 0.0  # when the training was over, in working time
        self.choice = replace(wanted, epochs=self.epochs)
        if self.epochs < wanted.epochs:
            event("limit", f"{self.epochs} of {wanted.epochs} epochs fit into what is left", level="WARNING")

    def batch(self, images: int) -> None:
        """Raises OutOfTime where the epoch under way would not end in time."""
        self._run.budget.check_ending()
        self._run.progress.batch(images)

    def epoch(self, history: Sequence[Epoch], learner: Learner) -> None:
        """An epoch is done. Raises OutOfTime where it was the last one that fits."""
        run = self._run
        if run.budget.limited:
            self._last = Paused(tuple(history), snapshot(learner))
            run.budget.measured(final=history[-1].seconds)
            assert run.budget.speeds is not None
            remaining = self.epochs - len(history)
            self._shorten(len(history) + planner.still_fitting(run.budget.left, run.budget.speeds, remaining))
            if len(history) == self.epochs < self.choice.epochs:
                raise OutOfTime

    def state(self, history: Sequence[Epoch], learner: Learner) -> Standing:
        return replace(self._standing(FINAL, tuple(history)), learner=snapshot(learner))

    def ended(self, learner: Learner) -> Fitted:
        """The model after the last whole epoch, where time ran out in the next. Raises Fault where there is none."""
        if self._last is None:
            raise self._run.budget.fault("not even one epoch of the final training and the report fitted into it")
        restore(learner, self._last.learner)
        self._shorten(len(self._last.history))
        return Fitted(learner.model, self._last.history, learner.note)

    def told(self, history: Sequence[Epoch]) -> TimeLimit | None:
        """What fitted, for the reports; None without a limit. From here on nothing is stopped any more."""
        run = self._run
        run.budget.over = True
        if run.settings.max_hours is None:
            return None
        wanted = run.settings.max_evals if self._searched.trials else 0
        epochs = len(history), self.choice.epochs, self.wanted
        self._trained = run.budget.worked
        loading = self._trained - self._searched.seconds - sum(epoch.seconds for epoch in history)
        limit = time_limit(run.settings.max_hours, self._searched.trials, wanted, epochs)
        limit = replace(limit, loading_seconds=max(0.0, loading))
        event("limit", limit.in_words, **vars(limit))
        run.owned.status.limited(limit.in_words)
        return limit

    def answered(self, limit: TimeLimit | None) -> TimeLimit | None:
        """The same with the time that the answers to the test set took."""
        return limit and replace(limit, answers_seconds=self._run.budget.worked - self._trained)

    def _shorten(self, epochs: int) -> None:
        if epochs >= self.epochs:
            return
        cut = "; the schedule ends before its rate has come to zero" if self._run.settings.way.scheduled else ""
        event("limit", f"the machine is slower than it was: {epochs} of {self.epochs} epochs{cut}", level="WARNING")
        self.epochs = epochs
        if self._last is not None:
            now = self._standing(FINAL, self._last.history)
            self._run.keeper.hand_over(replace(now, learner=self._last.learner))

    def _standing(self, part: str | None, history: tuple[Epoch, ...]) -> Standing:
        trials, seconds = self._searched.trials, self._searched.seconds
        if not self._run.budget.limited:
            return Standing(trials, part, history, search_seconds=seconds)
        worked = self._run.budget.worked
        return Standing(trials, part, history, None, (), seconds, worked, True, self.epochs)
