"""Whether an exported model computes what torch computes: both on the whole test set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from job.data import Split
from job.engine.classifier import Classifier
from job.modes.export_formats import Answer

BATCH = 250
LOSS = 0.01  # of the images: what a quantised model may answer wrong beside what it answered rightly before
LIMIT = 1e-4  # of the largest logit; fp32 sums in another order differ by a hundredth of that


@dataclass(frozen=True)
class Comparison:
    """Torch and another runtime on the same test set, both in fp32 on the CPU. `close_calls` counts the images whose
    two largest logits lie so near to each other that the greatest difference found could exchange them.
    """

    images: int
    greatest_difference: float
    largest_logit: float
    correct_torch: int
    correct_exported: int
    other_answers: int
    close_calls: int

    @property
    def limit(self) -> float:
        return LIMIT * max(1.0, self.largest_logit)

    @property
    def same(self) -> bool:
        """An answer may differ only where two classes were equally likely."""
        return self.greatest_difference <= self.limit and self.other_answers <= self.close_calls

    def fits(self, quantised: bool) -> bool:
        """Whether it may be handed over: the same, or where it was quantised, LOSS fewer right answers at most."""
        lost = self.correct_torch - self.correct_exported
        rounded = math.isfinite(self.greatest_difference) and lost <= max(1, LOSS * self.images)
        return rounded if quantised else self.same

    def as_json(self, form: str) -> dict[str, Any]:
        """As the sidecar of this form has it."""
        return {name.replace("exported", form.replace("-", "_")): value for name, value in asdict(self).items()}


@torch.no_grad()
def torchs(model: Classifier, test: Split, check: Callable[[], object]) -> NDArray[np.float32]:
    """Logits `[images, classes]` of the test set, as the job itself computes them."""
    return np.concatenate([model(images).numpy() for images in batches(test, check)])


def compare(ours: NDArray[np.float32], answer: Answer, test: Split, check: Callable[[], object]) -> Comparison:
    """`ours` beside what an exported model answers."""
    theirs = np.concatenate([answer(images) for images in batches(test, check)])
    return compared(ours, theirs, test.labels.numpy())


def batches(test: Split, check: Callable[[], object]) -> Iterator[Tensor]:
    """First one image alone, then the rest in batches whose sizes are not the one that was exported with."""
    for start, end in pairwise([0, *range(1, len(test), BATCH), len(test)]):
        check()
        yield test.images[start:end]


def compared(ours: NDArray[np.float32], theirs: NDArray[np.float32], labels: NDArray[np.int64]) -> Comparison:
    """Both logits float32 `[images, classes]`, `labels` int64 `[images]`."""
    difference = float(np.abs(ours - theirs).max())
    two = np.sort(ours, axis=1)[:, -2:]
    mine, other = ours.argmax(axis=1), theirs.argmax(axis=1)
    return Comparison(
        images=len(labels),
        greatest_difference=difference,
        largest_logit=float(np.abs(ours).max()),
        correct_torch=int((mine == labels).sum()),
        correct_exported=int((other == labels).sum()),
        other_answers=int((mine != other).sum()),
        close_calls=int((two[:, 1] - two[:, 0] <= 2 * difference).sum()),
    )
