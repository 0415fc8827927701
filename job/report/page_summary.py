"""`summary.html`: finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from job.report.comparison import Run, labels, several, title
from job.report.differences import MCNEMAR, ClassRow, Pair, class_by_class, pairs
from job.report.plots import summary as plots
from job.report.templating import Drawing, Section, drawing, page
from job.report.words import plural

LINES = "Lines are 95 % intervals."
UNNAMED = "A point without a name had no room for it."
TESTED = "The test set is looked at after each epoch and chooses nothing."


def html(groups: Sequence[Sequence[Run]], left_out: Sequence[str], price_per_hour: float | None) -> str:
    """The page for `groups` of runs, each on one data set; `left_out` says of other runs why they are not there."""
    lead = f"{plural(sum(map(len, groups)), 'finished run')}."
    if len(groups) > 1:
        lead += f" {several(groups)}"
    sections = [
        Section(f"data-{number}", title(group), "summary/data.html", data(group, number, price_per_hour))
        for number, group in enumerate(groups, 1)
    ]
    if left_out:
        sections.append(Section("left-out", "Left out", "summary/left_out.html", left_out))
    return page("Runs side by side", lead, sections, "This page is one file and loads nothing.")


@dataclass(frozen=True)
class Data:
    """The runs on one data set. `differences` and `classes` are None where there is nothing to compare."""

    sha256: str
    runs: tuple[Row, ...]
    computers: tuple[str, ...]
    hardware: int
    price_per_hour: float | None
    drawings: tuple[Drawing, ...]
    curves: tuple[Drawing, ...]
    differences: Differences | None
    classes: Classes | None


@dataclass(frozen=True)
class Row:
    """A run by the name it has on this page. `cost` is in USD, None without a price."""

    name: str
    run: Run
    cost: float | None
    computed_on: str


def data(group: Sequence[Run], number: int, price_per_hour: float | None) -> Data:
    runs = tuple(
        Row(name, run, run.cost(price_per_hour), f"{run.hardware}, {run.precision}")
        for name, run in zip(labels(group), group, strict=True)
    )
    several = len(group) > 1
    return Data(
        sha256=group[0].data_sha256,
        runs=runs,
        computers=tuple(sorted({row.computed_on for row in runs})),
        hardware=len({run.hardware for run in group}),
        price_per_hour=price_per_hour,
        drawings=drawings(group, number, price_per_hour) if several else (),
        curves=curves(group, number) if several else (),
        differences=differences(group) if several else None,
        classes=classes(group) if several else None,
    )


def drawings(group: Sequence[Run], number: int, price_per_hour: float | None) -> tuple[Drawing, ...]:
    """Accuracy against parameters, time and, with a price, cost; `number` tells the groups' pictures apart."""
    inches = (3.7, 3.1) if price_per_hour else (4.8, 3.4)  # three of them in a row are smaller
    points = ", ".join(f"{name} {100 * run.accuracy:.1f} %" for name, run in zip(labels(group), group, strict=True))
    made = [
        ("size", "parameters", plots.size(group, inches), LINES if len(group) <= plots.MANY else f"{LINES} {UNNAMED}"),
        ("time", "training time", plots.time(group, inches), ""),
    ]
    if price_per_hour:
        made.append(("cost", "cost", plots.cost(group, inches, price_per_hour), "Cost of tuning and training."))
    return tuple(
        drawing(figure, f"{name}-{number}", f"Test accuracy against {what}: {points}.", caption)
        for name, what, figure, caption in made
    )


def curves(group: Sequence[Run], number: int) -> tuple[Drawing, ...]:
    """How all runs learned, as far as they tell it."""
    made = (
        ("tested", "Test accuracy over the epochs of each final training", plots.accuracies(group), TESTED),
        ("validated", "Validation loss over the epochs of each search's winning trial", plots.losses(group), ""),
    )
    return tuple(
        drawing(figure, f"{name}-{number}", f"{what}; the runs by their names.", caption)
        for name, what, figure, caption in made
        if figure is not None
    )


@dataclass(frozen=True)
class Cell:
    """A difference, row minus column, in percentage points; None where both are one run."""

    points: float | None
    differ: bool


@dataclass(frozen=True)
class Differences:
    """A row of cells for each run, in the order of `names`, and the pairs they were taken from.

    `exact` and `approximate` count the pairs that McNemar's test and the z-test judged.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    pairs: tuple[Pair, ...]
    exact: int
    approximate: int


def differences(group: Sequence[Run]) -> Differences:
    found = pairs(group)
    judged = {(pair.one, pair.other): pair for pair in found}

    def cell(row: int, column: int) -> Cell:
        if row == column:
            return Cell(None, False)
        pair = judged[min(row, column), max(row, column)]
        return Cell(pair.points if row < column else -pair.points, pair.differ)

    places = range(len(group))
    exact = sum(pair.test == MCNEMAR for pair in found)
    return Differences(
        names=tuple(labels(group)),
        rows=tuple(tuple(cell(row, column) for column in places) for row in places),
        pairs=found,
        exact=exact,
        approximate=len(found) - exact,
    )


@dataclass(frozen=True)
class Classes:
    """`comparisons` is for how many of them what differs was corrected."""

    names: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    comparisons: int


def classes(group: Sequence[Run]) -> Classes | None:
    """Recall of each class in each run that tells it; None where fewer than two do."""
    known = [(name, run) for name, run in zip(labels(group), group, strict=True) if run.recalls]
    rows, comparisons = class_by_class([run for _, run in known])
    return Classes(tuple(name for name, _ in known), rows, comparisons) if rows else None
