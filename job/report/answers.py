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
RANK = "rank"  # one column more where there are more classes than RANKED
RANKED = 10
TOP = 5


@dataclass(frozen=True, eq=False)
class Answers:
    """One entry an image, in the order of the test set.

    `names` are file names below DATA_DIR, or numbers in the data set as it was published. `true` and `predicted` index
    the classes, int64 `[images]`; `confidence` is the probability of the predicted class, float64 `[images]`; `ranks`
    are the true classes' places among all by probability, from 1, int64 `[images]`, where there are more than RANKED.
    """

    names: tuple[str, ...]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    ranks: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def right(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.true == self.predicted
        return result

    @property
    def near(self) -> NDArray[np.bool_] | None:
        """Whether the true class is among the TOP likeliest; None where there are no `ranks`."""
        return None if self.ranks is None else self.ranks <= TOP


def answers_of(logits: NDArray[np.float32], labels: NDArray[np.int64], names: Sequence[str]) -> Answers:
    """The answers in `logits` `[images, classes]` for `labels` `[images]`. Raises ValueError where shapes differ."""
    if logits.ndim != 2 or not len(labels) == len(logits) == len(names) or not len(labels):
        raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels and {len(names)} names")
    predicted = logits.argmax(axis=1)  # the first of equals, as torch.argmax
    confidence = softmax(logits)[np.arange(len(labels)), predicted]
    ranks = ranks_of(logits, labels) if logits.shape[1] > RANKED else None
    return Answers(tuple(names), labels, predicted, confidence, ranks)


def ranks_of(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each label among the classes, from 1, int64 `[images]`: of equals the first is before the others, so
    that the predicted class has 1.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    places: NDArray[np.int64] = np.argmax(order == labels[:, None], axis=1).astype(np.int64) + 1
    return places


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
    ranked = answers.ranks is not None
    writer.writerow((*COLUMNS, *[RANK] * ranked))
    columns = (answers.names, answers.true.tolist(), answers.predicted.tolist(), answers.confidence.tolist())
    ranks = [(str(rank),) for rank in answers.ranks.tolist()] if answers.ranks is not None else [()] * len(answers)
    for name, true, predicted, confidence, rank in zip(*columns, ranks, strict=True):
        writer.writerow((name, classes[true], classes[predicted], repr(confidence), *rank))
    return out.getvalue()


def from_csv(content: bytes, classes: Sequence[str]) -> Answers:
    """What `as_csv` wrote. Raises ValueError where it is something else."""
    place = {name: index for index, name in enumerate(classes)}
    try:
        heading, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        ranked = tuple(heading) == (*COLUMNS, RANK)
        if not (ranked or tuple(heading) == COLUMNS) or not rows:
            raise ValueError
        names, true, predicted, confidence, *ranks = zip(*rows, strict=True)
        return Answers(
            names,
            np.array([place[name] for name in true], np.int64),
            np.array([place[name] for name in predicted], np.int64),
            np.array(confidence, np.float64),
            np.array([int(rank) for rank in ranks[0]], np.int64) if ranked else None,
        )
    except (ValueError, KeyError, csv.Error):
        raise ValueError(f"{FILE} cannot be read, or names other classes") from None
