"""What `report.html` tells of the search."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median

from job.report.plots import search as plots
from job.report.records import RunReport
from job.report.templating import Drawing, drawing
from job.report.words import plural
from job.results import CUT, STOPPED, Trial, hopeless, winner


@dataclass(frozen=True)
class Search:
    """`rows` are the trials and how each ended; `near` is the trial nearest to Adam's default rate, by `factor`.

    `early` are numbers (from 1) of trials that patience ended, `halved` is how many were stopped at a rung.
    `median` is that of the validation losses.
    """

    rows: tuple[tuple[Trial, str], ...]
    epochs: int
    early: tuple[int, ...]
    failed: int
    halved: int
    seconds: float
    trial_seconds: float
    share_of_time: float
    cost: float | None
    best: Trial
    near: Trial
    factor: float
    median: float
    doubt: str
    default: float
    scheduled: bool
    drawings: tuple[Drawing, ...]
    rungs: tuple[tuple[int, int, int], ...]
    unstopped: float

    @property
    def saved(self) -> float:
        """The share of epochs that were not needed, had all trials taken as many as those that nothing stopped."""
        whole = self.unstopped * len(self.rows)
        return max(0.0, 1 - self.epochs / whole) if whole else 0.0


def search(report: RunReport) -> Search:
    trials, best = report.trials, winner(report.trials)
    assert best is not None  # the search raises where every trial failed
    near, limit = plots.nearest(trials, plots.ADAM_DEFAULT), report.settings.get("TUNE_MAX_EPOCHS")
    whole = [len(trial.epochs) for trial in trials if not trial.ending and not trial.failure]
    early = tuple(trial.number + 1 for trial in trials if stopped_early(trial, limit))
    return Search(
        rows=tuple((trial, "winner" if trial is best else ending(trial, limit)) for trial in trials),
        epochs=sum(len(trial.epochs) for trial in trials),
        early=early,
        failed=sum(bool(trial.failure) for trial in trials),
        halved=sum(trial.ending == STOPPED for trial in trials),
        seconds=report.tuning_seconds,
        trial_seconds=report.trial_seconds,
        share_of_time=report.tuning_seconds / ((report.tuning_seconds + report.training_seconds) or 1),
        cost=report.cost(report.tuning_seconds),
        best=best,
        near=near,
        factor=max(near.learning_rate / plots.ADAM_DEFAULT, plots.ADAM_DEFAULT / near.learning_rate),
        median=median(trial.validation_loss for trial in trials if not trial.failure),
        doubt=hopeless(trials, len(report.evaluation.per_class)),
        default=plots.ADAM_DEFAULT,
        scheduled=report.recipe.scheduled,
        drawings=drawings(report, early),
        rungs=tuple(plots.went_on(trials)),
        unstopped=mean(whole) if whole else 0.0,
    )


def stopped_early(trial: Trial, limit: int | None) -> bool:
    """Whether patience ended it before it had taken all the epochs that it might have taken."""
    return limit is not None and not trial.failure and not trial.ending and len(trial.epochs) < limit


def ending(trial: Trial, limit: int | None) -> str:
    if trial.failure:
        return trial.failure
    if trial.ending == STOPPED:
        return f"stopped at rung {len(trial.epochs)}"
    if trial.ending == CUT:
        return "cut short by MAX_HOURS"
    return "stopped early" if stopped_early(trial, limit) else "ran to the limit"


def drawings(report: RunReport, early: tuple[int, ...]) -> tuple[Drawing, Drawing]:
    """The trials' best losses over their rates, and their losses after each epoch."""
    count = plural(len(report.trials), "trial")
    numbers = f"trial{'s' * (len(early) > 1)} {', '.join(map(str, early))}"
    rates = f"Hollow: stopped early ({numbers})." if early else ""
    stops = plots.at_rungs(report.trials)
    if stops:
        rates += f" Triangles: stopped at a rung, after {plural(min(stops), 'epoch')} or as many as stand beside them."
    which = "last" if report.recipe.scheduled else "best"
    dots = f"Dots mark each trial’s {which} epoch; the winner is green."
    if any(trial.failure for trial in report.trials):
        dots += " Lines that leave the picture diverged."
    over_rates = f"{plots.scored(report).capitalize()} of {count} against their learning rate."
    return (
        drawing(plots.search(report), "search", over_rates, rates),
        drawing(plots.trial_curves(report), "trials", f"Validation loss after each epoch of {count}.", dots),
    )
