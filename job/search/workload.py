"""How much a run has to do, for whoever foretells when it is done."""

from __future__ import annotations

import math

from job.console.forecast import Images, Work, expected_best
from job.data.draws import tuning_counts
from job.search import rungs, tune
from job.settings import Settings


def work_of(settings: Settings, train: int, test: int, validation: int, workers: int) -> Work:
    """For so many images; `validation` are those of the data set's own, 0 where it has none. There is no search where
    the rate is given.
    """
    searched = settings.learning_rate is None
    images = Images(*(tuning_counts(train, settings.tune_percent, validation) if searched else (0, 0)))
    return Work(
        trials=settings.max_evals if searched else 0,
        trial_epochs=settings.tune_max_epochs,
        patience=settings.trial_patience,
        trial=images,
        final=Images(train, test),
        final_epochs=settings.final_epochs,
        workers=workers,
        search_epochs=rungs.search_epochs(settings) if searched and settings.search == "halving" else None,
        bests=bests(settings, images.train) if searched else (),
    )


def bests(settings: Settings, images: int) -> tuple[float, ...]:
    """After how many epochs each trial of the start-up, whose rates are known, is expected to have its lowest loss."""
    steps = math.ceil(images / settings.batch_size)
    numbers = range(min(settings.tune_startup_trials, settings.max_evals))
    return tuple(expected_best(tune.suggest(settings, number, ()), steps) for number in numbers)
