"""The benchmark's ratios as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#4e79a7", "#76b7b2", "#b07aa1", "#d4a6c8", "#9c9c9c")


def draw(results: dict[str, Any], conditions: str, path: Path) -> None:
    """The picture as PNG."""
    ratios(results, conditions).savefig(path, dpi=144)


def ratios(results: dict[str, Any], conditions: str) -> Figure:
    """A group of bars for each model: how many times the job's time the others take."""
    titles = [title for title in next(iter(results.values()))["median_seconds"] if title != "job"]
    figure = Figure(figsize=(9, 1.6 + 1.0 * len(results)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(titles)
    for position, title in enumerate(titles):
        rows = [row + position * height for row in range(len(results))]
        values = [result["over_job"][title] for result in results.values()]
        bars = axes.barh(rows, values, height * 0.9, label=title, color=COLOURS[position % len(COLOURS)])
        axes.bar_label(bars, fmt="%.2f", fontsize="x-small", padding=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(results))], list(results))
    axes.invert_yaxis()
    axes.set(xlabel="time of an epoch, in times of the job's (1 = the job)", title=conditions)
    axes.title.set_fontsize("small")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(titles), fontsize="small", frameon=False)
    return figure
