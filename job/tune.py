"""The search for the learning rate: hyperopt's TPE, one trial at a time. The only importer of hyperopt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import hyperopt
import numpy as np
from torch import nn

from job.data import Split
from job.device import Compute
from job.engine import OnBatch, epochs, new_learner
from job.errors import Fault
from job.results import Epoch, Trial, out_of_patience, winner
from job.settings import Settings

LABEL = "learning_rate"


@dataclass(frozen=True)
class Callbacks:
    """What the search tells while it runs. `on_batch` may raise to stop the search there."""

    on_batch: OnBatch
    on_epoch: Callable[[int, float, Epoch], object]
    on_trial: Callable[[Trial], object]


def search(
    settings: Settings,
    build: Callable[[], nn.Module],
    train: Split,
    validation: Split,
    compute: Compute,
    callbacks: Callbacks,
    finished: Sequence[Trial] = (),
) -> list[Trial]:
    """All trials, those in `finished` (of an earlier attempt) first and not run again.

    Raises Fault where every trial failed.
    """
    trials = list(finished)
    for number in range(len(trials), settings.max_evals):
        rate = suggest(settings, trials)
        trial = run_trial(settings, build, train, validation, compute, callbacks, number, rate)
        trials.append(trial)
        callbacks.on_trial(trial)
    if winner(trials) is None:
        raise Fault(
            f"all {len(trials)} trials failed; the last one: {trials[-1].failure}.",
            "Lower LR_MAX, or look at the data set's images and labels.",
        )
    return trials


def suggest(settings: Settings, finished: Sequence[Trial]) -> float:
    """The learning rate of the next trial.

    It depends on the seed and the finished trials alone: hyperopt's `fmin` gets a random generator of its own for every
    suggestion, and is stopped when it evaluates it. (Its `trials_save_file` would restart one shared random stream.)
    """
    suggestion: list[float] = []

    def take(rate: float) -> dict[str, Any]:
        suggestion.append(float(rate))
        return {"status": hyperopt.STATUS_OK, "loss": 0.0}

    hyperopt.fmin(
        take,
        space=hyperopt.hp.loguniform(LABEL, math.log(settings.lr_min), math.log(settings.lr_max)),
        algo=partial(hyperopt.tpe.suggest, n_startup_jobs=settings.tune_startup_trials, verbose=False),
        max_evals=len(finished) + 1,
        trials=as_hyperopt(finished),
        rstate=np.random.default_rng([settings.seed, len(finished)]),
        show_progressbar=False,
        verbose=False,
    )
    return suggestion[0]


def as_hyperopt(finished: Sequence[Trial]) -> hyperopt.Trials:
    """Finished trials as hyperopt keeps them; a failed one has no loss."""
    trials = hyperopt.Trials()
    if not finished:
        return trials  # an empty list of documents would not be accepted
    numbers = [trial.number for trial in finished]
    results = [
        {"status": hyperopt.STATUS_FAIL}
        if trial.failure
        else {"status": hyperopt.STATUS_OK, "loss": trial.validation_loss}
        for trial in finished
    ]
    miscs = [
        {
            "tid": trial.number,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "workdir": None,
            "idxs": {LABEL: [trial.number]},
            "vals": {LABEL: [trial.learning_rate]},
        }
        for trial in finished
    ]
    documents = trials.new_trial_docs(numbers, [None] * len(numbers), results, miscs)
    for document in documents:
        document["state"] = hyperopt.JOB_STATE_DONE
    return hyperopt.base.trials_from_docs(documents)


def run_trial(
    settings: Settings,
    build: Callable[[], nn.Module],
    train: Split,
    validation: Split,
    compute: Compute,
    callbacks: Callbacks,
    number: int,
    learning_rate: float,
) -> Trial:
    """One fresh model trained at `learning_rate` until its validation loss has not improved for PATIENCE epochs.

    A loss that is not a number or infinite ends the trial as failed.
    """
    learner = new_learner(build, learning_rate, compute, settings.seed, ("trial", number))
    history: list[Epoch] = []
    started = time.monotonic()
    for epoch_number, trained, validated in epochs(
        learner,
        train,
        validation,
        batch_size=settings.batch_size,
        numbers=range(1, settings.tune_max_epochs + 1),
        on_batch=callbacks.on_batch,
    ):
        now = time.monotonic()
        epoch = Epoch(epoch_number, trained, validated, now - started)
        history.append(epoch)
        callbacks.on_epoch(number, learning_rate, epoch)
        started = time.monotonic()
        if not (math.isfinite(trained.loss) and math.isfinite(validated.loss)):
            return Trial(number, learning_rate, tuple(history), failure=f"the loss diverged in epoch {epoch_number}")
        if out_of_patience([e.heldout.loss for e in history], settings.patience):
            break
    return Trial(number, learning_rate, tuple(history))
