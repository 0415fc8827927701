"""The measures against values that can be worked out by hand, by definition or with another program's formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from job import data, device, engine
from job.report import metrics
from job.report.answers import answers_of
from tests.helpers import small_models
from tests.helpers.rounding import CLOSE, FP64

RNG = np.random.default_rng(0)
COUNT, CLASSES = 500, 4
LABELS = RNG.integers(0, CLASSES, COUNT)
LOGITS = (RNG.normal(size=(COUNT, CLASSES)) * 2 + np.eye(CLASSES)[LABELS]).astype(np.float32)
NAMES = ("a", "b", "c", "d")
IMAGES = [str(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def found() -> metrics.Evaluation:
    return metrics.evaluate(answers_of(LOGITS, LABELS, IMAGES), NAMES)


def test_the_confusion_matrix_counts_every_image(found: metrics.Evaluation) -> None:
    predicted = torch.from_numpy(LOGITS).argmax(dim=1).tolist()
    expected = [[0] * CLASSES for _ in NAMES]
    for true, answer in zip(LABELS.tolist(), predicted, strict=True):
        expected[true][answer] += 1
    assert [list(row) for row in found.confusion] == expected
    assert found.correct == sum(expected[i][i] for i in range(CLASSES))
    assert found.images == COUNT == sum(score.support for score in found.per_class)


def test_class_scores_by_hand() -> None:
    one, two, three = metrics.class_scores(np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]]), ("one", "two", "never seen"))
    assert (one.precision, one.recall, one.support) == (8 / 12, 8 / 10, 10)
    assert one.f1 == pytest.approx(2 / (12 / 8 + 10 / 8)), "the harmonic mean"
    assert (two.precision, two.recall) == (6 / 8, 6 / 10)
    assert (three.precision, three.recall, three.f1, three.support) == (None, None, None, 0), "it was not tested"


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(correct: int, count: int, low: float, high: float) -> None:
    assert metrics.wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


def test_wilson_ends_solve_their_equation() -> None:
    """Both ends are the shares p from which the observed one is just 1.96 standard errors of p away."""
    for p in metrics.wilson(70, 90):
        assert abs(70 / 90 - p) == pytest.approx(metrics.Z95 * math.sqrt(p * (1 - p) / 90))


def test_the_calibration_error_by_its_definition(found: metrics.Evaluation) -> None:
    probabilities = torch.from_numpy(LOGITS).double().softmax(dim=1)
    confidence, answers = probabilities.max(dim=1)
    total = 0.0
    for number in range(15):
        inside = [i for i in range(COUNT) if number / 15 < confidence[i] <= (number + 1) / 15]
        total += abs(sum(float(answers[i] == LABELS[i]) - float(confidence[i]) for i in inside))
    assert found.calibration_error == pytest.approx(total / COUNT)
    assert found.confidence == pytest.approx(float(confidence.mean()))
    assert sum(part.count for part in found.bins) == COUNT


def test_a_perfectly_calibrated_coin_has_no_error() -> None:
    logits = np.tile(np.log(np.array([[0.75, 0.25]], np.float32)), (400, 1))
    labels = np.array([0, 0, 0, 1] * 100)
    assert metrics.evaluate(
        answers_of(logits, labels, IMAGES[:400]), ("heads", "tails")
    ).calibration_error == pytest.approx(0, abs=1e-6)


def test_mistakes_are_wrong_and_in_order(found: metrics.Evaluation) -> None:
    assert len(found.mistakes) == metrics.MISTAKES
    confidence = [mistake.confidence for mistake in found.mistakes]
    assert confidence == sorted(confidence, reverse=True)
    for mistake in found.mistakes:
        assert mistake.true == LABELS[mistake.row] != mistake.predicted == LOGITS[mistake.row].argmax()
    every = torch.from_numpy(LOGITS).double().softmax(dim=1).max(dim=1)
    wrong = every.values[every.indices != torch.from_numpy(LABELS)]
    assert confidence == pytest.approx(wrong.sort(descending=True).values[: metrics.MISTAKES].tolist(), rel=CLOSE)


def test_very_large_logits_are_no_trouble() -> None:
    answers = answers_of(np.array([[1e30, -1e30]], np.float32), np.array([1]), ["0"])
    found = metrics.evaluate(answers, ("x", "y"))
    assert (found.correct, found.mistakes[0].confidence, found.calibration_error) == (0, 1.0, 1.0)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit 2 labels"):
        answers_of(np.zeros((3, 2), np.float32), np.array([0, 1]), ["0", "1"])
    with pytest.raises(ValueError, match="2 answers do not fit 2 classes"):
        metrics.evaluate(answers_of(np.eye(3, dtype=np.float32)[1:], np.array([0, 1]), ["0", "1"]), ("x", "y"))


@pytest.fixture(params=["fp64", "fp32", "bf16"])
def compute(request: pytest.FixtureRequest) -> device.Compute:
    return replace(FP64, precision=request.param)


def test_logits_give_the_very_score_of_the_evaluation(compute: device.Compute) -> None:
    """Over two full batches and a part of one; bf16 has few values, so that equal logits occur and have to be met.

    The losses are summed otherwise: of 1,000 in float32 at most 1,000 * 2**-24 is rounded off.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2300, 32, 32, 3), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.randint(0, 10, (2300,), generator=generator))
    torch.manual_seed(0)
    model = compute.place(small_models.perceptron())
    score = engine.evaluate(model, split, compute, lambda _: None)
    seen: list[int] = []
    logits = engine.predict(model, split, compute, seen.append)
    assert (logits.shape, logits.dtype, seen) == ((2300, 10), compute.param_dtype, [1000, 1000, 300])
    answers = answers_of(logits.numpy(), split.labels.numpy(), [str(row) for row in range(2300)])
    found = metrics.evaluate(answers, [str(number) for number in range(10)])
    assert 100 * found.correct / found.images == score.accuracy
    loss = torch.nn.functional.cross_entropy(logits.double(), split.labels).item()
    assert score.loss == pytest.approx(loss, rel=CLOSE if compute == FP64 else 1e-4)


