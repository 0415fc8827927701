"""The figures as pictures, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.gpu.steps import Note

NAMES = ("steps.png", "notebook.png", "runs.png")


def draw(tables: Mapping[str, Sequence[Note]], conditions: str, folder: Path) -> list[str]:
    """Draws what there are figures for. Returns the files' names, or says why there are none."""
    if find_spec("matplotlib") is None:
        print("SKIPPED: pictures (matplotlib is not installed)")
        return []
    drawn = []
    for name, table, paint in (
        ("steps.png", "speed of a step", steps),
        ("notebook.png", "job against notebook", notebook),
        ("runs.png", "whole runs", curves),
    ):
        rows = [note.row for note in tables.get(table, []) if note.passed is not False]
        if rows:
            paint(rows, conditions, folder / name)
            drawn.append(name)
    return drawn


def axes_of(conditions: str, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(conditions, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def bars(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], label: str, conditions: str, file: Path
) -> None:
    """A group of bars a row, one for each of `columns` (of the row → its name in the picture)."""
    figure, axes = axes_of(conditions, 1.4 + 0.5 * len(rows))
    height = 0.8 / len(columns)
    for position, (column, name) in enumerate(columns.items()):
        places = [place + position * height for place in range(len(rows))]
        drawn = axes.barh(places, [row[column] for row in rows], height * 0.9, label=name)
        axes.bar_label(
            drawn, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}", fontsize="x-small", padding=2
        )
    axes.set_yticks(
        [place + 0.4 - height / 2 for place in range(len(rows))],
        [f"{row['model']}, {row['precision']}" for row in rows],
    )
    axes.invert_yaxis()
    axes.set(xlabel=label, xscale="log")
    axes.margins(x=0.15)
    if len(columns) > 1:
        axes.legend(fontsize="small", frameon=False)
    figure.savefig(file, dpi=110)


def steps(rows: Sequence[Mapping[str, Any]], conditions: str, file: Path) -> None:
    columns = {"eager, µs a step": "eager", "replayed, µs a step": "replayed"}
    bars(rows, columns, "µs of a training step", conditions, file)


def notebook(rows: Sequence[Mapping[str, Any]], conditions: str, file: Path) -> None:
    bars(rows, {"notebook over job": "notebook"}, "time of an epoch, in times of the job's", conditions, file)


def curves(rows: Sequence[Mapping[str, Any]], conditions: str, file: Path) -> None:
    figure, axes = axes_of(conditions, 4)
    for row in rows:
        axes.plot(range(1, len(row["curve"]) + 1), row["curve"], marker=".", label=f"{row['model']}, {row['data']}")
    axes.set(xlabel="epoch of the final training", ylabel="test accuracy, %")
    axes.legend(fontsize="small", frameon=False)
    figure.savefig(file, dpi=110)
