"""Tests of difference against statsmodels 0.15.0 (recorded) and SciPy (hyperopt brings it), and runs judged by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from job.report import comparison, differences, page_summary, significance, summary
from job.report.answers import Answers
from job.report.comparison import Run
from job.report.metrics import Z95
from tests.helpers import records


@pytest.mark.parametrize(
    ("only_one", "only_other", "p"),
    # statsmodels.stats.contingency_tables.mcnemar([[5, only_one], [only_other, 7]], exact=True).pvalue
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 1, 0.21875),
        (12, 3, 0.03515625),
        (20, 35, 0.05806414679240905),
        (86, 150, 3.7159361395713866e-05),
        (101, 121, 0.20213432065995843),
        (300, 420, 8.807756168615114e-06),
        (3, 40, 3.0213413992896676e-09),
        (4000, 4300, 0.001029736761268162),
    ],
)
def test_mcnemar_as_statsmodels_has_it(only_one: int, only_other: int, p: float) -> None:
    assert significance.mcnemar(only_one, only_other) == pytest.approx(p, rel=1e-9)
    assert significance.mcnemar(only_other, only_one) == significance.mcnemar(only_one, only_other)


def test_mcnemar_is_a_binomial_test() -> None:
    for count in range(1, 41):
        for one in range(count + 1):
            assert significance.mcnemar(one, count - one) == pytest.approx(binomtest(one, count).pvalue, rel=1e-9)


def test_mcnemar_of_a_great_many_images() -> None:
    """Beyond what floating-point numbers hold on the way, and down to where they end."""
    assert significance.mcnemar(0, 1000) == 2.0**-999
    assert significance.mcnemar(0, 2000) == 0.0
    assert significance.mcnemar(5000, 5000) == 1.0


def test_two_proportions_squared_is_pearsons_chi_squared() -> None:
    table = np.array([[60, 40], [45, 55]])
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_squared = ((table - expected) ** 2 / expected).sum()
    assert significance.two_proportions(60, 100, 45, 100) ** 2 == pytest.approx(chi_squared)
    assert significance.two_proportions(10, 10, 20, 20) == 0


def test_two_proportions_as_statsmodels_has_them() -> None:
    """statsmodels.stats.proportion.proportions_ztest"""
    z = significance.two_proportions(60, 100, 45, 100)
    assert (z, significance.two_sided(z)) == pytest.approx((2.1239769762143657, 0.033672068856345855), rel=1e-9)
    z = significance.two_proportions(8906, 10000, 8850, 10000)
    assert (z, significance.two_sided(z)) == pytest.approx((1.2546397137676095, 0.2096095797940547), rel=1e-9)
    assert significance.two_sided(Z95) == pytest.approx(0.05)


def test_holm_as_statsmodels_has_it() -> None:
    """statsmodels.stats.multitest.multipletests(p, method="holm")"""
    p_values = [0.041, 0.002, 0.03, 0.6, 0.0004, 0.03, 0.012, 1.0]
    assert significance.holm(p_values) == pytest.approx([0.15, 0.014, 0.15, 1.0, 0.0032, 0.15, 0.072, 1.0])
    assert significance.holm([]) == []
    assert significance.holm([0.03]) == [0.03]


def answered(name: str, right: np.ndarray, true: np.ndarray) -> Run:
    """A run that is right about the images in `right`, and answers the next class where it is wrong."""
    correct, count, classes = int(right.sum()), len(right), len(records.CLASSES)
    predicted = np.where(right, true, (true + 1) % classes)
    recalls = {
        each: (int(right[true == place].sum()), int((true == place).sum()))
        for place, each in enumerate(records.CLASSES)
    }
    names = tuple(map(str, range(count)))
    answers = Answers(names, true, predicted, np.full(count, 0.5))
    return replace(records.run(name, correct, count), recalls=recalls, answers=answers)


@pytest.fixture
def three() -> list[Run]:
    """Of 1,000 images `b` gets the last 30 wrong that `a` gets right, and none the other way round; `c` is as `b`, but
    for two images.
    """
    true = np.arange(1000) % 10
    a = np.arange(1000) < 700
    b, c = a & (np.arange(1000) < 670), a & (np.arange(1000) < 668)
    return [answered("a", a, true), answered("b", b, true), answered("c", c, true)]


def test_the_same_images_show_what_counts_alone_do_not(three: list[Run]) -> None:
    """70.0 and 67.0 % of 1,000: the z-test says p = 0.15; where all 30 images speak for one, it is no chance."""
    a_b, a_c, b_c = differences.pairs(three)
    assert (a_b.test, a_b.only_one, a_b.only_other, a_b.points) == (differences.MCNEMAR, 30, 0, pytest.approx(3.0))
    assert a_b.p == 2.0**-29
    assert a_b.corrected == pytest.approx(2 * 2.0**-29), "the second smallest of three"
    assert a_b.differ
    assert a_c.differ
    assert (b_c.only_one, b_c.only_other, b_c.p, b_c.differ) == (2, 0, 0.5, False)

    kept_none = [replace(run, answers=None) for run in three]
    old = differences.pairs(kept_none)
    assert {pair.test for pair in old} == {differences.PROPORTIONS}
    assert old[0].p == pytest.approx(0.1487, abs=1e-4)
    assert not any(pair.differ for pair in old)


def test_the_old_test_where_one_run_kept_no_answers(three: list[Run]) -> None:
    mixed = [three[0], replace(three[1], answers=None), three[2]]
    assert [pair.test for pair in differences.pairs(mixed)] == [
        differences.PROPORTIONS,
        differences.MCNEMAR,
        differences.PROPORTIONS,
    ]
    text = summary.files(mixed, [], None)["summary.txt"].decode()
    assert "McNemar's exact test on the images both answered, else the z-test" in text
    page = " ".join(page_summary.html(comparison.grouped(mixed), [], None).split())
    assert "2 pairs were judged by the z-test of two proportions" in page
    assert "Judged by McNemar’s exact test" in page


def test_answers_for_other_images_are_not_compared_one_by_one(three: list[Run]) -> None:
    answers = three[1].answers
    assert answers is not None
    other = replace(three[1], answers=replace(answers, true=np.roll(answers.true, 1)))
    assert differences.pairs([three[0], other])[0].test == differences.PROPORTIONS


def test_a_pair_alone_counts_and_among_many_it_does_not(three: list[Run]) -> None:
    """p = 0.031 (six images against none) stands for one pair and not for three."""
    true = np.arange(100) % 10
    some = [answered(name, np.arange(100) < end, true) for name, end in (("a", 60), ("b", 54))]
    (alone,) = differences.pairs(some)
    assert alone.p == alone.corrected == 2.0**-5
    assert alone.differ
    many = differences.pairs([*some, answered("c", np.arange(100) < 53, true)])
    assert not many[0].differ
    text = summary.files([*some, answered("c", np.arange(100) < 53, true)], [], None)["summary.txt"].decode()
    assert "a and b: 6.00 points apart, may be chance (p = 0.031, corrected 0.062)" in text
    assert "corrected for 3 pairs (Holm)" in text


@pytest.mark.parametrize("kept", [True, False])
def test_equal_models_are_seldom_called_different(kept: bool) -> None:
    """Five equally good models on 400 images, 400 times: in all pairs, and in the best against the worst of any class,
    a difference is claimed in at most 5 % of the cases (plus three standard errors of counting 400).
    """
    rng, rounds = np.random.default_rng(7), 400
    claimed = classes_claimed = 0
    true = np.arange(400) % 10
    for _ in range(rounds):
        hard = rng.random(400)  # the same for all, so that they agree more than by chance
        runs = [answered(name, 0.6 * hard + 0.4 * rng.random(400) < 0.55, true) for name in "abcde"]
        group = runs if kept else [replace(run, answers=None) for run in runs]
        claimed += any(pair.differ for pair in differences.pairs(group))
        classes_claimed += any(row.differ for row in differences.class_by_class(group)[0])
    limit = rounds * 0.05 + 3 * math.sqrt(rounds * 0.05 * 0.95)
    assert claimed <= limit
    assert classes_claimed <= limit


def test_a_real_difference_in_one_class_is_found() -> None:
    """`b` loses all images of class 3 and is like `a` elsewhere."""
    true = np.arange(1000) % 10
    a = np.random.default_rng(1).random(1000) < 0.8
    rows, comparisons = differences.class_by_class([answered("a", a, true), answered("b", a & (true != 3), true)])
    assert comparisons == 10
    assert [row.name for row in rows if row.differ] == [records.CLASSES[3]]
    assert rows[3].recalls == (a[true == 3].mean(), 0.0)
    assert rows[3].points == pytest.approx(100 * a[true == 3].mean())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.replace(b",cat,", b",dog,", 1),
        lambda content: content[: content.rindex(b"\n", 0, -1) + 1],
        lambda content: b"",
    ],
)
def test_answers_that_are_not_the_results(spoil: Callable[[bytes], bytes]) -> None:
    content = b"image,true,predicted,confidence\n0,cat,cat,0.9\n1,dog,cat,0.8\n2,dog,dog,0.7\n"
    assert len(comparison.answers_of(content, ("cat", "dog"), 3, 2)) == 3
    with pytest.raises(ValueError, match=r"test_predictions\.csv"):
        comparison.answers_of(spoil(content), ("cat", "dog"), 3, 2)
