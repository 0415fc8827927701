"""The final fit: a fresh model on the whole training set, with the rate and the epochs that the search found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from job.data import Split
from job.device import Compute
from job.engine import Learner, OnBatch, Paused, epochs, new_learner, restore
from job.errors import Fault
from job.results import Epoch, Recipe
from job.settings import Settings


@dataclass(frozen=True)
class Fitted:
    """The trained model and its history; each epoch's held-out score is on the test set, which chooses nothing."""

    model: nn.Module
    history: tuple[Epoch, ...]


def fit(
    settings: Settings,
    recipe: Recipe,
    build: Callable[[], nn.Module],
    train: Split,
    test: Split,
    compute: Compute,
    *,
    on_batch: OnBatch,
    on_epoch: Callable[[Sequence[Epoch], Learner], object],
    paused: Paused | None = None,
) -> Fitted:
    """Trains for exactly `recipe.epochs` epochs, those in `paused` counted in. Raises Fault where the loss diverges."""
    learner = new_learner(build, recipe.learning_rate, compute, settings.seed, ("final",))
    history: list[Epoch] = []
    if paused is not None:
        history.extend(paused.history)
        restore(learner, paused.learner)
    started = time.monotonic()
    numbers = range(len(history) + 1, recipe.epochs + 1)
    for number, trained, tested in epochs(
        learner, train, test, batch_size=settings.batch_size, numbers=numbers, on_batch=on_batch
    ):
        history.append(Epoch(number, trained, tested, time.monotonic() - started))
        if not (math.isfinite(trained.loss) and math.isfinite(tested.loss)):
            raise Fault(
                f"the final training diverged in epoch {number} (learning rate {recipe.learning_rate:g}).",
                "Lower LEARNING_RATE, or LR_MAX where the search chose it.",
            )
        on_epoch(history, learner)
        started = time.monotonic()
    return Fitted(learner.model, tuple(history))
