"""How much a run has to do, for whoever foretells when it is done."""

from __future__ import annotations

from job.console.forecast import Images, Work
from job.data.draws import tuning_counts
from job.search import halving
from job.settings import Settings


def work_of(settings: Settings, train: int, test: int, validation: int, workers: int) -> Work:
    """For so many images; `validation` are those of the data set's own, 0 where it has none. There is no search where
    the rate is given.
    """
    searched = settings.learning_rate is None
    return Work(
        trials=settings.max_evals if searched else 0,
        trial_epochs=settings.tune_max_epochs,
        patience=settings.trial_patience,
        trial=Images(*(tuning_counts(train, settings.tune_percent, validation) if searched else (0, 0))),
        final=Images(train, test),
        final_epochs=settings.final_epochs,
        workers=workers,
        search_epochs=halving.search_epochs(settings) if searched and settings.search == "halving" else None,
    )
