"""A classifier's answers on its test set, and `test_predictions.csv`, which keeps them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FILE = "test_predictions.csv"
COLUMNS = ("image", "true", "predicted", "confidence")


@dataclass(frozen=True, eq=False)
class Answers:
    """One entry an image, in the order of the test set.

    `names` are file names below DATA_DIR, or numbers in the data set as it was published. `true` and `predicted` index
    the classes, int64 `[images]`; `confidence` is the probability of the predicted class, float64 `[images]`.
    """

    names: tuple[str, ...]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def right(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.true == self.predicted
        return result


def answers_of(logits: NDArray[np.float32], labels: NDArray[np.int64], names: Sequence[str]) -> Answers:
    """The answers in `logits` `[images, classes]` for `labels` `[images]`. Raises ValueError where shapes differ."""
    if logits.ndim != 2 or not len(labels) == len(logits) == len(names) or not len(labels):
        raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels and {len(names)} names")
    predicted = logits.argmax(axis=1)  # the first of equals, as torch.argmax
    confidence = softmax(logits)[np.arange(len(labels)), predicted]
    return Answers(tuple(names), labels, predicted, confidence)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities `[images, classes]` that add up to 1 in each row."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def as_csv(answers: Answers, classes: Sequence[str]) -> str:
    """`test_predictions.csv`: one line an image. Confidences have all their digits, so that everything that is
    computed from them can be computed again.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)  # older Pythons leave a name's CR bare
    writer.writerow(COLUMNS)
    columns = (answers.names, answers.true.tolist(), answers.predicted.tolist(), answers.confidence.tolist())
    for name, true, predicted, confidence in zip(*columns, strict=True):
        writer.writerow((name, classes[true], classes[predicted], repr(confidence)))
    return out.getvalue()


def from_csv(content: bytes, classes: Sequence[str]) -> Answers:
    """What `as_csv` wrote. Raises ValueError where it is something else."""
    place = {name: index for index, name in enumerate(classes)}
    try:
        heading, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        if tuple(heading) != COLUMNS or not rows:
            raise ValueError
        names, true, predicted, confidence = zip(*rows, strict=True)
        return Answers(
            names,
            np.array([place[name] for name in true], np.int64),
            np.array([place[name] for name in predicted], np.int64),
            np.array(confidence, np.float64),
        )
    except (ValueError, KeyError, csv.Error):
        raise ValueError(f"{FILE} cannot be read, or names other classes") from None
