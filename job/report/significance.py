"""Whether two results differ by more than chance. The standard library alone."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mcnemar(only_one: int, only_other: int) -> float:
    """The exact two-sided p-value of two classifiers on the same images, from the images that only one got right.

    Where both are equally good, each of those is as likely the one's as the other's: a binomial test with 1/2. In whole
    numbers to the last division, so that no p-value is too small and none is rounded on the way.
    Q. McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12 (1947).
    """
    count, fewer = only_one + only_other, min(only_one, only_other)
    if 2 * fewer == count:
        return 1.0
    term = tail = 1
    for number in range(fewer):
        term = term * (count - number) // (number + 1)  # the binomial coefficient of number + 1
        tail += term
    return min(1.0, 2 * tail / (1 << count))


def two_proportions(correct_a: int, count_a: int, correct_b: int, count_b: int) -> float:
    """z of the difference of two shares with the pooled standard error; |z| < 1.96 is within chance at the 95 % level.

    It takes both test results as independent. Two models that were tested on the same images are not: their answers
    agree more often than chance, so that this test rather overlooks a small difference than invents one
    (T. G. Dietterich, Approximate statistical tests for comparing supervised classification learning algorithms, 1998).
    """
    pooled = (correct_a + correct_b) / (count_a + count_b)
    error = math.sqrt(pooled * (1 - pooled) * (1 / count_a + 1 / count_b))
    return (correct_a / count_a - correct_b / count_b) / error if error else 0.0


def two_sided(z: float) -> float:
    """The p-value of a standard normal z."""
    return math.erfc(abs(z) / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The same p-values, corrected for their number: where one is below 0.05, the chance that any such difference
    between equals is claimed stays below 5 %, however the comparisons hang together.

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
