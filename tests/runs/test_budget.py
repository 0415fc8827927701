"""MAX_HOURS with a clock of the test's own: what is begun, what is cut, what is kept, and that it ends in time."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest

from job.errors import Fault
from job.runs import budget
from job.runs.budget import Budget, OutOfTime, Speeds
from tests.helpers import chaos

FAST = Speeds(trial=2.0, final=10.0, ending=20.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_trial_is_begun_where_the_final_training_still_fits() -> None:
    """5 epochs of 2 s, 4 of 10 s and 20 s: 70 s, which are 95 % of what is needed."""
    assert budget.starts(70 / 0.95, FAST, 5, 4)
    assert not budget.starts(69.9 / 0.95, FAST, 5, 4)
    assert budget.goes_on(62 / 0.95, FAST, 4)


def test_as_many_epochs_as_fit() -> None:
    assert budget.fitting(1000, FAST, 11) == 11
    assert budget.fitting(100, FAST, 11) == 7  # (95 - 20) / 10
    assert budget.fitting(31, FAST, 11) == 0
    assert budget.fitting(math.inf, FAST, 11) == 11
    assert budget.still_fitting(130, FAST, 11) == 11, "once it is under way the margin is spent"
    assert budget.still_fitting(129, FAST, 11) == 10
    assert budget.still_fitting(10, FAST, 11) == 0


def test_what_a_look_beforehand_says() -> None:
    """Trials of 15 epochs take 30 s; 10 epochs of the final training and the end 120 s."""
    assert budget.trials_fitting(1e9, FAST, 15, 10, 20) == 20
    assert budget.trials_fitting(150 / 0.95 + 30, FAST, 15, 10, 20) == 2
    assert budget.trials_fitting(1, FAST, 15, 10, 20) == 1


def test_working_time_adds_up_and_is_told() -> None:
    clock, told = Clock(), list[float]()
    first = Budget(100.0, 0.0, clock, told.append)
    clock.now += 4
    first.check()
    assert told == []
    clock.now += 1.5
    first.check()
    assert told == [5.5]
    clock.now += 3600
    second = Budget(100.0, told[-1], clock, told.append)
    clock.now += 60
    assert (second.worked, second.left) == (65.5, 34.5)
    clock.now += 34.5
    with pytest.raises(Fault, match=r"MAX_HOURS=0\.0277778: the time is over") as caught:
        second.check()
    assert caught.value.exit_code == 78
    second.over = True
    second.check()


def test_without_a_limit_nothing_is_ever_late() -> None:
    clock = Clock()
    free = Budget(clock=clock)
    clock.now += 1e9
    free.check()
    free.check_ending()
    assert not free.limited


def test_an_epoch_that_would_eat_the_ending_is_left() -> None:
    clock = Clock()
    run = Budget(100.0, 0.0, clock, speeds=FAST)
    clock.now += 79
    run.check_ending()
    clock.now += 1
    with pytest.raises(OutOfTime):
        run.check_ending()


def test_the_speed_is_the_mean_of_the_last_epochs() -> None:
    run = Budget(100.0, 0.0, Clock(), evaluation=0.1)
    for seconds in (30.0, 2.0, 3.0, 4.0):
        run.measured(trial=seconds, ratio=5)
    assert run.speeds == Speeds(3.0, 15.0, budget.ENDING + 2 * 0.1 * 15)
    run.measured(final=20.0)
    assert run.speeds == Speeds(3.0, 20.0, budget.ENDING + 2 * 0.1 * 20)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kill_does_not_reset_the_working_time(tmp_path: Path) -> None:
    """A real job, killed with its time half gone: the next attempt has what is left of it, and tells what fitted."""
    variables = {"OUTPUT": "out", "MAX_HOURS": "0.02", "DATA_LIMIT": "8000", "MAX_EVALS": "40", "TUNE_MAX_EPOCHS": "9"}
    killed = chaos.attempt(variables, tmp_path, 12.0)
    assert killed.code == -signal.SIGKILL
    status = json.loads((tmp_path / "out/run/status.json").read_text())
    before = status["progress"]["worked_seconds"]
    assert 5 <= before <= 72
    done = chaos.attempt(variables, tmp_path)
    assert done.code in (0, 78), done.output
    events = [event for event in map(json.loads, done.output.splitlines()) if event["event"] == "limit"]
    left = [event["seconds"] for event in events if "seconds" in event]  # the others tell what was cut
    assert left[0] <= 72 - before
    status = json.loads((tmp_path / "out/run/status.json").read_text())
    assert status["progress"]["worked_seconds"] > before
    if done.code == 0:
        assert "fitted into 0.02 hours" in status["time_limit"]
    else:
        assert "MAX_HOURS=0.02" in status["last_error"]["what"]
