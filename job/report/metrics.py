"""What a test set says about a classifier beyond its accuracy: which classes, how sure, how wrong. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # the standard normal distribution's 97.5 % quantile
BINS = 15  # as in Guo et al. 2017
MISTAKES = 24


@dataclass(frozen=True)
class ClassScore:
    """One class against all others. All three scores are shares from 0 to 1; `support` counts its test images."""

    name: str
    precision: float
    recall: float
    f1: float
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
    """A wrong answer: the image's row in the test set, both classes as indices, the wrong one's probability."""

    row: int
    true: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """A classifier on a test set. `confusion[true][predicted]` counts images; `interval` and accuracies are shares.

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

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


def evaluate(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> Evaluation:
    """All measures from `logits` `[images, classes]` and `labels` `[images]`. Raises ValueError where shapes differ."""
    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(f"logits {logits.shape} do not fit {len(labels)} labels and {len(classes)} classes")
    predicted = logits.argmax(axis=1)  # the first of equals, as torch.argmax
    probabilities = softmax(logits)
    confidence = probabilities[np.arange(len(labels)), predicted]
    right = predicted == labels
    matrix = confusion(labels, predicted, len(classes))
    bins = reliability(confidence, right)
    return Evaluation(
        images=len(labels),
        correct=int(right.sum()),
        interval=wilson(int(right.sum()), len(labels)),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        per_class=class_scores(matrix, classes),
        bins=bins,
        calibration_error=expected_calibration_error(bins),
        confidence=float(confidence.mean()),
        mistakes=worst_mistakes(labels, predicted, confidence, MISTAKES),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities `[images, classes]` that add up to 1 in each row."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts `[true, predicted]`, int64 `[classes, classes]`."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 (their harmonic mean) of each class; 0 where a denominator is 0."""
    scores = []
    for index, name in enumerate(classes):
        hits = int(matrix[index, index])
        support, answers = int(matrix[index].sum()), int(matrix[:, index].sum())
        both = support + answers
        scores.append(
            ClassScore(
                name=name,
                precision=hits / answers if answers else 0.0,
                recall=hits / support if support else 0.0,
                f1=2 * hits / both if both else 0.0,
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


def two_proportions(correct_a: int, count_a: int, correct_b: int, count_b: int) -> float:
    """z of the difference of two shares with the pooled standard error; |z| < 1.96 is within chance at the 95 % level.

    It takes both test results as independent. Two models that were tested on the same images are not: their answers
    agree more often than chance, so that this test rather overlooks a small difference than invents one
    (T. G. Dietterich, Approximate statistical tests for comparing supervised classification learning algorithms, 1998).
    """
    pooled = (correct_a + correct_b) / (count_a + count_b)
    error = math.sqrt(pooled * (1 - pooled) * (1 / count_a + 1 / count_b))
    return (correct_a / count_a - correct_b / count_b) / error if error else 0.0


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


def worst_mistakes(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float64], count: int
) -> tuple[Mistake, ...]:
    """Up to `count` wrong answers, the most confident first, of equals the earlier row."""
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return tuple(Mistake(int(row), int(labels[row]), int(predicted[row]), float(confidence[row])) for row in order)
