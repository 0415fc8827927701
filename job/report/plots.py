"""Every picture of one run."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from itertools import zip_longest

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from job.report.fonts import coverage, drawable
from job.report.metrics import Evaluation
from job.report.records import RunReport
from job.results import Trial, winner

ADAM_DEFAULT = 0.001  # torch.optim.Adam's own learning rate

# Colours from Okabe and Ito, distinguishable with colour blindness (https://jfly.uni-koeln.de/color/).
TRAIN, TEST, WINNER, FAILED = "#0072B2", "#D55E00", "#009E73", "#999999"


def training_curves(report: RunReport) -> Figure:
    """Loss and accuracy after each epoch of the final training, side by side."""
    numbers = [epoch.number for epoch in report.history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(
        f"{report.model} on {report.data['name']}: final training, learning rate {report.recipe.learning_rate:.6f}"
    )
    loss, accuracy = figure.subplots(1, 2)
    marker = "o" if len(numbers) < 30 else ""
    for axes, key, label in ((loss, "loss", "cross-entropy loss"), (accuracy, "accuracy", "accuracy (%)")):
        for colour, name, scores in (
            (TRAIN, "train", [epoch.train for epoch in report.history]),
            (TEST, "test", [epoch.heldout for epoch in report.history]),
        ):
            axes.plot(
                numbers,
                [getattr(score, key) for score in scores],
                color=colour,
                marker=marker,
                markersize=4,
                label=name,
            )
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    last = report.history[-1].heldout
    accuracy.set_title(f"test accuracy {last.accuracy:.2f} %", fontsize="medium")
    loss.set_title(f"test loss {last.loss:.4f}", fontsize="medium")
    return figure


def tuning_plot(report: RunReport) -> Figure:
    """The lowest validation loss of every trial over its learning rate; the winner marked, failed trials at the top."""
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
        label=f"winner: {best.learning_rate:.6f}, epoch {best.best_epoch}, loss {best.validation_loss:.4f}",
    )
    axes.set_xscale("log")
    axes.set(
        xlabel="learning rate (log scale)",
        ylabel="lowest validation loss",
        title=f"{report.model} on {report.data['name']}: {len(report.trials)} trials",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def curves(report: RunReport, key: str) -> Figure:
    """One of the two, for the page: `key` is `loss` or `accuracy`."""
    figure, axes = small_figure()
    numbers = [epoch.number for epoch in report.history]
    for colour, name, scores in (
        (TRAIN, "train", [epoch.train for epoch in report.history]),
        (TEST, "test", [epoch.heldout for epoch in report.history]),
    ):
        marker = "o" if len(numbers) < 30 else ""
        axes.plot(numbers, [getattr(s, key) for s in scores], color=colour, marker=marker, markersize=4, label=name)
    axes.set(xlabel="epoch", ylabel={"loss": "cross-entropy loss", "accuracy": "accuracy (%)"}[key])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def search(report: RunReport) -> Figure:
    """`tuning_plot` for the page, whose caption names the winner's figures."""
    figure, axes = small_figure()
    good = [trial for trial in report.trials if not trial.failure]
    failed = [trial for trial in report.trials if trial.failure]
    best = winner(report.trials)
    assert best is not None
    limit = report.settings.get("TUNE_MAX_EPOCHS") or 0
    for label, fill, part in (
        ("trial", TRAIN, [t for t in good if len(t.epochs) >= limit]),
        ("stopped early", "none", [t for t in good if len(t.epochs) < limit]),
    ):
        if part:
            points = ([t.learning_rate for t in part], [t.validation_loss for t in part])
            axes.scatter(*points, facecolors=fill, edgecolors=TRAIN, s=28, linewidths=1.5, label=label)
    if failed:
        top = [max(t.validation_loss for t in good)] * len(failed)
        axes.scatter([t.learning_rate for t in failed], top, color=FAILED, marker="x", label="diverged")
    winning = ([best.learning_rate], [best.validation_loss])
    axes.scatter(*winning, s=190, marker="*", color=WINNER, zorder=4, label="winner")
    near = nearest(report.trials, ADAM_DEFAULT)
    if near is not best:
        ring = ([near.learning_rate], [near.validation_loss])
        axes.scatter(*ring, s=110, facecolors="none", edgecolors=TEST, linewidths=1.5, label="nearest to 0.001")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate (log scale)", ylabel="lowest validation loss")
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small", handletextpad=0.2)
    return figure


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
    bottom, _ = axes.get_ylim()
    axes.set_ylim(bottom, min(axes.get_ylim()[1], top * 1.1))  # a trial that diverges would flatten all others
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="validation loss")
    return figure


