"""An answer for an image, and how it is told: a line of the log, a row of `predictions.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.console.logs import event, printable
from job.report.tables import for_sheets

SHOWN = 3  # classes in a line


@dataclass(frozen=True)
class Answer:
    """`probabilities` has one share a class; it is None, and `failure` says why, where the image was not readable."""

    name: str
    probabilities: NDArray[np.float64] | None
    failure: str = ""
    may_mend: bool = False


@dataclass(frozen=True)
class Columns:
    """What a row has: the probabilities of all `classes`, or with `top` its so many likeliest ones, by name."""

    classes: Sequence[str]
    top: int | None = None

    @property
    def likeliest(self) -> range:
        """The places of the further classes in a row, from 2."""
        return range(2, min(self.top or 1, len(self.classes)) + 1)


def tell(answer: Answer, classes: Sequence[str]) -> None:
    """One line an image: its most likely classes, or why there are none."""
    shown = printable(answer.name)
    if answer.probabilities is None:
        event("unreadable", f"{shown}: {printable(answer.failure)}", level="WARNING", image=answer.name)
        return
    order = ranked(answer.probabilities)
    likely = ", ".join(
        f"{printable(classes[place])} {100 * answer.probabilities[place]:.1f} %" for place in order[:SHOWN]
    )
    event(
        "prediction",
        f"{shown}: {likely}",
        image=answer.name,
        answer=classes[order[0]],
        probabilities=dict(zip(classes, answer.probabilities.tolist(), strict=True)),
    )


def ranked(shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """The classes' places, the likeliest first; of equal ones the first of the model's outputs."""
    return np.argsort(-shares, kind="stable")


def heading(columns: Columns) -> str:
    """The first line of `predictions.csv`."""
    further = (
        [f"probability_{printable(name)}" for name in columns.classes]
        if columns.top is None
        else [f"{what}_{place}" for place in columns.likeliest for what in ("class", "probability")]
    )
    return as_csv([["image", "class", "probability", "failure", *further]])


def rows(answers: Sequence[Answer], columns: Columns) -> str:
    """A line an image; `failure` says why one has no class."""
    return as_csv([row(answer, columns) for answer in answers])


def row(answer: Answer, columns: Columns) -> list[str]:
    named = [for_sheets(name) for name in columns.classes]
    empty = len(named) if columns.top is None else 2 * len(columns.likeliest)
    if answer.probabilities is None:
        return [for_sheets(answer.name), "", "", for_sheets(answer.failure), *[""] * empty]
    shares = [f"{share:.6f}" for share in answer.probabilities.tolist()]
    if columns.top is None:
        best = int(answer.probabilities.argmax())
        return [for_sheets(answer.name), named[best], shares[best], "", *shares]
    order = ranked(answer.probabilities)[: max(1, columns.top)].tolist()
    further = [cell for place in order[1:] for cell in (named[place], shares[place])]
    return [for_sheets(answer.name), named[order[0]], shares[order[0]], "", *further]


def as_csv(lines: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)  # older Pythons leave a name's CR bare
    writer.writerows(lines)
    return out.getvalue()
