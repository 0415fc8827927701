"""Loss, accuracy and learning rate over the epochs of the final training."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from job.report.plots.drawing import TEST, TRAIN, small_figure
from job.report.records import RunReport
from job.results import rate

LABELS = {"loss": "cross-entropy loss", "accuracy": "accuracy (%)"}
MARKED = 30  # from so many epochs on a line has no dots


def training_curves(report: RunReport) -> Figure:
    """Loss and accuracy after each epoch, side by side, as `training_curves.png`."""
    pictures = 3 if report.way.rates else 2
    figure = Figure(figsize=(5 * pictures, 4), layout="constrained")
    figure.suptitle(
        f"{report.model} on {report.data['name']}: final training, learning rate {rate(report.choice.learning_rate)}"
    )
    loss, accuracy, *others = figure.subplots(1, pictures)
    for axes in others:
        draw_rates(axes, report)
        axes.grid(alpha=0.3)
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        draw(axes, report, key)
        axes.grid(alpha=0.3)
        axes.legend()
    last = report.history[-1].heldout
    accuracy.set_title(f"test accuracy {last.accuracy:.2f} %", fontsize="medium")
    loss.set_title(f"test loss {last.loss:.4f}", fontsize="medium")
    return figure


def curves(report: RunReport, key: str) -> Figure:
    """One of the two, for the page: `key` is `loss` or `accuracy`."""
    figure, axes = small_figure()
    draw(axes, report, key)
    axes.legend(frameon=False)
    return figure


def rates(report: RunReport) -> Figure:
    """The learning rate over the steps, for the page."""
    figure, axes = small_figure()
    draw_rates(axes, report)
    return figure


def draw_rates(axes: Axes, report: RunReport) -> None:
    epochs, values = zip(*report.way.rates, strict=True)
    axes.plot(epochs, values, color=TRAIN)
    axes.set(xlabel="epochs gone by", ylabel="learning rate")


def draw(axes: Axes, report: RunReport, key: str) -> None:
    numbers = [epoch.number for epoch in report.history]
    marker = "o" if len(numbers) < MARKED else ""
    train = "train, augmented" if report.recipe.augmentation else "train"
    for colour, name, scores in (
        (TRAIN, train, [epoch.train for epoch in report.history]),
        (TEST, "test", [epoch.heldout for epoch in report.history]),
    ):
        values = [getattr(score, key) for score in scores]
        axes.plot(numbers, values, color=colour, marker=marker, markersize=4, label=name)
    axes.set(xlabel="epoch", ylabel=LABELS[key])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True) if len(numbers) > 1 else FixedLocator(numbers))
