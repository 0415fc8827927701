"""Loss and accuracy over the epochs of the final training."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.report.plots.drawing import TEST, TRAIN, small_figure
from job.report.records import RunReport
from job.results import rate

LABELS = {"loss": "cross-entropy loss", "accuracy": "accuracy (%)"}
MARKED = 30  # from so many epochs on a line has no dots


def training_curves(report: RunReport) -> Figure:
    """Loss and accuracy after each epoch, side by side, as `training_curves.png`."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(
        f"{report.model} on {report.data['name']}: final training, learning rate {rate(report.choice.learning_rate)}"
    )
    loss, accuracy = figure.subplots(1, 2)
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


def draw(axes: Axes, report: RunReport, key: str) -> None:
    numbers = [epoch.number for epoch in report.history]
    marker = "o" if len(numbers) < MARKED else ""
    for colour, name, scores in (
        (TRAIN, "train", [epoch.train for epoch in report.history]),
        (TEST, "test", [epoch.heldout for epoch in report.history]),
    ):
        values = [getattr(score, key) for score in scores]
        axes.plot(numbers, values, color=colour, marker=marker, markersize=4, label=name)
    axes.set(xlabel="epoch", ylabel=LABELS[key])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
