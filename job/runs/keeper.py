"""Writes states in the background while the training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from job.runs.checkpoint import SLOTS, Identity, Saved, Standing, encode
from job.storage import ArtifactStore

SHARE = 1 / 80  # of the run's time: what copying and writing states may take of a processor
BUSY = 1 / 10  # of the run's time: how long the store may be at work on states, which costs the training nothing itself
FLUSH_SECONDS = 8.0  # a stopped job has ten seconds in all


class Keeper:
    """Writes states in the background, the newest one first; the training waits for the copy of its state alone.

    A context manager: on leaving, what was handed over last is written before it returns, unless that takes too long.
    """

    def __init__(
        self, store: ArtifactStore, identity: Identity, sequence: int, written: Callable[[Standing], object]
    ) -> None:
        """`sequence` is the last state's; `written` is called, in the background, after every state that is durable."""
        self._store = store
        self._written = written
        self._identity = identity
        self._sequence = sequence
        self._pending: Standing | None = None
        self._busy = False
        self._closed = False
        self._error: Exception | None = None
        self._copying = 0.0  # seconds that the training last waited for a copy
        self._not_before = -float("inf")  # the moment from which a state may be taken again
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(FLUSH_SECONDS)

    def offer(self, take: Callable[[], Standing]) -> None:
        """Hands over what `take` copies, if a state may be written now without more than its share of the time."""
        idle = self._pending is None and not self._busy
        if idle and time.monotonic() >= self._not_before:
            started = time.monotonic()
            standing = take()
            self._copying = time.monotonic() - started
            self.hand_over(standing)

    def hand_over(self, standing: Standing) -> None:
        """Takes a state that is to be written, in place of one that still waits. Raises what the last write met."""
        with self._changed:
            self._raise()
            self._pending = standing
            self._changed.notify_all()

    def flush(self) -> None:
        """Returns when what was handed over is durable. Raises what writing it met."""
        with self._changed:
            self._changed.wait_for(lambda: (self._pending is None and not self._busy) or self._error is not None)
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                standing, self._pending, self._busy = self._pending, None, True
            started, processor = time.monotonic(), time.thread_time()
            try:
                self._sequence += 1
                content = encode(Saved(self._identity, self._sequence, standing))
                self._store.put(SLOTS[self._sequence % 2], content)
                self._written(standing)
            except Exception as error:  # told to the thread that trains, which can stop the job
                self._error = error
            with self._changed:
                cost, seconds = self._copying + time.thread_time() - processor, time.monotonic() - started
                # A trial's record costs little: it does not bring the next state forward.
                self._not_before = max(self._not_before, started + max(cost / SHARE, seconds / BUSY))
                self._copying, self._busy = 0.0, False
                self._changed.notify_all()
                if self._error is not None:
                    return
