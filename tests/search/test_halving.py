"""Successive halving: who goes on, and the same records whoever runs the trials and wherever a kill falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from job.console.progress import Progress
from job.results import STOPPED, WAITS, Epoch, Score, Trial, winner
from job.runs.checkpoint import Identity, Saved, decode, encode
from job.runs.keeper import Keeper
from job.runs.standing import START, Standing
from job.search import rungs, runners, tune
from job.search.book import Book
from job.search.held import Held
from job.search.inline import Inline
from job.search.rungs import Rule
from job.search.runners import Plan
from job.search.trial import Order, Rung, Setup
from tests.search.test_batched import unequal
from tests.search.test_runners import quiet, setup


def trial(number: int, *losses: float, failure: str = "", ending: str = "") -> Trial:
    epochs = tuple(Epoch(n, Score(1.0, 50.0), Score(loss, 50.0), 1.0) for n, loss in enumerate(losses, 1))
    return Trial(number, 10.0 ** -(number + 1), epochs, failure, ending=ending)


# --- who goes on ---


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, ()),
        (2, ()),
        (3, (2,)),
        (4, (2,)),
        (5, (2, 4)),
        (16, (2, 4, 8)),
        (17, (2, 4, 8, 16)),
        (50, (2, 4, 8, 16, 32)),
    ],
)
def test_rungs_double_below_the_last_epoch(most: int, expected: tuple[int, ...]) -> None:
    assert rungs.rungs(most) == expected


def test_a_third_rounded_up_goes_on() -> None:
    assert [rungs.places(count) for count in (1, 2, 3, 4, 20, 7, 3)] == [1, 1, 1, 2, 7, 3, 1]
    assert [rungs.places(count, Rule(least=2)) for count in (1, 2, 3, 20)] == [1, 2, 2, 7]


def test_the_best_go_on_and_of_equals_the_lower_number() -> None:
    trials = [trial(number, 2.0, loss) for number, loss in ((4, 0.5), (1, 0.5), (0, 0.9), (3, 0.5), (2, 0.7), (5, 1.0))]
    assert rungs.going_on(trials, 2) == {1, 3}
    assert rungs.going_on(trials[::-1], 2) == {1, 3}, "whoever came first"


def test_what_still_falls_is_ahead_of_what_has_come_to_rest() -> None:
    """The lowest loss, less twice what the second half of the epochs brought."""
    falling, resting = trial(0, 2.0, 1.5, 1.0), trial(1, 1.0, 0.75, 0.75)
    assert rungs.outlook(falling, 2) == 1.5 - 2 * 0.5
    assert rungs.outlook(resting, 2) == 0.75 - 2 * 0.25
    assert rungs.outlook(trial(0, 1.0, 1.5, 2.0, 2.0, 2.0), 4) == 1.0
    assert rungs.outlook(trial(0, 4.0, 3.0, 3.5, 2.5, 0.0), 4) == 2.5 - 2 * 0.5, "of the first half its lowest, too"
    assert rungs.outlook(falling, 2, Rule(ahead=0.0)) == 1.5
    assert rungs.outlook(falling, 1) == 2.0, "one epoch has no halves"


def test_what_failed_is_behind_all_others() -> None:
    nothing = trial(0, failure="its worker died")
    diverged = trial(1, math.nan, failure="the loss diverged in epoch 1")
    infinite = trial(2, math.inf, failure="the loss diverged in epoch 1")
    assert rungs.going_on([nothing, diverged, infinite, trial(3, 99.0, 99.0)], 2) == {0, 3}
    later = trial(1, 0.1, 0.1, math.nan, failure="the loss diverged in epoch 3")
    assert rungs.going_on([later, trial(2, 0.5, 0.5), trial(3, 0.6, 0.6)], 2) == {1}, "by what was known at the rung"
    assert rungs.going_on([later, trial(2, 0.5, 0.4, 0.3, 0.3), trial(3, *[0.6] * 4)], 4) == {2}


def test_a_rung_looks_at_nothing_behind_it() -> None:
    """A trial that becomes the best one later is stopped all the same, and one that ended by itself keeps its place."""
    late = trial(0, 0.9, 0.9, 0.1)
    assert rungs.going_on([late, trial(1, 0.5, 0.5, 0.7), trial(2, 0.6, 0.6)], 2) == {1}
    ended = trial(1, 0.2, 0.3)
    assert rungs.going_on([ended, trial(2, *[0.4] * 4), trial(3, *[0.5] * 4)], 4) == {1}
    assert rungs.outlook(trial(1, 0.4, 0.2), 2) == 0.2, "it gains no more"
    assert rungs.outlook(trial(1, 0.4, 0.2, ending=WAITS), 2) == pytest.approx(-0.2)


def test_the_default_search_takes_a_quarter_of_the_epochs() -> None:
    """20 trials, 7 after two epochs, 3 after four, 1 after eight, to epoch 15: 40 + 14 + 12 + 7 of 20 × 15."""
    assert rungs.expected_epochs(20, 50, 15) == 73
    assert rungs.expected_epochs(1, 50, 15) == 15
    assert rungs.expected_epochs(3, 3, 3) == 3 * 2 + 1


def test_a_whole_search_tells_what_halving_would_stop() -> None:
    trials = [trial(n, *(1.0 - 0.01 * n for _ in range(12))) for n in range(9)]
    assert rungs.stops(trials, 12) == dict.fromkeys(range(6), 2) | {6: 4, 7: 4}
    assert rungs.stops(trials[:1], 12) == {}


# --- the same records whoever runs them ---


def settings_of(**values: object) -> dict[str, object]:
    return {"search": "halving", "max_evals": 8, "tune_startup_trials": 7, "tune_max_epochs": 5, "patience": 5} | values


def search(common: Setup, plan: Plan, standing: Standing = START, keeper: Any = None) -> list[Trial]:
    progress = cast(Progress, SimpleNamespace(**{
        name: lambda *given: None for name in ("batch", "trial_epoch", "trial_done", "trial_waits")
    }, work=SimpleNamespace(trial=SimpleNamespace(train=0, heldout=0))))  # fmt: skip
    book = Book(standing, cast(Keeper, keeper or Kept()), progress, grouped=plan.kind == "batched")
    with runners.open_runner(plan, common, book.callbacks(), standing) as runner:
        return tune.search(common.settings, runner, 1, book.trial, standing)


class Kept:
    """A keeper that keeps all it is offered or handed, as bytes."""

    def __init__(self) -> None:
        self.states: list[bytes] = []

    def hand_over(self, standing: Standing) -> None:
        self.states.append(encode(Saved(Identity({}, "", {}), 1, standing)))

    def offer(self, take: Callable[[], Standing]) -> None:
        self.hand_over(take())


def without_clock(trials: Sequence[Trial]) -> list[object]:
    return [(t.number, t.learning_rate, t.failure, t.ending, [(e.train, e.heldout) for e in t.epochs]) for t in trials]


INLINE = Plan("inline", 1, ("cpu",))


def test_a_halved_search_is_a_whole_one_cut_at_the_rungs() -> None:
    whole = search(setup(**settings_of(search="full", max_evals=7)), INLINE)
    trials = search(setup(**settings_of()), INLINE)
    stops = rungs.stops(whole, 5)
    assert sorted(stops.values()) == [2, 2, 2, 2, 4, 4]
    assert {t.number: len(t.epochs) for t in trials if t.ending} == stops
    for mine, full in zip(trials, whole, strict=False):
        assert mine.ending == (STOPPED if mine.number in stops else "")
        assert [e.heldout for e in mine.epochs] == [e.heldout for e in full.epochs[: stops.get(mine.number, 5)]]
    best = winner(trials)
    assert best is not None
    assert not best.ending, "the winner was not stopped"
    assert len(trials[7].epochs) == 5, "a trial after the start-up runs whole"
    assert trials[7].learning_rate == tune.suggest(setup(**settings_of()).settings, 7, trials[:7])


@pytest.mark.slow
def test_workers_give_the_records_of_one_process() -> None:
    common = setup(**settings_of())
    assert without_clock(search(common, Plan("processes", 2, ("cpu",)))) == without_clock(search(common, INLINE))


@pytest.mark.parametrize("room", [0, 200_000])
def test_states_without_room_are_computed_again_to_the_same_records(room: int) -> None:
    common = setup(**settings_of(max_evals=7))
    runner = Inline(common, quiet(), Held(room))
    assert without_clock(tune.search(common.settings, runner, 1, lambda trial: None)) == without_clock(
        search(common, INLINE)
    )


def test_no_more_than_a_third_is_ever_held() -> None:
    held, rung = Held(), Rung(1, 3)
    for number, loss in enumerate((0.5, 0.9, 0.4, 0.8, 0.5, 0.3, 0.7)):
        held.offer(rung, trial(number, loss, ending=WAITS), dict)
        assert len(held) <= 3
    assert [number for number, _ in held.waiting()] == [0, 2, 5], "of equals the lower number"
    held.begin([Order(2, 1e-3), Order(5, 1e-3)])
    assert held.resumed(Order(5, 1e-3)).paused is not None
    assert [number for number, _ in held.waiting()] == [2]


# --- going on after a kill ---


def test_killed_after_any_epoch_and_at_any_rung_it_goes_on_to_the_same_records() -> None:
    common = setup(**settings_of())
    keeper = Kept()
    whole = without_clock(search(common, INLINE, keeper=keeper))
    standings = [decode(state).standing for state in keeper.states]
    assert {t.ending for s in standings for t in s.trials} == {"", WAITS, STOPPED}
    assert {len(s.history) for s in standings if isinstance(s.part, int)} == {1, 2, 3, 4, 5}, "in every rung"
    some = {(len(s.history), len({t.ending for t in s.trials})): s for s in standings}
    assert len(some) > 5
    for standing in some.values():
        assert without_clock(search(common, INLINE, standing)) == whole


@pytest.mark.parametrize("together", [7, pytest.param(3, marks=pytest.mark.slow)])
def test_a_batched_search_stops_the_same_and_every_state_leads_to_the_same_bytes(together: int) -> None:
    common = unequal("residual")
    values = settings_of(max_evals=7, batch_size=16)
    common = Setup(
        common.settings.model_copy(update=values), common.build, common.train, common.validation, common.compute
    )
    plan, keeper = Plan("batched", 1, ("cpu",), together), Kept()
    trials = search(common, plan, keeper=keeper)
    inline = search(common, INLINE)
    assert [(t.number, t.ending, len(t.epochs)) for t in trials] == [
        (t.number, t.ending, len(t.epochs)) for t in inline
    ]
    assert [t.validation_loss for t in trials] == pytest.approx([t.validation_loss for t in inline], rel=1e-9)
    begun = [decode(state).standing.begun for state in keeper.states]
    assert any(t.ending == WAITS for trials in begun for t in trials), "some wait at a rung"
    for state in keeper.states:
        assert without_clock(search(common, plan, decode(state).standing)) == without_clock(trials)
