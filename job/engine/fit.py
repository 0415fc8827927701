"""The final fit: a learner on the whole training set, for the epochs that the search found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from job.engine import Course, epochs
from job.engine.learner import Learner, resume
from job.errors import Fault
from job.results import Choice, Epoch, Paused, rate


@dataclass(frozen=True)
class Fitted:
    """The trained model and its history; each epoch's held-out score is on the test set, which chooses nothing.
    `note` is empty where it was computed as the run is (see `Learner`).
    """

    model: nn.Module
    history: tuple[Epoch, ...]
    note: str = ""


def fit(
    learner: Learner,
    course: Course,
    choice: Choice,
    paused: Paused | None,
    on_epoch: Callable[[Sequence[Epoch]], object],
) -> Fitted:
    """Trains a fresh learner for exactly `choice.epochs` epochs, those in `paused` counted in.

    `on_epoch` gets all epochs so far after each. Raises Fault where the loss diverges.
    """
    history = resume(learner, paused)
    started = time.monotonic()
    for number, trained, tested in epochs(learner, course, range(len(history) + 1, choice.epochs + 1)):
        history.append(Epoch(number, trained, tested, time.monotonic() - started))
        if not (math.isfinite(trained.loss) and math.isfinite(tested.loss)):
            raise Fault(
                f"the final training diverged in epoch {number} (learning rate {rate(choice.learning_rate)}).",
                "Lower LEARNING_RATE, or LR_MAX where the search chose it.",
            )
        on_epoch(history)
        started = time.monotonic()
    return Fitted(learner.model, tuple(history), learner.note)
