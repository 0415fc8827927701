"""The time that is left, from known amounts of work."""

from __future__ import annotations

import pytest

from job.console.progress import Work, clock, mode, remaining

WORK = Work(trials=4, trial_epochs=50, patience=5, trial_images=100, final_images=1000, final_epochs=None)


@pytest.mark.parametrize(
    ("finished", "running", "final_epochs", "final_done", "images"),
    [
        ([], 0, None, 0, 4 * 15 * 100 + 10 * 1000),  # nothing known: the best epoch is the tenth
        ([10], 0, None, 0, 3 * 10 * 100 + 5 * 1000),  # the others are expected to take as long
        ([10, 20], 6, None, 0, (15 - 6 + 15) * 100 + 10 * 1000),
        ([10, 10, 10], 30, None, 0, 1 * 100 + 5 * 1000),  # longer than usual: at least one more epoch
        ([10] * 4, 0, 7, 0, 7 * 1000),
        ([10] * 4, 0, 7, 5, 2 * 1000),
        ([10] * 4, 0, 7, 7, 0),
    ],
)
def test_remaining(finished: list[int], running: int, final_epochs: int | None, final_done: int, images: float) -> None:
    assert sum(remaining(WORK, finished, running, final_epochs, final_done)) == images


def test_epochs_of_trials_side_by_side_are_not_done_again() -> None:
    assert sum(remaining(WORK, [10], 4, None, 0, others=7)) == (6 + 2 * 10 - 7) * 100 + 5 * 1000
    assert sum(remaining(WORK, [10], 4, None, 0, others=70)) == 6 * 100 + 5 * 1000, "longer than usual: they may end"


def test_an_evaluated_image_costs_a_third() -> None:
    assert Work.images(900, 300) == 1000


@pytest.mark.parametrize(("seconds", "text"), [(0, "0m00s"), (61, "1m01s"), (3600, "1h00m"), (7384, "2h03m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_json_has_no_bar() -> None:
    assert mode("bar", "json") == "line"
    assert mode("off", "json") == "off"
    assert mode("bar", "text") == "bar"
