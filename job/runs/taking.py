"""How a job comes by the lock of a run: it is free, its owner is dead, or somebody is at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from job.console.logs import event
from job.errors import TakenOver, TemporaryFault
from job.runs.owner import PATIENCE_MOST, SLOW_SECONDS, Clock, Owner, Timing, boot_time, content, owner, slowness
from job.storage import ArtifactStore

NAME = "lock.json"
LOOK_SECONDS = 1.0  # at most, between two looks at another's lock


class AtWork(TemporaryFault):
    """Another job is at work on this run, alive."""


@dataclass(frozen=True)
class Claim:
    """Who wants the lock, how often it would beat, and the clock that knows how slowly the store answers."""

    me: Owner
    timing: Timing
    clock: Clock


@dataclass(frozen=True)
class Taken:
    """A lock taken: since when (`boot_time`) it is sure, and the timing that its file tells others."""

    since: float
    timing: Timing


def acquire(store: ArtifactStore, claim: Claim, check: Callable[[], object]) -> Taken:
    """Takes the lock; waits for a sign of life of another owner."""
    timing, clock = claim.timing, claim.clock
    watched, since, told = "", time.monotonic(), False
    while True:
        check()
        with clock.timed():
            found = store.get_versioned(NAME)
        if found is None:
            taken = take(store, claim, None)
            if taken is not None:
                return taken
            continue
        other, version = owner(found[0]), found[1]
        if version != watched:
            if watched:
                raise at_work(store, other)
            watched, since = version, time.monotonic()
        patience = max(timing.patience, min(PATIENCE_MOST, other.patience))
        if other.is_dead_here() or time.monotonic() - since >= patience:
            event("lock", f"the job on {other.host}, process {other.process}, is gone; going on in its place")
            taken = take(store, claim, version)
            if taken is None:
                raise taken_over(store, clock)
            return taken
        if not told:
            told = True
            event("lock", f"waiting up to {patience:g} s for a sign of life of the job on {other.host}")
        time.sleep(min(LOOK_SECONDS, timing.beat / 5, timing.patience / 5))


def take(store: ArtifactStore, claim: Claim, version: str | None) -> Taken | None:
    """Puts this job's name into the lock. None where another's is there."""
    timing = claim.timing.with_answers_of(claim.clock.answer)
    mine = replace(claim.me, patience=timing.patience)
    while True:
        sent = boot_time()
        won = store.put_if(NAME, content(mine), version)
        with claim.clock.timed():
            found = store.get_versioned(NAME)
        if found is None or owner(found[0]).job != claim.me.job:
            return None
        if won:
            return Taken(sent, timing)
        version = found[1]  # it is there, only so late that it cannot be told who was first: so once more, over itself


def at_work(store: ArtifactStore, other: Owner) -> AtWork:
    return AtWork(
        f"another job is at work on this run: {other.host}, process {other.process} ({store.uri}).",
        "Wait for it, stop it, or choose another RUN_ID.",
    )


def taken_over(store: ArtifactStore, clock: Clock) -> TakenOver:
    slow = f" Meanwhile {slowness(store, clock)}." if clock.answer > SLOW_SECONDS else ""
    return TakenOver(
        f"another job has taken over this run ({store.uri}).{slow}", "Leave it to that one, or choose another RUN_ID."
    )
