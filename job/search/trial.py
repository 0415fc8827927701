"""One trial: a fresh model at one learning rate, and why it ends. Every runner runs trials with these functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from job.data import Split
from job.device import Compute
from job.device.memory import OUT_OF_MEMORY, is_out_of_memory
from job.engine import Course, OnBatch, epochs
from job.engine.build import recipe_of
from job.engine.learner import Learner, new_learner, resume, snapshot
from job.engine.schedule import planned
from job.models import Recipe
from job.results import CUT, WAITS, Epoch, Paused, Trial, out_of_patience
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
class Rung:
    """Where trials wait under successive halving: after so many `epochs`, of which as many as `places` go on."""

    epochs: int
    places: int


@dataclass(frozen=True)
class Order:
    """A trial to be run, up to `rung` or to its end; `paused` is what was done of it before."""

    number: int
    learning_rate: float
    paused: Paused | None = None
    rung: Rung | None = None


OnRung = Callable[[Rung, Trial, Callable[[], "dict[str, Any]"]], object]
OnEpoch = Callable[[int, float, Sequence[Epoch], "Learner | None"], object]
OnGroup = Callable[[Sequence[Trial], Callable[[], "dict[str, Any]"]], object]


@dataclass(frozen=True)
class Callbacks:
    """What runners tell while they run; each may raise to stop the search there.

    `on_batch` gets a count of images, 0 where a runner only waits. `on_epoch` gets the trial's number, learning rate,
    epochs so far and learner, which is None where it lives in another process or trains with others as one model.
    `on_group` gets the trials that train so, unfinished as they are, whenever all of their records have been handed
    over, and a function that copies their state; none at the group's end. `on_rung` gets a trial that waits at its rung
    and a function that copies its state. `starts` is asked before a trial begins; where it says no, a runner begins
    none any more. `in_time` is asked after an epoch: where it says no, a trial under way ends as CUT.
    """

    on_batch: OnBatch
    on_epoch: OnEpoch
    on_group: OnGroup = lambda begun, copied: None
    on_rung: OnRung = lambda rung, trial, copied: None
    starts: Callable[[Order], bool] = lambda order: True
    in_time: Callable[[], bool] = lambda: True


def run_trial(setup: Setup, order: Order, callbacks: Callbacks) -> Trial:
    """Trains until the validation loss has not improved for PATIENCE epochs, under a schedule to its end; no further
    than to the order's rung, where the trial waits.

    A loss that is not a number or infinite ends the trial as failed, and so does memory that is not enough.
    """
    history: list[Epoch] = []
    try:
        note = train_one(setup, order, callbacks, history)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Trial(order.number, order.learning_rate, tuple(history), OUT_OF_MEMORY)
    trial = replace(ended(order, history, note), complete=setup.recipe.scheduled)
    return replace(trial, ending=ending(setup.settings, order, history))


def ending(settings: Settings, order: Order, history: Sequence[Epoch]) -> str:
    """Empty for a trial that ended by itself, else why it takes no further epoch here."""
    if waits(settings, order, history):
        return WAITS
    over = len(history) >= settings.tune_max_epochs or is_over(history, settings.trial_patience)
    return "" if over else CUT


def waits(settings: Settings, order: Order, history: Sequence[Epoch]) -> bool:
    """Whether a trial has come to its rung and could go on."""
    at_rung = order.rung is not None and len(history) >= order.rung.epochs
    return at_rung and len(history) < settings.tune_max_epochs and not is_over(history, settings.trial_patience)


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
    most = settings.tune_max_epochs if order.rung is None else min(order.rung.epochs, settings.tune_max_epochs)
    last = most if not is_over(history, patience) else 0
    started = time.monotonic()
    for epoch_number, trained, validated in epochs(learner, course, range(len(history) + 1, last + 1)):
        history.append(Epoch(epoch_number, trained, validated, time.monotonic() - started))
        callbacks.on_epoch(order.number, order.learning_rate, history, learner)
        if is_over(history, patience) or (len(history) < last and not callbacks.in_time()):
            break
        started = time.monotonic()
    if order.rung is not None and waits(settings, order, history):
        at_rung = Trial(order.number, order.learning_rate, tuple(history), note=learner.note, ending=WAITS)
        callbacks.on_rung(order.rung, at_rung, partial(snapshot, learner))
    return learner.note


def is_over(history: Sequence[Epoch], patience: int) -> bool:
    """Whether a trial ends here: its loss has diverged, or has not improved for `patience` epochs."""
    if not history:
        return False
    return has_diverged(history[-1]) or out_of_patience([epoch.heldout.loss for epoch in history], patience)


def has_diverged(epoch: Epoch) -> bool:
    return not (math.isfinite(epoch.train.loss) and math.isfinite(epoch.heldout.loss))
