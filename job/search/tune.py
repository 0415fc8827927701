"""The search for the learning rate: hyperopt's TPE, in rounds that a runner runs. The only importer of hyperopt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from job.device.memory import OUT_OF_MEMORY
from job.errors import Fault
from job.results import Trial, winner
from job.runs.standing import START, Standing
from job.search.halving import halved
from job.search.runners import Runner
from job.search.trial import Order
from job.settings import Settings

if TYPE_CHECKING:
    import hyperopt

LABEL = "learning_rate"


def search(
    settings: Settings,
    runner: Runner,
    workers: int,
    on_trial: Callable[[Trial], object],
    standing: Standing = START,
) -> list[Trial]:
    """All trials, in the order of their numbers, from where an earlier attempt left the search.

    The start-up trials are one round, with SEARCH=halving from rung to rung; after them a round is `workers` trials,
    suggested from those before the round. `on_trial` gets each record when it comes, also one that waits at a rung, and
    may raise. Raises Fault where every trial failed.
    """
    done = {trial.number: trial for trial in standing.trials}
    for round_ in rounds(settings, workers):
        halving = settings.search == "halving" and round_.start == 0
        missing = [number for number in round_ if number not in done or halving]
        before = [done[number] for number in range(round_.start)]
        orders = [Order(number, suggest(settings, number, before), standing.paused(number)) for number in missing]
        whole = halved(runner, orders, settings.tune_max_epochs, dict(done)) if halving else runner.run(orders)
        for trial in whole:
            done[trial.number] = trial
            on_trial(trial)
        if any(number not in done for number in round_):
            break  # the runner began no more: there is no time for them
    trials = [done[number] for number in sorted(done)]
    if trials and winner(trials) is None:
        memory = trials[-1].failure == OUT_OF_MEMORY
        raise Fault(
            f"all {len(trials)} trials failed; the last one: {trials[-1].failure}.",
            "Lower BATCH_SIZE, or choose a larger GPU."
            if memory
            else "Lower LR_MAX, or look at the data set's images and labels.",
        )
    return trials


def rounds(settings: Settings, workers: int) -> Iterator[range]:
    """The trials' numbers in groups that are known at the same time."""
    start = min(settings.tune_startup_trials, settings.max_evals)
    yield range(start)
    for first in range(start, settings.max_evals, workers):
        yield range(first, min(first + workers, settings.max_evals))


def suggest(settings: Settings, number: int, finished: Sequence[Trial]) -> float:
    """The learning rate of trial `number`, from the trials `finished` before its round.

    It depends on the seed, the number and those trials alone: hyperopt gets a random generator of its own for every
    suggestion. (Its `trials_save_file` would restart one shared random stream.)
    """
    import hyperopt  # most of a second, which a run with a learning rate of its own does without

    space = hyperopt.hp.loguniform(LABEL, math.log(settings.lr_min), math.log(settings.lr_max))
    generator = np.random.default_rng([settings.seed, number])
    if number < settings.tune_startup_trials:
        domain = hyperopt.base.Domain(lambda rate: 0.0, space)
        seed = int(generator.integers(2**31 - 1))
        (document,) = hyperopt.rand.suggest([number], domain, hyperopt.Trials(), seed)
        return float(document["misc"]["vals"][LABEL][0])
    suggestion: list[float] = []

    def take(rate: float) -> dict[str, Any]:
        suggestion.append(float(rate))
        return {"status": hyperopt.STATUS_OK, "loss": 0.0}

    hyperopt.fmin(
        take,
        space=space,
        algo=partial(hyperopt.tpe.suggest, n_startup_jobs=settings.tune_startup_trials, verbose=False),
        max_evals=len(finished) + 1,
        trials=as_hyperopt(finished),
        rstate=generator,
        show_progressbar=False,
        verbose=False,
    )
    return suggestion[0]


def as_hyperopt(finished: Sequence[Trial]) -> hyperopt.Trials:
    """Finished trials as hyperopt keeps them; a failed one has no loss."""
    import hyperopt

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
