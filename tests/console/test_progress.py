"""The time that is left, from known amounts of work."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from job.console.forecast import Done, Images, Work, clock, expected_best, longer, remaining
from job.console.progress import Progress, mode
from job.results import Epoch, Score, Trial

WORK = Work(trials=4, trial_epochs=50, patience=5, trial=Images(100, 0), final=Images(1000, 0), final_epochs=None)


def ended(*epochs: int, losses: tuple[float, ...] = ()) -> list[Trial]:
    """Trials that took so many epochs, the best one five before the last; of falling losses unless told otherwise."""
    found = []
    for number, count in enumerate(epochs):
        lowest = losses[number] if losses else 1.0 / (1 + number)
        scores = [Score(lowest if epoch == count - 5 else 9.0, 50.0) for epoch in range(1, count + 1)]
        found.append(Trial(number, 1e-3, tuple(Epoch(n, score, score, 1.0) for n, score in enumerate(scores, 1))))
    return found


@pytest.mark.parametrize(
    ("done", "images"),
    [
        (Done(), 4 * 15 * 100 + 10 * 1000),  # nothing known: the best epoch is the tenth
        # Best after 5 of 10: with the one that took as long as expected 15 of 20, so that others take 7.5, and 5 more.
        (Done(ended(10)), 3 * 12.5 * 100 + (5 + 7.5) / 2 * 1000),
        (Done(ended(10, 20), under_way={2: 6}), (15 - 6 + 15) * 100 + (2 * 15 + 10) / 3 * 1000),  # 30 of 30
        (
            Done(ended(10, 20, losses=(1.0, 2.0))),
            2 * 15 * 100 + (2 * 5 + 10) / 3 * 1000,
        ),  # the best one's, not the last
        (Done(ended(15, 15, 15), under_way={3: 30}), 1 * 100 + 10 * 1000),  # longer than usual: at least one more epoch
        (Done(ended(10, 10, 10, 10), final_epochs=7), 7 * 1000),
        (Done(ended(10), final_epochs=7, final=5), 2 * 1000),  # once it trains, the search is over
        (Done(final_epochs=7, final=7), 0),
    ],
)
def test_remaining(done: Done, images: float) -> None:
    assert sum(remaining(WORK, done)) == pytest.approx(images)


def test_a_small_rate_is_expected_to_take_longer() -> None:
    assert expected_best(1e-2, 63) == expected_best(1e-3, 63) == 7.0
    assert expected_best(1e-4, 63) == pytest.approx(7.0 * (0.015 / 0.0063) ** 0.6)
    assert expected_best(1e-4, 62) == expected_best(2e-4, 31)
    work = replace(WORK, bests=(5.0, 15.0, 45.0))
    assert [work.best(number) for number in range(4)] == [5.0, 15.0, 45.0, 65 / 3], "the last one's rate is not known"
    assert work.tuning_epochs == 10 + 20 + 50 + 65 / 3 + 5
    assert [round(work.epochs(number, 2.0)) for number in range(3)] == [15, 35, 50], "50 at most"
    failed = Trial(0, 1.0, (), "diverged")
    assert longer(work, [failed]) == 1.0, "which says nothing of the others"


def test_what_a_trial_at_its_own_rate_took_says_how_others_do() -> None:
    """A quick one that took as long as expected changes nothing, whatever slower ones are expected to take."""
    work = replace(WORK, bests=(5.0, 15.0, 45.0, 45.0))
    assert longer(work, ended(10)) == 1.0
    assert longer(work, ended(25)) == (20 + 27.5) / (5 + 27.5)


def test_epochs_of_trials_side_by_side_are_not_done_again() -> None:
    assert sum(remaining(WORK, Done(ended(15), 4, {1: 4, 2: 7}))) == (11 + 8 + 15) * 100 + 10 * 1000
    long = Done(ended(15), 4, {1: 4, 2: 70})
    assert sum(remaining(WORK, long)) == (11 + 1 + 15) * 100 + 10 * 1000, "longer than usual: at least one more"


def test_what_an_earlier_attempt_began_is_not_done_again() -> None:
    told = Progress("off")
    told.begin(WORK, ended(15), {2: 4})
    assert sum(remaining(WORK, told.done)) == (15 + 11 + 15) * 100 + 10 * 1000


def test_a_halved_search_is_what_its_rungs_take() -> None:
    work = replace(WORK, search_epochs=58)
    assert sum(remaining(work, Done())) == 58 * 100 + 10 * 1000
    assert sum(remaining(work, Done(ended(6, 6), under_way={2: 3}))) == (58 - 15) * 100 + 10 * 1000
    assert sum(remaining(work, Done(ended(6, 6), final_epochs=7))) == 7 * 1000


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
