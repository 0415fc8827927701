"""The books of a search in progress, kept beside it: what has ended, what is under way, and what of both is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from job.console.progress import Progress
from job.engine.learner import Learner, snapshot
from job.results import WAITS, Epoch, Searched, Trial, winner
from job.runs.budget import Budget
from job.runs.keeper import Keeper
from job.runs.standing import Standing
from job.search.time_left import TimeLeft
from job.search.trial import Callbacks, Order


class Book:
    """Hears from the runner, shows it to `progress` and gives the keeper what a later attempt would go on from.

    Records of ended trials are handed over at once, states of learners offered after every epoch. Trials that train
    as one model are stored as a group, with those that had ended by then: together they are where the run stood.
    """

    def __init__(
        self,
        standing: Standing,
        keeper: Keeper,
        progress: Progress,
        time_left: TimeLeft | None = None,
        *,
        grouped: bool,
    ) -> None:
        """`standing` is where an earlier attempt left the search; `grouped` says that trials train as one model."""
        self._earlier = standing
        self._keeper = keeper
        self._progress = progress
        self._grouped = grouped
        self._began = time.monotonic()
        self.seconds = standing.search_seconds  # on the clock, over all attempts, up to the last news
        self._ended = {trial.number: trial for trial in standing.trials}
        self._time_left = time_left or TimeLeft(Budget())
        self._running: dict[int, Trial] = {}
        self.closed = standing.closed and winner(standing.trials) is not None  # one trial ends in any case

    def callbacks(self) -> Callbacks:
        return Callbacks(
            on_batch=self._progress.batch,
            on_epoch=self.epoch,
            on_group=self.group,
            starts=self.starts,
            in_time=self.in_time,
        )

    def starts(self, order: Order) -> bool:
        """Whether a trial is begun; where there is no time for it, the search is closed for good, which is kept."""
        known = len(self._ended[order.number].epochs) if order.number in self._ended else 0
        if not self.closed and not self._time_left.starts(order, known, self._all()):
            self.closed = True
            if not self._grouped:
                self._keeper.hand_over(self._standing())
        return not self.closed

    def in_time(self) -> bool:
        """Whether a trial under way takes another epoch."""
        if not self.closed and not self._time_left.goes_on(self._all()):
            self.closed = True  # which is kept with the records of the trials that end now
        return not self.closed

    def _all(self) -> list[Trial]:
        """All trials as far as they are known, those under way among them."""
        return list((self._ended | self._running).values())

    def epoch(self, number: int, rate: float, history: Sequence[Epoch], learner: Learner | None) -> None:
        """An epoch of one trial is done. Where its learner is out of reach, its images are counted here at once."""
        self._heard()
        self._running[number] = Trial(number, rate, tuple(history), ending=WAITS)
        self._time_left.measured(history[-1].seconds * (len(self._running) if self._grouped else 1))
        self._progress.trial_epoch(number, rate, history[-1])
        if learner is not None:
            self._keeper.offer(lambda: self._standing(number, tuple(history), snapshot(learner)))
            return
        assert self._progress.work is not None
        images = self._progress.work.trial
        self._progress.batch(images.train + images.heldout)

    def group(self, begun: Sequence[Trial], copied: Callable[[], dict[str, Any]]) -> None:
        """All that a group's last epoch ended has been told; `begun` goes on, or nothing where the group has ended."""
        self._heard()
        if begun:
            self._keeper.offer(lambda: replace(self._standing(), learner=copied(), begun=tuple(begun)))
        else:
            self._keeper.hand_over(self._standing())

    def trial(self, trial: Trial) -> None:
        """A trial has ended, or waits at a rung. What an earlier attempt began of another one stays part of it."""
        self._heard()
        self._ended[trial.number] = trial
        self._running.pop(trial.number, None)
        self._time_left.measured_trial(trial)
        if not self._grouped:
            now = self._standing()
            if self._is_begun_of():
                earlier = self._earlier
                now = replace(now, part=earlier.part, history=earlier.history, learner=earlier.learner)
            self._keeper.hand_over(now)
        if trial.ending == WAITS:
            self._progress.trial_waits()
        else:
            self._progress.trial_done(trial)

    def _is_begun_of(self) -> bool:
        """Whether an earlier attempt began a trial that is not as far yet."""
        earlier = self._earlier
        if not isinstance(earlier.part, int) or earlier.learner is None:
            return False
        now = self._ended.get(earlier.part)
        return now is None or (now.ending == WAITS and len(now.epochs) < len(earlier.history))

    def searched(self) -> Searched:
        return Searched(self.ended(), self.seconds)

    def _heard(self) -> None:
        self.seconds = self._earlier.search_seconds + time.monotonic() - self._began

    def _standing(
        self, part: int | None = None, history: tuple[Epoch, ...] = (), learner: dict[str, Any] | None = None
    ) -> Standing:
        worked = self._time_left.worked
        return Standing(
            self.ended(), part, history, learner, search_seconds=self.seconds, worked=worked, closed=self.closed
        )

    def ended(self) -> tuple[Trial, ...]:
        """By number, whatever the order in which they ended."""
        return tuple(self._ended[number] for number in sorted(self._ended))
