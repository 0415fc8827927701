"""The answers on the test set: which classes are confused, how sure the model is, and its worst mistakes."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from job.report.metrics import Evaluation
from job.report.plots.drawing import FAILED, TEST, TRAIN, shorter, small_figure
from job.report.plots.fonts import drawable
from job.report.records import RunReport


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
        axes.set(xticks=[], yticks=[])  # would be laid out, unseen, for half of the time that all pictures take
        answer, truth = shorter(names[mistake.predicted], 14), shorter(names[mistake.true], 14)
        axes.set_title(f"{answer} {100 * mistake.confidence:.1f} %\nis {truth}", fontsize=8)
    return figure
