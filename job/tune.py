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
from job.engine import Learner, OnBatch, Paused, epochs, new_learner, restore
from job.errors import Fault
from job.results import Epoch, Trial, out_of_patience, winner
from job.settings import Settings

LABEL = "learning_rate"


@dataclass(frozen=True)
class Callbacks:
    """What the search tells while it runs; each may raise to stop the search there.

    `on_epoch` gets the trial's number, learning rate, epochs so far and learner; `on_trial` all trials so far.
    """

    on_batch: OnBatch
    on_epoch: Callable[[int, float, Sequence[Epoch], Learner], object]
    on_trial: Callable[[Sequence[Trial]], object]


def search(
    settings: Settings,
    build: Callable[[], nn.Module],
    train: Split,
    validation: Split,
    compute: Compute,
    callbacks: Callbacks,
    finished: Sequence[Trial] = (),
    paused: Paused | None = None,
) -> list[Trial]:
    """All trials. Those in `finished` are of an earlier attempt and not run again; `paused` is the one it was at.

    Raises Fault where every trial failed.
    """
    trials = list(finished)
    for number in range(len(trials), settings.max_evals):
        rate = suggest(settings, trials)
        trials.append(run_trial(settings, build, train, validation, compute, callbacks, number, rate, paused))
        paused = None
        callbacks.on_trial(trials)
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
    paused: Paused | None = None,
) -> Trial:
    """One fresh model trained at `learning_rate` until its validation loss has not improved for PATIENCE epochs.

    A loss that is not a number or infinite ends the trial as failed.
    """
    learner = new_learner(build, learning_rate, compute, settings.seed, ("trial", number))
    history: list[Epoch] = []
    if paused is not None:
        history.extend(paused.history)
        restore(learner, paused.learner)
    started = time.monotonic()
    last = settings.tune_max_epochs if not is_over(history, settings.patience) else 0
    for epoch_number, trained, validated in epochs(
        learner,
        train,
        validation,
        batch_size=settings.batch_size,
        numbers=range(len(history) + 1, last + 1),
        on_batch=callbacks.on_batch,
    ):
        history.append(Epoch(epoch_number, trained, validated, time.monotonic() - started))
        callbacks.on_epoch(number, learning_rate, history, learner)
        if is_over(history, settings.patience):
            break
        started = time.monotonic()
    failure = f"the loss diverged in epoch {len(history)}" if has_diverged(history[-1]) else ""
    return Trial(number, learning_rate, tuple(history), failure)


def is_over(history: Sequence[Epoch], patience: int) -> bool:
    """Whether a trial ends here: its loss has diverged, or has not improved for `patience` epochs."""
    if not history:
        return False
    return has_diverged(history[-1]) or out_of_patience([epoch.heldout.loss for epoch in history], patience)


def has_diverged(epoch: Epoch) -> bool:
    return not (math.isfinite(epoch.train.loss) and math.isfinite(epoch.heldout.loss))
