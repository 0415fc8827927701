"""The time that is left, from known amounts of work."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from job.console.forecast import Done, Images, Work, clock, remaining
from job.console.progress import Progress, mode
from job.results import Epoch, Score

WORK = Work(trials=4, trial_epochs=50, patience=5, trial=Images(100, 0), final=Images(1000, 0), final_epochs=None)


@pytest.mark.parametrize(
    ("done", "images"),
    [
        (Done(), 4 * 15 * 100 + 10 * 1000),  # nothing known: the best epoch is the tenth
        (Done([10]), 3 * 12.5 * 100 + 5 * 1000),  # the others: between that and what was expected
        (Done([10, 20], running=6), (15 - 6 + 15) * 100 + 15 * 1000),  # the winner as the longest
        (Done([10, 10, 10], running=30), 1 * 100 + 5 * 1000),  # longer than usual: at least one more epoch
        (Done([10] * 4, final_epochs=7), 7 * 1000),
        (Done([10] * 4, final_epochs=7, final=5), 2 * 1000),
        (Done([10] * 4, final_epochs=7, final=7), 0),
    ],
)
def test_remaining(done: Done, images: float) -> None:
    assert sum(remaining(WORK, done)) == images


def test_epochs_of_trials_side_by_side_are_not_done_again() -> None:
    assert sum(remaining(WORK, Done([10], 4, {1: 4, 2: 7}))) == (8.5 + 2 * 12.5 - 7) * 100 + 5 * 1000
    longer = Done([10], 4, {1: 4, 2: 70})
    assert sum(remaining(WORK, longer)) == 8.5 * 100 + 5 * 1000, "longer than usual: they may end"


def test_a_halved_search_is_what_its_rungs_take() -> None:
    work = replace(WORK, search_epochs=58)
    assert sum(remaining(work, Done())) == 58 * 100 + 10 * 1000
    assert sum(remaining(work, Done([1, 1], under_way={2: 3}))) == 53 * 100 + 10 * 1000
    assert sum(remaining(work, Done([1] * 4, final_epochs=7))) == 7 * 1000


def test_a_neighbour_that_has_left_is_forgotten() -> None:
    """Ten epochs at a third of the speed, then thirty as it is: within a twentieth of what is left."""
    told = Progress("off")
    told.begin(WORK)
    score = Score(1.0, 50.0)
    for number in range(1, 41):
        told.trial_epoch(0, 1e-3, Epoch(number, score, score, 3.0 if number <= 10 else 1.0))
    assert told.seconds_left() == pytest.approx(sum(remaining(WORK, told.done)) / 100, rel=0.06)


def test_an_evaluated_image_costs_a_third() -> None:
    assert Images(900, 300).cost == 1000


@pytest.mark.parametrize(("seconds", "text"), [(0, "0m00s"), (61, "1m01s"), (3600, "1h00m"), (7384, "2h03m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_json_has_no_bar() -> None:
    assert mode("bar", "json") == "line"
    assert mode("off", "json") == "off"
    assert mode("bar", "text") == "bar"


def test_a_notebooks_cell_has_none_though_it_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert mode("auto", "text") == "bar"
    assert mode("auto", "text", notebook=True) == "line"
    assert mode("bar", "text", notebook=True) == "bar"
