"""The books of a search: whose time is counted, and what a later attempt is told of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from job.console.progress import Progress
from job.results import Epoch, Score, Trial
from job.runs import checkpoint
from job.runs.checkpoint import Identity, Saved
from job.runs.keeper import Keeper
from job.runs.standing import Standing
from job.search.book import Book


class Kept:
    """A keeper that keeps what it is handed."""

    def __init__(self) -> None:
        self.standing = Standing()

    def hand_over(self, standing: Standing) -> None:
        self.standing = standing


def trial(number: int) -> Trial:
    """One whose epochs took ten seconds."""
    score = Score(1.0, 50.0)
    return Trial(number, 1e-3, (Epoch(1, score, score, 4.0), Epoch(2, score, score, 6.0)))


def book_of(standing: Standing, keeper: Kept) -> Book:
    ignoring = SimpleNamespace(trial_done=lambda trial: None)
    return Book(standing, cast(Keeper, keeper), cast(Progress, ignoring), grouped=False)


def test_a_search_took_what_the_clock_says_over_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four trials of ten seconds, two at the same time, in two attempts with an hour between them: 21 seconds."""
    now = 1000.0
    monkeypatch.setattr("job.search.book.time", SimpleNamespace(monotonic=lambda: now))
    keeper = Kept()
    first = book_of(Standing(), keeper)
    now += 10.5
    first.trial(trial(0))
    first.trial(trial(1))
    assert keeper.standing.search_seconds == 10.5
    stored = checkpoint.decode(checkpoint.encode(Saved(Identity({}, "", {}), 1, keeper.standing))).standing
    now += 3600
    second = book_of(stored, keeper)
    assert second.searched().seconds == 10.5, "an attempt in which nothing is left to search adds nothing"
    now += 10.5
    second.trial(trial(3))
    second.trial(trial(2))
    now += 50  # what follows is no part of the search
    searched = second.searched()
    assert [ended.number for ended in searched.trials] == [0, 1, 2, 3]
    assert searched.seconds == keeper.standing.search_seconds == 21.0
    assert sum(ended.seconds for ended in searched.trials) == 40.0
