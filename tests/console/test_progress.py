"""The time that is left, from known amounts of work."""

from __future__ import annotations

import pytest

from job.console.forecast import Done, Images, Work, clock, remaining
from job.console.progress import mode

WORK = Work(trials=4, trial_epochs=50, patience=5, trial=Images(100, 0), final=Images(1000, 0), final_epochs=None)


@pytest.mark.parametrize(
    ("done", "images"),
    [
        (Done(), 4 * 15 * 100 + 10 * 1000),  # nothing known: the best epoch is the tenth
        (Done([10]), 3 * 10 * 100 + 5 * 1000),  # the others are expected to take as long
        (Done([10, 20], running=6), (15 - 6 + 15) * 100 + 10 * 1000),
        (Done([10, 10, 10], running=30), 1 * 100 + 5 * 1000),  # longer than usual: at least one more epoch
        (Done([10] * 4, final_epochs=7), 7 * 1000),
        (Done([10] * 4, final_epochs=7, final=5), 2 * 1000),
        (Done([10] * 4, final_epochs=7, final=7), 0),
    ],
)
def test_remaining(done: Done, images: float) -> None:
    assert sum(remaining(WORK, done)) == images


def test_epochs_of_trials_side_by_side_are_not_done_again() -> None:
    assert sum(remaining(WORK, Done([10], 4, {1: 4, 2: 7}))) == (6 + 2 * 10 - 7) * 100 + 5 * 1000
    longer = Done([10], 4, {1: 4, 2: 70})
    assert sum(remaining(WORK, longer)) == 6 * 100 + 5 * 1000, "longer than usual: they may end"


def test_an_evaluated_image_costs_a_third() -> None:
    assert Images(900, 300).cost == 1000


@pytest.mark.parametrize(("seconds", "text"), [(0, "0m00s"), (61, "1m01s"), (3600, "1h00m"), (7384, "2h03m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_json_has_no_bar() -> None:
    assert mode("bar", "json") == "line"
    assert mode("off", "json") == "off"
    assert mode("bar", "text") == "bar"
