"""What the trials of a search reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.report.plots.drawing import FAILED, TEST, TRAIN, WINNER, small_figure
from job.report.records import RunReport
from job.results import STOPPED, Trial, rate, winner

LITTLE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "color": FAILED}
ABOVE = ("data", "axes fraction")
ADAM_DEFAULT = 0.001  # torch.optim.Adam's own learning rate


def tuning_plot(report: RunReport) -> Figure:
    """The loss that judged each trial over its learning rate; the winner marked, failed trials at the top."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    good = [trial for trial in report.trials if not trial.failure]
    failed = [trial for trial in report.trials if trial.failure]
    best = winner(report.trials)
    assert best is not None  # the search raises where every trial failed
    axes.scatter(
        [t.learning_rate for t in good], [t.validation_loss for t in good], color=TRAIN, label="trial", zorder=3
    )
    top = max(t.validation_loss for t in good)
    if failed:
        axes.scatter(
            [t.learning_rate for t in failed], [top] * len(failed), color=FAILED, marker="x", label="failed", zorder=3
        )
    axes.scatter(
        [best.learning_rate],
        [best.validation_loss],
        s=220,
        marker="*",
        color=WINNER,
        zorder=4,
        label=f"winner: {rate(best.learning_rate)}, epoch {best.best_epoch}, loss {best.validation_loss:.4f}",
    )
    axes.set_xscale("log")
    axes.set(
        xlabel="learning rate (log scale)",
        ylabel=scored(report),
        title=f"{report.model} on {report.data['name']}: {len(report.trials)} trials",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def search(report: RunReport) -> Figure:
    """`tuning_plot` for the page, whose caption names the winner's figures."""
    figure, axes = small_figure()
    good = [trial for trial in report.trials if not trial.failure]
    failed = [trial for trial in report.trials if trial.failure]
    best = winner(report.trials)
    assert best is not None
    limit = report.settings.get("TUNE_MAX_EPOCHS") or 0
    own = [t for t in good if t.ending != STOPPED]
    for label, fill, part in (
        ("trial", TRAIN, [t for t in own if len(t.epochs) >= limit]),
        ("stopped early", "none", [t for t in own if len(t.epochs) < limit]),
    ):
        if part:
            points = ([t.learning_rate for t in part], [t.validation_loss for t in part])
            axes.scatter(*points, facecolors=fill, edgecolors=TRAIN, s=28, linewidths=1.5, label=label)
    stops = at_rungs(good)
    for rung, stopped in sorted(stops.items()):
        points = ([t.learning_rate for t in stopped], [t.validation_loss for t in stopped])
        axes.scatter(*points, marker="v", facecolors="none", edgecolors=FAILED, s=12 + 8 * rung**0.5, zorder=2)
        for trial in stopped if rung > min(stops) else ():
            axes.annotate(str(rung), (trial.learning_rate, trial.validation_loss), (4, 2), **LITTLE)
    if stops:
        axes.scatter([], [], marker="v", facecolors="none", edgecolors=FAILED, label="at a rung")
    if failed:
        top = [max(t.validation_loss for t in good)] * len(failed)
        axes.scatter([t.learning_rate for t in failed], top, color=FAILED, marker="x", label="diverged")
    winning = ([best.learning_rate], [best.validation_loss])
    axes.scatter(*winning, s=190, marker="*", color=WINNER, zorder=4, label="winner")
    near = nearest(report.trials, ADAM_DEFAULT)
    if near is not best and not report.recipe.scheduled:
        ring = ([near.learning_rate], [near.validation_loss])
        axes.scatter(*ring, s=110, facecolors="none", edgecolors=TEST, linewidths=1.5, label="nearest to 0.001")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate (log scale)", ylabel=scored(report))
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small", handletextpad=0.2)
    return figure


def at_rungs(trials: Sequence[Trial]) -> dict[int, list[Trial]]:
    """Rung → the trials that successive halving stopped there."""
    found: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.ending == STOPPED:
            found.setdefault(len(trial.epochs), []).append(trial)
    return found


def went_on(trials: Sequence[Trial]) -> list[tuple[int, int, int]]:
    """Each rung, how many trials came to it, and how many of them went on."""
    found = []
    for rung, stopped in sorted(at_rungs(trials).items()):
        reached = sum(len(trial.epochs) >= rung for trial in trials)
        found.append((rung, reached, reached - len(stopped)))
    return found


def scored(report: RunReport) -> str:
    """What a trial is judged by; under a schedule the rate in question is its peak."""
    return f"{'final' if report.recipe.scheduled else 'lowest'} validation loss"


def trial_curves(report: RunReport) -> Figure:
    """The validation loss of every trial after each epoch; the winner stands out."""
    figure, axes = small_figure()
    best = winner(report.trials)
    limit = report.settings.get("TUNE_MAX_EPOCHS") or 0
    top = 0.0
    for trial in report.trials:
        losses = [epoch.heldout.loss for epoch in trial.epochs]
        numbers = [epoch.number for epoch in trial.epochs]
        wins = trial is best
        colour = WINNER if wins else TRAIN
        axes.plot(
            numbers,
            losses,
            color=colour,
            alpha=1.0 if wins else 0.45,
            linewidth=2.2 if wins else 1.0,
            marker="o" if len(numbers) == 1 else "",
            markersize=3,
            zorder=4 if wins else 3,
        )
        if not trial.failure:
            fill = "none" if len(trial.epochs) < limit else colour
            best_point = (trial.best_epoch, trial.validation_loss)
            axes.plot(*best_point, "o", color=colour, markerfacecolor=fill, markersize=4.5, zorder=5)
            top = max(top, losses[0], trial.validation_loss)
    for rung, reached, on in went_on(report.trials):
        axes.axvline(rung, color=FAILED, linewidth=0.8, linestyle=":", zorder=1)
        axes.annotate(f"{on} of {reached} go on", (rung, 1), (3, -4), xycoords=ABOVE, rotation=90, va="top", **LITTLE)
    bottom, _ = axes.get_ylim()
    axes.set_ylim(bottom, min(axes.get_ylim()[1], top * 1.1))  # a trial that diverges would flatten all others
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="validation loss")
    return figure


def nearest(trials: Sequence[Trial], rate: float) -> Trial:
    """The trial that did not fail whose learning rate is nearest to `rate` on a log scale."""
    good = [trial for trial in trials if not trial.failure]
    return min(good, key=lambda trial: abs(math.log(trial.learning_rate / rate)))