def test_a_class_without_test_images_takes_no_part_in_means() -> None:
    """Twins of scikit-learn's balanced_accuracy_score and f1_score(average="macro"), by hand."""
    true, predicted = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 2])
    matrix = metrics.confusion(true, predicted, 3)
    scores = metrics.class_scores(matrix, ("a", "b", "never seen"))
    assert metrics.mean_score(scores, "recall") == (3 / 4 + 1 / 2) / 2
    assert metrics.mean_score(scores, "f1") == pytest.approx((2 * 3 / 7 + 2 * 1 / 4) / 2)


def test_the_five_likeliest() -> None:
    """Against torch's own top-k; and as by hand: the true class is the third of its row, before an equal one."""
    logits = RNG.normal(size=(300, 12)).astype(np.float32)
    labels = RNG.integers(0, 12, 300)
    answers = answers_of(logits, labels, IMAGES[:300])
    found = metrics.evaluate(answers, [str(label) for label in range(12)])
    best = torch.from_numpy(logits).topk(5, dim=1).indices
    assert found.near == int((best == torch.from_numpy(labels)[:, None]).any(dim=1).sum())
    assert answers.ranks is not None
    assert np.array_equal(answers.ranks == 1, answers.right)
    row = np.zeros((1, 11), np.float32)
    row[0, [2, 7, 4, 9]] = (5, 4, 3, 3)
    third = answers_of(row, np.array([4]), ["0"])
    assert third.ranks is not None
    assert third.ranks.tolist() == [3]
    assert answers_of(row, np.array([9]), ["0"]).ranks == [4]


def test_ten_classes_have_no_ranks(found: metrics.Evaluation) -> None:
    assert found.top5_accuracy is None
    assert answers_of(np.zeros((1, 10), np.float32), np.array([0]), ["0"]).ranks is None
