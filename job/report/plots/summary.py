"""Runs side by side: accuracy against size, time and cost, and how they learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from job.report.comparison import Run, labels
from job.report.plots.drawing import FAILED, TEST, TRAIN, WINNER, shorter, small_figure

MARGINS = (52, 46)  # of a figure, for its ticks and labels, in points
FONT, LETTER = 9, 5.2  # the size of a name in a plot and how wide one of its letters is on average, in points
STYLES = tuple((colour, style) for style in ("-", "--", ":") for colour in (TRAIN, TEST, WINNER))  # of curves by name
MANY = 12  # points of which each has its name, whatever it costs
FEW, WIDE = 30, 8  # epochs below which they are dots as well; times as many as another run's, from which on x is log
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def size(group: Sequence[Run], inches: tuple[float, float]) -> Figure:
    return against(group, "parameters", [run.parameters for run in group], EngFormatter(sep=""), inches)


def time(group: Sequence[Run], inches: tuple[float, float]) -> Figure:
    minutes = [max(run.training_seconds, 0.01) / 60 for run in group]
    return against(group, "training time (minutes)", minutes, PLAIN, inches)


def cost(group: Sequence[Run], inches: tuple[float, float], price_per_hour: float) -> Figure:
    dollars = [max(run.cost(price_per_hour) or 0.0, 1e-6) for run in group]
    return against(group, "cost (USD)", dollars, PLAIN, inches)


def against(
    group: Sequence[Run],
    label: str,
    values: Sequence[float],
    formatter: FuncFormatter | EngFormatter,
    size: tuple[float, float],
) -> Figure:
    """Accuracy with its interval over `values`, one a run, on a log scale; `size` is the figure's, in inches."""
    figure, axes = small_figure(size)
    for run, x in zip(group, values, strict=True):
        low, high = (100 * end for end in run.interval)
        axes.plot([x, x], [low, high], color=TRAIN, linewidth=1.5, alpha=0.6)
        axes.plot(x, 100 * run.accuracy, "o", color=TRAIN, markersize=6)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 30 else (1,)))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=f"{label}, log scale", ylabel="test accuracy (%)")
    name_points(axes, group, values, size)
    return figure


def accuracies(group: Sequence[Run]) -> Figure | None:
    """Test accuracy over the epochs of each run's final training; None where no run tells it."""
    return curves(group, [run.tested for run in group], "epoch of the final training", "test accuracy (%)")


def losses(group: Sequence[Run]) -> Figure | None:
    """Validation loss over the epochs of each search's winning trial; None where no run has one."""
    return curves(group, [run.validated for run in group], "epoch of the winning trial", "validation loss")


def curves(group: Sequence[Run], values: Sequence[Sequence[float]], label: str, what: str) -> Figure | None:
    """A line for each run that has `values`, the most accurate ones by name, all others faint and behind them."""
    every = list(zip(labels(group), values, strict=True))
    lines = [line for _, line in every if line]
    if not lines:
        return None
    named = [(name, line, style) for (name, line), style in zip(every, STYLES, strict=False) if line]
    others = [line for _, line in every[len(STYLES) :] if line]
    rows = -(-(len(named) + bool(others)) // 2)
    figure, axes = small_figure((4.8, 3.1 + 0.2 * rows))
    for number, line in enumerate(others):
        title = f"{len(others)} less accurate" if number == 0 else None
        axes.plot(range(1, len(line) + 1), line, color=FAILED, linewidth=0.9, alpha=0.7, label=title, zorder=1)
    for name, line, (colour, style) in reversed(named):
        look: dict[str, Any] = {"color": colour, "linestyle": style, "marker": "o" if len(line) < FEW else ""}
        axes.plot(range(1, len(line) + 1), line, label=shorter(name, 26), zorder=2, markersize=3, linewidth=1.6, **look)
    if max(map(len, lines)) > WIDE * min(map(len, lines)):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(PLAIN)
        axes.xaxis.set_minor_formatter(NullFormatter())
        label += ", log scale"
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=label, ylabel=what)
    handles, titles = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], titles[::-1], loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def name_points(axes: Axes, group: Sequence[Run], values: Sequence[float], size: tuple[float, float]) -> None:
    """A name at every point."""
    width, height = (72 * inches - margin for inches, margin in zip(size, MARGINS, strict=True))
    left, right = (math.log(end) for end in axes.get_xlim())
    bottom, top = axes.get_ylim()
    spots = [
        ((math.log(x) - left) / (right - left) * width, (100 * run.accuracy - bottom) / (top - bottom) * height)
        for run, x in zip(group, values, strict=True)
    ]
    names = labels(group)
    for name, run, x, offset in zip(names, group, values, places(names, spots, width, height), strict=True):
        if offset is None:
            continue
        spot = (x, 100 * run.accuracy)
        axes.annotate(name, spot, xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=FONT)


def places(
    names: Sequence[str], points: Sequence[tuple[float, float]], width: float, height: float
) -> list[tuple[float, float] | None]:
    """Where each name's middle goes, relative to its point, so that names meet neither each other nor a point.

    `points` are in an area of `width` times `height`, all in printer's points. Where everything is taken, a name goes
    to the right of its point, rather on top of another one than nowhere; of more than MANY, None: nowhere.
    """
    dot = 4.0
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in points]
    found: list[tuple[float, float] | None] = []
    for name, (x, y) in zip(names, points, strict=True):
        half, line = 0.5 * LETTER * len(name), 0.6 * FONT
        beside, above = dot + 2 + half, dot + 1 + line
        options = [(beside, 0.0), (-beside, 0.0), (0.0, above), (0.0, -above)]
        options += [(side * beside, up * step * line) for step in (1, 2, 3, 4) for up in (-1, 1) for side in (1, -1)]
        boxes = [(x + dx - half, y + dy - line, x + dx + half, y + dy + line) for dx, dy in options]
        free = (
            number
            for number, (left, low, right, high) in enumerate(boxes)
            if left >= 0
            and right <= width
            and low >= -line
            and not any(left < other[2] and other[0] < right and low < other[3] and other[1] < high for other in taken)
        )
        chosen = next(free, 0 if len(names) <= MANY else None)
        if chosen is None:
            found.append(None)
            continue
        found.append(options[chosen])
        taken.append(boxes[chosen])
    return found
