"""The working time of a run with MAX_HOURS, and what of its work still fits into it.

The clock is passed in. No decision is made twice: what was decided is part of the run's state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from job.errors import Fault

HOUR = 3600.0
MARGIN = 0.95  # of what is left, that a plan may fill: no two epochs take the same time
ENDING = 20.0  # seconds for the report, for leaving, and for starting, which no clock of the run sees
EVALUATIONS = 2  # of the test set at most, once the training is over
RECENT = 3  # epochs whose mean is the speed
NEWS = 5.0  # seconds between two times that the working time is told


@dataclass(frozen=True)
class Speeds:
    """Seconds, as they were last: an epoch of a trial and of the final training, and all that follows the latter."""

    trial: float
    final: float
    ending: float = ENDING

    @property
    def least(self) -> float:
        """One epoch of a trial, one of the final training, and the end."""
        return self.trial + self.final + self.ending


def starts(left: float, speeds: Speeds, trial_epochs: float, final_epochs: float) -> bool:
    """Whether a trial of so many epochs leaves enough for a final training of so many."""
    return MARGIN * left >= trial_epochs * speeds.trial + final_epochs * speeds.final + speeds.ending


def goes_on(left: float, speeds: Speeds, final_epochs: float) -> bool:
    """Whether another epoch of a trial does."""
    return starts(left, speeds, 1, final_epochs)


def fitting(left: float, speeds: Speeds, wanted: int) -> int:
    """How many of the `wanted` epochs of the final training fit; 0 where not one does."""
    return still_fitting(MARGIN * left, speeds, wanted)


def still_fitting(left: float, speeds: Speeds, remaining: int) -> int:
    """How many of the `remaining` epochs of a training under way fit: all of the time that is left counts."""
    if remaining * speeds.final + speeds.ending <= left:
        return remaining
    return max(0, min(remaining, math.floor((left - speeds.ending) / speeds.final)))


def trials_fitting(limit: float, speeds: Speeds, trial_epochs: float, final_epochs: int, wanted: int) -> int:
    """How many of the `wanted` trials a run begins, as far as speeds can say beforehand; the first one in any case."""
    left, count = limit, 0
    while count < wanted and (count == 0 or starts(left, speeds, trial_epochs, final_epochs)):
        left -= trial_epochs * speeds.trial
        count += 1
    return count


class OutOfTime(Exception):
    """The epoch under way would not end in time."""


@dataclass
class Budget:
    """The clock of one attempt. `limit` is in seconds, infinite without MAX_HOURS; `before` is what earlier attempts
    worked; `tell` hears of the working time now and then, so that a kill does not reset it.
    """

    limit: float = math.inf
    before: float = 0.0
    clock: Callable[[], float] = time.monotonic
    tell: Callable[[float], object] = lambda seconds: None
    speeds: Speeds | None = None
    evaluation: float = 0.0  # on the test set, as a share of a final epoch
    over: bool = False  # the training is: what is left is done in any case
    news: float = NEWS  # seconds between two times that `tell` hears
    began: float = field(init=False)
    _told: float = field(init=False)
    _recent: list[float] = field(default_factory=list)
    _finals: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self._told = self.clock()

    @property
    def limited(self) -> bool:
        return self.limit < math.inf

    @property
    def worked(self) -> float:
        """Seconds, over all attempts."""
        return self.before + self.clock() - self.began

    @property
    def left(self) -> float:
        return self.limit - self.worked

    def check(self) -> None:
        """Raises Fault where the time is over: nothing that is left to do would be published in time."""
        if not self.limited or self.over:
            return
        if self.left <= 0:
            raise self.fault("the time is over before the run was")
        if self.clock() - self._told >= self.news:
            self._told = self.clock()
            self.tell(self.worked)

    def check_ending(self) -> None:
        """Raises OutOfTime where all that is left is needed for what follows the final training."""
        self.check()
        if self.limited and self.speeds is not None and self.left <= self.speeds.ending:
            raise OutOfTime

    def fault(self, why: str) -> Fault:
        return Fault(
            f"MAX_HOURS={self.limit / HOUR:g}: {why}.",
            "Raise MAX_HOURS, which makes another run of it, or take less data (DATA_LIMIT) or a smaller model.",
        )

    def measured(self, trial: float | None = None, final: float | None = None, ratio: float = 1.0) -> None:
        """Takes the seconds of an epoch just done; the last few count. `ratio` is what a final epoch costs over one
        of a trial, which tells of both.
        """
        if trial is not None:
            self._recent = [*self._recent[1 - RECENT :], trial]
            mean = sum(self._recent) / len(self._recent)
            self.speeds = self._with_ending(mean, mean * ratio)
        elif final is not None:
            self._finals = [*self._finals[1 - RECENT :], final]
            self.speeds = self._with_ending(
                self.speeds.trial if self.speeds else 0.0, sum(self._finals) / len(self._finals)
            )

    def _with_ending(self, trial: float, final: float) -> Speeds:
        return Speeds(trial, final, ENDING + EVALUATIONS * self.evaluation * final)
