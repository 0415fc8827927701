"""Signals as a context manager: the first one asks for a stop and starts a clock, the second one ends the process."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from job.errors import Interrupted, TemporaryFault

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # a lost terminal; Slurm's --signal=USR1@90
KEPT_IGNORED = (signal.SIGHUP, signal.SIGUSR1)  # where whoever started the job ignores them, as nohup does
GRACE = 8.0  # seconds after a signal for the last state, the status and the lock together; docker kills after ten
LAST_WORDS = 1.0  # seconds after these, in which the process ends wherever it stands
LOOK = 0.1  # seconds between two looks at the signals while something is waited for


class Stop:
    """Whether a signal has asked for a stop. `check()` is cheap enough to be called at every batch."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deadline = math.inf  # of time.monotonic

    def request(self, signum: int) -> None:
        """Asks for the stop; the clock runs from the first time on."""
        if self.signum is None:
            self.deadline = time.monotonic() + GRACE
            self.signum = signum

    def check(self) -> None:
        """Raises `Interrupted` once a signal has arrived."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def exit_code(self, otherwise: int) -> int:
        """What a fault's exit code becomes: after a signal the job was stopped, whatever it met in its last seconds."""
        return otherwise if self.signum is None else 128 + self.signum

    def remaining(self) -> float:
        """Seconds that are left for what has to be written; infinite before a signal."""
        return max(0.0, self.deadline - time.monotonic())

    def wait(self, seconds: float) -> None:
        """Sleeps, but for no longer than until a signal. Raises `Interrupted` then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(LOOK, left))
        self.check()

    def heard(self, call: Callable[[], T]) -> T:
        """What `call` returns, from a thread of its own: whoever waits for a store that hangs hears the stop.

        Raises what `call` raises; `Interrupted` as soon as a signal comes. Called after a signal it waits as long as
        there is time left, then raises TemporaryFault. A call that is left behind goes on in its thread.
        """
        done = threading.Event()
        results: list[T] = []
        errors: list[BaseException] = []
        stopping = self.signum is not None

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)
            done.set()

        try:
            threading.Thread(target=work, name="heard", daemon=True).start()
        except RuntimeError:  # no more threads are to be had: then it is waited for
            work()
        while not done.wait(min(LOOK, self.remaining())):
            if not stopping:
                self.check()
            elif not self.remaining():
                raise TemporaryFault("there was no time left for it after the stop.", "Start the same command again.")
        if errors:
            raise errors[0]
        return results[0]


def ignore_signals() -> None:
    """From here on nothing can change the outcome: for the moments in which the interpreter shuts down."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def stop_on_signals(
    end: Callable[[int], object] = os._exit, late: Callable[[int], object] = lambda signum: None
) -> Iterator[Stop]:
    """Turns the signals into a request that `Stop.check` raises at the next safe place.

    A second signal ends the process at once, also as PID 1, which the kernel's default action does not end. Where the
    first one has not ended it after GRACE and LAST_WORDS, `late` may say so and it ends as well. Both are the work of a
    thread that the signals wake (`signal.set_wakeup_fd`): whatever the main thread is waiting for, they are heard.
    The handlers that were there before come back on leaving. Exit codes are 128 + the first signal's number.
    """
    stop = Stop()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.request(signum)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wanted = [s for s in SIGNALS if s not in KEPT_IGNORED or signal.getsignal(s) != signal.SIG_IGN]
    woken_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {signum: signal.signal(signum, handle) for signum in wanted}
    watcher = threading.Thread(target=watch, args=(reading, stop, wanted, end, late), name="signals", daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(woken_before)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        os.close(writing)
        watcher.join()
        os.close(reading)


def watch(
    reading: int,
    stop: Stop,
    wanted: list[signal.Signals],
    end: Callable[[int], object],
    late: Callable[[int], object],
) -> None:
    """Counts the signals that arrive at `reading`, until its other end is closed."""
    asked = 0
    while True:
        limit = None if stop.signum is None else stop.remaining() + LAST_WORDS
        if not select.select([reading], [], [], limit)[0]:
            assert stop.signum is not None
            speaker = threading.Thread(target=late, args=(stop.signum,), daemon=True)  # the log may be what hangs
            speaker.start()
            speaker.join(LAST_WORDS / 2)
            end(128 + stop.signum)
            return
        arrived = os.read(reading, 64)
        if not arrived:
            return
        for number in arrived:
            if number in wanted:
                asked += 1
                stop.request(number)
        if asked > 1:
            assert stop.signum is not None
            end(128 + stop.signum)
