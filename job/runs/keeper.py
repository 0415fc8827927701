"""Writes states in the background while the training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from job.console.logs import event
from job.errors import Fault, NoRoom, TakenOver, TemporaryFault
from job.interrupt import Stop
from job.runs.checkpoint import SLOTS, Saved, encode
from job.runs.standing import Standing
from job.storage import ArtifactStore

SHARE = 1 / 80  # of the run's time: what copying and writing states may take of a processor
BUSY = 1 / 10  # of the run's time: how long the store may be at work on states, which costs the training nothing itself
FLUSH_SECONDS = 8.0  # on leaving, where no stop has set a time of its own


@dataclass(frozen=True)
class Patience:
    """Seconds: how long a run goes on without a state becoming durable, the pause after one that was refused, and how
    far apart two are written at least, but for the last one of an attempt.
    """

    give_up: float = 600.0
    pause: float = 5.0
    apart: float = 0.0


class Keeper:
    """Writes states, the newest one first; the training waits for the copy of its state alone.

    A state that the store refuses is a warning, and the next one is tried: the training is worth more than what a kill
    would cost. Only where none has become durable for `Patience.give_up` is the fault told to the thread that trains.
    One that has to wait (`Patience.apart`) lies in memory, and gives way to newer ones.

    A context manager: on leaving, what was handed over last is written before it returns, unless that takes too long.
    """

    def __init__(
        self,
        store: ArtifactStore,
        last: Saved,
        written: Callable[[Standing], object],
        stop: Stop | None = None,
        patience: Patience = Patience(),
    ) -> None:
        """`last` is the state that the run goes on from; `written` is called, in the background, after every state that
        is durable. `store` is the owner's own, and soon gives up.
        """
        self._store = store
        self._written = written
        self._identity = last.identity
        self._sequence = last.sequence
        self._stop = stop or Stop()
        self._patience = patience
        self._pending: Standing | None = None
        self._busy = self._closed = self._awaited = False
        self._error: Exception | None = None
        self._refused_since: float | None = None
        self._copying = 0.0  # seconds that the training last waited for a copy
        self._not_before = -float("inf")  # the moment from which a state may be taken again
        self._due = -float("inf")  # the moment from which one may be written again
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(min(FLUSH_SECONDS, self._stop.remaining()))

    def check(self) -> None:
        """Raises what has ended the writing."""
        if self._error is not None:
            raise self._error

    def offer(self, take: Callable[[], Standing]) -> None:
        """Hands over what `take` copies, if a state may be written now without more than its share of the time."""
        waits = self._patience.apart > 0  # so that the newest one is there when its time or a stop comes
        idle = self._refused_since is not None or (not self._busy and (self._pending is None or waits))
        if idle and time.monotonic() >= self._not_before:
            started = time.monotonic()
            standing = take()
            self._copying = time.monotonic() - started
            refused = self._patience.pause * (self._refused_since is not None)
            self._not_before = started + max(refused, self._copying / SHARE)
            self.hand_over(standing)

    def hand_over(self, standing: Standing) -> None:
        """Takes a state that is to be written, in place of one that still waits. Raises what has ended the writing."""
        with self._changed:
            self.check()
            self._pending = standing
            self._changed.notify_all()

    def flush(self) -> None:
        """Returns when what was handed over is durable. Raises what has ended the writing, and what `stop` raises."""
        with self._changed:
            self._awaited = True
            self._changed.notify_all()
            while (self._pending is not None or self._busy) and self._error is None:
                self._stop.check()
                self._changed.wait(0.1)
            self._awaited = False
            self.check()

    def _write_all(self) -> None:
        while self._error is None:
            with self._changed:
                standing = self._next()
            if standing is None:
                return
            started, processor = time.monotonic(), time.thread_time()
            refused = self._write(standing, started)
            with self._changed:
                cost, seconds = self._copying + time.thread_time() - processor, time.monotonic() - started
                # A trial's record costs little: it does not bring the next state forward.
                self._not_before = max(self._not_before, started + max(cost / SHARE, seconds / BUSY))
                self._due = started + self._patience.apart * (not refused)
                self._copying, self._busy = 0.0, False
                if refused:
                    self._not_before = time.monotonic() + self._patience.pause
                    self._pending = self._pending or standing
                self._changed.notify_all()
                if refused and self._error is None and not self._pause():
                    return

    def _next(self) -> Standing | None:
        """Waits for a state whose time has come, and takes it; None at the end."""
        while self._pending is None or not (self._closed or self._awaited or time.monotonic() >= self._due):
            if self._closed and self._pending is None:
                return None
            self._changed.wait(None if self._pending is None else max(0.0, self._due - time.monotonic()))
        standing, self._pending, self._busy = self._pending, None, True
        return standing

    def _write(self, standing: Standing, started: float) -> bool:
        """Whether the store refused it for now. What cannot pass ends the writing."""
        try:
            content = encode(Saved(self._identity, self._sequence + 1, standing))
            self._store.put(SLOTS[(self._sequence + 1) % 2], content)
            self._sequence += 1
            self._refused_since = None
            self._written(standing)
        except TakenOver as fault:
            self._error = fault
        except TemporaryFault as fault:
            self._refuse(fault, started)
            return True
        except Exception as error:  # told to the thread that trains, which can stop the job
            self._error = error
        return False

    def _refuse(self, fault: Fault, started: float) -> None:
        now = time.monotonic()
        self._refused_since = since = self._refused_since or started
        if now - since >= self._patience.give_up or (self._awaited and isinstance(fault, NoRoom)):
            self._error = fault
            return
        event(
            "checkpoint",
            f"a state could not be kept: {fault.what} The run goes on and keeps the next one; it ends where none can "
            f"be kept for {self._patience.give_up:.0f} s.",
            level="WARNING",
            seconds=round(now - since, 1),
        )

    def _pause(self) -> bool:
        """Waits a little before the next try. False where nobody waits for it any more: the time after a stop is over,
        or the disk is full and the run is at its end.
        """
        until = time.monotonic() + self._patience.pause
        while time.monotonic() < until and not self._closed:
            self._changed.wait(0.1)
        if self._closed:
            self._changed.wait(min(1.0, self._stop.remaining()))
            return self._stop.signum is not None and self._stop.remaining() > 0
        return True
