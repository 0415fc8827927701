"""What a test set says about a classifier beyond its accuracy: which classes, how sure, how wrong. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.report.answers import Answers

Z95 = 1.959963984540054  # the standard normal distribution's 97.5 % quantile
BINS = 15  # as in Guo et al. 2017
MISTAKES = 24


@dataclass(frozen=True)
class ClassScore:
    """One class against all others. All three scores are shares from 0 to 1; `support` counts its test images, and a
    class without any has no scores.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is in (`low`, `high`]; `confidence` and `accuracy` are means, 0 where `count` is."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: the image's row in the test set and its name (see `Answers`), both classes as indices, the wrong
    one's probability.
    """

    row: int
    name: str
    true: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """A classifier on a test set. `confusion[true][predicted]` counts images; `interval` and accuracies are shares.

    `near` counts the images whose true class is among the five likeliest, None with ten or fewer classes.
    `calibration_error` is the expected calibration error (ECE), a share, too. `mistakes` are the most confident ones.
    """

    images: int
    correct: int
    interval: tuple[float, float]
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassScore, ...]
    bins: tuple[Bin, ...]
    calibration_error: float
    confidence: float
    mistakes: tuple[Mistake, ...]
    near: int | None = None

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def top5_accuracy(self) -> float | None:
        return None if self.near is None else self.near / self.images

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall: every class that was tested counts the same."""
        return mean_score(self.per_class, "recall")

    @property
    def macro_f1(self) -> float:
        return mean_score(self.per_class, "f1")


def mean_score(scores: Sequence[ClassScore], key: str) -> float:
    """The mean of a score over the classes that have test images."""
    values: list[float] = [getattr(score, key) for score in scores if score.support]
    return sum(values) / len(values)


def evaluate(answers: Answers, classes: Sequence[str]) -> Evaluation:
    """All measures of a classifier from its answers. Raises ValueError where those name another class."""
    if not len(answers) or max(answers.true.max(), answers.predicted.max()) >= len(classes):
        raise ValueError(f"{len(answers)} answers do not fit {len(classes)} classes")
    correct = int(answers.right.sum())
    matrix = confusion(answers.true, answers.predicted, len(classes))
    bins = reliability(answers.confidence, answers.right)
    return Evaluation(
        images=len(answers),
        correct=correct,
        interval=wilson(correct, len(answers)),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        per_class=class_scores(matrix, classes),
        bins=bins,
        calibration_error=expected_calibration_error(bins),
        confidence=float(answers.confidence.mean()),
        mistakes=worst_mistakes(answers, MISTAKES),
        near=None if answers.near is None else int(answers.near.sum()),
    )


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts `[true, predicted]`, int64 `[classes, classes]`."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 (their harmonic mean) of each class that has images; 0 where a denominator is 0."""
    scores = []
    for index, name in enumerate(classes):
        hits = int(matrix[index, index])
        support, answers = int(matrix[index].sum()), int(matrix[:, index].sum())
        both = support + answers
        scores.append(
            ClassScore(
                name=name,
                precision=(hits / answers if answers else 0.0) if support else None,
                recall=hits / support if support else None,
                f1=2 * hits / both if support else None,
                support=support,
            )
        )
    return tuple(scores)


def wilson(correct: int, count: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share, `correct` of `count`: it keeps its level near 0 and 1 and in small sets.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    share = correct / count
    scale = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Images by their confidence in `bins` equal intervals of (0, 1], as for a reliability diagram."""
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    result = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        result.append(
            Bin(
                low=index / bins,
                high=(index + 1) / bins,
                count=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(right[inside].mean()) if count else 0.0,
            )
        )
    return tuple(result)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of accuracy and confidence over the bins, weighted by their images.

    C. Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.
    """
    total = sum(part.count for part in bins)
    return sum(part.count / total * abs(part.accuracy - part.confidence) for part in bins)


def worst_mistakes(answers: Answers, count: int) -> tuple[Mistake, ...]:
    """Up to `count` wrong answers, the most confident first, of equals the earlier row."""
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-answers.confidence[wrong], kind="stable")][:count]
    return tuple(
        Mistake(
            row=int(row),
            name=answers.names[row],
            true=int(answers.true[row]),
            predicted=int(answers.predicted[row]),
            confidence=float(answers.confidence[row]),
        )
        for row in order
    )
