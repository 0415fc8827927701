"""How far a run has come, as everybody speaks of it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from job.results import Epoch, Paused, Trial

FINAL = "final"  # the name of the final training among a run's parts; trials have numbers
SLOTS = ("checkpoint/0", "checkpoint/1")  # where states are stored, in turn


@dataclass(frozen=True)
class Standing:
    """How far a run has come: the finished trials, and the epochs of the part that was under way.

    `trials` are in the order of their numbers, of which some may be missing: workers do not end in that order.

    `part` is the running trial's number, `final` for the final training, or None between two parts. `learner` is the
    state of model and optimizer after the last epoch in `history` (see `engine.snapshot`), None where there is none.
    `begun` holds the trials that train together as one model, as far as they have come; `learner` is then their state,
    a row each (see `stacked.state.snapshot`). `search_seconds` is the search's time on the clock so far, all attempts.
    With MAX_HOURS `worked` is the working time so far, `closed` says that no trial is started any more, and
    `final_epochs` how many epochs the final training has.
    """

    trials: tuple[Trial, ...] = ()
    part: int | str | None = None
    history: tuple[Epoch, ...] = ()
    learner: dict[str, Any] | None = None
    begun: tuple[Trial, ...] = ()
    search_seconds: float = 0.0
    worked: float = 0.0
    closed: bool = False
    final_epochs: int | None = None

    @property
    def epochs_of_part(self) -> int:
        """The epochs of what was under way; of trials at once those of the one that is ahead."""
        return max([len(self.history), *(len(trial.epochs) for trial in self.begun)])

    def paused(self, part: int | str) -> Paused | None:
        """What was done of this part, where it was the one under way."""
        if self.part != part or self.learner is None:
            return None
        return Paused(self.history, self.learner)


START = Standing()  # of a run that nobody has begun
