"""What `MODE=verify` compares, and the table that tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from job.data import Dataset
from job.engine.classifier import Classifier
from job.report.answers import Answers
from job.report.seen import Seen
from job.results import Score
from job.runs.finished import Finished
from job.settings import Settings

SHOWN = 4  # differences that one row names


@dataclass(frozen=True)
class Tolerance:
    """How far figures may be off: a share of the loss (of SMALL where that is more) and of the images, at least one."""

    loss: float
    images: float

    def describe(self) -> str:
        return f"within {100 * self.loss:g} % of the loss and {100 * self.images:g} % of the images"

    def of_images(self, images: int) -> int:
        return 0 if self == EXACT else max(1, math.ceil(self.images * images))


SMALL = 0.1  # nats; what is left of a loss below is mostly rounding
EXACT = Tolerance(0, 0)
SAME_PRECISION = Tolerance(0.001, 0.001)  # sums in another order
OTHER_PRECISION = Tolerance(0.02, 0.01)  # bf16 keeps 8 bits of a number, fp16 keeps 11, fp32 keeps 24


@dataclass(frozen=True)
class Facts:
    """A finished run as it lies there, and what its weights give now. `settings` are those of this verification.

    `kept` are the answers that the run kept, where it did; `flipped` is the score with test-time flip now,
    where the run has one. `same_code`: it was made by this very commit. `model` is as anybody loads it, on the CPU.
    """

    settings: Settings
    found: Finished
    results: dict[str, Any]
    about: dict[str, Any]
    model: Classifier
    data: Dataset
    structure: str
    parameters: int
    said: Score
    now: Score
    answers: Answers
    kept: Answers | None
    flipped: Score | None
    wanted: Tolerance
    same_code: bool
    seen: Seen | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        assert self.found.manifest is not None
        return self.found.manifest

    def figures(self) -> str:
        return (
            f"test loss {self.now.loss:.6f} (reported {self.said.loss:.6f}), "
            f"accuracy {self.now.accuracy:.2f} % ({self.said.accuracy:.2f} %)"
        )


Verdict = Literal["equal", "near", "differs", "not compared"]


@dataclass(frozen=True)
class Row:
    """One thing that was looked at; `told` says how, or what differs, or why it was not compared."""

    what: str
    verdict: Verdict
    told: str


def judged(what: str, differences: list[str], told: str) -> Row:
    """Equal, as `told`, where there are no differences."""
    if not differences:
        return Row(what, "equal", told)
    more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return Row(what, "differs", ", ".join(differences[:SHOWN]) + more)


def listed(rows: list[Row]) -> str:
    """One line a row; what was compared stands above what was not."""
    width = max(len(row.what) for row in rows)
    ordered = sorted(rows, key=lambda row: row.verdict == "not compared")
    return "\n".join(f"{row.what:{width}}  {row.verdict:12}  {row.told}" for row in ordered)
