"""One job at a time on a run: a lock with a heartbeat, which a dead owner cannot hold and a frozen one cannot use.

No clock is compared between machines: who finds a lock watches it, and takes it over when its heartbeat stands still
for as long as the owner said. The owner itself counts from the moment before it sent its last heartbeat, so that its
time is over first: from then on nothing is written before a new heartbeat has proved that the run is still its own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from job.console.logs import event
from job.errors import Fault, TakenOver, TemporaryFault
from job.interrupt import Stop
from job.runs.owner import (
    SLOW_SECONDS,
    Clock,
    Owner,
    Timing,
    boot_time,
    content,
    owner,
    patiently,
    slowness,
    start_time,
    this_machine,
)
from job.runs.taking import NAME, Claim, Taken, acquire, taken_over
from job.storage import ArtifactStore, Heard

PATIENCE = 600.0  # seconds that a store may be ill under a run: for a proof, for a state, for publishing
BRIEF = 20.0  # the same for what is tried anew anyway


class Lock:
    """A held lock. `store` is the run's place for its owner alone: it proves before every step that this still is so.
    `brief` is the same for what is soon tried anew. Both raise TakenOver once another job has the run.
    """

    def __init__(self, store: ArtifactStore, claim: Claim, taken: Taken, stop: Stop) -> None:
        self.lost: Fault | None = None
        self.store = Heard(store.guarded(self.prove, PATIENCE), stop)
        self.brief = store.guarded(self.prove, BRIEF)
        self._store = store.guarded(self._in_time, 0.0)
        self._near = store.near
        self._me = claim.me
        self._base = claim.timing
        self._clock = claim.clock
        self._stop = stop
        self._timing = taken.timing  # as the file says: who trusts in more writes after others took it for dead
        self._confirmed, self._looked = taken.since, 0.0
        self._over = False
        self._changed = threading.Condition()
        self._beating = threading.Lock()  # held while a heartbeat is under way

    def check(self) -> None:
        """Raises once the lock is lost, as far as that is known."""
        if self.lost is not None:
            raise self.lost

    def prove(self) -> None:
        """Returns when it is sure that the run is this job's, which after a freeze or a silent store takes a heartbeat.

        Raises TakenOver where it is another's, and TemporaryFault where the store does not answer for PATIENCE.
        """
        until = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                self.check()
                if not self._stale() and self._seen():
                    return
                left = min(until - time.monotonic(), self._stop.remaining())
                if left <= 0:
                    raise TemporaryFault(
                        f"{self._store.uri} has not answered for {boot_time() - self._confirmed:.0f} s: "
                        "it is not sure that this run is still this job's.",
                        "Start the same command again when the store answers: it goes on from its last state.",
                    )
                self._changed.wait(min(left, 0.5))

    def beat(self) -> None:
        """Heartbeats until `release`. However it ends, the job ends with it."""
        try:
            while self._pause():
                try:
                    with self._beating:
                        if not self._over:
                            self._beat_once()
                except TakenOver:
                    self._look()
                except TemporaryFault:
                    continue  # not reachable for a while: the next beat tries again
        except Fault as fault:
            self._lose(fault)
        except BaseException as error:
            what = f"the heartbeat of the lock has ended ({type(error).__name__}: {error})."
            self._lose(TemporaryFault(what, "Start the same command again: it goes on from its last state."))

    def release(self) -> None:
        """Gives the lock back. One that another may be about to take, or that the store does not show any more, stays:
        its heartbeat stands still, and that must do. One under way is waited for: it would put the lock back.
        """
        with self._changed:
            mine = self.lost is None
            self.lost = self.lost or TakenOver("this job has given the run back already.", "This is a bug.")
            self._over = True
            self._changed.notify_all()
        if mine and self._beating.acquire(timeout=self._timing.patience):
            try:
                if not self._stale():
                    self._remove()
            finally:
                self._beating.release()

    def _remove(self) -> None:
        """Deletes the lock's file, where it is this job's still."""
        try:
            found = self._store.get(NAME)
            if found is not None and owner(found).job == self._me.job:
                self._looked = boot_time()
                self._store.delete(NAME)
        except Fault:
            return

    def _pause(self) -> bool:
        """Waits for the next heartbeat's turn, which comes soon where the last one is long ago. False at the end."""
        with self._changed:
            seconds = min(1.0, self._timing.beat) if self._stale() else self._timing.beat
            self._changed.wait_for(lambda: self._over, seconds)
            return not self._over

    def _stale(self) -> bool:
        return boot_time() - self._confirmed >= self._timing.trust

    def _seen(self) -> bool:
        """Whether the file itself says so: where a look costs nothing, no clock that stood still may hide the truth."""
        try:
            return not self._near or bool(self._look())
        except TakenOver:
            raise
        except TemporaryFault:
            return False

    def _beat_once(self) -> None:
        version = self._look()
        timing = self._base.with_answers_of(self._clock.answer)
        self._me = replace(self._me, beat=self._me.beat + 1, patience=timing.patience)
        with self._changed:  # the file may say less from now on, and nobody hears whether it does
            self._timing = min(self._timing, timing, key=lambda each: each.patience)
        with self._clock.timed():
            sent = boot_time()
            self._store.put_known(NAME, content(self._me), version)
        with self._changed:
            if timing.patience > self._timing.patience and self._clock.answer > SLOW_SECONDS:
                event("lock", f"{slowness(self._store, self._clock)}; {patiently(timing)}", level="WARNING")
            self._timing, self._confirmed = timing, sent
            self._changed.notify_all()

    def _look(self) -> str:
        """The version of the lock, which is this job's. Raises TakenOver, and so does all that follows, where not."""
        with self._clock.timed():
            started = boot_time()
            found = self._store.get_versioned(NAME)
        if found is None or owner(found[0]).job != self._me.job:
            self._lose(taken_over(self._store, self._clock))
            self.check()
        assert found is not None
        self._looked = started
        return found[1]

    def _in_time(self) -> None:
        """The guard of the heartbeat's own write: what it rests on must be fresh."""
        if boot_time() - self._looked > self._timing.trust:
            raise TemporaryFault(f"{self._store.uri}: too much time has passed since the lock was looked at.")

    def _lose(self, fault: Fault) -> None:
        with self._changed:
            self.lost = self.lost or fault
            self._changed.notify_all()


@contextmanager
def held(store: ArtifactStore, stop: Stop, timing: Timing = Timing()) -> Iterator[Lock]:
    """Holds the lock of the run in `store`. Raises TemporaryFault where another job is at work on it, and what `stop`
    raises while it is waited for.
    """
    if isinstance(store, Heard):
        store = store.store  # heartbeats go on through a stop, until the lock is given back
    me = Owner(uuid.uuid4().hex, socket.gethostname(), this_machine(), os.getpid(), start_time(os.getpid()))
    claim = Claim(me, timing, Clock())
    taken = stop.heard(lambda: acquire(store, claim, stop.check))
    lock = Lock(store, claim, taken, stop)
    thread = threading.Thread(target=lock.beat, name="heartbeat", daemon=True)
    try:
        thread.start()
        yield lock
    finally:
        stop.heard(lock.release)
