"""Which differences between runs count: every pair on one test set, and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from job.report.comparison import Run
from job.report.significance import holm, mcnemar, two_proportions, two_sided

LEVEL = 0.05
MCNEMAR, PROPORTIONS = "McNemar", "two proportions"


@dataclass(frozen=True)
class Pair:
    """Two runs of a group by their places in it.

    `only_one` and `only_other` count the images that the one got right and the other did not, where both runs kept
    their answers: then `test` is McNemar's. `p` is of this pair alone, `corrected` after Holm for all that were asked.
    """

    one: int
    other: int
    points: float
    test: str
    only_one: int | None
    only_other: int | None
    p: float
    corrected: float = 1.0

    @property
    def differ(self) -> bool:
        """Whether chance does not explain the difference, at the 95 % level."""
        return self.corrected < LEVEL


@dataclass(frozen=True, eq=False)
class Tested:
    """A result on some images: how many, how many right, and which ones (bool `[count]`), where that was kept."""

    correct: int
    count: int
    right: NDArray[np.bool_] | None

    @property
    def share(self) -> float:
        return self.correct / self.count if self.count else 0.0


def pairs(group: Sequence[Run]) -> tuple[Pair, ...]:
    """All pairs of runs of one data set, in the group's order, corrected for their number."""
    same = tested_alike(group)
    results = [Tested(run.correct, run.images, rights(run) if same[place] else None) for place, run in enumerate(group)]
    return corrected(compared(results))


def tested_alike(group: Sequence[Run]) -> list[bool]:
    """Which runs kept answers on the very test set of the first that did: the same labels in the same order."""
    first = next((run.answers for run in group if run.answers is not None), None)
    return [
        first is not None and run.answers is not None and np.array_equal(run.answers.true, first.true) for run in group
    ]


def rights(run: Run) -> NDArray[np.bool_]:
    assert run.answers is not None
    return run.answers.right


def compared(results: Sequence[Tested]) -> list[Pair]:
    """Each with each: McNemar's exact test where both say which images they got right, else the z-test."""
    found = []
    for (one, a), (other, b) in combinations(enumerate(results), 2):
        points = 100 * (a.share - b.share)
        if a.right is not None and b.right is not None:
            only_one, only_other = int((a.right & ~b.right).sum()), int((b.right & ~a.right).sum())
            p = mcnemar(only_one, only_other)
            found.append(Pair(one, other, points, MCNEMAR, only_one, only_other, p))
        else:
            p = two_sided(two_proportions(a.correct, a.count, b.correct, b.count)) if a.count and b.count else 1.0
            found.append(Pair(one, other, points, PROPORTIONS, None, None, p))
    return found


def corrected(found: Sequence[Pair]) -> tuple[Pair, ...]:
    p_values = holm([pair.p for pair in found])
    return tuple(replace(pair, corrected=p) for pair, p in zip(found, p_values, strict=True))


@dataclass(frozen=True)
class ClassRow:
    """A class in every run: shares found, and the pair of the best run and the worst, with `points` of the best."""

    name: str
    recalls: tuple[float, ...]
    points: float
    differ: bool


def class_by_class(group: Sequence[Run]) -> tuple[tuple[ClassRow, ...], int]:
    """A row a class, and for how many comparisons they were corrected: every pair of runs in every class.

    The best of several against the worst differ by chance far more often than two chosen beforehand: asking for all
    pairs is what keeps the level.
    """
    if len(group) < 2 or not all(run.recalls for run in group):
        return (), 0
    same = tested_alike(group)
    tested = [(place, name) for place, (name, (_, count)) in enumerate(group[0].recalls.items()) if count]
    names = [name for _, name in tested]
    results = [[in_class(run, name, place, same[at]) for at, run in enumerate(group)] for place, name in tested]
    found = [compared(row) for row in results]
    judged = iter(corrected([pair for row in found for pair in row]))
    rows = []
    for name, row, these in zip(names, results, found, strict=True):
        differ = {(pair.one, pair.other): pair.differ for _, pair in zip(these, judged, strict=False)}
        shares = [result.share for result in row]
        best, worst = shares.index(max(shares)), shares.index(min(shares))
        ends = (min(best, worst), max(best, worst))
        rows.append(ClassRow(name, tuple(shares), 100 * (max(shares) - min(shares)), differ.get(ends, False)))
    return tuple(rows), sum(map(len, found))


def in_class(run: Run, name: str, place: int, alike: bool) -> Tested:
    found, count = run.recalls[name]
    if not alike or run.answers is None:
        return Tested(found, count, None)
    return Tested(found, count, run.answers.right[run.answers.true == place])
