"""Synchronous successive halving (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943).

All trials of a round take the epochs up to a rung, then the best third goes on to the next (see `rungs`). Who goes on
does not depend on who came first, so that records are the same whatever the workers, the kills and the machine's speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from job.results import CUT, STOPPED, WAITS, Trial
from job.search.rungs import RULE, going_on, places, rungs
from job.search.runners import Runner
from job.search.trial import Order, Rung


def halved(runner: Runner, orders: Sequence[Order], most: int, done: Mapping[int, Trial]) -> Iterator[Trial]:
    """The records of the orders' trials: each when it waits at a rung or has ended, and again once it is stopped there.

    `most` is how many epochs a trial may take, `done` what earlier attempts have of the records, by number. The last
    one that goes on, or those of the last rung, run to their own end.
    """
    records = {order.number: done[order.number] for order in orders if order.number in done}
    left = list(orders)
    for rung in rungs(most):
        if len(left) <= RULE.least:
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


def reached(trial: Trial | None, rung: int) -> bool:
    """Whether there is a record that says how the trial stood at the rung."""
    return trial is not None and (trial.ending != WAITS or len(trial.epochs) >= rung)


def with_earlier(trial: Trial, before: Trial | None) -> Trial:
    """A trial that lost its epochs with its worker keeps those that are known: decisions were made by them."""
    if trial.failure and before is not None and len(trial.epochs) < len(before.epochs):
        return replace(trial, epochs=before.epochs)
    return trial
