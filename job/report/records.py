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
from job.report.seen import Seen
from job.results import Choice, Epoch, Score, Trial


@dataclass(frozen=True)
class OfRecipe:
    """How the model was trained. Under a recipe with a schedule `rates` are points (epochs gone by, learning rate);
    `sheet` shows augmented training images, uint8 `[rows, columns, side, side, 3]`; `flipped` is the test set's score
    where each image's answer is averaged with that of its mirror image.
    """

    recipe: Recipe = PLAIN
    rates: tuple[tuple[float, float], ...] = ()
    sheet: NDArray[np.uint8] | None = None
    flipped: Score | None = None


@dataclass(frozen=True)
class TimeLimit:
    """What of a run fitted into MAX_HOURS: trials begun of those wanted, `cut` of them cut short; epochs of the final
    training done, `planned` at its beginning, and wanted. Seconds that are booked nowhere else: before and between
    search and training, kills among them, and for the answers to the test set.
    """

    hours: float
    trials: int
    trials_wanted: int
    trials_cut: int
    epochs: int
    epochs_planned: int
    epochs_wanted: int
    loading_seconds: float = 0.0
    answers_seconds: float = 0.0

    @property
    def in_words(self) -> str:
        """`7 of 20 trials, 9 of 11 epochs fitted into 0.5 hours`."""
        cut = f" ({self.trials_cut} of them cut short)" if self.trials_cut else ""
        trials = f"{self.trials} of {self.trials_wanted} trials{cut}, " if self.trials_wanted else ""
        return f"{trials}{self.epochs} of {self.epochs_wanted} epochs fitted into {self.hours:g} hours"


@dataclass(frozen=True)
class RunReport:
    """Everything that a report tells. `settings`, `sources` and `provenance` are JSON as they stand.

    `thumbnails` are the test images of `evaluation.mistakes`, uint8 `[mistakes, rows, columns, RGB]`; `examples` some
    training images of each class, alike. `doubts` are sentences on the data set; `seen` is what the network looked at.
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
    way: OfRecipe = OfRecipe()
    seen: Seen | None = None
    limit: TimeLimit | None = None

    @property
    def recipe(self) -> Recipe:
        return self.way.recipe

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
