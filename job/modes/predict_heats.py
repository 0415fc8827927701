"""With HEATMAPS=1: what the network looked at in each image, as pages of PER_PAGE images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from job.console.logs import printable
from job.engine import attribution
from job.engine.classifier import Classifier
from job.modes.predict_answers import Batch
from job.modes.predict_rows import Answer
from job.report.page_predictions import Place, Seen, file_name, html
from job.runs import publish
from job.storage import ArtifactStore

PER_PAGE = 100  # divides the images of a part


@dataclass
class Heats:
    """Pages below `folder` of the store; each is stored once its images are complete, and before their part is.
    `model` computes on the CPU in fp32, whatever the answers were computed on.
    """

    model: Classifier
    classes: Sequence[str]
    store: ArtifactStore
    folder: str
    waiting: list[Seen] = field(default_factory=list)
    method: str = ""

    def add(self, batch: Batch, of: int) -> None:
        """Takes one more batch of the `of` images in all."""
        heats = self.heats(batch)
        for row, (answer, place) in enumerate(zip(batch.answers, batch.places, strict=True)):
            self.waiting.append(self.seen(answer, batch.pixels[row], heats.get(row)))
            if (place + 1) % PER_PAGE == 0 or place + 1 == of:
                self.put(place + 1, of)

    def heats(self, batch: Batch) -> dict[int, NDArray[np.float32]]:
        """Row of the batch → its heat, for those that have an answer, as far as a method fits the model."""
        best = {
            row: int(answer.probabilities.argmax())
            for row, answer in enumerate(batch.answers)
            if answer.probabilities is not None
        }
        if not best:
            return {}
        images, targets = torch.from_numpy(batch.pixels[list(best)]), torch.tensor(list(best.values()))
        self.method, found = attribution.heats(self.model, images, targets)
        return dict(zip(best, found, strict=True)) if self.method else {}

    def seen(self, answer: Answer, pixels: NDArray[np.uint8], heat: NDArray[np.float32] | None) -> Seen:
        name = printable(answer.name)
        if answer.probabilities is None:
            return Seen(name, "", 0.0, printable(answer.failure), pixels, None)
        best = int(answer.probabilities.argmax())
        return Seen(name, self.classes[best], float(answer.probabilities[best]), "", pixels, heat)

    def put(self, end: int, of: int) -> None:
        number, pages = -(-end // PER_PAGE), -(-of // PER_PAGE)
        content = html(self.waiting, Place(number, pages, end - len(self.waiting) + 1, end, of), self.method)
        publish.put_checked(self.store, f"{self.folder}/{file_name(number)}", content)
        self.waiting.clear()

    def tidy(self, of: int) -> None:
        """Removes pages of an earlier prediction that had more images."""
        wanted = {f"{self.folder}/{file_name(number + 1)}" for number in range(-(-of // PER_PAGE))}
        for page in self.store.list(f"{self.folder}/"):
            if page not in wanted:
                self.store.delete(page)
