"""What `report.html` tells of the data set: images a class, examples as the model sees them, what is doubtful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.report.records import RunReport
from job.report.templating import address

ROWS = 30  # classes that are shown at once; more fold away
BAD = 20  # damaged images that are listed


@dataclass(frozen=True)
class Row:
    """A class: how many images it has, its share of the largest class, and a strip of examples, where there are any."""

    name: str
    train: int
    validation: int
    test: int
    share: float
    strip: str


@dataclass(frozen=True)
class Data:
    """`sizes` are those of the images' files, where they came in any: `survey.Sizes` as JSON."""

    rows: tuple[Row, ...]
    further: tuple[Row, ...]
    validation: bool
    side: int
    doubts: tuple[str, ...]
    bad: tuple[dict[str, Any], ...]
    more_bad: int
    sizes: dict[str, Any] | None


def data(report: RunReport) -> Data | None:
    """None for a run whose data set was not looked at."""
    survey = report.data.get("survey")
    if survey is None:
        return None
    classes, train, test = report.data["classes"], survey["train"], survey["test"]
    validation = survey["validation"] or [0] * len(classes)
    strips = [strip(images) for images in report.examples] + [""] * len(classes)
    rows = tuple(
        Row(name, train[label], validation[label], test[label], train[label] / max(train), strips[label])
        for label, name in enumerate(classes)
    )
    bad = report.data.get("bad_images", [])
    side = report.examples[0].shape[1] if report.examples else 0
    return Data(
        rows[:ROWS],
        rows[ROWS:],
        bool(survey["validation"]),
        side,
        report.doubts,
        tuple(bad[:BAD]),
        len(bad) - len(bad[:BAD]),
        survey.get("sizes"),
    )


def strip(images: NDArray[np.uint8]) -> str:
    """Images side by side, uint8 `[count, rows, columns, 3]`, as the address of a picture within the page."""
    return address(np.concatenate(list(images), axis=1)) if len(images) else ""
