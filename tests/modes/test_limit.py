"""A whole run under MAX_HOURS in a world whose clock is the test's own: epochs take what the world says they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from job import device
from job.console.forecast import Images, Work
from job.console.progress import Progress
from job.engine import Course, fit
from job.engine.learner import Learner
from job.errors import Fault
from job.modes import run as story
from job.modes.beginning import Run
from job.modes.limit import Final
from job.report.records import TimeLimit
from job.results import CUT, Score, Trial, winner
from job.runs.budget import Budget
from job.runs.checkpoint import Identity, Saved, decode, encode
from job.runs.standing import FINAL, START, Standing
from job.search import runners, trial, tune
from job.search.book import Book
from job.search.runners import Plan
from job.search.time_left import TimeLeft
from job.search.trial import Setup
from job.settings import Settings
from tests.helpers import small_models
from tests.search.test_tune import some_images

TRIAL, FINAL_EPOCH, AFTER = 2.0, 10.0, 5.0  # seconds of the world
ALL = 5 * 6 * TRIAL + 6 * FINAL_EPOCH  # of a run that has all the time it needs
WORK = Work(5, 6, 6, Images(100, 0), Images(500, 0), None)


class Killed(Exception):
    pass


class World:
    """Where time passes with the epochs, from second `slow_from` on three times as slowly; it ends at `killed_at`."""

    def __init__(self, slow_from: float = float("inf"), killed_at: float = float("inf")) -> None:
        self.now, self.slow_from, self.killed_at = 0.0, slow_from, killed_at
        self.states: list[bytes] = []

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds * (3 if self.now >= self.slow_from else 1)
        if self.now >= self.killed_at:
            self.killed_at = float("inf")
            raise Killed

    def epochs(self, learner: Learner, course: Course, numbers: range) -> Iterator[tuple[int, Score, Score]]:
        for number in numbers:
            for _ in range(4):
                self.passes((FINAL_EPOCH if learner.part == ("final",) else TRIAL) / 4)
                course.on_batch(0)
            loss = 1 / number + (learner.part[1] if isinstance(learner.part[-1], int) else 0)  # type: ignore[operator]
            yield number, Score(loss, 50.0), Score(loss, 50.0)

    def hand_over(self, standing: Standing) -> None:
        self.states.append(encode(Saved(Identity({}, "", {}), 1, standing)))

    def offer(self, take: Callable[[], Standing]) -> None:
        self.hand_over(take())

    def standing(self) -> Standing:
        return decode(self.states[-1]).standing if self.states else START


def quiet() -> Any:
    names = ("batch", "trial_epoch", "trial_done", "trial_waits", "training_begins", "final_epoch")
    return SimpleNamespace(**{name: lambda *given: None for name in names}, seconds_left=lambda: 0.0)


def attempt(world: World, limit: float, before: float, **values: object) -> tuple[TimeLimit, list[Trial], float]:
    """One attempt of a run, as `modes.run` has it: search, final training, and what follows."""
    wanted = Settings(model="mlp", dataset="synthetic", max_evals=5, tune_max_epochs=6, patience=6, **values)  # type: ignore[arg-type]
    standing, budget = world.standing(), Budget(limit, before, world)
    budget.over = standing.part == FINAL and standing.final_epochs == len(standing.history)
    progress = quiet()
    progress.batch = lambda images: budget.check()
    common = Setup(wanted, small_models.perceptron, some_images(8), some_images(8), device.choose("cpu", "fp32"))
    run = SimpleNamespace(
        settings=wanted.model_copy(update={"max_hours": limit / 3600}), budget=budget, standing=standing, keeper=world,
        progress=progress, build=common.build, compute=common.compute, plan=Plan("inline", 1, ("cpu",)), work=WORK,
        data=SimpleNamespace(train=common.train, test=common.validation),
        owned=SimpleNamespace(status=SimpleNamespace(tell=lambda *given: None, limited=lambda words: None)),
    )  # fmt: skip
    book = Book(standing, cast(Any, world), cast(Progress, progress), TimeLeft(budget, WORK), grouped=False)
    with runners.open_runner(run.plan, common, book.callbacks(), standing) as runner:
        trials = tune.search(wanted, runner, 1, book.trial, standing)
    final = Final(cast(Run, run), story.choice_of(wanted, trials), book.searched())
    fitted = story.train(cast(Run, run), final)
    told = final.told(fitted.history)
    assert told is not None
    assert len(fitted.history) == told.epochs >= 1
    world.passes(AFTER)
    return told, trials, budget.worked


def whole(
    world: World, limit: float, monkeypatch: pytest.MonkeyPatch, **values: object
) -> tuple[TimeLimit, list[Trial], float]:
    """A run over as many attempts as it takes."""
    for part in (trial, fit):
        monkeypatch.setattr(part, "epochs", world.epochs)
        monkeypatch.setattr(part, "time", SimpleNamespace(monotonic=world))
    before = 0.0
    while True:
        began = world.now
        try:
            return attempt(world, limit, before, **values)
        except Killed:
            before += world.now - began
            world.now += 1e5  # nobody works in between


@pytest.mark.parametrize("search", ["full", "halving"])
def test_from_hardly_anything_to_all_it_ends_in_time(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trials_of, epochs_of, refused = [], [], []
    for limit in range(20, 220, 7):
        try:
            told, trials, worked = whole(World(), limit, monkeypatch, search=search)
        except Fault:
            refused.append(limit)
            continue
        assert worked <= limit
        assert winner(trials) is not None
        trials_of.append(len(trials))
        epochs_of.append(told.epochs)
    assert Fault("", "").exit_code == 78
    assert refused == [limit for limit in range(20, 220, 7) if limit < 2 + 10 + 20], (
        "a trial's epoch, one more, the end"
    )
    assert trials_of[0] == 1
    assert trials_of[-1] == 5
    assert epochs_of[0] == 1
    assert epochs_of[-1] == 6
    assert trials_of == sorted(trials_of), "more time, more trials"
    if search == "full":
        assert replace(told, loading_seconds=0.0) == TimeLimit(limit / 3600, 5, 5, 0, 6, 6, 6)
        assert 120 <= worked == ALL + AFTER


def test_a_machine_that_becomes_three_times_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = 0
    for slow_from in range(0, 130, 9):
        told, _, worked = whole(World(slow_from), 160, monkeypatch)
        assert worked <= 160
        assert told.epochs >= 1
        shorter += told.epochs < told.epochs_planned
    assert shorter > 2, "also in the middle of the final training"


@pytest.mark.parametrize(("search", "limit"), [("full", 125), ("halving", 64)])
def test_killed_in_each_part_it_ends_in_time_and_decides_nothing_twice(
    search: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = set()
    for killed_at in range(1, 120, 8):
        world = World(killed_at=killed_at)
        told, _, worked = whole(world, limit, monkeypatch, search=search)
        assert worked <= limit
        standings = [decode(state).standing for state in world.states]
        planned = [standing.final_epochs for standing in standings if standing.final_epochs is not None]
        assert planned == sorted(planned, reverse=True), "never more than was planned"
        closed = [standing.closed for standing in standings]
        assert closed == sorted(closed), "a search that was closed stays so"
        parts.add((len(world.standing().trials), told.epochs))
    assert len(parts) > 1


def test_a_trial_that_is_cut_short_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told, trials, _ = whole(World(), 50, monkeypatch)
    assert [each.ending for each in trials] == [CUT]
    epochs = f"{told.epochs} of {told.epochs_wanted} epochs"
    assert told.in_words == f"1 of 5 trials (1 of them cut short), {epochs} fitted into {50 / 3600:g} hours"


def test_a_run_that_is_only_to_be_published_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its last epoch with no time left."""
    world = World(killed_at=ALL + 1)
    told, _, worked = whole(world, ALL + 25, monkeypatch)
    assert told.epochs == 6
    assert worked < ALL + 25
