"""What a report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.models import PLAIN, Recipe
from job.report.answers import Answers
from job.report.metrics import Evaluation
from job.results import Choice, Epoch, Trial


@dataclass(frozen=True)
class RunReport:
    """Everything that a report tells. `settings`, `sources` and `provenance` are JSON as they stand.

    `thumbnails` are the test images of `evaluation.mistakes`, uint8 `[mistakes, rows, columns, RGB]`; `examples` some
    training images of each class, alike. `doubts` are sentences on the data set.
    """

    run_name: str
    model: str
    structure: str
    parameters: int
    batch_size: int
    choice: Choice
    trials: tuple[Trial, ...]
    tuning_seconds: float  # on the clock, over all attempts
    history: tuple[Epoch, ...]
    device: str
    settings: dict[str, Any]
    sources: dict[str, str]
    data: dict[str, Any]
    provenance: dict[str, Any]
    answers: Answers
    evaluation: Evaluation
    thumbnails: NDArray[np.uint8]
    doubts: tuple[str, ...] = ()
    examples: tuple[NDArray[np.uint8], ...] = ()
    recipe: Recipe = PLAIN

    @property
    def trial_seconds(self) -> float:
        """The sum over the trials, of which several may have run at the same time."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def training_seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.history)

    def cost(self, seconds: float) -> float | None:
        """USD for so long; None where no PRICE_PER_HOUR was set."""
        price = self.settings.get("PRICE_PER_HOUR")
        return price * seconds / 3600 if price else None


def data_name(name: str, origin: str) -> str:
    """What people call the data set: the folder's own name where it holds somebody's images."""
    return (Path(origin).name or name) if name == "folder" else name