def confusion_matrix(evaluation: Evaluation, for_page: bool = False) -> Figure:
    """Rows are true classes, columns predicted ones; colour is the share of the row, numbers count images.

    A browser has fonts of its own, so the page has every name as it is.
    """
    names = [score.name for score in evaluation.per_class]
    names = names if for_page else drawable(names)
    count = len(names)
    size = min(12.0, max(4.6, 1.6 + 0.42 * count))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = ~np.eye(count, dtype=bool)
    # At most 3/4 opaque, so that the numbers keep their contrast on light and on dark ground.
    colours = np.zeros((count, count, 4))
    colours[wrong, :3], colours[~wrong, :3] = to_rgb(TEST), to_rgb(TRAIN)
    colours[..., 3] = 0.75 * np.where(wrong, np.sqrt(shares), shares)  # the root shows rare mistakes, too
    axes.imshow(colours, interpolation="nearest")
    if count <= 20:
        for row, column in np.argwhere(counts):
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8)
    every = max(1, count // 40)
    axes.set_xticks(range(0, count, every), [shorter(name) for name in names[::every]], rotation=45, ha="right")
    axes.set_yticks(range(0, count, every), [shorter(name) for name in names[::every]])
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Accuracy over confidence in bins; a calibrated model's bars end on the diagonal."""
    figure, axes = small_figure()
    used = [part for part in evaluation.bins if part.count]
    width = evaluation.bins[0].high - evaluation.bins[0].low
    largest = max(part.count for part in used)
    for part in used:
        middle = (part.low + part.high) / 2
        share = 0.25 + 0.75 * (part.count / largest) ** 0.5  # bins of few images are pale
        axes.bar(middle, part.accuracy, width * 0.9, color=TRAIN, alpha=0.8 * share)
        axes.plot([middle - width * 0.45, middle + width * 0.45], [part.confidence] * 2, color=TEST, linewidth=2)
    axes.plot([0, 1], [0, 1], color=FAILED, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence of the answer", ylabel="share of right answers")
    return figure


def mistakes(report: RunReport) -> Figure:
    """The most confident mistakes, as `mistakes.png`."""
    names = drawable([score.name for score in report.evaluation.per_class])
    columns = min(6, len(report.thumbnails))
    rows = -(-len(report.thumbnails) // columns)
    figure = Figure(figsize=(1.75 * columns + 0.3, 2.15 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{report.model}: most confident mistakes")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes, mistake, image in zip_longest(places, report.evaluation.mistakes, report.thumbnails):
        axes.set_axis_off()
        if mistake is None:
            continue
        axes.imshow(image, interpolation="nearest")
        answer, truth = shorter(names[mistake.predicted], 14), shorter(names[mistake.true], 14)
        axes.set_title(f"{answer} {100 * mistake.confidence:.1f} %\nis {truth}", fontsize=8)
    return figure


def small_figure(size: tuple[float, float] = (4.8, 3.4)) -> tuple[Figure, Axes]:
    """A figure that stays legible on a telephone, `size` inches large."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.5, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def nearest(trials: Sequence[Trial], rate: float) -> Trial:
    """The trial that did not fail whose learning rate is nearest to `rate` on a log scale."""
    good = [trial for trial in trials if not trial.failure]
    return min(good, key=lambda trial: abs(math.log(trial.learning_rate / rate)))


def shorter(name: str, length: int = 18) -> str:
    """At most `length` characters, and no formula for matplotlib where dollars are part of the name."""
    return (name if len(name) <= length else f"{name[: length - 1]}…").replace("$", r"\$")


# What matplotlib draws in, and the page's own variable for it: one picture for light and dark.
THEMED = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--surface)",
    "#b0b0b0": "var(--rule)",
    "#cccccc": "var(--rule)",
    TRAIN.lower(): "var(--blue)",
    TEST.lower(): "var(--orange)",
    WINNER.lower(): "var(--green)",
    FAILED.lower(): "var(--faint)",
}


def svg(figure: Figure, name: str) -> str:
    """The picture as an `<svg>` element for a page that defines the colours in `THEMED`.

    Text stays text; `name` makes the ids unique within the page; equal runs give equal bytes.
    """
    out = io.StringIO()
    with (
        matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "savefig.transparent": True}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts count, not those here
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = out.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'<g id="[^"]*">', "<g>", drawing)
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    for colour, variable in THEMED.items():
        drawing = drawing.replace(f": {colour}", f": {variable}")
    drawing = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", drawing)
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', drawing, count=1).strip()


def png(figure: Figure) -> bytes:
    """The picture as PNG, without the version that matplotlib would write into it: equal runs give equal bytes."""
    out = io.BytesIO()
    texts = tuple(text.get_text() for text in figure.findobj(Text))
    with matplotlib.rc_context({"savefig.dpi": 144}):
        for text in figure.findobj(Text):
            text.set_fontfamily(list(coverage(texts)[0]))
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
