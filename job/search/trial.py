"""One trial: a fresh model at one learning rate, and why it ends. Every runner runs trials with these functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from job.data import Split
from job.device import Compute
from job.device.memory import OUT_OF_MEMORY, is_out_of_memory
from job.engine import Course, OnBatch, epochs
from job.engine.build import recipe_of
from job.engine.learner import Learner, new_learner, resume
from job.engine.schedule import planned
from job.models import Recipe
from job.results import Epoch, Paused, Trial, out_of_patience
from job.settings import Settings


@dataclass(frozen=True)
class Setup:
    """What all trials of a search have in common."""

    settings: Settings
    build: Callable[[], nn.Module]
    train: Split
    validation: Split
    compute: Compute

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.build)


@dataclass(frozen=True)
class Order:
    """A trial to be run; `paused` is what an earlier attempt did of it."""

    number: int
    learning_rate: float
    paused: Paused | None = None


OnEpoch = Callable[[int, float, Sequence[Epoch], "Learner | None"], object]
OnGroup = Callable[[Sequence[Trial], Callable[[], "dict[str, Any]"]], object]


@dataclass(frozen=True)
class Callbacks:
    """What runners tell while they run; each may raise to stop the search there.

    `on_batch` gets a count of images, 0 where a runner only waits. `on_epoch` gets the trial's number, learning rate,
    epochs so far and learner, which is None where it lives in another process or trains with others as one model.
    `on_group` gets the trials that train so, unfinished as they are, whenever all of their records have been handed
    over, and a function that copies their state; none at the group's end.
    """

    on_batch: OnBatch
    on_epoch: OnEpoch
    on_group: OnGroup = lambda begun, copied: None


def run_trial(setup: Setup, order: Order, callbacks: Callbacks) -> Trial:
    """Trains until the validation loss has not improved for PATIENCE epochs, under a schedule to its end.

    A loss that is not a number or infinite ends the trial as failed, and so does memory that is not enough.
    """
    history: list[Epoch] = []
    try:
        note = train_one(setup, order, callbacks, history)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Trial(order.number, order.learning_rate, tuple(history), OUT_OF_MEMORY)
    return replace(ended(order, history, note), complete=setup.recipe.scheduled)


def ended(order: Order, history: Sequence[Epoch], note: str = "") -> Trial:
    """The record of a trial that ended by itself."""
    failure = f"the loss diverged in epoch {len(history)}" if has_diverged(history[-1]) else ""
    return Trial(order.number, order.learning_rate, tuple(history), failure, note)


def train_one(setup: Setup, order: Order, callbacks: Callbacks, history: list[Epoch]) -> str:
    """Trains the order's learner; every epoch goes to `history`, so that it outlives a failure. Returns its note."""
    settings, patience = setup.settings, setup.settings.trial_patience
    rate = planned(setup.recipe, order.learning_rate, settings.tune_max_epochs)
    learner = new_learner(setup.build, rate, setup.compute, settings.seed, ("trial", order.number))
    history += resume(learner, order.paused)
    course = Course(setup.train, setup.validation, settings.batch_size, callbacks.on_batch)
    last = settings.tune_max_epochs if not is_over(history, patience) else 0
    started = time.monotonic()
    for epoch_number, trained, validated in epochs(learner, course, range(len(history) + 1, last + 1)):
        history.append(Epoch(epoch_number, trained, validated, time.monotonic() - started))
        callbacks.on_epoch(order.number, order.learning_rate, history, learner)
        if is_over(history, patience):
            break
        started = time.monotonic()
    return learner.note


def is_over(history: Sequence[Epoch], patience: int) -> bool:
    """Whether a trial ends here: its loss has diverged, or has not improved for `patience` epochs."""
    if not history:
        return False
    return has_diverged(history[-1]) or out_of_patience([epoch.heldout.loss for epoch in history], patience)


def has_diverged(epoch: Epoch) -> bool:
    return not (math.isfinite(epoch.train.loss) and math.isfinite(epoch.heldout.loss))
