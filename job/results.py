"""The records of a run: what happened, as plain frozen values. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FAR_ABOVE = 1.5  # times the loss of guessing
WAITS, STOPPED = "waits", "stopped"  # at a rung of successive halving: until it is known who goes on, and for good
CUT = "cut"  # by MAX_HOURS


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy (nats) and accuracy (percent) over a set of images."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images and the evaluation after it.

    `train` is measured while the weights change; `heldout` afterwards, on the validation set in a trial and on the
    test set in the final training. `number` counts from 1. `seconds` is wall-clock time, evaluation included.
    """

    number: int
    train: Score
    heldout: Score
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One learning rate tried. `number` counts from 0; `failure` is empty for a trial that went well, and `note` where
    it was computed as the others were. `complete` marks a schedule to its end: of such a trial the last epoch counts.
    `ending` is empty for a trial that ended by itself, else WAITS, STOPPED or CUT.
    """

    number: int
    learning_rate: float
    epochs: tuple[Epoch, ...]
    failure: str = ""
    note: str = ""
    complete: bool = False
    ending: str = ""

    @property
    def validation_loss(self) -> float:
        """The trial's score: its lowest validation loss, under a schedule its last; infinite where the trial failed."""
        return math.inf if self.failure else self.epochs[self.best_epoch - 1].heldout.loss

    @property
    def best_epoch(self) -> int:
        """The epoch (1-based) that first reached the lowest validation loss, under a schedule the last one; 0 where the
        trial failed.
        """
        if self.failure:
            return 0
        return len(self.epochs) if self.complete else best_epoch([epoch.heldout.loss for epoch in self.epochs])

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)


@dataclass(frozen=True)
class Searched:
    """A search that is over: its trials by number, and the time on the clock that it took, added up over all attempts.

    Trials at the same time overlap, so that `seconds` (what a machine is paid for) may be far below their sum.
    """

    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What the final training uses, and where it comes from: the winning trial, or the user's own settings."""

    learning_rate: float
    epochs: int
    trial: int | None


@dataclass(frozen=True)
class Paused:
    """A trial or the final training as an earlier attempt left it: its epochs so far, and the learner's state after
    the last of them (see `engine.snapshot`).
    """

    history: tuple[Epoch, ...]
    learner: dict[str, Any]


def best_epoch(losses: Sequence[float]) -> int:
    """The 1-based position of the first lowest loss."""
    return min(range(len(losses)), key=losses.__getitem__) + 1


def out_of_patience(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` epochs in a row brought no loss below the best one before them."""
    return len(losses) - best_epoch(losses) >= patience


def winner(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the lowest validation loss, the earlier one of equals; None where every trial failed."""
    good = [trial for trial in trials if not trial.failure]
    return min(good, key=lambda trial: (trial.validation_loss, trial.number), default=None)


def hopeless(trials: Sequence[Trial], classes: int) -> str:
    """Words for a search whose best trial is far worse than guessing: the loss of equal shares is ln of the classes."""
    best, guessing = winner(trials), math.log(classes)
    if best is None or best.validation_loss <= FAR_ABOVE * guessing:
        return ""
    return (
        f"no trial learned anything: the lowest validation loss, {best.validation_loss:.4g} at the learning rate "
        f"{rate(best.learning_rate)}, is far above that of guessing (ln {classes} = {guessing:.3f}). "
        "Lower LR_MAX, or look at the images and their labels."
    )


def rate(learning_rate: float) -> str:
    """Six decimals, as in the notebook; a rate so small that they would hide it has three digits: `4e-07`."""
    return f"{learning_rate:.6f}" if learning_rate >= 1e-5 else f"{learning_rate:.3g}"
