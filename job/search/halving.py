"""Synchronous successive halving (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943).

All trials of a round take the epochs up to a rung, then the best third goes on to the next. Who goes on depends on the
losses at the rung and the trials' numbers alone: not on who came first, so that records are the same whatever the
workers, the kills and the machine's speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from job.console.forecast import expected_epochs as expected
from job.results import CUT, STOPPED, WAITS, Trial
from job.search.runners import Runner
from job.search.trial import Order, Rung
from job.settings import Settings

FACTOR = 3  # one of so many goes on, and a rung has so many times the epochs of the one before


def rungs(most: int) -> tuple[int, ...]:
    """The epochs after which some trials are stopped: 1, 3, 9, 27 … below `most`, which a trial takes anyway."""
    found = [1]
    while found[-1] * FACTOR < most:
        found.append(found[-1] * FACTOR)
    return tuple(rung for rung in found if rung < most)


def places(trials: int) -> int:
    """How many of so many go on."""
    return math.ceil(trials / FACTOR)


def loss_at(trial: Trial, rung: int) -> float:
    """A trial's lowest validation loss within the first `rung` epochs; infinite where it failed in one of them."""
    epochs = trial.epochs[:rung]
    losses = [loss for epoch in epochs for loss in (epoch.train.loss, epoch.heldout.loss)]
    if not all(map(math.isfinite, losses)) or (trial.failure and len(epochs) < rung):
        return math.inf
    return min(epoch.heldout.loss for epoch in epochs)


def going_on(trials: Sequence[Trial], rung: int) -> set[int]:
    """The numbers of the best third (rounded up) of `trials`, all of which have reached the rung or ended before it.

    Of equal losses the lower number goes on; a trial that failed is behind all others. One that patience ended before
    the rung takes its place among them by its loss.
    """
    ranked = sorted(trials, key=lambda trial: (loss_at(trial, rung), trial.number))
    return {trial.number for trial in ranked[: places(len(trials))]}


def halved(runner: Runner, orders: Sequence[Order], most: int, done: Mapping[int, Trial]) -> Iterator[Trial]:
    """The records of the orders' trials: each when it waits at a rung or has ended, and again once it is stopped there.

    `most` is how many epochs a trial may take, `done` what earlier attempts have of the records, by number. The last
    one that goes on, or those of the last rung, run to their own end.
    """
    records = {order.number: done[order.number] for order in orders if order.number in done}
    left = list(orders)
    for rung in rungs(most):
        if len(left) <= 1:
            break
        missing = [order for order in left if not reached(records.get(order.number), rung)]
        until = Rung(rung, places(len(left)))
        for trial in runner.run([replace(order, rung=until) for order in missing]) if missing else ():
            records[trial.number] = trial = with_earlier(trial, records.get(trial.number))
            yield trial
        if not all(reached(records.get(order.number), rung) for order in left):  # no time: nobody goes on
            waiting = [trial for trial in records.values() if trial.ending == WAITS]
            yield from [replace(trial, ending=CUT) for trial in waiting]
            return
        best = going_on([records[order.number] for order in left], rung)
        for order in left:
            trial = records[order.number]
            if order.number not in best and trial.ending == WAITS:
                records[order.number] = replace(trial, ending=STOPPED)
                yield records[order.number]
        left = [order for order in left if order.number in best]
    last = [order for order in left if order.number not in records or records[order.number].ending == WAITS]
    for trial in runner.run(last) if last else ():
        records[trial.number] = with_earlier(trial, records.get(trial.number))
        yield records[trial.number]
    yield from [replace(trial, ending=CUT) for trial in records.values() if trial.ending == WAITS]  # no time for it


def stops(trials: Sequence[Trial], most: int) -> dict[int, int]:
    """Number → the rung at which halving stops a trial, of the records of a whole search or of a halved one."""
    left, found = list(trials), dict[int, int]()
    for rung in rungs(most):
        if len(left) <= 1:
            break
        best = going_on(left, rung)
        behind = [trial for trial in left if trial.number not in best]
        found |= {trial.number: rung for trial in behind if len(trial.epochs) > rung or trial.ending == STOPPED}
        left = [trial for trial in left if trial.number in best]
    return found


def expected_epochs(trials: int, most: int, whole: int) -> int:
    """What a round of so many trials takes in all, in epochs, where those that go on to the end take `whole` each."""
    left, before, total = trials, 0, 0
    for rung in rungs(most):
        if left <= 1 or rung >= whole:
            break
        total, before, left = total + left * (rung - before), rung, places(left)
    return total + left * (max(whole, before) - before)


def search_epochs(settings: Settings, whole: int | None = None) -> int:
    """What all trials of a search take together; those after the start-up run whole, which is `whole` epochs, or as
    many as are expected.
    """
    whole = whole or expected(settings.tune_max_epochs, settings.trial_patience)
    start = min(settings.tune_startup_trials, settings.max_evals)
    return expected_epochs(start, settings.tune_max_epochs, whole) + (settings.max_evals - start) * whole


def reached(trial: Trial | None, rung: int) -> bool:
    """Whether there is a record that says how the trial stood at the rung."""
    return trial is not None and (trial.ending != WAITS or len(trial.epochs) >= rung)


def with_earlier(trial: Trial, before: Trial | None) -> Trial:
    """A trial that lost its epochs with its worker keeps those that are known: decisions were made by them."""
    if trial.failure and before is not None and len(trial.epochs) < len(before.epochs):
        return replace(trial, epochs=before.epochs)
    return trial
