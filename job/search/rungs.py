"""The rungs of successive halving: after how many epochs trials are compared, how, and how many of them go on.

Who goes on depends on the losses up to the rung and the trials' numbers alone, whoever runs the trials. A trial is not
compared by its loss alone: low rates begin slowly and win in the end, and one that still falls by much is ahead of one
that has come to rest (`outlook`). What other rules would have made of whole searches: `bench/halving.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from job.console.forecast import expected_epochs as expected
from job.results import STOPPED, Trial
from job.settings import Settings


@dataclass(frozen=True)
class Rule:
    """The first rung is after `first` epochs, each further one after `growth` times as many; one of `factor` goes on,
    at least `least` of them. `ahead` is how many times the gain of a trial's second half is expected once more.
    """

    first: int = 2
    growth: int = 2
    factor: int = 3
    least: int = 1
    ahead: float = 2.0


RULE = Rule()


def rungs(most: int, rule: Rule = RULE) -> tuple[int, ...]:
    """The epochs after which some trials are stopped: 2, 4, 8, 16 … below `most`, which a trial takes anyway."""
    found = [rule.first]
    while found[-1] < most:
        found.append(found[-1] * rule.growth)
    return tuple(rung for rung in found if rung < most)


def places(trials: int, rule: Rule = RULE) -> int:
    """How many of so many go on."""
    return min(trials, max(rule.least, math.ceil(trials / rule.factor)))


def outlook(trial: Trial, rung: int, rule: Rule = RULE) -> float:
    """The validation loss that a trial is compared by after `rung` epochs; infinite where it failed in one of them.

    It is the lowest so far, less `ahead` times what the second half of the epochs brought: the loss is taken to fall by
    as much with each further doubling of the epochs, by a straight line over their logarithm. (To compare by where a
    curve leads: Domhan, Springenberg and Hutter 2015, IJCAI, by richer ones.) One that patience has ended stays there.
    """
    epochs = trial.epochs[:rung]
    losses = [loss for epoch in epochs for loss in (epoch.train.loss, epoch.heldout.loss)]
    if not all(map(math.isfinite, losses)) or (trial.failure and len(epochs) < rung):
        return math.inf
    lowest = min(epoch.heldout.loss for epoch in epochs)
    if rung < 2 or (len(trial.epochs) <= rung and not trial.ending):
        return lowest
    return lowest - rule.ahead * (min(epoch.heldout.loss for epoch in epochs[: rung // 2]) - lowest)


def going_on(trials: Sequence[Trial], rung: int, rule: Rule = RULE) -> set[int]:
    """The numbers of the best third (rounded up) of `trials`, all of which have reached the rung or ended before it.

    Of equals the lower number goes on; a trial that failed is behind all others. One that patience ended before the
    rung takes its place among them by its loss.
    """
    ranked = sorted(trials, key=lambda trial: (outlook(trial, rung, rule), trial.number))
    return {trial.number for trial in ranked[: places(len(trials), rule)]}


def stops(trials: Sequence[Trial], most: int, rule: Rule = RULE) -> dict[int, int]:
    """Number → the rung at which halving stops a trial, of the records of a whole search or of a halved one."""
    left, found = list(trials), dict[int, int]()
    for rung in rungs(most, rule):
        if len(left) <= rule.least:
            break
        best = going_on(left, rung, rule)
        behind = [trial for trial in left if trial.number not in best]
        found |= {trial.number: rung for trial in behind if len(trial.epochs) > rung or trial.ending == STOPPED}
        left = [trial for trial in left if trial.number in best]
    return found


def expected_epochs(trials: int, most: int, whole: int) -> int:
    """What a round of so many trials takes in all, in epochs, where those that go on to the end take `whole` each."""
    left, before, total = trials, 0, 0
    for rung in rungs(most):
        if left <= RULE.least or rung >= whole:
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
