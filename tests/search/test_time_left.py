"""A search that runs out of time: whoever runs the trials, those under way end as they are, no other begins."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from job.console.forecast import Images, Work
from job.results import CUT, STOPPED, WAITS, Trial, winner
from job.runs.budget import Budget, Speeds
from job.search import runners, tune
from job.search.runners import Plan
from job.search.time_left import TimeLeft
from job.search.trial import Callbacks, Order, Rung, Setup
from tests.search.test_halving import trial
from tests.search.test_runners import quiet, setup, without_clock

PLANS = (Plan("inline", 1, ("cpu",)), Plan("processes", 2, ("cpu",)), Plan("batched", 1, ("cpu",), 2))
WORK = Work(20, 50, 5, Images(100, 0), Images(500, 0), None)


def ended_after(common: Setup, plan: Plan, epochs: int) -> list[Trial]:
    """The records of a search that has time for so many epochs."""
    done: list[int] = []
    callbacks = Callbacks(
        on_batch=lambda images: None,
        on_epoch=lambda number, rate, history, learner: done.append(number),
        starts=lambda order: len(done) < epochs,
        in_time=lambda: len(done) < epochs,
    )
    with runners.open_runner(plan, common, callbacks) as runner:
        return tune.search(common.settings, runner, 1, lambda trial: None)


@pytest.mark.parametrize(
    ("plan", "search"),
    [
        pytest.param(PLANS[0], "full", id="inline"),
        pytest.param(PLANS[0], "halving", id="inline halved"),
        pytest.param(PLANS[1], "halving", id="processes halved", marks=pytest.mark.slow),
        pytest.param(PLANS[2], "full", id="batched"),
        pytest.param(PLANS[2], "halving", id="batched halved"),
    ],
)
def test_what_is_under_way_ends_as_it_is(plan: Plan, search: str) -> None:
    common = setup(search=search, max_evals=6, tune_startup_trials=5, tune_max_epochs=4, patience=4)
    for epochs in (1, 6) if plan.workers == 1 else (6,):  # processes take seconds to start
        trials = ended_after(common, plan, epochs)
        assert epochs <= sum(len(each.epochs) for each in trials) <= epochs + 2
        assert any(each.ending == CUT for each in trials)
        assert not any(each.ending == WAITS for each in trials), "nobody waits for what does not come"
        assert winner(trials) is not None
        assert all(each.epochs for each in trials)


def test_with_all_the_time_nothing_is_cut() -> None:
    common = setup(max_evals=3, tune_startup_trials=2)
    with runners.open_runner(PLANS[0], common, quiet()) as runner:
        assert without_clock(ended_after(common, PLANS[0], 99)) == without_clock(
            tune.search(common.settings, runner, 1, lambda trial: None)
        )


def time_left(left: float, **work: Any) -> TimeLeft:
    clock = SimpleNamespace(now=0.0)
    budget = Budget(left, 0.0, cast(Any, lambda: clock.now), speeds=Speeds(1.0, 5.0, 20.0))
    return TimeLeft(budget, replace(WORK, **work))


def test_a_trial_needs_as_many_epochs_as_those_before_it() -> None:
    """6 epochs of a trial, 2 of the final training and 20 s: 36 of 95 %."""
    known = [trial(0, 3.0, 2.0, 3.0, 3.0, 3.0, 3.0)]
    order = Order(1, 1e-3)
    assert time_left(36 / 0.95 + 1e-6).starts(order, 0, known)
    assert not time_left(35.9 / 0.95).starts(order, 0, known)
    assert time_left(33 / 0.95 + 1e-6).starts(order, 3, known), "three of them are done"
    assert not time_left(36 / 0.95 + 1e-6, final_epochs=3).starts(order, 0, known), "a length that is given"
    stopped = trial(2, 9.0, ending=STOPPED)
    assert time_left(36 / 0.95 + 1e-6).starts(order, 0, [*known, stopped]), "one that was stopped says nothing of it"
    assert time_left(31 / 0.95 + 1e-6).starts(replace(order, rung=Rung(1, 1)), 0, known), "only to its rung"
    assert time_left(0.0).starts(order, 0, []), "one trial in any case"
    assert time_left(0.0).goes_on([]), "and one epoch of it"
