"""The page's test images: mistakes, right answers, and what the network looked at in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.report.records import RunReport
from job.report.seen import MOST, WORDS, overlay
from job.report.templating import address


@dataclass(frozen=True)
class Shown:
    """An answer: the image's file, or its number, and the image itself, and what was looked at in it, as addresses
    within the page; `heat` is empty where there is none.
    """

    name: str
    true: str
    predicted: str
    confidence: float
    picture: str
    heat: str = ""


@dataclass(frozen=True)
class Mistakes:
    wrong: int
    mistakes: tuple[Shown, ...]


def mistakes(report: RunReport) -> Mistakes:
    wrong = report.evaluation.images - report.evaluation.correct
    rows = [mistake.row for mistake in report.evaluation.mistakes]
    return Mistakes(wrong, shown(report, rows, report.thumbnails, report.seen.mistakes if report.seen else None))


def shown(
    report: RunReport, rows: Sequence[int], images: NDArray[np.uint8], heats: NDArray[np.float32] | None
) -> tuple[Shown, ...]:
    """Rows of the test set with their pixels and heats."""
    names, answers = [score.name for score in report.evaluation.per_class], report.answers
    heated = heats if report.seen and report.seen.method else None
    return tuple(
        Shown(
            f"image {answers.names[row]}" if answers.names[row].isdecimal() else answers.names[row],
            names[answers.true[row]],
            names[answers.predicted[row]],
            float(answers.confidence[row]),
            address(pixels),
            "" if heated is None else address(overlay(pixels, heated[place])),
        )
        for place, (row, pixels) in enumerate(zip(rows, images, strict=True))
    )


@dataclass(frozen=True)
class LookedAt:
    """`sentence` says by which method, with its source, or that none fits; `right` is one image of each class."""

    sentence: str
    right: tuple[Shown, ...]
    some: bool


def looked_at(report: RunReport) -> LookedAt:
    assert report.seen is not None
    right = shown(report, report.seen.rows, report.seen.images, report.seen.right) if report.seen.method else ()
    return LookedAt(WORDS[report.seen.method], right, len(report.evaluation.per_class) > MOST)
